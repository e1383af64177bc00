"""The message bus as service, workers and clients see it; every adapter keeps these semantics.

The bus is at-most-once: what was not answered or acknowledged may be lost, repeated or both. Whatever must
not be lost is repeated by its owner until it is answered, with an id that makes the repetition harmless.

- A callback is a plain function. It is called on the event loop, one message after another in the order of
  arrival, and must not block. What it raises is logged and does not disturb other messages.
- `publish`, `ask` and `subscribe` do not await: they append to a bounded send buffer that is flushed once a
  turn of the loop. A full buffer raises `Unavailable`, so memory never grows with a slow server.
- When the connection drops, every unanswered `ask` and `request` fails at once with `Disconnected`, then the
  disconnect hooks run; what waited in the send buffer is dropped. Subscriptions are restored before the
  reconnect hooks run. The adapter reconnects for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from tasker.errors import TaskerError, Unavailable

STATUS = "Status"
"""Header of a message that the server itself sent: "100", "404", "408", "409", "503"."""

MSG_ID = "Nats-Msg-Id"
"""Header by which a stream recognises a message that it has stored already."""


class Disconnected(Unavailable):
    """There is no connection, or it dropped before the answer: it may have been handled or not."""


class NoResponders(Unavailable):
    """Nobody listens on the subject: certainly not handled."""


class Message(msgspec.Struct):
    """A message as it arrived. `reply` is "" when nobody waits for an answer."""

    subject: str
    data: bytes
    headers: dict[str, str] | None = None
    reply: str = ""

    @property
    def status(self) -> str:
        """Return the code of a message that the server itself sent, "" for any other."""
        return self.headers.get(STATUS, "") if self.headers else ""


MessageCallback = Callable[[Message], None]
ReplyCallback = Callable[[Message | TaskerError], None]
Hook = Callable[[], None]


class Subscription(Protocol):
    """An interest in a subject, until it is ended. Ending twice is fine."""

    def unsubscribe(self) -> None:
        """End at once: the callback is not called again."""
        ...

    async def drain(self, *, timeout_s: float = 5.0) -> None:
        """End for new messages, and return when those already on their way have been called back.

        Without a connection, or after `timeout_s`, it is `unsubscribe`.
        """
        ...


class Bus(Protocol):
    """One connection to the message bus."""

    @property
    def connected(self) -> bool:
        """Whether messages pass at the moment."""
        ...

    @property
    def closed(self) -> bool:
        """Whether `close` or `drain` was called."""
        ...

    @property
    def server_version(self) -> tuple[int, int]:
        """Return major and minor version of the server that we are, or were last, connected to."""
        ...

    @property
    def payload_bytes_max(self) -> int:
        """Return the largest message (headers and data) that the server takes, in bytes."""
        ...

    def publish(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """Send a message to whoever listens. Without a connection it is kept, within the bound, until there is one.

        Raises:
            BodyTooLarge: above `payload_bytes_max`.
            Unavailable: the send buffer is full, or the bus was closed.
            ValueError: the subject or a header has white space where none may be.
        """
        ...

    def ask(
        self,
        subject: str,
        data: bytes,
        on_reply: ReplyCallback,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Send a message and call `on_reply` exactly once, later, with the answer or the error.

        The errors given to `on_reply`: `NoResponders`, `Disconnected`, `DeadlineExceeded`, `NotPermitted`.

        Returns:
            The reply subject: what `forget` takes.

        Raises:
            Disconnected: there is no connection; nothing was sent and `on_reply` is not called.
            BodyTooLarge, Unavailable, ValueError: as `publish`.
        """
        ...

    def forget(self, reply: str) -> None:
        """Take back an `ask`: its `on_reply` is not called any more."""
        ...

    async def request(
        self,
        subject: str,
        data: bytes = b"",
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """Send a message and return the answer to it.

        Raises:
            NoResponders: nobody listens.
            Disconnected: no connection, or it dropped before the answer.
            DeadlineExceeded: no answer within `timeout_s`.
            NotPermitted: the server does not let this user publish there.
            BodyTooLarge, Unavailable, ValueError: as `publish`.
        """
        ...

    def subscribe(self, subject: str, callback: MessageCallback, *, queue: str = "") -> Subscription:
        """Call `callback` with every message on `subject` (wildcards `*` and `>`).

        Of all subscriptions with one `queue` name one gets each message. The interest holds at the server once
        `flush` has returned.

        Raises:
            Unavailable: the bus was closed.
            ValueError: the subject is no subject.
        """
        ...

    def may_hear(self, subject: str) -> bool:
        """Return whether the server took a subscription to `subject`; it has said so by the next `flush`."""
        ...

    def new_inbox(self) -> str:
        """Return a new subject prefix, private to this connection and without wildcards, for answers."""
        ...

    def on_disconnect(self, hook: Hook) -> Hook:
        """Call `hook` whenever the connection drops; return the function that takes the hook back."""
        ...

    def on_reconnect(self, hook: Hook) -> Hook:
        """Call `hook` whenever the connection is back; return the function that takes the hook back."""
        ...

    async def flush(self, *, timeout_s: float = 5.0) -> None:
        """Return when the server has taken everything sent so far.

        Raises:
            Disconnected: no connection, or it dropped meanwhile.
            DeadlineExceeded: not within `timeout_s`.
        """
        ...

    async def drain(self, *, timeout_s: float = 5.0) -> None:
        """End all subscriptions, call back what was on its way, send what waits, and close."""
        ...

    async def close(self) -> None:
        """Close at once; unanswered asks fail with `Disconnected`. Closing twice is fine."""
        ...
