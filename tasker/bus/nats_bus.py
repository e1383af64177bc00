"""The bus on NATS, by nats-py.

nats-py 2.16 is kept for its connection: handshake, TLS, discovery, reconnect. Its hot paths are
replaced in the subclass below, the only place that touches its private names (`tests/contracts/test_bus.py` says
whether they still hold):

- `publish` is a coroutine that validates and builds with several copies (8 us); ours formats one bytes object.
- Each subscription has an asyncio queue and a task that awaits a coroutine a message (6 us); ours calls a plain
  function from the read loop. A slow callback therefore slows the reading, not the memory.
- Its flusher hands every command to the socket by itself; ours joins what a turn of the loop has gathered.
- Its read loop takes up to 32 KiB at a time, and another without a pause while there is more; ours lets the loop turn
  after each message that took time, so that what a burst caused (commits, work for workers) does not wait for its end.
- An unknown `-ERR` closes the client for ever; here it is logged, and when the server closes the connection
  we reconnect. An unexpected exception ends the reconnecting for ever; here it goes on.
- To a server that wants no encryption it speaks in the clear, also where the address is `tls://`; here not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from nats import errors as nats_errors
from nats.aio.client import Client, Server
from nats.aio.subscription import Subscription as NatsPySubscription

from tasker.bus.bus import Disconnected, Hook, Message, MessageCallback, ReplyCallback
from tasker.bus.credentials import credentials_of
from tasker.bus.guard import call_guarded, log
from tasker.bus.permissions import Refusal, refusal_in
from tasker.bus.replies import ReplyMultiplexer
from tasker.bus.subject import check_pattern
from tasker.errors import AuthenticationFailed, BodyTooLarge, ConfigurationError, DeadlineExceeded, Unavailable
from tasker.named_lines import named
from tasker.settings import NatsSettings

PENDING_BYTES_MAX = NatsSettings().pending_bytes_max
"""The send buffer: above it `publish` raises."""

_PORTS = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443}
"""Where a server is whose address names no port."""

NOWHERE = {"Nats-Expected-Stream": "_none"}
"""Headers of a publication that no stream keeps."""

_CONNECT_TIMEOUT_S = 2
_CLOSE_TIMEOUT_S = 2.0
_PING_INTERVAL_S = 10
_REFUSALS_KEPT = 100
_PINGS_OUTSTANDING_MAX = 2
_RECONNECT_DELAY_S_BASE = 0.05
_RECONNECT_DELAY_S_MAX = 3.0
_TURN_BYTES = 4096
"""The loop turns after a message that is larger: an array of many items."""

_AUTHENTICATION = ("authorization", "authentication", "nkey", "jwt")


class NatsBus:
    """A connection to NATS. Made by `NatsBus.connect`."""

    def __init__(self, *, inbox_prefix: str, pending_bytes_max: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox = f"{inbox_prefix}.{secrets.token_hex(8)}" if inbox_prefix else f"_INBOX_{secrets.token_hex(12)}"
        self._inboxes = 0
        self._client = _Client(self)
        self._pending_bytes_max = pending_bytes_max
        self._up = False
        self._closed = False
        self._disconnect_hooks: list[Hook] = []
        self._reconnect_hooks: list[Hook] = []
        self._replies = ReplyMultiplexer(f"{self._inbox}.r", self._send)
        self._connecting: asyncio.Task[None] | None = None
        self._retry_connect = False
        self._last_error: Exception | None = None
        self._on_repeat: Callable[[Unavailable], object] | None = None
        self.refusals: dict[Refusal, None] = {}
        """What the permissions of the user do not allow, as far as it was tried on this connection; the newest last."""

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        name: str,
        retry_for_s: float = 0.0,
        inbox_prefix: str = "",
        pending_bytes_max: int = PENDING_BYTES_MAX,
        on_repeat: Callable[[Unavailable], object] | None = None,
    ) -> NatsBus:
        """Return a bus that is connected.

        Args:
            url: `nats://[user:password@|token@]host:port`, several separated by commas; with `tls://` the connection is
                encrypted, and the server's certificate held against those that the system trusts. It may end with
                `?creds=FILE` or `?nkey=FILE` (see `credentials`).
            name: of this connection, in the server's monitoring.
            retry_for_s: how long to go on trying while nobody answers; 0 tries once.
            inbox_prefix: where answers come in, when permissions demand a place; a private random part follows.
            pending_bytes_max: bound of the send buffer.
            on_repeat: told why a try failed that is followed by another.

        Raises:
            Unavailable: no server answered in time.
            AuthenticationFailed: the server refused us.
            ConfigurationError: the URL is none, or its credentials are not there.
        """
        bus = cls(inbox_prefix=inbox_prefix, pending_bytes_max=pending_bytes_max)
        bus._on_repeat = on_repeat
        await bus._connect(_options(url) | {"name": name}, retry_for_s)
        return bus

    @property
    def connected(self) -> bool:
        """Whether messages pass at the moment."""
        return self._up

    @property
    def closed(self) -> bool:
        """Whether `close` or `drain` was called."""
        return self._closed

    @property
    def server_version(self) -> tuple[int, int]:
        """Return major and minor version of the server."""
        version = str(self._client._server_info.get("version", "0.0"))  # noqa: SLF001 - parsed once, not by a regex each time
        major, minor, *_ = version.split(".")
        return int(major), int(minor)

    @property
    def payload_bytes_max(self) -> int:
        """Return the largest message that the server takes."""
        return self._client.max_payload

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
            raise Disconnected("there is no connection to NATS")
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
            raise Disconnected("there is no connection to NATS")
        return await self._replies.request(subject, data, timeout_s, headers)

    def subscribe(self, subject: str, callback: MessageCallback, *, queue: str = "") -> NatsSubscription:
        """See `Bus.subscribe`."""
        if self._closed:
            raise Disconnected("the bus is closed")
        check_pattern(subject)
        self.refusals.pop(Refusal("subscribe to", subject.lower()), None)  # it may be allowed by now
        return NatsSubscription(self._client, self._client.subscribe_plain(subject, queue, callback))

    def may_hear(self, subject: str) -> bool:
        """See `Bus.may_hear`."""
        return Refusal("subscribe to", subject.lower()) not in self.refusals

    async def refused_of(self, *, heard: Iterable[str], said: Iterable[str]) -> list[str]:
        """Return what the user may not do of what is tried: subscriptions, and empty publications that no stream keeps.

        Raises:
            Unavailable: the server does not answer.
        """
        heard, said = tuple(heard), tuple(said)
        listening = [self.subscribe(subject, lambda _message: None) for subject in heard]
        for subject in said:
            self.publish(subject, headers=NOWHERE)
        await self.flush()
        for subscription in listening:
            subscription.unsubscribe()
        tried = [Refusal("subscribe to", subject) for subject in heard]
        tried += [Refusal("publish to", subject) for subject in said]
        return [
            f"{one.verb} {one.subject}" for one in tried if one._replace(subject=one.subject.lower()) in self.refusals
        ]

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
            raise Disconnected("there is no connection to NATS")
        await self._client.round_trip(timeout_s)

    async def drain(self, *, timeout_s: float = 5.0) -> None:
        """See `Bus.drain`."""
        if self._closed:
            return
        if self._up:
            self._client.unsubscribe_all()
            try:
                await self._client.round_trip(timeout_s)
            except Unavailable as error:
                log.warning(
                    "NATS: drained without a confirmation: %s", error, extra=named("nats_not_drained", error=error)
                )
        await self.close()

    async def close(self) -> None:
        """See `Bus.close`."""
        if self._closed:
            return
        self._closed = True
        self._up = False
        self._client.fail_round_trips()
        self._replies.fail_all("the bus was closed")
        await self._client.shut()

    def _send(self, subject: str, data: bytes, headers: Mapping[str, str] | None, reply: str) -> None:
        client = self._client
        if self._closed:
            raise Disconnected("the bus is closed")
        if client.pending_data_size > self._pending_bytes_max:
            raise Unavailable("the send buffer to NATS is full", retry_after_s=1.0)
        if not subject or " " in subject or not subject.isprintable():
            raise ValueError(subject)
        if headers is None:
            command = b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(data), data)
            size = len(data)
        else:
            head = encode_headers(headers)
            size = len(head) + len(data)
            command = b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject.encode(), reply.encode(), len(head), size, head, data)
        if size > client.max_payload:
            raise BodyTooLarge(f"{size} bytes for {subject}; the server takes {client.max_payload}")
        client.enqueue(command)

    async def _connect(self, options: dict[str, Any], retry_for_s: float) -> None:
        self._retry_connect = retry_for_s > 0

        async def on_error(error: Exception) -> None:
            self._report(error)

        async def on_reconnected() -> None:
            self._came_back()

        self._connecting = asyncio.create_task(
            self._client.connect(
                error_cb=on_error,
                reconnected_cb=on_reconnected,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,  # type: ignore[arg-type] # seconds, slept as they are; used by the first connect only
                reconnect_to_server_handler=_next_server,
                connect_timeout=_CONNECT_TIMEOUT_S,
                ping_interval=_PING_INTERVAL_S,
                max_outstanding_pings=_PINGS_OUTSTANDING_MAX,
                pending_size=2 * self._pending_bytes_max,
                **options,
            ),
            name="connect to NATS",
        )
        try:
            # One try has two waits of the driver: for the connection, and for the server's first word.
            timeout_s = retry_for_s if self._retry_connect else 2.0 * _CONNECT_TIMEOUT_S
            done, _ = await asyncio.wait({self._connecting}, timeout=timeout_s)
        finally:
            # nats-py swallows a cancellation in places: repeat it until the task is over.
            while not self._connecting.done():
                self._connecting.cancel()
                await asyncio.wait({self._connecting}, timeout=0.05)
        if not done or self._connecting.cancelled() or self._connecting.exception() is not None:
            if not self._connecting.cancelled() and self._connecting.exception() is not None:
                self._last_error = self._last_error or Exception(str(self._connecting.exception()))
            self._closed = True
            await self._client.shut()
            raise _connect_error(self._last_error)
        self._up = True
        self._client.subscribe_plain(self._replies.pattern, "", self._replies.dispatch)
        try:
            await self._refuse_to_be_deaf()
        except BaseException:  # a cancellation as well: nobody else knows of the connection yet
            await self.close()
            raise

    async def _refuse_to_be_deaf(self) -> None:
        """Raise where the user may not hear answers: each request would wait for one until its time is over."""
        with contextlib.suppress(Unavailable):  # a connection that drops at once is made again, and says so
            await self._client.round_trip(_CONNECT_TIMEOUT_S)
        if self.may_hear(self._replies.pattern):
            return
        message = f"NATS does not let this user hear answers at {self._replies.pattern}"
        remedy = (
            "set nats.inbox_prefix (TASKER_NATS_INBOX_PREFIX) to where its permissions allow to subscribe; in "
            "deploy/nats-users.conf that is _INBOX_service, _INBOX_worker, _INBOX_client or _INBOX_reader"
        )
        raise AuthenticationFailed(message, remedy=remedy)

    def _report(self, error: Exception) -> None:
        """Take what nats-py reports: failed attempts to connect, and what the server refuses later."""
        connecting = self._connecting
        if connecting is not None and not connecting.done():
            self._last_error = error
            if not self._retry_connect or _is_authentication(error):
                connecting.cancel()
            elif self._on_repeat is not None:
                call_guarded(self._on_repeat, _not_connected(error))
        elif self._up:
            words = str(error) or type(error).__name__
            refusal = refusal_in(words)
            # What is refused is tried again and again, by whoever needs it.
            level = logging.DEBUG if refusal in self.refusals else logging.WARNING
            log.log(level, "NATS: %s", words, extra=named("nats_error", error=words))
            if refusal is not None:
                self._take_refusal(refusal)
        else:
            log.debug("NATS: still not connected: %s", str(error) or type(error).__name__)

    def _take_refusal(self, refusal: Refusal) -> None:
        self.refusals[refusal] = None
        if len(self.refusals) > _REFUSALS_KEPT:
            del self.refusals[next(iter(self.refusals))]
        if refusal.verb == "publish to":
            self._replies.refuse(refusal.subject)

    def connection_lost(self, error: Exception) -> None:
        """Take note that the connection dropped; called by the client before it reconnects."""
        if not self._up:
            return
        self._up = False
        self.refusals.clear()
        words = str(error) or type(error).__name__
        log.warning("NATS: connection lost: %s", words, extra=named("nats_connection_lost", error=words))
        self._replies.fail_all("the connection to NATS dropped")
        for hook in tuple(self._disconnect_hooks):
            call_guarded(hook)

    def _came_back(self) -> None:
        if self._closed:
            return
        self._up = True
        log.info("NATS: connected again", extra=named("nats_connected_again"))
        for hook in tuple(self._reconnect_hooks):
            call_guarded(hook)


class NatsSubscription:
    """An interest in a subject; see `Subscription`."""

    def __init__(self, client: _Client, sid: int) -> None:
        self._client = client
        self._sid = sid

    def unsubscribe(self) -> None:
        """See `Subscription.unsubscribe`."""
        self._client.unsubscribe_plain(self._sid)

    async def drain(self, *, timeout_s: float = 5.0) -> None:
        """See `Subscription.drain`."""
        try:
            if self._client.end_interest(self._sid):
                await self._client.round_trip(timeout_s)
        except Unavailable as error:
            log.debug("NATS: subscription ended without a confirmation: %s", error)
        finally:
            self._client.unsubscribe_plain(self._sid)


class _Client(Client):
    """nats-py's client with plain callbacks and a publish that does not await."""

    def __init__(self, bus: NatsBus) -> None:
        super().__init__()
        self._bus = bus
        self._callbacks: dict[int, MessageCallback] = {}
        self._round_trips: set[asyncio.Future[bool]] = set()
        self._loop = asyncio.get_running_loop()

    def enqueue(self, command: bytes) -> None:
        """Put a protocol command into the send buffer; the flusher writes it in the next turn of the loop."""
        self._pending.append(command)
        self._pending_data_size += len(command)
        queue = self._flush_queue
        if queue is not None and queue.empty() and self._status != Client.RECONNECTING:
            queue.put_nowait(self._loop.create_future())

    def subscribe_plain(self, subject: str, queue: str, callback: MessageCallback) -> int:
        """Subscribe with a plain callback; return the subscription's number."""
        self._sid += 1
        sid = self._sid
        self._callbacks[sid] = callback
        # nats-py sends the interests of `_subs` again after a reconnect.
        self._subs[sid] = NatsPySubscription(self, sid, subject, queue=queue)
        self.enqueue(f"SUB {subject} {queue} {sid}\r\n".encode())
        return sid

    def end_interest(self, sid: int) -> bool:
        """Tell the server to send no more; return whether there was anything to end."""
        if self._subs.pop(sid, None) is None:
            return False
        if not self.is_closed:
            self.enqueue(b"UNSUB %d\r\n" % sid)
        return True

    def unsubscribe_plain(self, sid: int) -> None:
        """End at once."""
        self._callbacks.pop(sid, None)
        self.end_interest(sid)

    def unsubscribe_all(self) -> None:
        """Tell the server to send no more at all; what is on its way is still called back."""
        for sid in tuple(self._subs):
            self.end_interest(sid)

    async def round_trip(self, timeout_s: float) -> None:
        """Return when the server has answered a ping that follows everything sent so far.

        nats-py's own `flush` writes its ping past the send buffer, and can raise CancelledError.

        Raises:
            Disconnected: there is no connection, or it dropped meanwhile.
            DeadlineExceeded: not within `timeout_s`.
        """
        if not self._bus.connected:
            raise Disconnected("there is no connection to NATS")
        pong: asyncio.Future[bool] = self._loop.create_future()
        self._round_trips.add(pong)
        self.enqueue(b"PING\r\n")
        self._pongs.append(pong)
        try:
            async with asyncio.timeout(timeout_s):
                # A timeout leaves the future in its place of the queue of pongs.
                await asyncio.shield(pong)
        except TimeoutError as error:
            raise DeadlineExceeded("NATS did not answer a ping") from error
        finally:
            self._round_trips.discard(pong)

    def fail_round_trips(self) -> None:
        """Fail whoever waits for a pong."""
        for pong in self._round_trips:
            if not pong.done():
                pong.set_exception(Disconnected("the connection to NATS dropped"))

    async def shut(self) -> None:
        """Close, whatever state the connection is in; a server that takes nothing more does not hold us."""
        if self._status == Client.CLOSED:
            # A connect that was cancelled in the middle of its own clean-up.
            self._status = Client.DISCONNECTED
        if not self.is_connected:
            self._pending, self._pending_data_size = [], 0  # nobody takes it any more
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self.close()
        except (TimeoutError, OSError, RuntimeError) as error:
            # RuntimeError is uvloop's word for a transport that was lost, not yet noticed, and is written to.
            words = str(error) or type(error).__name__
            log.warning("NATS: closed without a farewell: %s", words, extra=named("nats_not_closed", error=words))
            self._abort()
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            # A connect that was cancelled as it closed after a failed handshake: nats-py awaits its cancelled future.
            self._abort()

    def _abort(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _flusher(self) -> None:
        queue, transport = self._flush_queue, self._transport
        assert queue is not None  # noqa: S101 - nats-py starts it connected
        assert transport is not None  # noqa: S101 - as above
        while self.is_connected and not self.is_connecting:
            told = await queue.get()
            # One more pass of the loop: each write costs the kernel's whole way to the receiver, so what follows from
            # this turn rides along.
            await asyncio.sleep(0)
            try:
                if self._pending:
                    commands, self._pending, self._pending_data_size = self._pending, [], 0
                    transport.write(b"".join(commands))
                    await transport.drain()  # type: ignore[no-untyped-call]
            except OSError as error:
                await self._error_cb(error)
                await self._process_op_err(error)
                return
            finally:
                if not told.done():
                    told.set_result(None)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        callback = self._callbacks.get(sid)
        if callback is None:
            return
        try:
            callback(Message(subject.decode(), data, parse_headers(headers) if headers else None, reply.decode()))
        except Exception:  # noqa: BLE001 - the read loop supervises the callbacks of others
            log.exception("the callback for %r failed", subject)
        if len(data) > _TURN_BYTES:
            await asyncio.sleep(0)

    def _connect_command(self) -> bytes:
        # Asked for once the server has said what it wants, before user and password leave. Where it wants no encryption
        # nats-py goes on in the clear, also to `tls://`: so does whoever stands between, and says it for the server.
        server = self._current_server
        if server is not None and server.uri.scheme == "tls" and not self._server_info.get("tls_required"):
            raise nats_errors.Error("the server does not encrypt, and the address, tls://, says that it has to")
        return super()._connect_command()

    async def _process_pong(self) -> None:
        if self._pongs:
            pong = self._pongs.pop(0)
            if not pong.done():
                pong.set_result(True)
        self._pongs_received += 1
        self._pings_outstanding = 0

    async def _process_err(self, err_msg: str) -> None:
        error = nats_errors.Error(f"nats: {err_msg}")
        self._err = error
        await self._error_cb(error)

    async def _process_op_err(self, e: Exception) -> None:
        if self.is_connected:
            self._pending = []
            self._pending_data_size = 0
            self.fail_round_trips()
            self._bus.connection_lost(e)
        await super()._process_op_err(e)

    async def _attempt_reconnect(self) -> None:
        while True:
            try:
                await super()._attempt_reconnect()
            except Exception:  # noqa: BLE001 - whatever it was, we reconnect for ever
                log.exception("NATS: an attempt to reconnect failed in an unexpected way")
                self._status = Client.RECONNECTING
                await asyncio.sleep(_RECONNECT_DELAY_S_MAX)
            else:
                return


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Return a header block.

    Raises:
        ValueError: a name or a value could end its line.
    """
    lines = ["NATS/1.0\r\n"]
    for name, value in headers.items():
        if ":" in name or not (name.isprintable() and name) or "\r" in value or "\n" in value:
            raise ValueError(f"{name}: {value}")
        lines.append(f"{name}: {value}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode()


def parse_headers(block: bytes) -> dict[str, str]:
    """Return the headers of a block; a status line becomes `Status` and `Description`."""
    first, *lines = block.decode("utf-8", "replace").split("\r\n")
    headers: dict[str, str] = {}
    if status := first[8:].strip():
        code, _, description = status.partition(" ")
        headers["Status"] = code
        if description:
            headers["Description"] = description
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name] = value.strip()
    return headers


def _options(url: str) -> dict[str, Any]:
    """Return what nats-py's connect takes for a URL.

    Name and password are taken out of the URL: nats-py would not decode them, and would not send them to servers
    that it discovered itself.

    Raises:
        ConfigurationError: the URL is none, or its credentials are not there.
    """
    addresses, asks, query = url.partition("?")
    options = credentials_of(query) if asks else {}
    servers = []
    for part in addresses.split(","):
        text = part.strip()
        try:
            split = urlsplit(text if "://" in text else f"nats://{text}")
            address = _address(split)
        except ValueError as error:
            raise ConfigurationError(f"the NATS URL has no address: {error}") from error
        servers.append(address)
        if split.username and split.password is not None:
            options["user"], options["password"] = unquote(split.username), unquote(split.password)
        elif split.username:
            options["token"] = unquote(split.username)
    options["servers"] = servers
    return options


def _address(split: SplitResult) -> str:
    if not split.hostname or split.scheme not in _PORTS:
        raise ValueError(f"{split.scheme}://{split.hostname}")
    host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
    return f"{split.scheme}://{host}:{split.port or _PORTS[split.scheme]}"


def _next_server(servers: list[Server], _info: dict[str, Any]) -> tuple[Server, float]:
    """Return the server tried least often, and how long to wait before it: at once, then growing, with jitter."""
    server = min(servers, key=lambda each: each.reconnects)
    if server.reconnects == 0:
        return server, 0.0
    bound = min(_RECONNECT_DELAY_S_MAX, _RECONNECT_DELAY_S_BASE * 2.0 ** min(server.reconnects, 16))
    return server, bound * (0.5 + 0.5 * random.random())  # noqa: S311 - jitter


def _is_authentication(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, nats_errors.AuthorizationError) or any(word in text for word in _AUTHENTICATION)


def _is_cancelled() -> bool:
    """Return whether it is the task that runs here that is cancelled, and not a future that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _connect_error(error: Exception | None) -> Exception:
    if error is not None and _is_authentication(error):
        return AuthenticationFailed(f"NATS refused the connection: {error}")
    return _not_connected(error)


def _not_connected(error: Exception | None) -> Unavailable:
    trust = "; SSL_CERT_FILE names the authority to trust" if isinstance(error, ssl.SSLCertVerificationError) else ""
    return Unavailable(f"no connection to NATS: {error or 'no answer in time'}{trust}")


def _remove(hooks: list[Hook], hook: Hook) -> None:
    if hook in hooks:
        hooks.remove(hook)
