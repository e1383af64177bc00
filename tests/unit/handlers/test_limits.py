import pytest

from tasker.handlers import handler
from tasker.handlers.equipment import Equipment
from tasker.handlers.handler import plain_handlers_of
from tasker.handlers.limits import RETURN_S_MAX, WAITING_MAX, Limit, Limits, return_s
from tasker.handlers.registry import Registry

A, B, FREE = "a", "b", "free"
QUEUE = ("default", "flow")
OPEN = ("default", "a-queue-with-others")


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
        {A: (Limit(3),), B: (shared,), "c": (shared,)},
        {(*QUEUE, "a"): A, (*QUEUE, "b"): B, (*QUEUE, "c"): "c", (*OPEN, "a"): A, (*OPEN, "free"): FREE},
    )
    assert limits.room(QUEUE) == 5
    assert limits.enter(B)
    assert limits.room(QUEUE) == 4
    assert limits.room(OPEN) is None


def test_nodes_are_told_of_handlers_under_the_same_limits_together() -> None:
    shared = Limit(5)
    limits: Limits[int] = Limits(
        {A: (Limit(2), shared), B: (shared,), "c": (shared,)},
        {(*QUEUE, "a"): A, (*QUEUE, "b"): B, (*OPEN, "c"): "c", (*OPEN, "free"): FREE},
    )
    assert limits.has_others
    assert [(part.name, part.places, part.share) for part in limits.parts] == [
        ("p0", [(*OPEN, "c"), (*QUEUE, "b")], 2),
        ("p1", [(*QUEUE, "a")], 2),
    ]
    assert sum(part.share for part in limits.parts) <= shared.places


def test_nothing_is_free_for_nodes_while_some_wait_in_hand() -> None:
    limits: Limits[int] = Limits({A: (Limit(2),)}, {(*QUEUE, "a"): A})
    (part,) = limits.parts
    assert (limits.has_others, limits.free(part)) == (False, 2)
    assert limits.enter(A)
    assert limits.free(part) == 1
    assert limits.wait(A, 1)
    assert limits.free(part) == 0


def test_handlers_in_processes_share_the_places_of_the_pool() -> None:
    @handler("crunch", queue="flow", process=True)
    def crunch() -> None: ...

    @handler("once", queue="flow", process=True, concurrency=1)
    def once() -> None: ...

    @handler("light", queue="flow")
    def light() -> None: ...

    specs = [spec for function in (crunch, once, light) for spec in plain_handlers_of(function)]
    limits = Equipment(Registry(handlers=specs), app="never loaded", processes=4).limits
    assert [(part.places, part.share) for part in limits.parts] == [
        ([(*QUEUE, "crunch")], 2),
        ([(*QUEUE, "once")], 1),
    ]
    assert limits.has_others


@pytest.mark.parametrize(("deliveries", "delay_s"), [(1, 0.2), (2, 0.4), (100, RETURN_S_MAX)])
def test_what_finds_no_place_goes_back_for_longer_and_longer(deliveries: int, delay_s: float) -> None:
    assert return_s(deliveries) == delay_s
