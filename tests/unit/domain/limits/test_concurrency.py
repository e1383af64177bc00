"""The places under one concurrency key: the rules by example."""

from collections.abc import Iterable

import msgspec
import pytest

from tasker.errors import StateForbids
from tasker.events.concurrency_events import REQUESTS_MAX, PlacesAsked, PlacesEvicted, PlacesGranted
from tasker.events.envelope import US_PER_S
from tasker.events.places import KeyName
from tasker.service.domain.limits.concurrency import (
    CONCURRENCY_FORM,
    LOOK,
    LOOK_S,
    Ask,
    AskStrategy,
    ConcurrencyState,
    advance_concurrency,
    concurrency_obligations,
    evolve_concurrency,
)
from tests.runs import Run, template

NAME = KeyName(tenant="t", namespace="n", template="p", key="7")


class Key:
    """A key, and what was recorded of it."""

    def __init__(self) -> None:
        self.state = ConcurrencyState()
        self.events: list[object] = []
        self._at_us: list[int] = []
        self.now_us = 1_000

    def ask(self, *requests: str, limit: int = 2, strategy: AskStrategy = "queue") -> list[str]:
        return self.decide([Ask(request=one, limit=limit, strategy=strategy) for one in requests], ())

    def give_back(self, *requests: str) -> None:
        self.decide([], requests)

    def decide(self, asks: list[Ask], returned: Iterable[str]) -> list[str]:
        seq = self.state.seq
        events, refused = advance_concurrency(self.state, NAME, asks, returned, at_us=self.now_us)
        assert self.state.seq == seq + len(events)
        again = ConcurrencyState()
        self.events += events
        self._at_us += [self.now_us] * len(events)
        for event, at_us in zip(self.events, self._at_us, strict=True):
            evolve_concurrency(again, event, at_us=at_us)  # type: ignore[arg-type]
        form = CONCURRENCY_FORM
        kept = msgspec.json.encode(form.keep(self.state))
        assert msgspec.json.encode(form.keep(again)) == kept
        assert msgspec.json.encode(form.keep(form.restore(msgspec.json.decode(kept, type=form.kept)))) == kept
        return refused

    def stands(self) -> tuple[list[str], list[str], list[str]]:
        return list(self.state.holders), list(self.state.waiting), list(self.state.evicted)


def test_places_go_to_those_who_asked_first() -> None:
    key = Key()
    key.ask("a", "b", "c", "d")
    assert key.stands() == (["a", "b"], ["c", "d"], [])
    key.give_back("b")
    assert key.stands() == (["a", "c"], ["d"], [])


def test_a_start_that_met_somebody_is_told_the_same_for_as_long_as_the_key_knows() -> None:
    key = Key()
    assert key.ask("a:~admission:1", "b:~admission:2", limit=1, strategy="single") == ["b:~admission:2"]
    assert key.state.met_by("b:~admission:2") is None, "nobody has seen a run"
    for holder in ("a:~admission:1", "a:~admission:1", "x:~admission:1"):
        meet = Ask(request="b:~admission:3", limit=1, strategy="meet", holder=holder)
        assert key.decide([meet], ()) == ["b:~admission:3"]
        assert key.state.met_by("b:~admission:9") == "a:~admission:1"
    key.give_back("a:~admission:1")
    late = Ask(request="c:~admission:4", limit=1, strategy="meet", holder="a:~admission:1")
    assert key.decide([late], ()) == ["c:~admission:4"]
    count = len(key.events)
    assert key.ask("b:~admission:5", limit=1, strategy="single") == ["b:~admission:5"]
    assert len(key.events) == count
    assert key.ask("c:~admission:6", limit=1, strategy="single") == []
    assert key.stands() == (["c:~admission:6"], [], [])


def test_who_is_admitted_has_its_place_at_once_or_is_refused() -> None:
    key = Key()
    assert key.ask("a", "b", "c", strategy="admit") == ["c"]
    assert key.stands() == (["a", "b"], [], [])
    key.give_back("a")
    assert key.ask("c", "d", strategy="admit") == ["d"]
    assert key.stands() == (["b", "c"], [], [])


def test_children_are_admitted_beyond_the_limit_and_count() -> None:
    key = Key()
    asks = [Ask(request=one, limit=2, strategy="admit_always" if one < "d" else "admit") for one in "abcd"]
    assert key.decide(asks, ()) == ["d"]
    assert key.stands() == (["a", "b", "c"], [], [])
    granted = [one for one in key.events if isinstance(one, PlacesGranted)]
    assert [(one.requests, one.beyond) for one in granted] == [(("a", "b"), False), (("c",), True)]
    key.give_back("a")
    assert key.ask("d", strategy="admit") == ["d"]
    key.give_back("b")
    assert key.ask("d", strategy="admit") == []


def test_a_lower_limit_in_the_same_batch_lets_nobody_wait() -> None:
    key = Key()
    key.decide([Ask(request="a", limit=5, strategy="admit"), Ask(request="b", limit=1, strategy="admit_always")], ())
    assert key.stands() == (["a", "b"], [], [])


def test_a_batch_is_few_events() -> None:
    key = Key()
    key.ask(*(str(number) for number in range(2 * REQUESTS_MAX + 1)), limit=REQUESTS_MAX + 1)
    asked = [len(one.requests) for one in key.events if isinstance(one, PlacesAsked)]
    granted = [len(one.requests) for one in key.events if isinstance(one, PlacesGranted)]
    assert asked == [REQUESTS_MAX, REQUESTS_MAX, 1]
    assert granted == [REQUESTS_MAX, 1]


def test_a_repeated_request_and_a_repeated_return_change_nothing() -> None:
    key = Key()
    key.ask("a", "b", "c")
    told = len(key.events)
    key.ask("a", "c", "c")
    key.give_back("x")
    assert len(key.events) == told
    key.give_back("c", "c")
    assert key.stands() == (["a", "b"], [], [])


def test_drop_refuses_without_an_event() -> None:
    key = Key()
    assert key.ask("a", "b", "c", limit=2, strategy="drop") == ["c"]
    told = len(key.events)
    assert key.ask("c", limit=2, strategy="drop") == ["c"]
    assert len(key.events) == told


def test_the_oldest_makes_room_and_keeps_its_place_until_it_has_ended() -> None:
    key = Key()
    key.ask("a", "b", strategy="cancel_oldest")
    key.ask("c", strategy="cancel_oldest")
    assert key.stands() == (["a", "b"], ["c"], ["a"])
    key.ask("d", strategy="cancel_oldest")
    assert key.stands() == (["a", "b"], ["c", "d"], ["a", "b"])
    key.ask("e", strategy="cancel_oldest")
    assert key.stands() == (["a", "b"], ["d", "e"], ["a", "b", "c"])
    assert key.state.looked_at() == ["a", "b", "c"]
    key.give_back("a", "b", "c")
    assert key.stands() == (["d", "e"], [], [])


def test_the_newest_makes_room() -> None:
    key = Key()
    key.ask("a", "b", strategy="cancel_newest")
    key.ask("c", strategy="cancel_newest")
    assert key.stands() == (["a", "b"], ["c"], ["b"])


def test_who_is_to_end_is_told_for_whom() -> None:
    key = Key()
    key.ask("a", "b", strategy="cancel_oldest")
    key.ask("c", "d", strategy="cancel_oldest")
    assert key.state.evicted == {"a": "c", "b": "d"}
    evicted = [one for one in key.events if isinstance(one, PlacesEvicted)]
    assert evicted == [
        PlacesEvicted(requests=("a",), taken_by="c"),
        PlacesEvicted(requests=("b",), taken_by="d"),
    ]


def test_the_newest_limit_holds_and_takes_no_place_away() -> None:
    key = Key()
    key.ask("a", "b", limit=2)
    key.ask("c", limit=1)
    key.give_back("a")
    assert key.stands() == (["b"], ["c"], [])
    key.ask("d", limit=3)
    assert key.stands() == (["b", "c", "d"], [], [])


def test_a_key_owes_a_look_while_somebody_holds_a_place() -> None:
    key = Key()
    assert concurrency_obligations(key.state) == {}
    key.ask("a", limit=1)
    assert concurrency_obligations(key.state) == {LOOK: key.now_us + round(LOOK_S * US_PER_S)}
    key.give_back("a")
    assert concurrency_obligations(key.state) == {}


def test_nothing_begins_by_hand_in_a_task_that_waits_for_its_place() -> None:
    run = Run(template({"a": [], "b": ["a"]}, concurrency={"key": "input.n"}))
    run.create()
    for by_hand in (run.skip, run.resolve, run.release):
        with pytest.raises(StateForbids, match="concurrency key"):
            by_hand("a")
    run.take()
    run.skip("a")
    assert run.offered() == ["b"]
