"""Whose turn it is under rate limits: by rank, with no token lost, given twice, or left while somebody waits."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasker.controls.bucket import Bucket
from tasker.events.envelope import US_PER_S
from tasker.service.actors.dispatch import turns as turns_module
from tasker.service.actors.dispatch.turns import Buckets, Key, Turns, key_of
from tasker.service.actors.dispatch.waiting_set import Waiting
from tasker.service.domain.limits.ranks import OLD_EVERY, OLD_S

T0_US = 1_790_000_000_000_000


def bucket(per_s: float, burst: float = 1.0) -> Bucket:
    """Return one that is empty at the start."""
    return Bucket(per_s, burst, since_us=T0_US, now_us=T0_US)


class Asker:
    """An attempt that wants tokens."""

    def __init__(  # noqa: PLR0917 - what an attempt is
        self, key: Key, buckets: Buckets, priority: int, share: str | None, weight: float, at_us: int
    ) -> None:
        self.key = key
        self.buckets = buckets
        self.priority = priority
        self.share, self.weight = share, weight
        self.since_us = at_us
        self.due_us: int | None = at_us
        self.waited = self.has_tokens = self.is_gone = self.leaves_on_the_way = False

    @property
    def is_waiting(self) -> bool:
        return not (self.is_gone or self.has_tokens)

    def waiting(self) -> Waiting:
        return Waiting(0, *self.key, 0, self.priority, self.since_us, self.share, self.weight)


class Line:
    """What a gate and its due book do for attempts: they come at their moments, `late_us` behind them."""

    def __init__(self, late_us: Iterable[int] = (0,)) -> None:
        self.turns = Turns(self)
        self.now_us = T0_US
        self.askers: dict[Key, Asker] = {}
        self.begun: list[tuple[int, str]] = []
        self.given = 0
        self.comes = 0
        self._due: list[tuple[int, int, Key]] = []
        self._late_us = tuple(late_us)

    # ---------------------------------------------------------------- `Wakes`

    def is_on_offer(self, one: Waiting) -> bool:
        return not self.askers[key_of(one)].is_gone

    def got_tokens(self, one: Waiting, buckets: Buckets, now_us: int) -> None:
        asker = self.askers[key_of(one)]
        assert not asker.has_tokens
        assert asker.buckets == buckets
        self._assert_first(asker)
        asker.has_tokens = True
        self._wake(asker, now_us)

    def comes_at(self, one: Waiting, at_us: int, now_us: int) -> None:
        asker = self.askers[key_of(one)]
        assert asker.due_us is not None
        assert at_us < asker.due_us
        self._wake(asker, max(at_us, now_us))

    # ----------------------------------------------------------------

    def _assert_first(self, asker: Asker) -> None:
        """Nobody of higher priority waits for the same, unless it is the turn of who has waited longest."""
        waiting = [one for one in self.askers.values() if one.buckets == asker.buckets and one.is_waiting]
        if asker.since_us > self.now_us - OLD_S * US_PER_S or asker.since_us > min(one.since_us for one in waiting):
            assert asker.priority == max(one.priority for one in waiting)

    def _wake(self, asker: Asker, at_us: int) -> None:
        asker.due_us = at_us
        late_us = self._late_us[len(self.askers) % len(self._late_us)] if at_us > self.now_us else 0
        heapq.heappush(self._due, (at_us + late_us, self.comes + len(self._due), asker.key))
        self.comes += 1

    def add(
        self, name: str, buckets: Buckets, priority: int = 0, share: str | None = None, weight: float = 1.0
    ) -> Asker:
        """Let an attempt ask now."""
        key = (UUID(int=len(self.askers)), name, 1)
        asker = self.askers[key] = Asker(key, buckets, priority, share, weight, self.now_us)
        self._comes(asker)
        return asker

    def cancel(self, asker: Asker) -> None:
        if asker.is_gone:
            return
        asker.is_gone = True
        asker.due_us = None
        self.turns.leave(asker.key, self.now_us)
        if asker.has_tokens:
            self.turns.put_back(asker.buckets, self.now_us)

    def poke(self, asker: Asker) -> None:
        """Let an attempt come by whose moment that is not, as when another timer of it says so."""
        self._comes(asker)

    def _comes(self, asker: Asker) -> None:
        if asker.is_gone:
            return
        if asker.has_tokens and asker.leaves_on_the_way:
            self.cancel(asker)
            return
        at_us = None
        if not asker.has_tokens:
            at_us = self.turns.ask(asker.key, asker.buckets, self.now_us, asker.waiting, waited=asker.waited)
            asker.waited = True
        if at_us is None:
            if not asker.has_tokens:
                self._assert_first(asker)
            asker.is_gone = True
            self.begun.append((self.now_us, asker.key[1]))
        else:
            assert at_us > self.now_us
            self._wake(asker, at_us)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until_us = self.now_us + round(seconds * US_PER_S)
        while self._due and self._due[0][0] <= until_us:
            at_us, _, key = heapq.heappop(self._due)
            asker = self.askers[key]
            if asker.due_us is not None and asker.due_us <= at_us:
                self.now_us = max(self.now_us, at_us)
                asker.due_us = None
                self._comes(asker)
        self.now_us = until_us

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.begun]

    @property
    def waiting(self) -> int:
        return sum(not asker.is_gone for asker in self.askers.values())


def test_of_equals_who_came_first_goes_first_and_each_comes_once() -> None:
    line, limit = Line(), (bucket(10.0),)
    for number in range(50):
        line.add(str(number), limit)
    line.run(5.0)
    assert line.names == [str(number) for number in range(50)]
    assert line.comes == 50


def test_a_newcomer_of_high_priority_gets_the_very_next_turn() -> None:
    line, limit = Line(), (bucket(1.0),)
    for number in range(100):
        line.add(str(number), limit, priority=-10)
    line.run(5.5)
    line.add("urgent", limit, priority=100)
    line.run(1.0)
    assert line.names == ["0", "1", "2", "3", "4", "urgent"]
    line.run(100.0)
    assert line.names[6:] == [str(number) for number in range(5, 100)]


def test_who_waits_is_told_how_many_go_before_it_and_when_its_turn_is() -> None:
    """And so it is, when nobody else comes."""
    line, limit = Line(), (bucket(2.0),)
    for number in range(40):
        line.add(str(number), limit, priority=number % 3)
        line.run(0.01)
    told = {asker.key[1]: line.turns.look(asker.key, line.now_us) for asker in line.askers.values()}
    ranked = sorted((asker for asker in line.askers.values()), key=lambda one: (-one.priority, one.since_us))
    assert [told[asker.key[1]] for asker in ranked] == [
        (number, T0_US + (number + 1) * US_PER_S // 2) for number in range(40)
    ]
    line.run(60.0)
    assert [(name, at_us) for at_us, name in line.begun] == [
        (asker.key[1], T0_US + (number + 1) * US_PER_S // 2) for number, asker in enumerate(ranked)
    ]
    assert all(line.turns.look(key, line.now_us) is None for key in line.askers)


def test_who_needs_tokens_of_two_limits_is_told_of_the_slower_one() -> None:
    line = Line()
    shared, own, other = bucket(1.0), bucket(0.1), bucket(10.0)
    for _ in range(5):
        line.add("other", (shared, other))
        line.run(0.001)
    first = line.add("first", (shared, own))
    line.run(0.001)
    second = line.add("second", (shared, own))
    ahead, at_us = line.turns.look(first.key, line.now_us) or (0, 0)
    assert (ahead, at_us) == (5, T0_US + 10 * US_PER_S)
    ahead, at_us = line.turns.look(second.key, line.now_us) or (0, 0)
    assert (ahead, at_us) == (6, T0_US + 20 * US_PER_S)


def test_one_of_low_priority_gives_its_turn_away() -> None:
    line, limit = Line(), (bucket(1.0),)
    line.add("low", limit, priority=-1)
    for number in range(3):
        line.add(str(number), limit)
    line.run(4.0)
    assert line.names == ["0", "1", "2", "low"]


def test_keys_share_the_turns_by_their_weights() -> None:
    line, limit = Line(), (bucket(1.0),)
    for _ in range(40):
        line.add("small", limit, share="small")
        line.add("big", limit, share="big", weight=3.0)
    line.run(40.0)
    assert [line.names.count("big"), line.names.count("small")] == [30, 10]


def test_each_sixteenth_turn_is_for_what_is_old() -> None:
    line, limit = Line(), (bucket(1.0),)
    line.add("old", limit, priority=-100)
    for _ in range(round(OLD_S) + 3 * OLD_EVERY):
        line.add("new", limit)
        line.run(1.0)
    at = line.names.index("old")
    assert OLD_S <= at <= OLD_S + OLD_EVERY


def test_a_new_priority_counts_from_the_next_turn_on() -> None:
    line, limit = Line(), (bucket(1.0),)
    askers = [line.add(str(number), limit) for number in range(10)]
    line.run(1.5)
    line.turns.move(askers[9].key, 5)
    line.turns.move(askers[1].key, -5)
    line.run(20.0)
    assert line.names == ["0", "9", "2", "3", "4", "5", "6", "7", "8", "1"]


def test_who_leaves_costs_no_turn() -> None:
    """Planted bug: with a burst of one, the moments of those that were cancelled are nobody's."""
    line, limit = Line(), (bucket(1.0),)
    askers = [line.add(str(number), limit) for number in range(100)]
    for asker in askers[:50]:
        line.cancel(asker)
    line.run(50.0)
    assert line.names == [str(number) for number in range(50, 100)]
    line.run(1.0)
    line.add("next", limit)
    assert line.names[-1] == "next"


def test_those_that_leave_one_line_leave_their_turns_to_others_of_the_same_bucket() -> None:
    queue, handler = bucket(1.0), bucket(100.0, 5)
    line = Line()
    askers = [line.add("gone", (queue, handler)) for _ in range(50)]
    for _ in range(10):
        line.add("other", (queue,))
    for asker in askers:
        line.cancel(asker)
    line.run(10.0)
    assert line.names == ["other"] * 10
    assert [line.turns._comes, line.turns._moments, line.turns._lines, line.turns._sharing] == [{}] * 4


def test_who_comes_after_all_have_left_waits_for_nobody() -> None:
    line, limit = Line(), (bucket(1.0),)
    for asker in [line.add(str(number), limit) for number in range(100)]:
        line.cancel(asker)
    line.add("next", limit)
    line.run(1.0)
    assert line.names == ["next"]
    assert len(line.turns) == 0


def test_timers_that_are_late_cost_no_turn() -> None:
    """Planted bug: a token is taken 20 ms late, so the next one comes 20 ms too early, and that turn is nobody's."""
    line, limit = Line([20_000, 0, 5_000]), (bucket(1.0),)
    for number in range(100):
        line.add(str(number), limit)
    line.run(100.0)
    assert len(line.begun) >= 97


def test_what_is_not_on_offer_any_more_gets_no_tokens() -> None:
    line, limit = Line(), (bucket(1.0),)
    line.add("first", limit)
    silent = line.add("silent", limit, priority=5)
    silent.is_gone = True
    line.run(1.0)
    assert line.names == ["first"]


def test_tokens_that_nobody_came_for_are_the_next_ones() -> None:
    line, limit = Line(), (bucket(1.0),)
    line.add("first", limit)
    line.add("second", limit)
    urgent = line.add("urgent", limit, priority=5)
    urgent.leaves_on_the_way = True
    line.run(1.0)
    assert line.names == ["first"]
    line.run(1.0)
    assert line.names == ["first", "second"]


def test_lines_with_a_bucket_in_common_compete_by_priority() -> None:
    """Of a queue with a limit, one handler has a limit, too: what is urgent there does not wait behind the others."""
    queue, handler = bucket(1.0), bucket(100.0, 5)
    line = Line()
    for number in range(50):
        line.add(str(number), (queue,), priority=-10)
    line.run(3.5)
    line.add("urgent", (queue, handler), priority=10)
    line.run(1.0)
    assert line.names == ["0", "1", "2", "urgent"]
    both = [line.add(f"b{number}", (queue, handler), priority=-20) for number in range(5)]
    line.run(1.0)
    line.add("plain", (queue,))
    line.run(1.0)
    assert line.names[4:] == ["3", "plain"]
    line.run(60.0)
    assert len(line.names) == 51 + 1 + len(both)


def test_a_line_that_loses_to_others_gets_a_turn_for_what_is_old() -> None:
    queue, handler = bucket(1.0), bucket(100.0, 5)
    line = Line()
    line.add("old", (queue,), priority=-10)
    for _ in range(round(OLD_S) + 3 * OLD_EVERY):
        line.add("new", (queue, handler))
        line.run(1.0)
    assert "old" in line.names[: round(OLD_S) + 2 * OLD_EVERY]


def test_a_full_line_beside_an_empty_bucket_costs_the_others_no_turn() -> None:
    """Those that wait for a slow handler leave the tokens of their queue to others."""
    queue, slow = bucket(1.0), bucket(0.1)
    line = Line()
    for number in range(100):
        line.add(f"slow{number}", (queue, slow))
        line.add(f"quick{number}", (queue,))
    line.run(100.0)
    slowly = sum(name.startswith("slow") for name in line.names)
    assert 9 <= slowly <= 10
    assert len(line.names) >= 95


def test_of_very_many_lines_with_a_bucket_in_common_each_is_looked_at_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "LINES_LOOKED", 4)
    queue = bucket(1.0)
    line = Line()
    for number in range(40):
        line.add(str(number), (queue, bucket(1.0)))
    line.add("urgent", (queue, bucket(1.0)), priority=10)
    line.run(13.0)
    assert "urgent" in line.names


@settings(max_examples=80, deadline=None)
@given(
    moves=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(-2, 2), st.integers(1, 8)),
            st.tuples(st.just("cancel"), st.integers(0, 200), st.integers(1, 3)),
            st.tuples(st.just("move"), st.integers(0, 200), st.integers(-2, 2)),
            st.tuples(st.just("poke"), st.integers(0, 200), st.just(0)),
            st.tuples(st.just("run"), st.integers(1, 30), st.just(0)),
        ),
        min_size=1,
        max_size=40,
    ),
    rate=st.sampled_from([0.5, 1.0, 7.0]),
    burst=st.integers(1, 4),
    late_ms=st.lists(st.sampled_from([0, 0, 0, 1, 900]), min_size=1, max_size=5),
)
def test_no_token_is_lost_and_none_is_given_twice(
    moves: list[tuple[str, int, int]], rate: float, burst: int, late_ms: list[int]
) -> None:
    line, limit = Line(1000 * ms for ms in late_ms), (bucket(rate, burst),)
    is_punctual = not any(late_ms)
    since_us, at_start = T0_US, 0
    """Since when somebody waits without a break, and how many had begun then."""
    for kind, number, count in moves:
        if kind == "add":
            was_idle = line.waiting == 0
            for _ in range(count):
                line.add("one", limit, priority=number)
            if was_idle:
                since_us, at_start = line.now_us, len(line.begun)
        elif kind == "run":
            before = line.waiting
            line.run(number / 10)
            if before and line.waiting and is_punctual:
                passed_s = (line.now_us - since_us) / US_PER_S
                assert len(line.begun) - at_start >= int(rate * passed_s + 1e-6) - 1
        elif line.askers:
            asker = list(line.askers.values())[number % len(line.askers)]
            if kind == "cancel":
                line.cancel(asker)
            elif kind == "poke":
                line.poke(asker)
            else:
                asker.priority = count
                line.turns.move(asker.key, count)
        if not line.waiting:
            since_us, at_start = line.now_us, len(line.begun)
        assert len(line.turns) == sum(one.is_waiting for one in line.askers.values())
    times_us = [at_us for at_us, _ in line.begun]
    for first in range(len(times_us)):
        for last in range(first, len(times_us)):
            assert last - first + 1 <= rate * (times_us[last] - times_us[first]) / US_PER_S + burst + 1e-3
    line.run(1000.0)
    assert line.waiting == 0
