"""What pauses and ramps hold back, and for how long."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.controls import Controls, Place, chance_of
from tasker.errors import StateForbids, Undecodable
from tasker.events.control_events import ControlEvent, ControlScope, WorkPaused, WorkResumed
from tasker.events.envelope import US_PER_S, Meta, NewEvent, RecordedEvent
from tasker.events.stored import encode_meta, to_new_event
from tasker.ids import control_stream_id
from tasker.remedies import lines_of
from tasker.service.domain import controls as rules
from tasker.service.domain.controls import PauseWork, ResumeWork, UnlimitWork, Within, decide_control

T0_US = 1_790_000_000_000_000
SHOP = Place("acme", "shop", "orders", "charges")
NAMES: dict[ControlScope, tuple[str, str]] = {
    "everything": ("", ""),
    "tenant": ("", ""),
    "template": ("shop", "orders"),
    "queue": ("shop", "charges"),
}
OTHERS = (
    Place("other", "shop", "orders", "charges"),
    Place("acme", "other", "orders", "charges"),
    Place("acme", "shop", "other", "others"),
)


def recorded(event: NewEvent, **changed: Any) -> RecordedEvent:
    values = msgspec.structs.asdict(event) | {"shard": 0, "position": 1, "epoch": 1, "chain": None} | changed
    return RecordedEvent(**values)


def taken(*events: ControlEvent, tenant: str = "acme", every_s: float = 1.0) -> Controls:
    """The fold of events of a tenant, one after another."""
    controls = Controls()
    for number, event in enumerate(events):
        at_us = T0_US + round(number * every_s * US_PER_S)
        controls.take(event, tenant=tenant, at_us=at_us, by="ada", reason="the bank is down")  # type: ignore[arg-type]
    return controls


@pytest.mark.parametrize("scope", NAMES)
def test_a_pause_holds_what_is_in_it_and_nothing_else(scope: ControlScope) -> None:
    namespace, name = NAMES[scope]
    controls = taken(WorkPaused(scope=scope, namespace=namespace, name=name))
    hold = controls.hold_of(SHOP, 0.0, T0_US)
    assert hold is not None
    assert hold.until_us is None
    assert (hold.target.scope, hold.by, hold.reason, hold.since_us) == (scope, "ada", "the bank is down", T0_US)
    outside = {"everything": 0, "tenant": 1, "template": 3, "queue": 3}[scope]
    assert sum(controls.hold_of(place, 0.0, T0_US) is None for place in OTHERS) == outside


def test_a_resumption_of_one_thing_leaves_the_pause_of_another() -> None:
    controls = taken(WorkPaused(scope="tenant"), WorkPaused(scope="everything"), WorkResumed(scope="everything"))
    hold = controls.hold_of(SHOP, 0.0, T0_US)
    assert hold is not None
    assert hold.target.words() == "tenant acme"
    assert controls.hold_of(OTHERS[0], 0.0, T0_US) is None


@given(chance=st.floats(0, 1, exclude_max=True), ramp_s=st.floats(0.001, 1e6), into=st.floats(0, 1))
def test_each_attempt_has_its_own_moment_of_a_ramp(chance: float, ramp_s: float, into: float) -> None:
    controls = taken(WorkPaused(scope="tenant"), WorkResumed(scope="tenant", ramp_s=ramp_s))
    resumed_us = T0_US + US_PER_S
    ramp_us = round(ramp_s * US_PER_S)
    now_us = resumed_us + round(into * ramp_us)
    hold = controls.hold_of(SHOP, chance, now_us)
    due_us = resumed_us + round(chance * ramp_us)
    assert (hold is None) == (due_us <= now_us)
    if hold is not None:
        assert hold.until_us == due_us
    assert controls.hold_of(SHOP, chance, resumed_us + ramp_us) is None
    assert controls.hold_something(resumed_us + ramp_us) is False


def test_a_ramp_lets_even_shares_through() -> None:
    controls = taken(WorkPaused(scope="tenant"), WorkResumed(scope="tenant", ramp_s=100))
    for second in range(0, 101, 10):
        now_us = T0_US + US_PER_S * (1 + second)
        through = sum(controls.hold_of(SHOP, chance_of(f"task-{n}", "s"), now_us) is None for n in range(2_000))
        assert abs(through - 20 * second) < 150


def test_a_pause_during_a_ramp_ends_it() -> None:
    controls = taken(
        WorkPaused(scope="tenant"), WorkResumed(scope="tenant", ramp_s=100), WorkPaused(scope="tenant"), every_s=1
    )
    assert controls.ramps == {}
    assert controls.hold_of(SHOP, 0.0, T0_US + 200 * US_PER_S) is not None


def test_what_is_over_is_forgotten() -> None:
    controls = taken(
        WorkPaused(scope="tenant"), WorkResumed(scope="tenant", ramp_s=1), WorkPaused(scope="everything"), every_s=5
    )
    assert controls.ramps == {}


def test_a_second_pause_changes_nothing_and_a_second_resumption_is_refused() -> None:
    controls = taken(WorkPaused(scope="queue", namespace="shop", name="charges"))
    within = Within("queue", "shop", "charges")
    assert decide_control(controls, "acme", PauseWork(within)) == ()
    assert decide_control(controls, "acme", ResumeWork(within, 5.0)) == (
        WorkResumed(scope="queue", namespace="shop", name="charges", ramp_s=5.0),
    )
    with pytest.raises(StateForbids, match="queue shop/charges is not paused") as found:
        decide_control(controls, "other", ResumeWork(within))
    assert "tasker controls" in lines_of(found.value)[-1]
    with pytest.raises(StateForbids, match="queue shop/charges has no limit") as found:
        decide_control(controls, "acme", UnlimitWork(within))
    assert "tasker limits list" in lines_of(found.value)[-1]


def test_so_much_is_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PAUSES_MAX", 1)
    controls = taken(WorkPaused(scope="tenant"))
    with pytest.raises(StateForbids, match="paused already"):
        decide_control(controls, "other", PauseWork(Within("tenant")))
    monkeypatch.setattr(rules, "RAMPS_MAX", 0)
    with pytest.raises(StateForbids, match="come back slowly already"):
        decide_control(controls, "acme", ResumeWork(Within("tenant"), 5.0))
    assert decide_control(controls, "acme", ResumeWork(Within("tenant")))


def test_an_event_that_cannot_be_read_is_passed_over() -> None:
    controls = Controls()
    meta = encode_meta(Meta(requested_by="ada", reason="why"))
    new = to_new_event(
        WorkPaused(scope="tenant"), stream_id=control_stream_id(), seq=1, tenant="acme", at_us=T0_US, meta=meta
    )
    with pytest.raises(Undecodable):
        controls.take_recorded(recorded(new, type="work_stopped"))
    assert controls.seq == 1
    controls.take_recorded(recorded(new, seq=2))
    assert controls.hold_of(SHOP, 0.0, T0_US) is not None
