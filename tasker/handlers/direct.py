"""Work that nodes send straight to this worker, past the work stream.

The worker tells all nodes each second, and when its queues change, how many slots it has and which of its queues have
no backlog in the stream (`WorkerSlots`); nodes then send first offers in arrays. What was received from a node and
what of it was released are counted as sums since the start, so that a message that is lost or late does no harm, and
the node learns from them when an array never arrived.

A node answers with its time: by that the age of an array is judged, as by the server's for the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from tasker.bus.bus import Bus, Message, Subscription
from tasker.clock import Clock, SystemClock
from tasker.errors import Unavailable
from tasker.events.codec import encode_message
from tasker.events.messages import NodeTime, Work, WorkArray, WorkerSlots
from tasker.events.subjects import Subjects

TELL_S: Final = 1.0
_FORGET_S: Final = 120.0

_log = structlog.get_logger(__name__)
_decode_array = msgspec.json.Decoder(WorkArray).decode
_decode_time = msgspec.json.Decoder(NodeTime).decode


class Room(NamedTuple):
    """What a worker can take.

    Attributes:
        slots: attempts at a time; 0: none any more.
        elsewhere: slots held by what did not come from nodes.
        queues: namespace and name of those that nodes may serve.
    """

    slots: int
    elsewhere: int
    queues: Sequence[tuple[str, str]]


class _Node:
    __slots__ = ("heard_s", "offset_us", "received", "released")

    def __init__(self) -> None:
        self.received = 0
        self.released = 0
        self.offset_us: int | None = None
        self.heard_s = 0.0


class DirectInbox:
    """One worker's way to the nodes.

    Args:
        room: what the worker can take now.
        on_work: takes an item, its node's name, and its age in microseconds (None: it cannot be told). Whoever takes it
            calls `release` with the node once its slot is free again.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        tenant: str,
        worker: str,
        *,
        room: Callable[[], Room],
        on_work: Callable[[Work, str, int | None], None],
        clock: Clock | None = None,
    ) -> None:
        self._bus = bus
        self._clock = clock or SystemClock()
        self._slots_subject = subjects.slots(tenant)
        self._pattern = subjects.worker_work(tenant, worker, "*")
        self._worker = worker
        self._room = room
        self._on_work = on_work
        self._nodes: dict[str, _Node] = {}
        self._inbox = bus.new_inbox()
        self._subscriptions: list[Subscription] = []

    def start(self) -> None:
        """Listen; `keep` tells the nodes."""
        self._subscriptions = [
            self._bus.subscribe(self._pattern, self._on_array),
            self._bus.subscribe(f"{self._inbox}.*", self._on_time),
        ]

    async def keep(self) -> None:
        """Tell the nodes, for ever."""
        while True:
            self.tell()
            await asyncio.sleep(TELL_S)

    def tell(self) -> None:
        """Tell the nodes what the worker can take now."""
        room = self._room()
        said = WorkerSlots(
            worker=self._worker,
            slots=room.slots,
            elsewhere=room.elsewhere,
            queues=list(room.queues),
            nodes={name: (node.received, node.released) for name, node in self._nodes.items()},
        )
        try:
            self._bus.publish(self._slots_subject, encode_message(said), reply=f"{self._inbox}.{self._monotonic_us()}")
        except Unavailable as error:
            _log.debug("slots_not_told", error=error.detail)

    def release(self, node: str) -> None:
        """Count an item of the node as done with: it holds no slot."""
        self._nodes[node].released += 1

    def released(self, node: str) -> int:
        """Return how many items of the node were released."""
        return self._nodes[node].released

    def held(self) -> int:
        """Return how many items were received and not released."""
        return sum(node.received - node.released for node in self._nodes.values())

    def stop(self) -> None:
        """Hear no more. Twice is fine."""
        for subscription in self._subscriptions:
            subscription.unsubscribe()

    def _monotonic_us(self) -> int:
        return int(self._clock.monotonic_s() * 1e6)

    def _on_array(self, message: Message) -> None:
        name = message.subject.rpartition(".")[2]
        try:
            array = _decode_array(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # It does not count as received, so the node offers all of it again, by the stream.
            _log.error("work_undecodable", subject=message.subject, error=str(error))
            return
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node()
        node.received += len(array.work)
        age_us = None if node.offset_us is None else self._monotonic_us() + node.offset_us - array.sent_at_us
        for work in array.work:
            self._on_work(work, name, age_us)

    def _on_time(self, message: Message) -> None:
        asked = message.subject.rpartition(".")[2]
        try:
            told, asked_us = _decode_time(message.data), int(asked)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            # No node listens: the server says so without a body.
            _log.debug("node_time_undecodable", error=str(error)[:200])
            return
        now_s = self._clock.monotonic_s()
        node = self._nodes.setdefault(told.node, _Node())
        # Stamped after the question left: counted from the question, ages come out too old, never too young.
        node.offset_us = told.now_us - asked_us
        node.heard_s = now_s
        for name, one in list(self._nodes.items()):
            if one.heard_s < now_s - _FORGET_S and one.received == one.released:
                del self._nodes[name]
