"""Feeding a stream in order at full speed, with acks that count.

An ingest is one session: messages are counted from 1, `acked_count` says how many of them, in order, the
stream has for certain. A session that broke stays broken; its owner opens another one from the last acked
message. What was stored and not acked comes twice then: give a `Nats-Msg-Id`.

Two carriers. *Fast ingest* (server >= 2.14, a stream with `allow_batched`) is a plain publish whose reply subject is

    <inbox>.<batch>.<flow>.<gap mode>.<n>.<op>.$FI      op: 0 opens, 1 appends, 2 stores the last one, 3 ends

The server knows a batch by that id alone, whoever sends it: two feeders with one id end each other's batches.
The server acks every so many messages as it sees fit: `{"type":"ack","seq":n,"msgs":m}`: everything to n is
stored, m is the flow granted now. It never acks the tail by itself (a ping, op 4, only repeats the last ack), so
the tail is acked by ending the batch: `{"stream":..,"seq":..,"batch":..,"count":n}`. Until that came nothing is
sent: what a broken batch lost must not be overtaken by the next batch. Gap mode `fail`: at a lost message the
batch ends. Op 3 stores nothing, but live subscribers of its subject hear it: hence `end_subject`.
88 k messages/s against 12 k/s with one ack each. *Window* is the fall-back: a bounded number of acked publications.

Source: ADR-50 of nats-io/nats-architecture-and-design, and trials against nats-server 2.15.1.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from tasker.bus.bus import Bus, Disconnected, Message
from tasker.bus.guard import call_guarded
from tasker.bus.jetstream import ApiError, PubAck, StreamMissing, publish_error
from tasker.bus.publish import AckedPublisher
from tasker.bus.streams import FAST_INGEST_VERSION
from tasker.errors import TaskerError, Unavailable

FLOW = 1000
WINDOW = 512
STALL_S = 5.0
_OPEN_WINDOW = 64
"""Messages sent before the first ack tells the flow."""

_OPEN, _APPEND, _LAST, _END = range(4)


class Ingest(Protocol):
    """A session of messages into one stream; see the head of this module."""

    @property
    def published_count(self) -> int:
        """Return how many messages were published in this session."""
        ...

    @property
    def acked_count(self) -> int:
        """Return how many messages, from the first on, the stream has."""
        ...

    @property
    def room(self) -> int:
        """Return how many messages may be published now; 0 when broken."""
        ...

    @property
    def broken(self) -> TaskerError | None:
        """Return why the session ended, None while it goes on."""
        ...

    def publish(
        self, subject: str, data: bytes, *, headers: Mapping[str, str] | None = None, last: bool = False
    ) -> None:
        """Send the next message; needs `room`. `last` has everything acked soon, as `flush` does, a message cheaper.

        Raises:
            Unavailable: the session is broken, or there is no room.
        """
        ...

    def flush(self) -> None:
        """Have everything published so far acked soon; call it whenever nothing more is at hand."""
        ...

    async def wait_room(self) -> None:
        """Return when there is room.

        Raises:
            TaskerError: the session is broken.
        """
        ...

    async def wait_acked(self) -> None:
        """Flush, and return when everything published so far is acked.

        Raises:
            TaskerError: the session is broken.
        """
        ...

    def close(self) -> None:
        """End the session; what is not acked stays unknown. Twice is fine."""
        ...


def open_ingest(
    bus: Bus,
    *,
    end_subject: str,
    on_progress: Callable[[], None] | None = None,
    stall_s: float = STALL_S,
    fast: bool | None = None,
) -> Ingest:
    """Return a new session on the carrier that the server offers.

    Args:
        bus: a connected bus.
        end_subject: a subject of the stream that nobody hears live; nothing is stored under it.
        on_progress: called when `acked_count` or `room` grew, and when the session broke.
        stall_s: after this time without progress the session counts as broken.
        fast: fast ingest or not; None: by the server's version.
    """
    if fast is None:
        fast = bus.server_version >= FAST_INGEST_VERSION
    if fast:
        return FastIngest(bus, end_subject=end_subject, on_progress=on_progress, stall_s=stall_s)
    return WindowIngest(bus, on_progress=on_progress, stall_s=stall_s)


class _Session:
    """What both carriers share: counting, waiting, breaking."""

    def __init__(self, bus: Bus, *, on_progress: Callable[[], None] | None, stall_s: float) -> None:
        self._bus = bus
        self._on_progress = on_progress
        self._stall_s = stall_s
        self._loop = asyncio.get_running_loop()
        self._published = 0
        self._acked = 0
        self._broken: TaskerError | None = None
        self._closed = False
        self._waiters: list[asyncio.Future[None]] = []
        self._unhook = bus.on_disconnect(self._on_disconnect)
        if not bus.connected:
            self._break(Disconnected("there is no connection to NATS"))

    @property
    def published_count(self) -> int:
        """See `Ingest.published_count`."""
        return self._published

    @property
    def acked_count(self) -> int:
        """See `Ingest.acked_count`."""
        return self._acked

    @property
    def room(self) -> int:
        """See `Ingest.room`."""
        raise NotImplementedError

    @property
    def broken(self) -> TaskerError | None:
        """See `Ingest.broken`."""
        return self._broken

    def flush(self) -> None:
        """See `Ingest.flush`."""

    async def wait_room(self) -> None:
        """See `Ingest.wait_room`."""
        while self._broken is None and self.room <= 0:
            await self._progress()
        if self._broken is not None:
            raise self._broken

    async def wait_acked(self) -> None:
        """See `Ingest.wait_acked`."""
        target = self._published
        while self._acked < target and self._broken is None:
            self.flush()
            await self._progress()
        if self._acked < target and self._broken is not None:
            raise self._broken

    def close(self) -> None:
        """See `Ingest.close`."""
        if not self._closed:
            self._closed = True
            self._unhook()
            if self._broken is None:
                self._broken = Unavailable("the session was closed")
            self._release()
            self._wake()

    def _release(self) -> None:
        """Give up what the carrier holds."""

    def _on_disconnect(self) -> None:
        self._break(Disconnected("the connection to NATS dropped"))

    def _break(self, error: TaskerError) -> None:
        if self._broken is None:
            self._broken = error
            self._release()
            self._moved()

    def _moved(self) -> None:
        self._wake()
        if self._on_progress is not None and not self._closed:
            call_guarded(self._on_progress)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _progress(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter


class _Answer(msgspec.Struct, frozen=True):
    """Whatever comes to a batch's inbox: a flow ack, a gap, an error, or the ack of the whole batch."""

    type: str = ""
    seq: int = 0
    msgs: int = 0
    count: int = 0
    last_seq: int = 0
    error: ApiError | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


class FastIngest(_Session):
    """A session by fast ingest."""

    def __init__(
        self,
        bus: Bus,
        *,
        end_subject: str,
        on_progress: Callable[[], None] | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        self._end_subject = end_subject
        self._inbox = f"{bus.new_inbox()}."
        self._token = secrets.token_hex(8)
        self._batches = 0
        self._batch = ""
        """Id of the newest batch: one among those of all who feed the stream, not of this inbox alone."""
        self._batch_base = 0
        """Messages of the session before the batch."""
        self._batch_n = 0
        """Number of the last message of the batch; 0: no batch is open."""
        self._ending = False
        self._window = _OPEN_WINDOW
        self._moved_s = asyncio.get_running_loop().time()
        self._timer: asyncio.TimerHandle | None = None
        self._subscription = bus.subscribe(f"{self._inbox}>", self._take)
        super().__init__(bus, on_progress=on_progress, stall_s=stall_s)
        if self._broken is None:
            self._timer = self._loop.call_later(stall_s / 4.0, self._look)

    @property
    def room(self) -> int:
        """See `Ingest.room`."""
        if self._broken is not None or self._ending:
            return 0
        return self._window - (self._published - self._acked)

    def publish(
        self, subject: str, data: bytes, *, headers: Mapping[str, str] | None = None, last: bool = False
    ) -> None:
        """See `Ingest.publish`."""
        if self._broken is not None:
            raise self._broken
        if self._ending or self._published - self._acked >= self._window:
            raise Unavailable("the ingest has no room", retry_after_s=0.1)
        op = _APPEND
        if self._batch_n == 0:
            self._batches += 1
            self._batch = f"{self._token}-{self._batches}"
            self._batch_base = self._published
            self._window = _OPEN_WINDOW
            op = _OPEN
        if last:
            op = _LAST
        if self._acked == self._published:
            self._moved_s = self._loop.time()
        self._bus.publish(subject, data, headers=headers, reply=self._reply(self._batch_n + 1, op))
        self._batch_n += 1
        self._published += 1
        self._ending = last

    def flush(self) -> None:
        """See `Ingest.flush`."""
        if self._broken is not None or self._ending or self._batch_n == 0:
            return
        self._ending = True
        self._bus.publish(self._end_subject, b"", reply=self._reply(self._batch_n + 1, _END))

    def _reply(self, n: int, op: int) -> str:
        return f"{self._inbox}{self._batch}.{FLOW}.fail.{n}.{op}.$FI"

    def _release(self) -> None:
        self._subscription.unsubscribe()
        if self._timer is not None:
            self._timer.cancel()

    def _take(self, message: Message) -> None:
        batch = message.subject[len(self._inbox) :].partition(".")[0]
        if batch != self._batch or self._broken is not None:
            return
        if message.status == "503":
            self._break(StreamMissing("no stream takes the subject"))
            return
        try:
            answer = _decode_answer(message.data)
        except msgspec.DecodeError as error:
            self._break(Unavailable(f"an answer to fast ingest cannot be read: {error}"))
            return
        if answer.type == "ack":
            self._take_flow_ack(answer)
        elif answer.error is not None:
            self._break(publish_error(answer.error))
        elif answer.type:
            self._break(Unavailable(f"fast ingest: {answer.type} at message {answer.seq} of the batch"))
        else:
            self._take_end(answer)

    def _take_flow_ack(self, answer: _Answer) -> None:
        self._window = max(1, 2 * answer.msgs)
        self._advance(self._batch_base + answer.seq)
        self._moved()

    def _take_end(self, answer: _Answer) -> None:
        self._advance(self._batch_base + answer.count)
        if not self._ending or self._acked < self._published:
            self._break(Unavailable(f"fast ingest ended after {answer.count} messages of the batch"))
            return
        self._ending = False
        self._batch_n = 0
        self._moved()

    def _advance(self, acked: int) -> None:
        if acked > self._acked:
            self._acked = min(acked, self._published)
            self._moved_s = self._loop.time()

    def _look(self) -> None:
        """Notice that nothing moves, and end a batch that is not used before the server forgets it (10 s)."""
        self._timer = self._loop.call_later(self._stall_s / 4.0, self._look)
        idle_s = self._loop.time() - self._moved_s
        if self._ending or self._acked < self._published:
            if idle_s > self._stall_s:
                self._break(Unavailable(f"fast ingest: no ack for {idle_s:.1f} s; the log of nats-server may say why"))
        elif self._batch_n and idle_s > self._stall_s / 2.0:
            self.flush()


class WindowIngest(_Session):
    """A session of single acked publications, at most `WINDOW` at once; for servers below 2.14.

    When a message is refused, later ones of the window may be stored before its repetition.
    """

    def __init__(self, bus: Bus, *, on_progress: Callable[[], None] | None = None, stall_s: float = STALL_S) -> None:
        super().__init__(bus, on_progress=on_progress, stall_s=stall_s)
        self._publisher = AckedPublisher(bus, in_flight_max=WINDOW, timeout_s=stall_s)
        self._open: deque[bool] = deque()
        """Whether it is acked, of each message after `acked_count`."""

    @property
    def room(self) -> int:
        """See `Ingest.room`."""
        return 0 if self._broken is not None else self._publisher.room

    def publish(
        self, subject: str, data: bytes, *, headers: Mapping[str, str] | None = None, last: bool = False
    ) -> None:
        """See `Ingest.publish`; every message is acked anyway."""
        del last
        if self._broken is not None:
            raise self._broken
        if self._publisher.room <= 0:
            raise Unavailable("the ingest has no room", retry_after_s=0.1)
        number = self._published

        def on_ack(result: PubAck | TaskerError) -> None:
            if self._broken is not None:
                return
            if not isinstance(result, PubAck):
                self._break(result)
                return
            self._open[number - self._acked] = True
            while self._open and self._open[0]:
                self._open.popleft()
                self._acked += 1
            self._moved()

        self._publisher.publish_acked(subject, data, on_ack, headers=headers)
        self._open.append(False)
        self._published += 1
