"""The order of what waits for a slot: by priority, then by age, and nothing starves."""

import random
from uuid import UUID

from tasker.service.actors.waiting_set import OLD_EVERY, OLD_S, Waiting, WaitingSet

S = 1_000_000
OLD_US = round(OLD_S * S)


def waiting(
    step: str, priority: int = 0, since_us: int = 0, *, task: int = 1, shard: int = 0, offer: int = 0
) -> Waiting:
    return Waiting(shard, UUID(int=task), step, 1, offer, priority, since_us)


def filled(*several: Waiting) -> WaitingSet:
    found = WaitingSet()
    for one in several:
        found.add(one)
    return found


def served(waits: WaitingSet, count: int | None = None, *, now_us: int = 0) -> list[str]:
    """Return what gets the next slots, in order."""
    steps: list[str] = []
    while count is None or len(steps) < count:
        one = waits.next(now_us)
        if one is None:
            break
        waits.take(one)
        steps.append(one.step)
    return steps


def test_the_higher_priority_goes_first_and_of_one_what_was_dispatched_first() -> None:
    waits = filled(
        waiting("low", -100), waiting("b", 0, 2), waiting("high", 100, 9), waiting("a", 0, 1), waiting("c", 0, 2)
    )
    assert served(waits) == ["high", "a", "b", "c", "low"]
    assert len(waits) == 0


def test_old_work_of_low_priority_gets_its_share_of_an_endless_stream_of_urgent_work() -> None:
    waits = filled(*(waiting(f"old{number}", -100, number) for number in range(3)))
    steps: list[str] = []
    for number in range(3 * OLD_EVERY):
        waits.add(waiting(f"new{number}", 100, OLD_US + number))
        steps += served(waits, 1, now_us=OLD_US + 2 + number)
    assert [at + 1 for at, step in enumerate(steps) if step.startswith("old")] == [
        OLD_EVERY,
        2 * OLD_EVERY,
        3 * OLD_EVERY,
    ]


def test_what_is_not_old_gets_no_slot_before_urgent_work() -> None:
    waits = filled(waiting("low", -1, 1), *(waiting(f"u{number}", 1, 2) for number in range(2 * OLD_EVERY)))
    assert served(waits, now_us=OLD_US)[-1] == "low"


def test_a_task_that_is_given_another_priority_gets_its_place() -> None:
    waits = filled(waiting("a", 0, 1), waiting("b", 0, 2, offer=3), waiting("c", 5, 3))
    one = waits.find(UUID(int=1), "b", 1)
    assert one is not None
    waits.move(one, 10)
    moved = waits.next(0)
    assert moved is not None
    assert (moved.step, moved.offer, moved.since_us) == ("b", 3, 2)
    assert served(waits) == ["b", "c", "a"]


def test_each_attempt_waits_once_and_what_a_shard_held_can_be_dropped() -> None:
    waits = filled(waiting("a", shard=1), waiting("b", 1, shard=2), waiting("c", shard=1, task=2))
    assert waits.find(UUID(int=1), "a", 2) is None
    assert waits.remove_shard(1) == 2
    assert waits.find(UUID(int=1), "a", 1) is None
    assert served(waits) == ["b"]


def test_memory_does_not_grow_with_what_came_and_went() -> None:
    draw = random.Random(4)
    waits = WaitingSet()
    for number in range(5_000):
        waits.add(waiting(f"s{number}", draw.randrange(-100, 101), number))
        one = waits.next(number)
        assert one is not None
        waits.take(one)
    assert len(waits._by_age) < 200
    assert not waits._of


def test_it_serves_what_a_sorted_list_would() -> None:
    draw = random.Random(7)
    several = [waiting(f"s{number}", draw.randrange(-3, 4), draw.randrange(1_000)) for number in range(500)]
    waits = filled(*several)
    moved = draw.sample(several, 100)
    for one in moved:
        waits.move(one, -one.priority)
        one.priority = -one.priority
    expected = sorted(several, key=lambda one: (-one.priority, one.since_us))
    found = served(waits)
    by_step = {one.step: one for one in several}
    assert [(by_step[step].priority, by_step[step].since_us) for step in found] == [
        (one.priority, one.since_us) for one in expected
    ]
