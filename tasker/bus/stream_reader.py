"""Reading a stream from a place on, in order, and saying where something is missing.

The reader owns an ephemeral consumer without acks, and pulls no more than its buffer holds. It trusts nothing
but stream sequences: whatever happens to consumer, connection or server, it makes a new consumer right after the
last message it returned. A jump of the *consumer* sequence is a loss on the way: read again. A jump of
the *stream* sequence is what a filter leaves out, unless the stream itself begins later than wanted: then a `Gap`
is returned in its place. What a stream never stored, or dropped under a reader that lags, only log marks tell:
ask for them in `filters`.

A server that comes back with damaged files has lost messages: of the end, whose sequences it gives to others, or of the
middle. So whenever the reader makes a consumer it asks whether the last message that it returned is still the one at
its place, and whether the stream has new holes ahead; else it returns a `Gap` as well.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from typing import Any

import msgspec

from tasker.bus.bus import Bus, Hook
from tasker.bus.guard import log
from tasker.bus.holes import find_holes
from tasker.bus.jetstream import NS_PER_S, StreamMissing
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.stored import stored_at
from tasker.bus.streams import StreamInfo, create_consumer, delete_consumer, stream_info
from tasker.errors import NotPermitted, TaskerError, Unavailable
from tasker.named_lines import named
from tasker.times import to_rfc3339

BUFFER_MAX = 1000
_INACTIVE_S = 60.0
_RETRY_S_BASE = 0.05
_RETRY_S_MAX = 2.0


class FromSeq(msgspec.Struct, frozen=True):
    """Begin at a stream sequence. `created` of the stream that it was read from, "" when that is not known."""

    seq: int
    created: str = ""


class FromTime(msgspec.Struct, frozen=True):
    """Begin at the first message stored at or after a time, in microseconds since the Unix epoch."""

    at_us: int


class FromNew(msgspec.Struct, frozen=True):
    """Begin with what is stored from now on."""


Start = FromSeq | FromTime | FromNew


class Gap(msgspec.Struct, frozen=True):
    """The stream does not have what was wanted: it has dropped it, or was made anew since.

    Attributes:
        wanted_seq: what was to come next; 0 when the stream was made anew.
        first_seq: what comes next instead.
        recreated: whether it is another stream of the same name, or has other messages at the places of ones that were
            returned: sequences say nothing about the old one.
    """

    wanted_seq: int
    first_seq: int
    recreated: bool = False


class StreamReader:
    """A reader of one stream. `open` it, then `read` until `close`.

    Args:
        bus: where the stream is.
        stream: its name.
        filters: subjects to read, as they are *stored*; they must not overlap.
        start: where to begin.
        buffer_max: most messages that wait to be read.
    """

    def __init__(
        self, bus: Bus, stream: str, filters: tuple[str, ...], start: Start, *, buffer_max: int = BUFFER_MAX
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._filters = filters
        self._start = start
        self._buffer_max = buffer_max
        self._items: deque[Delivery | Gap] = deque()
        self._arrived = asyncio.Event()
        self._created = start.created if isinstance(start, FromSeq) else ""
        self._next_seq = start.seq if isinstance(start, FromSeq) else 0
        """What is to come next, at least; 0 while nothing is known."""
        self._last_at_us: int | None = None
        """When the message before `_next_seq` was stored; None: it was not returned."""
        self._missing = 0
        """How many messages the stream lacked in its middle when the last consumer was made."""
        self._consumer_seq = 0
        self._pull: PullLoop | None = None
        self._consumer = ""
        self._keeper: asyncio.Task[None] | None = None
        self._renew = asyncio.Event()
        self._unhook: Hook | None = None
        self._opened = asyncio.Event()
        self._closed = False
        self._failure: TaskerError | None = None

    @property
    def created(self) -> str:
        """Return which stream is read: what `FromSeq` takes to notice another one. "" before it is known."""
        return self._created

    async def open(self, *, timeout_s: float = 10.0) -> None:
        """Begin; what is stored after this returned is certain to be read.

        Raises:
            StreamMissing: there is no such stream.
            NotPermitted: NATS does not let this user read it.
            Unavailable: NATS does not answer within `timeout_s`.
        """
        self._keeper = asyncio.create_task(self._keep(), name=f"keeper of the reader of {self._stream}")
        self._renew.set()
        self._unhook = self._bus.on_reconnect(self._renew.set)
        try:
            async with asyncio.timeout(timeout_s):
                await self._opened.wait()
        except TimeoutError as error:
            failure = self._failure or Unavailable(f"{self._stream} cannot be read yet")
            await self.close()
            raise failure from error
        except asyncio.CancelledError:
            await self.close()
            raise
        if isinstance(self._failure, NotPermitted):
            await self.close()
            raise self._failure

    async def read(self) -> list[Delivery | Gap]:
        """Return what has arrived, in order, at least one; wait for it. Empty once closed."""
        while not self._items and not self._closed:
            self._arrived.clear()
            await self._arrived.wait()
        items = list(self._items)
        self._items.clear()
        if self._pull is not None:
            self._pull.wake()
        return items

    async def close(self) -> None:
        """End. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._arrived.set()
        if self._unhook is not None:
            self._unhook()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._drop_consumer()

    async def _keep(self) -> None:
        """Make the consumer anew whenever that is due, for ever."""
        failures = 0
        while True:
            await self._renew.wait()
            self._renew.clear()
            try:
                await self._drop_consumer()
                await self._begin()
            except Unavailable as error:
                self._failure = error
                if isinstance(error, NotPermitted):
                    self._opened.set()  # in vain
                told = named("reader_renewed", stream=self._stream, error=error)
                log.info("reader of %s: %s", self._stream, error, extra=told)
                bound = min(_RETRY_S_MAX, _RETRY_S_BASE * 2.0 ** min(failures, 16))
                failures += 1
                await asyncio.sleep(bound * (0.5 + 0.5 * random.random()))  # noqa: S311 - jitter
                self._renew.set()
            else:
                failures = 0
                self._failure = None
                self._opened.set()

    async def _begin(self) -> None:
        info = await stream_info(self._bus, self._stream)
        if not self._note_gap(info):
            await self._note_damage(info)
        self._missing = info.state.missing
        name = f"reader_{secrets.token_hex(8)}"
        config = self._config(name)
        await create_consumer(self._bus, self._stream, name, config)
        self._consumer = name
        self._consumer_seq = 0
        self._pull = PullLoop(
            self._bus,
            self._stream,
            name,
            self._take,
            lambda: self._buffer_max - len(self._items),
            on_missing=self._renew.set,
            acked=False,
        )

    def _note_gap(self, info: StreamInfo) -> bool:
        """Note what the stream has dropped since; return whether it did."""
        recreated = self._created not in {"", info.created}
        self._created = info.created
        first_seq = max(1, info.state.first_seq)
        if recreated:
            self._put(Gap(0, first_seq, recreated=True))
            self._next_seq, self._last_at_us = first_seq, None
            return True
        if self._next_seq and first_seq > self._next_seq:
            self._put(Gap(self._next_seq, first_seq))
            self._next_seq, self._last_at_us = first_seq, None
            return True
        if not self._next_seq and isinstance(self._start, FromNew):
            # Known from now on, so that a consumer lost before the first message loses none.
            self._next_seq = info.state.last_seq + 1
        return False

    async def _note_damage(self, info: StreamInfo) -> None:
        """Note what the stream has lost since the last consumer was made."""
        state = info.state
        if self._last_at_us is not None and self._next_seq > state.first_seq:
            stored = await stored_at(self._bus, self._stream, self._next_seq - 1)
            if stored is None or stored.at_us != self._last_at_us:
                # Whoever fills the stream has gone back, who knows how far: what is shown already comes from elsewhere.
                self._put(Gap(0, state.last_seq + 1, recreated=True))
                self._next_seq, self._last_at_us = state.last_seq + 1, None
                return
        if self._next_seq and state.missing > self._missing:
            ahead = [hole for hole in await find_holes(self._bus, self._stream) if hole.last_seq >= self._next_seq]
            if ahead:
                self._put(Gap(self._next_seq, ahead[-1].last_seq + 1))

    def _config(self, name: str) -> dict[str, Any]:
        config: dict[str, Any] = {
            "name": name,
            "filter_subjects": list(self._filters),
            "ack_policy": "none",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": round(_INACTIVE_S * NS_PER_S),
        }
        if self._next_seq:
            return config | {"deliver_policy": "by_start_sequence", "opt_start_seq": self._next_seq}
        at_us = self._start.at_us if isinstance(self._start, FromTime) else 0
        return config | {"deliver_policy": "by_start_time", "opt_start_time": to_rfc3339(at_us)}

    def _take(self, delivery: Delivery) -> None:
        if self._renew.is_set() or delivery.stream_seq < self._next_seq:
            return
        if delivery.consumer_seq != self._consumer_seq + 1:
            # Something was lost on the way: read again from the last one that we have.
            self._renew.set()
            return
        self._consumer_seq = delivery.consumer_seq
        self._next_seq = delivery.stream_seq + 1
        self._last_at_us = delivery.at_us
        self._put(delivery)

    def _put(self, item: Delivery | Gap) -> None:
        self._items.append(item)
        self._arrived.set()

    async def _drop_consumer(self) -> None:
        pull, self._pull = self._pull, None
        consumer, self._consumer = self._consumer, ""
        if pull is not None:
            await pull.stop()
        if consumer and self._bus.connected:
            try:
                await delete_consumer(self._bus, self._stream, consumer)
            except (StreamMissing, Unavailable) as error:
                # The server drops it by itself after a minute without pulls.
                log.debug("reader of %s: %s", self._stream, error)
