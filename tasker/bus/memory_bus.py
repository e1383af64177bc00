"""The bus in one process: the twin of NATS for simulations and for what users test with.

A `MemoryBroker` is the server, a `MemoryBus` one connection to it. Messages pass in order, each in a later turn of
the loop than its publication, as on a wire. `transit` is where a simulation loses, delays, doubles and reorders;
`cut` and `mend` are where it breaks connections. JetStream's part is in `memory_jetstream.py`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from tasker.bus.bus import Disconnected, Hook, Message, MessageCallback, ReplyCallback
from tasker.bus.guard import call_guarded
from tasker.bus.memory_jetstream import MemoryJetStream
from tasker.bus.replies import ReplyMultiplexer
from tasker.bus.subject import check_pattern, matches
from tasker.clock import Clock, SystemClock
from tasker.errors import BodyTooLarge, DeadlineExceeded, Unavailable

PAYLOAD_BYTES_MAX = 1024 * 1024
PENDING_BYTES_MAX = 64 * 1024 * 1024

Transit = Callable[[Message], Sequence[float]]
"""Given a message on its way to one subscriber: the delay of each copy, in seconds; () loses it."""


class MemorySubscription:
    """An interest in a subject; see `Subscription`."""

    def __init__(self, bus: MemoryBus, pattern: str, queue: str, callback: MessageCallback) -> None:
        self.bus = bus
        self.pattern = pattern
        self._prefix = pattern.split("*", 1)[0].removesuffix(">")
        self.queue = queue
        self._callback: MessageCallback | None = callback

    def unsubscribe(self) -> None:
        """See `Subscription.unsubscribe`."""
        self._callback = None
        self.bus.broker.remove(self)

    async def drain(self, *, timeout_s: float = 5.0) -> None:
        """See `Subscription.drain`."""
        self.bus.broker.remove(self)
        if self.bus.connected:
            await self.bus.flush(timeout_s=timeout_s)
        self._callback = None

    def listens_on(self, subject: str) -> bool:
        """Return whether what comes under `subject` is for it, at the moment."""
        return subject.startswith(self._prefix) and self.bus.connected and matches(self.pattern, subject)

    def deliver(self, message: Message) -> None:
        """Call back, unless it has ended or the connection was cut meanwhile."""
        if self._callback is not None and self.bus.connected:
            call_guarded(self._callback, message)


class MemoryBroker:
    """The server of the twin: it routes, and keeps the streams."""

    def __init__(self, *, clock: Clock | None = None, transit: Transit | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.transit = transit
        self.up = True
        self.jetstream = MemoryJetStream(self, clock or SystemClock())
        self._buses: list[MemoryBus] = []
        self._subscriptions: list[MemorySubscription] = []
        self._queue: deque[Message | asyncio.Future[None]] = deque()
        self._scheduled = False
        self._inboxes = itertools.count(1)
        self._turn = 0

    def connect(self) -> MemoryBus:
        """Return a new connection.

        Raises:
            Unavailable: the broker is down.
        """
        if not self.up:
            raise Unavailable("no connection: the broker is down")
        bus = MemoryBus(self, f"_INBOX_{next(self._inboxes)}")
        self._buses.append(bus)
        return bus

    def stop(self) -> None:
        """Go down, as by SIGKILL: what is on its way is lost, streams stay."""
        self.up = False
        for entry in self._queue:
            if isinstance(entry, asyncio.Future) and not entry.done():
                entry.set_exception(Disconnected("the connection dropped"))
        self._queue.clear()
        for bus in tuple(self._buses):
            bus.cut()
        self.jetstream.drop_pulls()

    def start(self) -> None:
        """Come up again."""
        self.up = True
        for bus in tuple(self._buses):
            bus.mend()

    def add(self, subscription: MemorySubscription) -> None:
        """Take an interest."""
        self._subscriptions.append(subscription)

    def remove(self, subscription: MemorySubscription) -> None:
        """Take an interest back."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def forget(self, bus: MemoryBus) -> None:
        """Take a connection back."""
        self._buses.remove(bus)
        for subscription in [each for each in self._subscriptions if each.bus is bus]:
            self.remove(subscription)

    def accept(self, entry: Message | asyncio.Future[None]) -> None:
        """Put a publication, or the mark of a flush, behind what came before."""
        self._queue.append(entry)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._pass_on)

    def interested(self, subject: str) -> bool:
        """Return whether anybody listens on a subject."""
        return any(each.listens_on(subject) for each in self._subscriptions)

    def send(self, subject: str, message: Message) -> int:
        """Send to whoever listens on `subject` (the message may carry another one); return to how many."""
        targets: list[MemorySubscription] = []
        groups: dict[str, list[MemorySubscription]] = {}
        for subscription in self._subscriptions:
            if subscription.listens_on(subject):
                if subscription.queue:
                    groups.setdefault(subscription.queue, []).append(subscription)
                else:
                    targets.append(subscription)
        for members in groups.values():
            self._turn += 1
            targets.append(members[self._turn % len(members)])
        for target in targets:
            if self.transit is None:
                target.deliver(message)
                continue
            for delay_s in self.transit(message):
                self.loop.call_later(delay_s, target.deliver, message)
        return len(targets)

    def _pass_on(self) -> None:
        """Route what has come; what is published meanwhile waits for the next turn."""
        self._scheduled = False
        for _ in range(len(self._queue)):
            if not self._queue:
                return
            entry = self._queue.popleft()
            if isinstance(entry, asyncio.Future):
                if not entry.done():
                    entry.set_result(None)
                continue
            # A stream keeps what live subscribers hear as well.
            kept = self.jetstream.take(entry)
            if not self.send(entry.subject, entry) and not kept and entry.reply:
                self.send(entry.reply, Message(entry.reply, b"", {"Status": "503"}))
        if self._queue and not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._pass_on)


class MemoryBus:
    """A connection to a `MemoryBroker`; see `Bus`."""

    def __init__(self, broker: MemoryBroker, inbox: str) -> None:
        self.broker = broker
        self.payload_bytes_max = PAYLOAD_BYTES_MAX
        self.server_version = (2, 12)
        """Below fast ingest, which the twin does not have."""
        self._inbox = inbox
        self._inboxes = 0
        self._up = True
        self._closed = False
        self._kept: list[Message] = []
        self._kept_bytes = 0
        self._disconnect_hooks: list[Hook] = []
        self._reconnect_hooks: list[Hook] = []
        self._replies = ReplyMultiplexer(f"{inbox}.r", self._send)
        self.subscribe(self._replies.pattern, self._replies.dispatch)

    @property
    def connected(self) -> bool:
        """Whether messages pass at the moment."""
        return self._up

    @property
    def closed(self) -> bool:
        """Whether `close` or `drain` was called."""
        return self._closed

    def publish(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """See `Bus.publish`."""
        self._send(subject, data, headers, reply)

    def ask(
        self,
        subject: str,
        data: bytes,
        on_reply: ReplyCallback,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """See `Bus.ask`."""
        if not self._up:
            raise Disconnected("there is no connection")
        return self._replies.ask(subject, data, on_reply, timeout_s, headers)

    def forget(self, reply: str) -> None:
        """See `Bus.forget`."""
        self._replies.forget(reply)

    async def request(
        self,
        subject: str,
        data: bytes = b"",
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """See `Bus.request`."""
        if not self._up:
            raise Disconnected("there is no connection")
        return await self._replies.request(subject, data, timeout_s, headers)

    def subscribe(self, subject: str, callback: MessageCallback, *, queue: str = "") -> MemorySubscription:
        """See `Bus.subscribe`."""
        if self._closed:
            raise Disconnected("the bus is closed")
        check_pattern(subject)
        subscription = MemorySubscription(self, subject, queue, callback)
        self.broker.add(subscription)
        return subscription

    def may_hear(self, subject: str) -> bool:  # noqa: ARG002 - the protocol's
        """See `Bus.may_hear`; the twin has no users."""
        return True

    def new_inbox(self) -> str:
        """See `Bus.new_inbox`."""
        self._inboxes += 1
        return f"{self._inbox}.i{self._inboxes}"

    def on_disconnect(self, hook: Hook) -> Hook:
        """See `Bus.on_disconnect`."""
        self._disconnect_hooks.append(hook)
        return lambda: _remove(self._disconnect_hooks, hook)

    def on_reconnect(self, hook: Hook) -> Hook:
        """See `Bus.on_reconnect`."""
        self._reconnect_hooks.append(hook)
        return lambda: _remove(self._reconnect_hooks, hook)

    async def flush(self, *, timeout_s: float = 5.0) -> None:
        """See `Bus.flush`."""
        if not self._up:
            raise Disconnected("there is no connection")
        passed: asyncio.Future[None] = self.broker.loop.create_future()
        self.broker.accept(passed)
        try:
            async with asyncio.timeout(timeout_s):
                await passed
        except TimeoutError as error:
            raise DeadlineExceeded("the broker did not take what was sent") from error
        if not self._up:
            raise Disconnected("the connection dropped")

    async def drain(self, *, timeout_s: float = 5.0) -> None:
        """See `Bus.drain`."""
        if self._closed:
            return
        if self._up:
            await self.flush(timeout_s=timeout_s)
        await self.close()

    async def close(self) -> None:
        """See `Bus.close`."""
        if self._closed:
            return
        self._closed = True
        self._up = False
        self._replies.fail_all("the bus was closed")
        self.broker.forget(self)

    def cut(self) -> None:
        """Break the connection."""
        if self._up:
            self._up = False
            self._replies.fail_all("the connection dropped")
            for hook in tuple(self._disconnect_hooks):
                call_guarded(hook)

    def mend(self) -> None:
        """Bring the connection back; what was published meanwhile is sent."""
        if self._up or self._closed or not self.broker.up:
            return
        self._up = True
        kept, self._kept, self._kept_bytes = self._kept, [], 0
        for message in kept:
            self.broker.accept(message)
        for hook in tuple(self._reconnect_hooks):
            call_guarded(hook)

    def _send(self, subject: str, data: bytes, headers: Mapping[str, str] | None, reply: str) -> None:
        if self._closed:
            raise Disconnected("the bus is closed")
        if not subject or " " in subject or not subject.isprintable():
            raise ValueError(subject)
        for name, value in (headers or {}).items():
            if ":" in name or not (name.isprintable() and name) or "\r" in value or "\n" in value:
                raise ValueError(f"{name}: {value}")
            value.encode()  # as on the wire: a lone surrogate is a ValueError
        size = len(data) + sum(len(name) + len(value) + 4 for name, value in (headers or {}).items())
        if size > self.payload_bytes_max:
            raise BodyTooLarge(f"{size} bytes for {subject}; the server takes {self.payload_bytes_max}")
        message = Message(subject, bytes(data), dict(headers) if headers else None, reply)
        if self._up:
            self.broker.accept(message)
            return
        if self._kept_bytes > PENDING_BYTES_MAX:
            raise Unavailable("the send buffer is full", retry_after_s=1.0)
        self._kept.append(message)
        self._kept_bytes += size


def _remove(hooks: list[Hook], hook: Hook) -> None:
    if hook in hooks:
        hooks.remove(hook)
