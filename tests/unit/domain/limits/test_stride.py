"""Turns are shared by weights, and a snapshot of them goes on as they would have."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tasker.service.domain.limits.stride import SLACK, KeptStride, Stride

KEYS = (None, "a", "b", "c")
WEIGHTS = {None: 1.0, "a": 3.0, "b": 0.5, "c": 1.5}


def turn(stride: Stride) -> str | None:
    key = stride.next()
    stride.charge(key, WEIGHTS[key])
    return key


def test_turns_are_shared_by_weight() -> None:
    stride = Stride()
    for key in KEYS:
        stride.join(key)
    counts = Counter(turn(stride) for _ in range(600))
    assert counts == {None: 100, "a": 300, "b": 50, "c": 150}


def test_who_was_away_has_saved_up_nothing() -> None:
    stride = Stride()
    stride.join("a")
    for _ in range(300):
        turn(stride)
    stride.join("c")
    assert Counter(turn(stride) for _ in range(30)) == {"a": 20, "c": 10}


def test_who_leaves_and_comes_back_gets_around_nothing() -> None:
    stride = Stride()
    stride.join("a")
    counts: Counter[str | None] = Counter()
    for _ in range(90):
        stride.join("b")
        for _ in range(2):
            counts[turn(stride)] += 1
        stride.leave("b")
    assert counts["b"] <= 31


def test_what_is_kept_of_those_that_left_is_bounded() -> None:
    stride = Stride()
    stride.join("all")
    for number in range(1_000):
        stride.join(f"k{number}")
        stride.charge(f"k{number}", 0.001)
        stride.leave(f"k{number}")
        stride.charge("all", 1.0)
    assert len(stride.kept().left) <= 1_000
    for _ in range(2_000):
        stride.charge("all", 1.0)
    stride.join("one")
    stride.leave("one")
    assert len(stride.kept().left) <= SLACK


@given(st.lists(st.tuples(st.sampled_from(["join", "leave", "turn"]), st.sampled_from(KEYS)), max_size=60))
def test_a_snapshot_goes_on_as_the_turns_would_have(steps: list[tuple[str, str | None]]) -> None:
    stride = Stride()

    def move(one: Stride, what: str, key: str | None) -> str | None:
        if what == "turn":
            return turn(one) if one else None
        if what == "join" and key not in one:
            one.join(key)
        elif what == "leave" and key in one:
            one.leave(key)
        return None

    for at, (what, key) in enumerate(steps):
        move(stride, what, key)
        if at % 7 == 0:
            kept = msgspec.json.decode(msgspec.json.encode(stride.kept()), type=KeptStride)
            again = Stride.restored(kept)
            assert again.kept() == kept
            for later in steps[at + 1 :]:
                assert move(again, *later) == move(stride, *later)
            return
