"""What becomes of the circuits of handlers, and how long they are open."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker import CircuitBreaker
from tasker.controls import CONTROL_FORM, Controls, Place, Target
from tasker.controls import circuits as kept
from tasker.errors import StateForbids
from tasker.events.envelope import US_PER_S
from tasker.events.reads import Wait
from tasker.projections.views.words import hold_words
from tasker.service.domain import circuits as rules
from tasker.service.domain.circuits import (
    AnyCircuitCommand,
    CloseCircuit,
    OpenCircuit,
    SettleCircuit,
    TripCircuit,
    TryCircuit,
    decide_circuit,
)
from tasker.service.http.holds import held

T0_US = 1_790_000_000_000_000
CHARGE = ("shop", "charge")
TARGET = Target("handler", "acme", *CHARGE)
PLACE = Place("acme", "shop", "orders", "charges", "charge")
BREAKER = CircuitBreaker(open_s=30, open_s_max=100, probes=2)


class Story:
    """Commands to the circuits of a tenant, one after another."""

    def __init__(self) -> None:
        self.controls = Controls()
        self.at_s = 0.0

    @property
    def now_us(self) -> int:
        return T0_US + round(self.at_s * US_PER_S)

    @property
    def seq(self) -> int:
        return self.controls.circuits.seq_of(TARGET)

    @property
    def state(self) -> str:
        return self.controls.circuits.by_target[TARGET].state

    def do(self, command: AnyCircuitCommand, *, tenant: str = "acme") -> int:
        """Decide and take it up; returns how many events it caused."""
        events = decide_circuit(self.controls.circuits, tenant, command, self.now_us)
        for event in events:
            self.controls.take(event, tenant=tenant, at_us=self.now_us, by="ada", reason="why")
        return len(events)

    def trip(self, seen: int | None = None) -> int:
        seen = self.seq if seen is None else seen
        return self.do(TripCircuit(*CHARGE, seen, BREAKER, failures=12, attempts=20, error="Down: no answer"))

    def attempt(self) -> int:
        return self.do(TryCircuit(*CHARGE, self.seq))

    def settle(self, error: str | None = None) -> int:
        return self.do(SettleCircuit(*CHARGE, self.seq, error))

    def wait_s(self) -> float:
        return self.controls.circuits.by_target[TARGET].opened.open_s

    def words(self) -> str:
        """Return what an attempt waits for, as reads say it."""
        hold = self.controls.hold_of(PLACE, 0.0, self.now_us)
        if hold is None:
            return ""
        wait = held(Wait(kind="worker"), hold)
        assert wait.hold is not None
        return hold_words(wait.hold, wait.until)


def tripped() -> Story:
    story = Story()
    assert story.trip() == 1
    return story


def test_it_opens_is_tried_and_closes_with_a_ramp() -> None:
    story = tripped()
    assert story.state == "open"
    assert (
        "12 of 20 attempts failed, the last with Down: no answer; the next trial is at 2026-09-21T14:13:50.000000Z"
        in (story.words())
    )
    story.at_s = 29.9
    assert story.attempt() == 0
    story.at_s = 30
    assert (story.attempt(), story.state) == (1, "half_open")
    assert "its trial runs" in story.words()
    assert (story.settle(), story.state) == (1, "closed")
    assert story.controls.hold_of(PLACE, 0.5, story.now_us) is not None
    assert story.controls.hold_of(PLACE, 0.5, story.now_us + 15 * US_PER_S) is None
    assert not story.controls.hold_something(story.now_us + 30 * US_PER_S)


def test_each_trial_that_fails_doubles_the_wait_up_to_its_limit() -> None:
    story, waits = tripped(), []
    for _ in range(4):
        story.at_s += story.wait_s()
        story.attempt()
        story.settle("Down: still")
        waits.append(story.wait_s())
    assert waits == [60, 100, 100, 100]
    assert "its trial failed, the last with Down: still" in story.words()


def test_one_that_opens_soon_after_it_closed_waits_longer_and_later_begins_anew() -> None:
    for calm_s, wait_s in ((299.0, 60), (300.0, 30)):
        story = tripped()
        story.at_s = 30
        story.attempt()
        story.settle()
        story.at_s += calm_s
        story.trip()
        assert story.wait_s() == wait_s


def test_what_two_nodes_say_at_once_or_late_changes_nothing() -> None:
    story = tripped()
    assert story.trip(seen=0) == 0
    assert story.trip() == 0
    first = story.seq
    story.at_s = 40
    story.attempt()
    for late in (TryCircuit(*CHARGE, first), SettleCircuit(*CHARGE, first), SettleCircuit(*CHARGE, first, "e")):
        assert story.do(late) == 0
    trial = story.seq
    story.settle("e")
    assert story.do(SettleCircuit(*CHARGE, trial)) == 0
    assert story.state == "open"
    assert story.trip(seen=trial) == 0


def test_by_hand_it_opens_and_closes_and_what_was_before_is_forgotten() -> None:
    story = Story()
    assert story.do(OpenCircuit(*CHARGE, 50.0)) == 1
    assert story.do(OpenCircuit(*CHARGE, 50.0)) == 0
    assert "ada opened it: why" in story.words()
    assert story.do(OpenCircuit(*CHARGE, 70.0)) == 1
    assert story.do(CloseCircuit(*CHARGE)) == 1
    assert story.words() == ""
    with pytest.raises(StateForbids, match="is closed"):
        story.do(CloseCircuit(*CHARGE))
    story.trip()
    assert story.wait_s() == 30


def test_a_circuit_holds_its_handler_of_its_tenant_and_nothing_else() -> None:
    story = tripped()
    for other in (
        PLACE._replace(tenant="other"),
        PLACE._replace(namespace="other"),
        PLACE._replace(handler="refund"),
    ):
        assert story.controls.hold_of(other, 0.0, T0_US) is None
    hold = story.controls.hold_of(PLACE._replace(template="t", queue="q"), 0.0, T0_US)
    assert hold is not None
    assert (hold.until_us, hold.target, hold.circuit) == (None, TARGET, story.controls.circuits.of(TARGET))


def test_so_many_are_open_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "CIRCUITS_MAX", 1)
    story = Story()
    story.do(OpenCircuit("shop", "other", 5.0))
    assert story.trip() == 0
    with pytest.raises(StateForbids, match="open already"):
        story.do(OpenCircuit(*CHARGE, 50.0))


def test_those_that_have_been_closed_for_long_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT", 4)
    story = Story()
    for number in range(100):
        story.do(OpenCircuit("shop", f"h{number}", 1.0))
        story.do(CloseCircuit("shop", f"h{number}"))
        story.at_s += 10
    circuits = story.controls.circuits
    assert len(circuits.by_target) <= 8
    assert (circuits.holding, circuits.hold_something) == (0, False)


def test_a_snapshot_keeps_them_as_they_are() -> None:
    story = tripped()
    story.do(OpenCircuit("shop", "other", 5.0))
    kept = msgspec.json.decode(msgspec.json.encode(CONTROL_FORM.keep(story.controls)), type=CONTROL_FORM.kept)
    again = CONTROL_FORM.restore(kept).circuits
    before = story.controls.circuits
    assert (again.by_target, again.holding) == (before.by_target, before.holding)
    assert list(again.by_target) == list(before.by_target)


COMMANDS: dict[str, Any] = {
    "trip": lambda seen, on: TripCircuit("shop", on, seen, BREAKER, failures=1, attempts=1, error="e"),
    "try": lambda seen, on: TryCircuit("shop", on, seen),
    "bad": lambda seen, on: SettleCircuit("shop", on, seen, "e"),
    "good": lambda seen, on: SettleCircuit("shop", on, seen),
    "open": lambda _, on: OpenCircuit("shop", on, 10.0),
    "close": lambda _, on: CloseCircuit("shop", on),
}


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(COMMANDS)), st.integers(-2, 0), st.sampled_from("ab"), st.integers(0, 40)),
        max_size=60,
    )
)
def test_whatever_is_said_it_moves_as_drawn_and_counts_what_holds(said: list[tuple[str, int, str, int]]) -> None:
    """From closed to open, to half open, to either; words of an older event cause nothing."""
    story, circuits = Story(), Controls().circuits
    circuits = story.controls.circuits
    for what, older, on, wait_s in said:
        story.at_s += wait_s
        target = Target("handler", "acme", "shop", on)
        before = circuits.by_target.get(target)
        seen = max(0, circuits.seq_of(target) + older)
        try:
            caused = story.do(COMMANDS[what](seen, on))
        except StateForbids:
            assert what == "close"
            continue
        after = circuits.by_target.get(target)
        moved = (before.state if before else "closed", after.state if after else "closed")
        if what in ("trip", "try", "bad", "good") and seen != (before.seq if before else 0):
            assert caused == 0
        elif caused:
            assert (
                moved
                in {
                    "trip": {("closed", "open")},
                    "try": {("open", "half_open")},
                    "bad": {("half_open", "open")},
                    "good": {("half_open", "closed")},
                    "open": {("closed", "open"), ("half_open", "open"), ("open", "open")},
                    "close": {("open", "closed"), ("half_open", "closed")},
                }[what]
            )
        assert circuits.holding == sum(one.holds for one in circuits.by_target.values())
