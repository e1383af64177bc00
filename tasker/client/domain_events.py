"""Following domain events: what steps say happened in the business.

*Live*, on core NATS: fast, in order, and only while one listens. *Durable*: a consumer in the event stream that NATS
keeps under a name, so that what is raised while nobody listens comes later. Subscribers of one name share its events.

A durable one gives every event at least once: an event is acknowledged when the next one is asked for, and one that is
not comes again, to whoever asks then. A repetition that this process has handled is left out. Where NATS lost its
streams the service fills them again, and the consumer is made anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Protocol, Self

from tasker.bus.bus import Bus, Message
from tasker.bus.jetstream import NS_PER_S
from tasker.bus.listening import listen
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import consumer_config, create_consumer
from tasker.client.live_buffer import LiveBuffer
from tasker.errors import NameInvalid, Unavailable, Undecodable
from tasker.events.codec import decode_message
from tasker.events.messages import DomainEventMessage
from tasker.events.subjects import Subjects
from tasker.ids import is_name

ALL: Final = ">"
NEW: Final = "new"
"""In place of a start: what is raised from now on."""

HELD_MAX: Final = 200
"""Events of a durable subscriber that wait here to be asked for."""

HANDLED_MAX: Final = 10_000
"""Events that are remembered, to leave out their repetitions."""

ACK_WAIT_S: Final = 30.0
TOUCH_S: Final = 10.0
"""How often NATS is told that the events held here are still being worked on."""

_REMAKE_S: Final = 0.5
_FLUSH_S: Final = 2.0

_log = logging.getLogger(__name__)


class DomainSubscription:
    """Domain events as they are asked for; `async with` it, then `async for event in it`.

    Made by `TaskerClient.subscribe_domain`.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        *,
        durable: str | None,
        start: str,
        subjects: Subjects,
        tenant: str,
        bus: Callable[[], Awaitable[Bus]],
    ) -> None:
        self._patterns = tuple(subjects.domain_event(tenant, checked_pattern(name)) for name in names or (ALL,))
        self._durable = durable
        self._start = start
        self._subjects = subjects
        self._tenant = tenant
        self._bus = bus
        self._source: _Source | None = None
        self._handled: dict[str, None] = {}
        self._shown: str | None = None

    @property
    def deliveries(self) -> int:
        """How often the event shown last was delivered, to whomever and whether or not he came to it; 1 when live."""
        return 1 if self._source is None else self._source.deliveries

    async def __aenter__(self) -> Self:
        """Return it open: what is published from now on will be shown.

        Raises:
            Unavailable: NATS cannot be reached, or has no event stream (`StreamMissing`).
            NotPermitted: NATS does not let this user hear them.
        """
        bus = await self._bus()
        if self._durable is None:
            self._source = await _Live.open(bus, self._patterns)
        else:
            consumer = self._subjects.domain_consumer(self._tenant, self._durable)
            self._source = await _Durable.open(
                bus, self._subjects.event_stream, consumer, self._patterns, new=self._start == NEW
            )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.ack()
        source, self._source = self._source, None
        if source is not None:
            await source.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DomainEventMessage:
        """Return the next event, and be done with the one before. It may be cancelled and asked again.

        Raises:
            Unavailable: (live) events came faster than they were read.
        """
        self.ack()
        while self._source is not None:
            data = self._source.take()
            if data is None:
                await self._source.more()
                continue
            try:
                event = decode_message(data, DomainEventMessage)
            except Undecodable as error:
                _log.warning("a domain event cannot be read: %s", error)
                self._source.drop()
                continue
            if event.id in self._handled:
                self._source.ack()
                continue
            self._shown = event.id
            return event
        raise StopAsyncIteration

    def ack(self) -> None:
        """Be done with the event shown last; asking for the next one and leaving without an exception do it, too."""
        if self._shown is None or self._source is None:
            return
        self._handled[self._shown] = None
        if len(self._handled) > HANDLED_MAX:
            del self._handled[next(iter(self._handled))]
        self._shown = None
        self._source.ack()


class _Source(Protocol):
    """Where events come from; one at a time is in the caller's hands."""

    deliveries: int

    def take(self) -> bytes | None:
        """Return the next body; None when there is none yet."""
        ...

    async def more(self) -> None:
        """Wait until there may be one."""
        ...

    def ack(self) -> None:
        """Be done with the one taken last."""
        ...

    def drop(self) -> None:
        """Never have the one taken last delivered again."""
        ...

    async def close(self) -> None:
        """End, and give back what was not handled."""
        ...


class _Live:
    def __init__(self) -> None:
        self.deliveries = 1
        self._buffer: LiveBuffer[bytes] = LiveBuffer()
        self._held = AsyncExitStack()

    @classmethod
    async def open(cls, bus: Bus, patterns: tuple[str, ...]) -> Self:
        source = cls()
        for held in await listen(bus, patterns, source._on_message):
            source._held.callback(held.unsubscribe)
        return source

    def take(self) -> bytes | None:
        return self._buffer.items.popleft() if self._buffer.items else None

    async def more(self) -> None:
        await self._buffer.more()

    def ack(self) -> None:
        """Do nothing: nobody waits for it."""

    def drop(self) -> None:
        """Do nothing, as `ack`."""

    async def close(self) -> None:
        await self._held.aclose()

    def _on_message(self, message: Message) -> None:
        self._buffer.put(message.data)


class _Durable:
    def __init__(self, bus: Bus, stream: str, consumer: str, patterns: tuple[str, ...]) -> None:
        self.deliveries = 0
        self._bus = bus
        self._stream = stream
        self._consumer = consumer
        self._patterns = patterns
        self._waiting: dict[int, Delivery] = {}
        """Those that wait to be taken, by their sequence in the stream."""

        self._taken: Delivery | None = None
        self._arrived = asyncio.Event()
        self._missing = asyncio.Event()
        self._pull: PullLoop
        self._keepers: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, bus: Bus, stream: str, consumer: str, patterns: tuple[str, ...], *, new: bool) -> Self:
        source = cls(bus, stream, consumer, patterns)
        await source._ensure(new=new)
        source._pull = PullLoop(
            bus, stream, consumer, source._on_delivery, source._credit, on_missing=source._missing.set
        )
        source._keepers = [
            asyncio.create_task(source._remake(), name=f"maker of {consumer}"),
            asyncio.create_task(source._touch(), name=f"keeper of {consumer}"),
        ]
        return source

    def take(self) -> bytes | None:
        if not self._waiting:
            return None
        self._taken = self._waiting.pop(next(iter(self._waiting)))
        self.deliveries = self._taken.num_delivered
        self._pull.wake()
        return self._taken.data

    async def more(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    def ack(self) -> None:
        if self._taken is not None:
            taken, self._taken = self._taken, None
            self._tell(self._pull.ack, taken)

    def drop(self) -> None:
        if self._taken is not None:
            taken, self._taken = self._taken, None
            self._tell(self._pull.term, taken)

    async def close(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        left = list(self._waiting.values()) + ([] if self._taken is None else [self._taken])
        self._waiting.clear()
        self._taken = None
        for delivery in left:
            self._tell(self._pull.nak, delivery)
        await self._pull.stop()
        if self._bus.connected:
            try:
                await self._bus.flush(timeout_s=_FLUSH_S)
            except Unavailable as error:
                _log.debug("acks not confirmed: %s", error)

    @staticmethod
    def _tell(what: Callable[[Delivery], None], delivery: Delivery) -> None:
        try:
            what(delivery)
        except Unavailable as error:
            _log.info("an ack was not sent, so the event comes again: %s", error)

    def _credit(self) -> int:
        return HELD_MAX - len(self._waiting)

    def _on_delivery(self, delivery: Delivery) -> None:
        if self._taken is not None and self._taken.stream_seq == delivery.stream_seq:
            self._taken = delivery  # in the caller's hands: acknowledged as this one
            return
        self._waiting[delivery.stream_seq] = delivery
        self._arrived.set()

    async def _touch(self) -> None:
        while True:
            await asyncio.sleep(TOUCH_S)
            for delivery in (*self._waiting.values(), *(() if self._taken is None else (self._taken,))):
                self._tell(self._pull.in_progress, delivery)

    async def _remake(self) -> None:
        """Make the consumer anew whenever it, or its stream, is gone."""
        while True:
            await self._missing.wait()
            try:
                await self._ensure(new=False)
            except Unavailable as error:
                _log.info("the consumer %s cannot be made anew yet: %s", self._consumer, error)
                await asyncio.sleep(_REMAKE_S)
                continue
            self._missing.clear()
            self._waiting.clear()  # what they were acked by is gone; they come again
            self._pull.restart()

    async def _ensure(self, *, new: bool) -> None:
        """Make the consumer, or give the one of that name our patterns; where it begins stays as it was."""
        found = await consumer_config(self._bus, self._stream, self._consumer)
        config = found or {
            "name": self._consumer,
            "durable_name": self._consumer,
            "deliver_policy": "new" if new else "all",
            "ack_policy": "explicit",
            "ack_wait": round(ACK_WAIT_S * NS_PER_S),
            "max_deliver": -1,
            "max_ack_pending": 5 * HELD_MAX,
        }
        config.pop("filter_subject", None)
        await create_consumer(
            self._bus, self._stream, self._consumer, config | {"filter_subjects": list(self._patterns)}
        )


def checked_pattern(name: str) -> str:
    """Return the name of a domain event, or a pattern of names: `*` stands for one part, `>` at the end for the rest.

    Raises:
        NameInvalid: it is neither.
    """
    parts = name.split(".")
    last = parts.pop() if parts[-1:] == [ALL] else None
    if (not parts and last is None) or not all(part == "*" or is_name(part) for part in parts):
        raise NameInvalid(f"{name[:80]!r} names no domain events: write payment.captured, payment.* or payment.>")
    return name
