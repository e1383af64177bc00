"""Who gets the next place under a concurrency key where priorities and shares differ: by example and against a twin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.events.concurrency_events import PlacesAsked, PlacesGranted, PlacesMoved, PlacesReturned
from tasker.events.envelope import US_PER_S
from tasker.service.domain.limits.concurrency import Ask
from tasker.service.domain.limits.place_look import place_facts
from tasker.service.domain.limits.ranked_line import RankedLine
from tasker.service.domain.limits.ranks import OLD_EVERY, OLD_S
from tests.unit.domain.limits.test_concurrency import Key


def ask(request: str, priority: int = 0, share: str | None = None, weight: float = 1.0) -> Ask:
    return Ask(request=request, limit=1, priority=priority, share=share, weight=weight)


def turns(key: Key, count: int) -> list[str]:
    """Return who has the one place, one after the other."""
    found = []
    for _ in range(count):
        [holder] = key.state.holders
        found.append(holder)
        key.give_back(holder)
    return found


def held(*asks: Ask) -> Key:
    """Return a key whose one place is taken while the others ask."""
    key = Key()
    key.decide([ask("first")], ())
    key.decide([*asks], ())
    return key


def test_the_highest_priority_goes_first_and_of_one_who_asked_first() -> None:
    key = held(ask("low", -5), ask("plain"), ask("high", 9), ask("plain2"), ask("high2", 9))
    assert turns(key, 6) == ["first", "high", "high2", "plain", "plain2", "low"]


def test_those_who_wait_without_a_rank_are_in_line_when_the_first_one_with_a_rank_comes() -> None:
    key = held(ask("a"), ask("b"))
    key.decide([ask("urgent", 1)], ())
    assert turns(key, 4) == ["first", "urgent", "a", "b"]
    assert key.state.line is None


def test_shares_take_turns_by_their_weights() -> None:
    asks = [
        ask(f"{name}{number}", share=name, weight=weight)
        for name, weight in (("a", 3.0), ("b", 1.0))
        for number in range(40)
    ]
    found = turns(held(*asks), 41)[1:]
    assert Counter(one[0] for one in found) == {"a": 30, "b": 10}
    for name in "ab":
        mine = [one for one in found if one[0] == name]
        assert mine == sorted(mine, key=lambda one: int(one[1:]))


def test_a_backlog_of_one_share_does_not_hold_up_another_one() -> None:
    key = held(*(ask(f"a{number}", share="a") for number in range(100)))
    assert turns(key, 20)[-1] == "a18"
    key.decide([ask("b", share="b")], ())
    assert "b" in turns(key, 3)


def test_what_has_waited_long_has_a_turn_whatever_its_priority() -> None:
    key = held(ask("old", -100), *(ask(f"u{number}", 100) for number in range(2 * OLD_EVERY)))
    key.now_us += round(OLD_S * US_PER_S)
    found = turns(key, OLD_EVERY + 1)
    assert found.index("old") == OLD_EVERY


def test_a_priority_that_changes_moves_who_waits() -> None:
    key = held(ask("a"), ask("b"), ask("c"), ask("d"))
    key.decide([ask("c", 7), ask("b", 7)], ())
    moved = [one for one in key.events if isinstance(one, PlacesMoved)]
    assert [(one.requests, one.priority) for one in moved] == [(("c", "b"), 7)]
    assert turns(key, 5) == ["first", "b", "c", "a", "d"]
    assert key.state.line is None


def test_many_that_are_moved_at_once_cost_one_pass_over_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    key = held(*(ask(f"r{number}") for number in range(300)))
    moves: list[int] = []
    move = RankedLine.move

    def counted(line: RankedLine, waiting: Iterable[str], moved: Sequence[str], priority: int) -> None:
        moves.append(len(moved))
        move(line, waiting, moved, priority)

    monkeypatch.setattr(RankedLine, "move", counted)
    key.decide([ask(f"r{number}", 3) for number in range(200)], ())
    assert [len(one.requests) for one in key.events if isinstance(one, PlacesMoved)] == [200]
    assert moves == [200, 200], "decided once, and folded once by the twin"


def test_who_asks_twice_at_once_has_the_later_priority() -> None:
    key = held(ask("a"), ask("b"))
    key.decide([ask("b", 3), ask("b", 0)], ())
    assert [one for one in key.events if isinstance(one, PlacesMoved)] == []
    key.decide([ask("b", 3), ask("b", 5)], ())
    assert [one.priority for one in key.events if isinstance(one, PlacesMoved)] == [5]
    assert turns(key, 3) == ["first", "b", "a"]


def test_the_same_priority_again_and_that_of_a_holder_change_nothing() -> None:
    key = held(ask("a", 3), ask("b"))
    told = len(key.events)
    key.decide([ask("a", 3), ask("b"), ask("first", 50), ask("a", 3)], ())
    assert len(key.events) == told


def test_who_waits_no_more_leaves_its_share_as_it_was() -> None:
    key = held(*(ask(f"{name}{number}", share=name) for number in range(3) for name in "ab"))
    key.give_back("a0", "a1", "a2")
    assert turns(key, 4) == ["first", "b0", "b1", "b2"]


def test_a_batch_of_one_rank_is_one_event() -> None:
    key = held(
        *(ask(f"a{number}", 5, "acme", 2.0) for number in range(50)), *(ask(f"b{number}") for number in range(50))
    )
    asked = [(len(one.requests), one.priority) for one in key.events if isinstance(one, PlacesAsked)]
    assert asked == [(1, 0), (50, 5), (50, 0)]


def test_how_many_are_ahead_is_told_by_rank() -> None:
    key = held(ask("a"), ask("b"), ask("high", 9), ask("low", -9), ask("c"))

    def ahead(request: str) -> int | None:
        facts = place_facts(key.state, request)
        assert facts is not None
        return facts.ahead

    assert [ahead(one) for one in ("high", "a", "b", "c", "low", "first")] == [0, 1, 2, 3, 4, None]


class Waits(NamedTuple):
    """Somebody waits, as the twin knows it."""

    request: str
    since_us: int
    priority: int
    share: str | None
    weight: float


class Twin:
    """The rule of stride scheduling in its plainest form: every pass kept for ever, everybody looked at each time."""

    def __init__(self) -> None:
        self.waiting: list[Waits] = []
        self.passes: dict[tuple[int, str | None], float] = {}
        self.now: Counter[int] = Counter()

    def may_be_next(self) -> set[str]:
        """Return who may get the next turn: of shares with the same pass any."""
        highest = max(one.priority for one in self.waiting)
        first: dict[str | None, Waits] = {}
        for one in self.waiting:
            if one.priority == highest:
                first.setdefault(one.share, one)
        passes = {share: self._pass(highest, share) for share in first}
        least = min(passes.values())
        return {one.request for share, one in first.items() if passes[share] <= least + 1e-9}

    def _pass(self, priority: int, share: str | None) -> float:
        return self.passes.get((priority, share), 0.0)

    def join(self, one: Waits) -> None:
        if not any((other.priority, other.share) == (one.priority, one.share) for other in self.waiting):
            flow = (one.priority, one.share)
            self.passes[flow] = max(self._pass(*flow), self.now[one.priority])

    def add(self, one: Waits) -> None:
        self.join(one)
        self.waiting.append(one)

    def move(self, request: str, priority: int) -> None:
        [place] = [place for place, one in enumerate(self.waiting) if one.request == request]
        before = self.waiting.pop(place)
        one = before._replace(priority=priority)
        self.join(one)
        self.waiting.insert(place, one)

    def leave(self, request: str) -> None:
        self.waiting = [one for one in self.waiting if one.request != request]
        if not self.waiting:
            self.passes.clear()
            self.now.clear()

    def take(self, request: str) -> None:
        [one] = [one for one in self.waiting if one.request == request]
        flow = (one.priority, one.share)
        self.now[one.priority] = max(self.now[one.priority], self._pass(*flow))  # type: ignore[assignment]
        self.passes[flow] = self._pass(*flow) + 1.0 / one.weight
        self.leave(request)


_ranks = st.tuples(st.sampled_from([-1, 0, 0, 0, 5]), st.sampled_from([None, None, "a", "b"]))
_weights = {None: 1.0, "a": 2.0, "b": 0.5}
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.lists(_ranks, min_size=1, max_size=4)),
        st.tuples(st.just("return"), st.integers(0, 9)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("move"), st.integers(0, 9), st.sampled_from([-1, 0, 5])),
    ),
    max_size=40,
)


@given(_steps)
def test_every_place_goes_to_whom_the_plainest_form_of_the_rule_gives_it(steps: list[tuple[object, ...]]) -> None:
    key, twin, asked = Key(), Twin(), 0
    for step in steps:
        told = len(key.events)
        match step:
            case ("ask", list(ranks)):
                asks = [
                    ask(f"r{asked + at}", priority, share, _weights[share])
                    for at, (priority, share) in enumerate(ranks)
                ]
                asked += len(asks)
                key.decide(asks, ())
            case ("return", _) if key.state.holders:
                key.give_back(next(iter(key.state.holders)))
            case ("cancel", int(number)) if key.state.waiting:
                key.give_back(list(key.state.waiting)[number % len(key.state.waiting)])
            case ("move", int(number), int(priority)) if key.state.waiting:
                request = list(key.state.waiting)[number % len(key.state.waiting)]
                key.decide([ask(request, priority)], ())
            case _:
                continue
        for event in key.events[told:]:
            match event:
                case PlacesAsked(requests=requests):
                    for request in requests:
                        twin.add(Waits(request, 0, event.priority, event.share, event.weight))
                case PlacesMoved(requests=requests, priority=priority):
                    for request in requests:
                        twin.move(request, priority)
                case PlacesGranted(requests=requests):
                    for request in requests:
                        assert request in twin.may_be_next()
                        twin.take(request)
                case PlacesReturned(requests=requests):
                    for request in requests:
                        twin.leave(request)
                case _:
                    pass
        assert [one.request for one in twin.waiting] == list(key.state.waiting)
        assert len(key.state.holders) == 1 or not key.state.waiting
