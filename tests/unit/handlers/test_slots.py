"""No more is asked for than there are slots, and no queue starves another."""

from hypothesis import given
from hypothesis import strategies as st

from tasker.handlers.slots import QueueSlots, Slots


class Model:
    """Queues that ask for as much as they may, as a pull loop does."""

    def __init__(self, total: int, queues: int) -> None:
        self.slots = Slots(total)
        self.queues = [self.slots.queue() for _ in range(queues)]
        self.asked = dict.fromkeys(self.queues, 0)
        for queue in self.queues:
            queue.promised = lambda queue=queue: self.asked[queue]  # type: ignore[misc]

    def ask(self, queue: QueueSlots) -> None:
        self.asked[queue] = max(self.asked[queue], queue.credit())

    def deliver(self, queue: QueueSlots, *, backlog: bool) -> None:
        if self.asked[queue]:
            self.asked[queue] -= 1
            queue.backlog = backlog
            queue.take()

    @property
    def spoken_for(self) -> int:
        return self.slots.busy + sum(self.asked.values())


def test_one_queue_may_use_all() -> None:
    model = Model(100, 1)
    assert model.queues[0].credit() == 100
    model.queues[0].take()
    assert model.queues[0].credit() == 99


def test_more_queues_than_slots_get_one_each() -> None:
    model = Model(2, 5)
    assert [queue.credit() for queue in model.queues] == [1] * 5
    assert model.slots.total == 5


def test_an_idle_rival_keeps_a_base_only() -> None:
    model = Model(100, 2)
    first, second = model.queues
    for _ in range(200):
        model.ask(first)
        model.deliver(first, backlog=True)
    assert first.busy == 100 - 12
    assert second.credit() == 12


def test_idle_queues_leave_half_of_the_slots_to_a_backlog_in_the_last_of_them() -> None:
    """Pulls wait at the server for long; a promise to an idle queue is not to be had back before they end."""
    model = Model(100, 16)
    for queue in model.queues:
        model.ask(queue)
    assert sum(model.asked.values()) <= 50
    last = model.queues[-1]
    for _ in range(200):
        model.ask(last)
        model.deliver(last, backlog=True)
    assert last.busy >= 50
    assert model.spoken_for <= 100


def test_two_backlogs_share() -> None:
    model = Model(100, 2)
    first, second = model.queues
    for _ in range(300):
        for queue in (first, second):
            model.ask(queue)
            model.deliver(queue, backlog=True)
    assert (first.busy, second.busy) == (50, 50)


def test_what_one_queue_asked_for_ahead_of_slots_leaves_another_its_base() -> None:
    model = Model(100, 2)
    first, second = model.queues
    for _ in range(88):
        first.take()
    model.asked[first] = 500
    assert (second.credit(), second.free) == (12, 12)


def test_what_one_queue_asked_for_ahead_of_slots_leaves_half_of_them_to_a_backlog() -> None:
    model = Model(100, 2)
    first, second = model.queues
    model.asked[first] = 500
    second.backlog = True
    assert second.credit() == 50


@given(
    total=st.integers(1, 40),
    queues=st.integers(1, 6),
    moves=st.lists(
        st.tuples(st.sampled_from(["ask", "deliver", "release", "expire"]), st.integers(0, 5), st.booleans())
    ),
)
def test_never_more_than_the_slots(total: int, queues: int, moves: list[tuple[str, int, bool]]) -> None:
    model = Model(total, queues)
    for move, index, backlog in moves:
        queue = model.queues[index % queues]
        match move:
            case "ask":
                model.ask(queue)
            case "deliver":
                model.deliver(queue, backlog=backlog)
            case "release":
                if queue.busy:
                    queue.release()
            case _:
                model.asked[queue] = 0
        assert model.spoken_for <= model.slots.total


@given(total=st.integers(1, 40), queues=st.integers(2, 6), greedy=st.integers(0, 5))
def test_a_greedy_queue_leaves_something_to_each(total: int, queues: int, greedy: int) -> None:
    model = Model(total, queues)
    first = model.queues[greedy % queues]
    for _ in range(100):
        model.ask(first)
        model.deliver(first, backlog=True)
    for other in model.queues:
        if other is not first:
            model.ask(other)
            assert model.asked[other] >= 1
    assert model.spoken_for <= model.slots.total


def test_a_queue_that_asked_for_all_it_may_costs_no_look_at_the_others() -> None:
    """Each end of an attempt asks all queues, and most of them have nothing to ask for: not the square of them."""
    looks = 0

    def promised(queue: QueueSlots) -> int:
        nonlocal looks
        looks += 1
        return model.asked[queue]

    model = Model(100, 20)
    for queue in model.queues:
        model.ask(queue)
    for queue in model.queues:
        queue.promised = lambda queue=queue: promised(queue)  # type: ignore[misc]
    for queue in model.queues:
        assert queue.credit() <= model.asked[queue]
    assert looks == len(model.queues)
