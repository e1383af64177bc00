"""Work that nodes send straight to this worker, past the work stream.

The worker tells all nodes each second, and when its queues change, how many slots it has and which of its queues have
no backlog in the stream (`WorkerSlots`); nodes then send first offers in arrays. What was received from a node and
what of it was released are counted as sums since the start, so that a message that is lost or late does no harm, and
the node learns from them when an array never arrived. Handlers with a limit have slots of their own, a part each, with
sums of its own.

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
from tasker.events.messages import (
    HEADER_RELEASED,
    HEADER_RELEASED_PARTS,
    NodeTime,
    SlotsPart,
    Work,
    WorkArray,
    WorkerSlots,
)
from tasker.events.subjects import Subjects
from tasker.handlers.limits import Place

TELL_S: Final = 1.0
"""How often nodes are told, at least: they count on it, so it is the protocol's and no setting."""

_FORGET_S: Final = 120.0
"""After how long a node that does not answer any more, and has nothing here, is forgotten."""

_log = structlog.get_logger(__name__)
_decode_array = msgspec.json.Decoder(WorkArray).decode
_decode_time = msgspec.json.Decoder(NodeTime).decode


class PartRoom(NamedTuple):
    """What a worker can take for handlers with a limit; `slots` and `elsewhere` as of `Room`."""

    name: str
    handlers: Sequence[Place]
    slots: int
    elsewhere: int


class Room(NamedTuple):
    """What a worker can take.

    Attributes:
        slots: attempts at a time; 0: none any more.
        elsewhere: slots held by what did not come from nodes.
        queues: namespace and name of those that nodes may serve.
        parts: of handlers with a limit.
        backlogged: queues of which they may send only what overtakes the backlog in the stream.
    """

    slots: int
    elsewhere: int
    queues: Sequence[tuple[str, str]]
    parts: Sequence[PartRoom] = ()
    backlogged: Sequence[tuple[str, str]] = ()


class Source:
    """Where items come from: one node, for the slots of one part.

    Attributes:
        node: its name. part: whose slots; "": those that are no part's.
        received, released: how many items came ever, and how many of them hold no slot any more.
    """

    __slots__ = ("node", "part", "received", "released")

    def __init__(self, node: str, part: str) -> None:
        self.node = node
        self.part = part
        self.received = 0
        self.released = 0


OnWork = Callable[[Work, Source, int | None], None]


class _Node:
    __slots__ = ("heard_s", "offset_us", "sources")

    def __init__(self, name: str) -> None:
        self.sources = {"": Source(name, "")}
        self.offset_us: int | None = None
        self.heard_s = 0.0


class DirectInbox:
    """One worker's way to the nodes."""

    def __init__(self, bus: Bus, subjects: Subjects, tenant: str, worker: str, *, clock: Clock | None = None) -> None:
        self._bus = bus
        self._clock = clock or SystemClock()
        self._slots_subject = subjects.slots(tenant)
        self._pattern = subjects.worker_work(tenant, worker, "*")
        self._worker = worker
        self._room: Callable[[], Room] | None = None
        self._on_work: OnWork = _nobody
        self._nodes: dict[str, _Node] = {}
        self._inbox = bus.new_inbox()
        self._subscriptions: list[Subscription] = []

    def start(self, room: Callable[[], Room], on_work: OnWork) -> None:
        """Listen; `keep` tells the nodes.

        Args:
            room: returns what the worker can take now.
            on_work: takes an item, where it came from, and its age in microseconds (None: it cannot be told). Whoever
                takes it counts it as released there once its slot is free again.
        """
        self._room, self._on_work = room, on_work
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
        """Tell the nodes what the worker can take now; before `start` it is nothing, and not told."""
        if self._room is None:
            return
        room = self._room()
        said = WorkerSlots(
            worker=self._worker,
            slots=room.slots,
            elsewhere=room.elsewhere,
            queues=list(room.queues),
            backlogged=list(room.backlogged),
            nodes=self._sums(""),
            parts=[
                SlotsPart(
                    name=part.name,
                    handlers=list(part.handlers),
                    slots=part.slots,
                    elsewhere=part.elsewhere,
                    nodes=self._sums(part.name),
                )
                for part in room.parts
            ],
        )
        try:
            self._bus.publish(self._slots_subject, encode_message(said), reply=f"{self._inbox}.{self._monotonic_us()}")
        except Unavailable as error:
            _log.debug("slots_not_told", error=error.detail)

    def headers(self, node: str) -> dict[str, str]:
        """Return what reports to the node carry: how many of the items that it sent itself hold no slot any more."""
        known = self._nodes.get(node)
        if known is None:
            return {}
        main, *parts = known.sources.values()
        headers = {HEADER_RELEASED: str(main.released)}
        if parts:
            headers[HEADER_RELEASED_PARTS] = ",".join(f"{source.part}={source.released}" for source in parts)
        return headers

    def held(self, part: str | None = None) -> int:
        """Return how many items were received and not released; of one part, or all."""
        return sum(
            source.received - source.released
            for node in self._nodes.values()
            for source in node.sources.values()
            if part is None or source.part == part
        )

    def stop(self) -> None:
        """Hear no more. Twice is fine."""
        for subscription in self._subscriptions:
            subscription.unsubscribe()

    def _sums(self, part: str) -> dict[str, tuple[int, int]]:
        return {
            name: (source.received, source.released)
            for name, node in self._nodes.items()
            if (source := node.sources.get(part)) is not None
        }

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
            node = self._nodes[name] = _Node(name)
        source = node.sources.get(array.part)
        if source is None:
            source = node.sources[array.part] = Source(name, array.part)
        source.received += len(array.work)
        age_us = None if node.offset_us is None else self._monotonic_us() + node.offset_us - array.sent_at_us
        for work in array.work:
            self._on_work(work, source, age_us)

    def _on_time(self, message: Message) -> None:
        asked = message.subject.rpartition(".")[2]
        try:
            told, asked_us = _decode_time(message.data), int(asked)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            # No node listens: the server says so without a body.
            _log.debug("node_time_undecodable", error=str(error)[:200])
            return
        now_s = self._clock.monotonic_s()
        node = self._nodes.get(told.node)
        if node is None:
            node = self._nodes[told.node] = _Node(told.node)
        # Stamped after the question left: counted from the question, ages come out too old, never too young.
        node.offset_us = told.now_us - asked_us
        node.heard_s = now_s
        for name, one in list(self._nodes.items()):
            if one.heard_s < now_s - _FORGET_S and all(
                source.received == source.released for source in one.sources.values()
            ):
                del self._nodes[name]


def _nobody(_work: Work, _source: Source, _age_us: int | None) -> None:
    """Take nothing: there is no subscription yet."""
