"""The due book: what is open, when it wakes, and what of it is written."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tasker.events.log import Due, DueChange
from tasker.service.runtime.due import WAKES_MIN, DueBook

A, B = UUID(int=1), UUID(int=2)


def book() -> DueBook:
    return DueBook(3)


def write(one: DueBook) -> DueChange | None:
    """Write what is noted, successfully."""
    change = one.begin_write(7)
    if change is not None:
        one.written(change)
    return change


def rows(change: DueChange | None) -> tuple[set[tuple[UUID, str, int]], set[tuple[UUID, str]]]:
    assert change is not None
    return set(change.upserts), set(change.deletes)


# ---------------------------------------------------------------- waking


def test_an_opened_obligation_wakes_when_its_time_has_come() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}, "": {"deadline": 500}})
    assert (len(due), due.next_us()) == (2, 100)
    assert due.pop_due(99, 10) == []
    assert due.pop_due(100, 10) == [(A, "offer:s1:1")]
    assert due.pop_due(1000, 10) == [(A, "deadline")]


def test_the_earliest_comes_first_and_no_more_than_asked() -> None:
    """A herd after a takeover is taken up at a bounded rate."""
    due = book()
    for number in range(5):
        due.apply(UUID(int=number), {"": {"deadline": 50 - number}})
    assert [stream.int for stream, _ in due.pop_due(100, 2)] == [4, 3]
    assert [stream.int for stream, _ in due.pop_due(100, 9)] == [2, 1, 0]


def test_a_scope_that_is_not_named_stays_as_it_is() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}, "s2": {"offer:s2:1": 100}})
    due.apply(A, {"s1": {"finish_by:s1:1": 300}})
    assert set(due.pop_due(1000, 10)) == {(A, "offer:s2:1"), (A, "finish_by:s1:1")}


def test_a_closed_obligation_does_not_wake() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}})
    due.apply(A, {"s1": {}})
    assert due.pop_due(1000, 10) == []
    assert due.streams() == []


def test_a_stream_that_ended_does_not_wake() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}, "": {"deadline": 200}})
    due.apply(A, None)
    assert (due.pop_due(1000, 10), len(due)) == ([], 0)
    due.apply(B, None)


def test_an_obligation_with_a_new_time_wakes_then_alone() -> None:
    due = book()
    due.apply(A, {"s1": {"retry:s1:2": 100}})
    due.apply(A, {"s1": {"retry:s1:2": 300}})
    assert due.pop_due(299, 10) == []
    assert due.pop_due(300, 10) == [(A, "retry:s1:2")]


def test_rescheduling_wakes_again_later() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}})
    assert due.pop_due(100, 10) == [(A, "offer:s1:1")]
    due.reschedule(A, "s1", "offer:s1:1", 400, keep=False)
    assert due.pop_due(399, 10) == []
    assert due.pop_due(400, 10) == [(A, "offer:s1:1")]


def test_a_unit_that_leaves_an_obligation_as_it_was_leaves_its_new_time() -> None:
    """A child that has begun, a beat that was heard: the state says when it was opened, the book when to look again."""
    due = book()
    due.apply(A, {"s1": {"child:s1:1": 100}}, decided_us=100)
    due.reschedule(A, "s1", "child:s1:1", 400, keep=False)
    due.apply(A, {"s1": {"child:s1:1": 100}}, decided_us=200)
    assert due.not_woken([A], 1000) == {}
    assert due.pop_due(399, 10) == []
    assert due.pop_due(400, 10) == [(A, "child:s1:1")]


def test_what_was_closed_meanwhile_is_not_rescheduled() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}})
    due.apply(A, {"s1": {}})
    due.reschedule(A, "s1", "offer:s1:1", 400, keep=True)
    assert due.pop_due(1000, 10) == []
    assert due.begin_write(7) is None


def test_a_retry_wakes_also_what_only_its_row_knows() -> None:
    """Its actor could not be asked: the log did not answer."""
    due = book()
    due.retry(A, "deadline", 300)
    due.apply(B, {"": {"deadline": 100}})
    due.retry(B, "deadline", 200)
    assert due.pop_due(199, 10) == []
    assert due.pop_due(300, 10) == [(B, "deadline"), (A, "deadline")]


def test_closed_obligations_of_a_far_day_do_not_pile_up() -> None:
    day_us = 86_400_000_000
    due = book()
    due.load([Due(3, UUID(int=99), "deadline", 700)])
    due.apply(A, {"": {"deadline": 900}})
    for number in range(20 * WAKES_MIN):
        stream_id = UUID(int=100 + number)
        due.apply(stream_id, {"": {"deadline": day_us + number}})
        due.apply(stream_id, None)
    assert due.wakes <= WAKES_MIN + 1
    assert due.pop_due(1000, 10) == [(UUID(int=99), "deadline"), (A, "deadline")]


def test_many_open_obligations_all_wake() -> None:
    due = book()
    for number in range(3 * WAKES_MIN):
        due.apply(UUID(int=number), {"": {"deadline": 10_000 - number}})
    found = due.pop_due(10_000, 10 * WAKES_MIN)
    assert [stream_id.int for stream_id, _ in found] == list(reversed(range(3 * WAKES_MIN)))


def test_an_ended_stream_that_is_folded_again_leaves_nothing() -> None:
    due = book()
    due.adopt(A, {}, written=True)
    assert due._rows == {}
    assert due.streams() == []


def test_all_offers_can_be_woken_at_once() -> None:
    """The work stream was made anew: everything that was offered is offered again."""
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100, "start_by:s1:1": 900}})
    due.apply(B, {"s1": {"offer:s1:4": 100}})
    due.pop_due(100, 10)
    due.wake_all("offer:", 150)
    assert set(due.pop_due(150, 10)) == {(A, "offer:s1:1"), (B, "offer:s1:4")}


# ---------------------------------------------------------------- rows


def test_what_is_open_is_written_with_the_position() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}})
    due.position = 12
    change = due.begin_write(7)
    assert change == DueChange(shard=3, epoch=7, position=12, upserts=[(A, "offer:s1:1", 100)], deletes=[])


def test_nothing_new_is_nothing_to_write() -> None:
    due = book()
    assert due.begin_write(7) is None
    due.apply(A, {"s1": {"offer:s1:1": 100}})
    write(due)
    assert due.begin_write(7) is None


def test_a_position_alone_is_written() -> None:
    due = book()
    due.position = 5
    assert write(due) == DueChange(shard=3, epoch=7, position=5, upserts=[], deletes=[])
    assert due.written_position == 5


def test_what_opened_and_closed_between_two_writes_leaves_no_row() -> None:
    """Most obligations live for milliseconds: they cost nothing."""
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}})
    due.apply(A, {"s1": {"finish_by:s1:1": 300}})
    due.apply(A, None)
    due.position = 9
    assert rows(write(due)) == (set(), set())


def test_what_was_written_is_deleted_when_it_closes() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}, "": {"deadline": 900}})
    write(due)
    due.apply(A, {"s1": {"finish_by:s1:1": 300}})
    assert rows(write(due)) == ({(A, "finish_by:s1:1", 300)}, {(A, "offer:s1:1")})
    due.apply(A, None)
    assert rows(write(due)) == (set(), {(A, "finish_by:s1:1"), (A, "deadline")})


def test_what_closes_while_it_is_written_is_deleted_by_the_next_write() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}})
    change = due.begin_write(7)
    assert change is not None
    due.apply(A, {"s1": {}})
    due.written(change)
    assert rows(write(due)) == (set(), {(A, "offer:s1:1")})


def test_a_failed_write_is_put_back_below_what_is_newer() -> None:
    due = book()
    due.apply(A, {"s1": {"retry:s1:2": 100}, "s2": {"offer:s2:1": 100}, "s3": {"offer:s3:1": 100}})
    due.position = 4
    due.begin_write(7)
    due.apply(A, {"s1": {"retry:s1:2": 300}, "s2": {}})
    due.position = 6
    due.not_written()
    change = write(due)
    assert change is not None
    assert change.position == 6
    assert rows(change) == ({(A, "retry:s1:2", 300), (A, "offer:s3:1", 100)}, {(A, "offer:s2:1")})
    assert due.begin_write(7) is None


def test_a_kept_time_is_written() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}})
    write(due)
    due.reschedule(A, "s1", "offer:s1:1", 400, keep=False)
    assert due.begin_write(7) is None
    due.reschedule(A, "s1", "offer:s1:1", 800, keep=True)
    assert rows(write(due)) == ({(A, "offer:s1:1", 800)}, set())


def test_what_memory_alone_holds_is_due_for_another_owner_until_it_is_kept() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}})
    due.reschedule(A, "s1", "offer:s1:1", 800, keep=True)
    assert rows(write(due)) == ({(A, "offer:s1:1", 800)}, set())
    due.reschedule(A, "s1", "offer:s1:1", 900, keep=False)
    due.leave_due(A, "s1", "offer:s1:1", 500)
    assert rows(write(due)) == ({(A, "offer:s1:1", 500)}, set())
    assert not due.release(A, 600), "its row would not wake it here again"
    due.keep(A, "s1", "offer:s1:1")
    assert rows(write(due)) == ({(A, "offer:s1:1", 900)}, set())
    due.keep(A, "s1", "offer:s1:1")
    assert due.begin_write(7) is None
    assert due.pop_due(899, 10) == []
    assert due.release(A, 600)


def test_what_was_left_due_and_is_closed_keeps_nothing_in_memory() -> None:
    due = book()
    due.apply(A, {"s1": {"offer:s1:1": 100}, "s2": {"retry:s2:2": 900}})
    due.leave_due(A, "s1", "offer:s1:1", 500)
    due.apply(A, {"s1": {}})
    due.leave_due(A, "s1", "offer:s1:1", 500)
    write(due)
    assert due.release(A, 600)


def test_a_row_that_outlived_its_obligation_is_deleted() -> None:
    due = book()
    due.load([Due(3, A, "retry:s1:2", 100)])
    assert due.pop_due(100, 10) == [(A, "retry:s1:2")]
    due.forget(A, "retry:s1:2")
    assert rows(write(due)) == (set(), {(A, "retry:s1:2")})


# ---------------------------------------------------------------- memory


def test_rows_wake_without_their_stream_being_in_memory() -> None:
    due = book()
    due.load([Due(3, A, "deadline", 100)])
    assert len(due) == 0
    assert due.pop_due(100, 10) == [(A, "deadline")]


def test_a_stream_in_memory_is_newer_than_its_rows() -> None:
    due = book()
    due.apply(A, {"": {"deadline": 900}})
    due.load([Due(3, A, "deadline", 100), Due(3, A, "retry:s1:2", 100)])
    assert due.pop_due(800, 10) == []


def test_a_stream_folded_from_the_log_is_written_again_where_its_rows_may_be_old() -> None:
    due = book()
    due.adopt(A, {"s1": {"offer:s1:1": 100}}, written=False)
    assert rows(write(due)) == ({(A, "offer:s1:1", 100)}, set())


def test_a_stream_whose_rows_are_complete_is_taken_up_without_writing() -> None:
    """An actor is activated: its rows are there, and are deleted when they close."""
    due = book()
    due.adopt(A, {"s1": {"offer:s1:1": 100}}, written=True)
    assert due.begin_write(7) is None
    due.apply(A, None)
    assert rows(write(due)) == (set(), {(A, "offer:s1:1")})


def test_a_stream_in_memory_is_not_taken_up_again() -> None:
    due = book()
    due.apply(A, {"s1": {"finish_by:s1:1": 300}})
    due.adopt(A, {"s1": {"offer:s1:1": 100}}, written=True)
    assert due.pop_due(1000, 10) == [(A, "finish_by:s1:1")]


def test_an_idle_stream_lives_in_its_rows_alone() -> None:
    """A million open tasks cost rows, not memory."""
    due = book()
    due.apply(A, {"": {"deadline": 900}})
    assert not due.release(A, until_us=500), "its row is not written"
    write(due)
    assert not due.release(A, until_us=900), "it is due soon"
    assert due.release(A, until_us=500)
    assert (len(due), due.streams()) == (0, [])
    due.load([Due(3, A, "deadline", 900)])
    assert (A, "deadline") in due.pop_due(900, 10)


def test_a_stream_is_not_released_while_its_rows_are_being_written() -> None:
    due = book()
    due.apply(A, {"": {"deadline": 900}})
    change = due.begin_write(7)
    assert change is not None
    assert not due.release(A, until_us=500)
    due.written(change)
    assert due.release(A, until_us=500)
    assert due.release(A, until_us=500)


# ---------------------------------------------------------------- the model

NAMES = ["offer:s1:1", "finish_by:s1:1", "retry:s1:2", "deadline"]
changes = st.dictionaries(
    st.sampled_from(["s1", ""]), st.dictionaries(st.sampled_from(NAMES[:3]), st.integers(1, 9), max_size=3), max_size=2
)


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B]), st.none() | changes)
        | st.sampled_from(["begin", "written", "lost", "release"]),
        max_size=30,
    )
)
def test_the_rows_are_what_is_open_whatever_fails(actions: list[object]) -> None:
    """After a last write the rows are exactly what the commits left open; times in memory are those of the rows."""
    due = book()
    wanted: dict[UUID, dict[str, dict[str, int]]] = {A: {}, B: {}}
    stored: dict[tuple[UUID, str], int] = {}
    writing: DueChange | None = None

    def store(change: DueChange) -> None:
        stored.update({(stream, name): at_us for stream, name, at_us in change.upserts})
        for key in change.deletes:
            stored.pop(key, None)
        due.written(change)

    for action in actions:
        if isinstance(action, tuple):
            stream, change = action
            # A scope's obligations are named after it, as the domain names them.
            change = change and {
                scope: {f"{name}@{scope}": at_us for name, at_us in owed.items()} for scope, owed in change.items()
            }
            if stream not in due.streams() and any(wanted[stream].values()):
                due.adopt(stream, wanted[stream], written=True)
            due.position += 1
            due.apply(stream, change)
            wanted[stream] = {} if change is None else wanted[stream] | change
        elif action == "begin" and writing is None:
            writing = due.begin_write(1)
        elif action == "written" and writing is not None:
            store(writing)
            writing = None
        elif action == "lost" and writing is not None:
            due.not_written()
            writing = None
        elif action == "release":
            for stream in due.streams():
                due.release(stream, until_us=5)
    if writing is not None:
        due.not_written()
    last = due.begin_write(1)
    if last is not None:
        store(last)
    open_now = {
        (stream, name): at_us
        for stream, scopes in wanted.items()
        for owed in scopes.values()
        for name, at_us in owed.items()
    }
    assert stored == open_now
    assert due.written_position == due.position
