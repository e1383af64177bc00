"""What is ready ahead of slots begins queue by queue in turn, and never with a slot that is kept for another queue."""

import uuid

import pytest

from tasker.bus.memory_bus import MemoryBroker
from tasker.clock import SystemClock
from tasker.events.messages import Work
from tasker.events.subjects import Subjects
from tasker.events.task_events import NULL
from tasker.handlers import handler
from tasker.handlers.ahead import Ahead
from tasker.handlers.attempt import NEVER, Attempt, Key
from tasker.handlers.attempt_reports import AttemptReports
from tasker.handlers.handler import plain_handlers_of
from tasker.handlers.reports import Reporter
from tasker.handlers.served_queues import ServedQueue
from tasker.handlers.slots import Slots
from tasker.handlers.tick import Tick
from tasker.handlers.vitals import WorkerCounts


@handler("step")
async def step() -> None:
    """Never called: what begins is only noted."""


class Hand:
    """A worker's slots and queues, with what began in its order."""

    def __init__(self, slots: int, *queues: str) -> None:
        self.slots = Slots(slots)
        self.queues = {name: ServedQueue("default", name, self.slots.queue()) for name in queues}
        self.attempts: dict[Key, Attempt] = {}
        self.begun: list[str] = []
        self.clock = SystemClock()
        self.bus = MemoryBroker().connect()
        self.tick = Tick(self.clock, lambda _: NEVER)
        self.counts = WorkerCounts()
        self.ahead = Ahead(
            self.attempts,
            self.slots,
            AttemptReports(Reporter(self.bus), Subjects(), "default", "w1", lambda _: {}),
            self.tick,
            self.clock,
            self.counts,
            share=lambda: 5,
            begin=self._begin,
            forget=self._forget,
        )

    def attempt(self, queue: str) -> Attempt:
        work = Work(
            task_id=str(uuid.uuid4()),
            step="step",
            attempt=1,
            handler="step",
            namespace="default",
            template=queue,
            input=NULL,
            idempotency_key="key",
            report_to="reports",
            start_to_close_s=30.0,
            heartbeat_s=10.0,
        )
        spec = plain_handlers_of(step)[0]
        return Attempt(work, None, None, self.queues[queue], spec, (work.task_id, work.step, 1), 0.0)

    def keep(self, queue: str, count: int = 1) -> None:
        for _ in range(count):
            self.ahead.keep(self.attempt(queue), self.clock.monotonic_s() + 60.0)

    def end(self, queue: str) -> None:
        """An attempt of the queue ends."""
        self.queues[queue].slots.release()
        self.ahead.admit()

    def _forget(self, attempt: Attempt) -> None:
        del self.attempts[attempt.key]

    def _begin(self, attempt: Attempt) -> None:
        attempt.queue.slots.take()
        self.begun.append(attempt.queue.name)


@pytest.fixture
async def hand() -> Hand:
    return Hand(8, "a", "b")


async def test_a_queue_with_much_ready_leaves_the_base_of_another_and_that_begins_at_once(hand: Hand) -> None:
    """Also when nothing of the first one ever ends: its handlers may turn slow."""
    hand.keep("a", 20)
    assert hand.begun == ["a"] * 7
    hand.keep("b")
    assert hand.begun == ["a"] * 7 + ["b"]


async def test_queues_take_turns(hand: Hand) -> None:
    hand.keep("a", 20)
    hand.keep("b", 3)
    hand.begun.clear()
    for _ in range(6):
        hand.end("a")
    assert hand.begun == ["a", "b", "a", "b", "a", "a"]


async def test_what_was_asked_for_ahead_keeps_no_slot_of_another_queue(hand: Hand) -> None:
    hand.queues["a"].slots.promised = lambda: 40
    for _ in range(7):
        hand.queues["a"].slots.take()
    hand.keep("b")
    assert hand.begun == ["b"]


async def test_queues_with_a_backlog_have_equal_room(hand: Hand) -> None:
    first, second = hand.queues.values()
    first.slots.backlog = True
    assert hand.ahead.room(first) == 40
    second.slots.backlog = True
    hand.ahead.ask(hand.attempt("a"))
    assert (hand.ahead.room(first), hand.ahead.room(second)) == (19, 20)


async def test_the_time_of_an_attempt_counts_from_its_slot(hand: Hand) -> None:
    kept = hand.attempt("a")
    before_s = hand.clock.monotonic_s()
    hand.ahead.keep(kept, before_s + 60.0)
    assert kept.since_s >= before_s
