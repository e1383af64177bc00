import pytest

from tasker.handlers.limits import RETURN_S_MAX, WAITING_MAX, Limit, Limits, return_s

A, B, FREE = "a", "b", "free"
QUEUE = ("default", "flow")


def test_a_handler_without_a_limit_always_finds_a_place() -> None:
    limits: Limits[int] = Limits({A: (Limit(1),)})
    assert all(limits.enter(FREE) for _ in range(100))


def test_places_are_taken_and_given_back() -> None:
    limits: Limits[int] = Limits({A: (Limit(2),)})
    assert [limits.enter(A) for _ in range(3)] == [True, True, False]
    limits.leave(A)
    assert limits.enter(A)


def test_who_waits_comes_before_who_arrives_and_handlers_take_turns() -> None:
    shared = Limit(1)
    limits: Limits[str] = Limits({A: (Limit(5), shared), B: (Limit(5), shared)})
    assert limits.enter(A)
    assert limits.wait(A, "a1")
    assert limits.wait(B, "b1")
    assert not limits.wait(A, "a2")  # no more in hand than there are places
    assert limits.next() is None
    limits.leave(A)
    assert not limits.enter(A)
    assert limits.next() == "a1"
    limits.leave(A)
    assert limits.wait(A, "a2")
    assert limits.next() == "b1"
    assert limits.waiting == 1


def test_few_wait_in_hand_and_all_can_be_given_up() -> None:
    limits: Limits[int] = Limits({A: (Limit(100),)})
    assert all(limits.enter(A) for _ in range(100))
    assert sum(limits.wait(A, number) for number in range(100)) == WAITING_MAX
    assert limits.give_up() == list(range(WAITING_MAX))
    assert limits.waiting == 0
    assert limits.next() is None


def test_a_queue_has_room_for_its_handlers_places_unless_one_is_not_limited() -> None:
    shared = Limit(2)
    limits: Limits[int] = Limits(
        {A: (Limit(3),), B: (shared,), "c": (shared,)}, {QUEUE: [A, B, "c"], ("default", "open"): [A, FREE]}
    )
    assert limits.room(QUEUE) == 5
    assert limits.enter(B)
    assert limits.room(QUEUE) == 4
    assert limits.room(("default", "open")) is None


@pytest.mark.parametrize(("deliveries", "delay_s"), [(1, 0.2), (2, 0.4), (100, RETURN_S_MAX)])
def test_what_finds_no_place_goes_back_for_longer_and_longer(deliveries: int, delay_s: float) -> None:
    assert return_s(deliveries) == delay_s
