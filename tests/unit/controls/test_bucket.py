"""A token bucket's bound, and that it gives what it may: for one node, and for many that share a limit."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasker.controls import Limit, Place, Target
from tasker.controls.bucket import Bucket
from tasker.events.envelope import US_PER_S
from tasker.service.actors.dispatch import pacing
from tasker.service.actors.dispatch.pacing import Pacing, key_of
from tasker.service.actors.dispatch.turns import are_free, keep_moment

T0_US = 1_790_000_000_000_000
SHARDS = 16
SHOP = Place("acme", "shop", "orders", "charges", "charge")
QUEUE = Target("queue", "acme", "shop", "charges")
HANDLER = Target("handler", "acme", "shop", "charge")
ROUNDING = 1e-6


def most_above(times_us: list[int], rate_per_s: float) -> float:
    """The most that any stretch of time has beyond `rate * time`: the burst that was really given."""
    most = low = 0.0
    for number, at_us in enumerate(times_us):
        level = number - rate_per_s * (at_us - T0_US) / US_PER_S
        low = min(low, level) if number else level
        most = max(most, level - low + 1)
    return most


def asked(buckets: tuple[Bucket, ...], now_us: int, *, waited: bool) -> int | None:
    """Take a token of each bucket; returns when to come back where one lacks it."""
    if not are_free(buckets, now_us, waited=waited):
        return keep_moment(buckets, now_us, waited=waited)[0]
    for bucket in buckets:
        bucket.take()
    return None


def asked_of(node: Pacing, place: Place, input: bytes, now_us: int, *, waited: bool) -> int | None:
    """Ask at a node for an attempt of a place; who asks at one that takes a shard comes back in a second."""
    buckets = node.find(place, msgspec.Raw(input), now_us)
    return now_us + US_PER_S if buckets is None else asked(buckets, now_us, waited=waited)


def begun(bucket: Bucket, asks: list[int]) -> list[int]:
    """When attempts begin that ask at these times, and come back when they are told to; late by up to 3 s."""
    waiting = [(at_us, False) for at_us in asks]
    found = []
    late = 0
    while waiting:
        waiting.sort()
        at_us, waited = waiting.pop(0)
        turn_us = asked((bucket,), at_us, waited=waited)
        if turn_us is None:
            found.append(at_us)
            continue
        assert turn_us > at_us
        late = (late * 7 + 13) % 31
        waiting.append((turn_us + (late * US_PER_S // 10 if late > 20 else 0), True))
        # A clock never goes back.
        waiting = [(max(one, at_us), flag) for one, flag in waiting]
    return found


@settings(max_examples=60, deadline=None)
@given(
    rate=st.sampled_from([0.2, 1.0, 7.0, 100.0]),
    burst=st.integers(1, 20),
    gaps=st.lists(st.integers(0, 2 * US_PER_S), min_size=1, max_size=60),
)
def test_no_stretch_of_time_has_more_than_the_rate_and_the_burst(rate: float, burst: int, gaps: list[int]) -> None:
    bucket = Bucket(rate, burst, since_us=T0_US, now_us=T0_US)
    asks = [T0_US]
    for gap in gaps:
        asks.append(asks[-1] + gap)
    times = begun(bucket, asks)
    assert len(times) == len(asks)
    assert most_above(times, rate) <= burst + ROUNDING


def test_who_waits_gets_the_whole_rate_in_order() -> None:
    bucket = Bucket(10.0, 5, since_us=T0_US - 10 * US_PER_S, now_us=T0_US)
    turns = []
    for _ in range(25):
        turn_us = asked((bucket,), T0_US, waited=False)
        turns.append(turn_us or T0_US)
    assert turns[:5] == [T0_US] * 5
    assert [after - before for before, after in pairwise(turns[4:])] == [100_000] * 20
    for turn_us in turns[5:]:
        assert asked((bucket,), turn_us, waited=True) is None


def test_a_newcomer_does_not_overtake_who_waits() -> None:
    bucket = Bucket(1.0, 1, since_us=T0_US - 10 * US_PER_S, now_us=T0_US)
    assert asked((bucket,), T0_US, waited=False) is None
    assert asked((bucket,), T0_US, waited=False) == T0_US + US_PER_S
    assert asked((bucket,), T0_US, waited=False) == T0_US + 2 * US_PER_S
    assert asked((bucket,), T0_US + US_PER_S, waited=False) == T0_US + 3 * US_PER_S
    assert asked((bucket,), T0_US + US_PER_S, waited=True) is None


def limit(per_s: float = 10.0, burst: int = 4, key: str | None = None) -> Limit:
    return Limit(per_s, burst, key, T0_US, "ada", "why")


@settings(max_examples=40, deadline=None)
@given(
    moves=st.lists(st.tuples(st.integers(0, 2), st.integers(0, SHARDS), st.integers(1, 40)), min_size=1, max_size=12),
    burst=st.integers(1, 30),
)
def test_all_nodes_together_stay_within_the_limit(moves: list[tuple[int, int, int]], burst: int) -> None:
    """Three nodes with as much demand as can be; shards move between them."""
    nodes = [Pacing(lambda: {QUEUE: limit(burst=burst)}) for _ in range(3)]
    owned = [SHARDS, 0, 0]
    now_us = T0_US
    for node, count in zip(nodes, owned, strict=True):
        node.own(count / SHARDS, now_us)
    times: list[int] = []
    for taker, count, steps in moves:
        giver = max(range(3), key=lambda one: owned[one])
        if giver != taker:
            moved = min(count, owned[giver])
            owned[giver] -= moved
            nodes[giver].own(owned[giver] / SHARDS, now_us)
            owned[taker] += moved
            nodes[taker].own(owned[taker] / SHARDS, now_us)
        for _ in range(steps):
            now_us += 50_000
            for node in nodes:
                while asked_of(node, SHOP, b"{}", now_us, waited=True) is None:
                    times.append(now_us)
    assert most_above(times, 10.0) <= max(burst, len(nodes)) + len(nodes) + ROUNDING
    assert len(times) <= 10.0 * (now_us - T0_US) / US_PER_S + max(burst, len(nodes)) + ROUNDING


def test_an_attempt_needs_a_token_of_its_queue_and_of_its_handler() -> None:
    node = Pacing(lambda: {QUEUE: limit(10.0, 10), HANDLER: limit(1.0, 1)})
    node.own(1.0, T0_US)
    now_us = T0_US + 10 * US_PER_S
    assert asked_of(node, SHOP, b"1", now_us, waited=False) is None
    assert asked_of(node, SHOP, b"1", now_us, waited=False) == now_us + US_PER_S
    other = SHOP._replace(handler="other")
    assert [asked_of(node, other, b"1", now_us, waited=False) for _ in range(9)] == [None] * 9
    assert asked_of(node, other, b"1", now_us, waited=False) is not None


def test_each_value_of_the_key_has_the_limit_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Pacing(lambda: {QUEUE: limit(1.0, 1, "input.customer")})
    node.own(1.0, T0_US)
    now_us = T0_US + 10 * US_PER_S

    def ask(text: bytes) -> bool:
        return asked_of(node, SHOP, text, now_us, waited=False) is None

    assert [ask(b'{"customer":1}'), ask(b'{"customer":2}'), ask(b'{"customer":1}')] == [True, True, False]
    assert [ask(b'{"n":1}'), ask(b"7")] == [True, False]
    monkeypatch.setattr(pacing, "BUCKETS_MAX", 3)
    now_us += 100_000
    assert [ask(b'{"customer":3}'), ask(b'{"customer":4}')] == [False, False]  # they share the one without a key
    now_us += 20 * US_PER_S
    assert [ask(b'{"customer":3}'), ask(b'{"customer":4}')] == [True, True]  # the full ones made room
    assert key_of("input.customer", msgspec.Raw(b'{"customer":{"b":1,"a":2}}')) == b'{"a":2,"b":1}'


def test_a_limit_that_is_set_anew_holds_at_once() -> None:
    limits = {QUEUE: limit(1.0, 1)}
    node = Pacing(lambda: limits)
    node.own(1.0, T0_US)
    assert node.changed(T0_US)
    assert not node.changed(T0_US)
    now_us = T0_US + 10 * US_PER_S
    asked_of(node, SHOP, b"1", now_us, waited=False)
    assert asked_of(node, SHOP, b"1", now_us, waited=False) == now_us + US_PER_S
    limits[QUEUE] = limit(100.0, 1)
    assert node.changed(now_us)
    assert asked_of(node, SHOP, b"1", now_us, waited=True) == now_us + 10_000
    del limits[QUEUE]
    assert node.changed(now_us)
    assert asked_of(node, SHOP, b"1", now_us, waited=False) is None
    assert not node.changed(now_us)
