"""What comes of the stream while all slots are held waits, also where its handler has a place for it."""

import msgspec

from tasker.bus.pull import Delivery
from tasker.events.subjects import Subjects
from tasker.handlers.attempt import Attempt
from tasker.handlers.limits import Limit, Limits
from tasker.handlers.server_clock import ServerClock
from tasker.handlers.stream_intake import StreamIntake
from tests.unit.handlers.test_ahead import Hand


async def test_work_of_a_limited_handler_waits_for_a_slot() -> None:
    """Its queue asks for more than there are slots, as other handlers of it have no limit and are quick."""
    hand = Hand(2, "a")
    attempt = hand.attempt("a")
    handler, queue = attempt.handler, attempt.queue
    limits: Limits[Attempt] = Limits({handler: (Limit(2),)})

    def take_up(attempt, *, may_run) -> None:
        queue.slots.take()
        hand.begun.append(attempt.queue.name)

    intake = StreamIntake(
        lambda *_: handler,
        hand.attempts,
        hand.slots,
        limits,
        hand.tick,
        hand.clock,
        ServerClock(hand.bus, Subjects().work_stream, hand.clock),
        hand.counts,
        hand.ahead,
        take_up=take_up,
        on_backlog=lambda: None,
    )
    for _ in range(2):
        queue.slots.take()
    intake.on_work(queue, Delivery("s", msgspec.json.encode(attempt.work), None, "r", 1, 1, 1, 0, 0))
    assert (hand.begun, limits.waiting) == ([], 1)
    queue.slots.release()
    intake.admit()
    assert (hand.begun, limits.waiting) == (["a"], 0)
