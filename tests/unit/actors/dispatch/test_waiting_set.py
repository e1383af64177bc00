"""The order of what waits for a slot: by priority, then by age, and nothing starves."""

import random
from uuid import UUID

from tasker.service.actors.dispatch.waiting_set import Waiting, WaitingSet
from tasker.service.domain.limits.ranks import OLD_EVERY, OLD_S

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


def of(key: str | None, count: int, *, weight: float = 1.0, since_us: int = 0) -> list[Waiting]:
    """Return attempts of one key, called like it."""
    return [
        Waiting(0, UUID(int=1), f"{key}{number}", 1, 0, 0, since_us + number, key, weight) for number in range(count)
    ]


def keys(steps: list[str]) -> str:
    return "".join(step[0] for step in steps)


def test_a_key_with_a_long_backlog_does_not_hold_up_anothers_single_attempt() -> None:
    waits = filled(*of("a", 10_000))
    served(waits, 5_000)
    for one in of("b", 1, since_us=20_000):
        waits.add(one)
    assert "b0" in served(waits, 2)


def test_a_key_gets_slots_by_its_weight() -> None:
    waits = filled(*of("a", 400, weight=3.0), *of("b", 400, weight=1.0), *of("c", 400, weight=0.5))
    first = keys(served(waits, 180))
    assert [first.count(key) for key in "abc"] == [120, 40, 20]
    assert "aaaaa" not in first, "and in turn"


def test_of_one_key_what_was_dispatched_first_goes_first_also_when_it_comes_back() -> None:
    """A task that was not in memory at its turn offers again: it keeps its place."""
    waits = filled(*of("a", 5))
    one = waits.next(0)
    assert one is not None
    waits.take(one)
    waits.add(Waiting(0, one.stream_id, one.step, 1, 1, 0, one.since_us, "a"))
    assert served(waits) == ["a0", "a1", "a2", "a3", "a4"]


def test_a_key_that_was_away_has_saved_up_nothing() -> None:
    waits = filled(*of("a", 1_000), *of("b", 1))
    served(waits, 500)
    for one in of("b", 100, since_us=5_000):
        waits.add(one)
    assert keys(served(waits, 40)).count("b") in range(19, 22)


def test_a_key_that_leaves_and_comes_back_gets_no_more_than_its_share() -> None:
    """One that has a single attempt at a time, and offers the next at once, would else be served each time."""
    waits = filled(*of("a", 1_000))
    begun: list[str] = []
    for number in range(200):
        if not any(waits.find(UUID(int=1), f"b{before}", 1) for before in range(number)):
            waits.add(Waiting(0, UUID(int=1), f"b{number}", 1, 0, 0, 10_000 + number, "b", 0.25))
        begun += served(waits, 1)
    assert keys(begun).count("b") in range(39, 42)


def test_all_without_a_key_share_as_one_and_priority_goes_before_shares() -> None:
    waits = filled(*of(None, 100), *of("a", 100), waiting("u", 1, 500))
    first = served(waits, 41)
    assert first[0] == "u"
    assert keys(first[1:]).count("a") == 20


def test_what_keys_used_is_forgotten_once_it_is_no_advantage() -> None:
    waits = WaitingSet()
    for number in range(5_000):
        waits.add(Waiting(0, UUID(int=1), f"s{number}", 1, 0, 0, number, f"key{number}"))
        waits.add(Waiting(0, UUID(int=2), f"s{number}", 1, 0, 0, number, "all"))
        assert len(served(waits, 2)) == 2
    served(waits)
    level = waits._levels.get(0)
    assert level is None or len(level.stride._left) + len(level.flows) < 200
