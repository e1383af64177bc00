"""Taking messages from a pull consumer, never more than the caller has room for.

`fetch` of nats-py costs about 45 us a message. Here one subscription takes everything; a pull is a publication
and the next is sent when half of what was asked for has arrived, so the server always has something to fill.

    outstanding = asked for - arrived - given back by the server's statuses
    a pull is sent when credit() - outstanding is at least half of credit()

A message does not tell which pull it answers (it comes under its own subject, and the server fills waiting
pulls in turn), but the sum is exact: a pull that ends early names in `Nats-Pending-Messages` what it lacks.
Every pull asks for idle heartbeats: what the server forgot shows by silence.

Sources: ADR-13, ADR-37 of nats-io/nats-architecture-and-design.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import msgspec

from tasker.bus.bus import Bus, Message
from tasker.bus.guard import call_guarded, log
from tasker.bus.jetstream import API_PREFIX, NS_PER_S, parse_ack_subject
from tasker.errors import Unavailable
from tasker.named_lines import named

BATCH_MAX = 500
EXPIRES_S = 30.0
HEARTBEAT_S = 2.0
_REFUSABLE_MAX = 256
"""Pulls remembered for a status that may still come; older ones have long been filled."""
_RETRY_S_BASE = 0.05
_RETRY_S_MAX = 2.0
_STOP_TIMEOUT_S = 2.0


class Delivery(msgspec.Struct, frozen=True):
    """A message that a consumer delivered. `reply` is where it is acked; `num_delivered` counts from 1."""

    subject: str
    data: bytes
    headers: dict[str, str] | None
    reply: str
    num_delivered: int
    stream_seq: int
    consumer_seq: int
    at_us: int
    pending: int


class PullLoop:
    """Deliveries of one consumer, handed over as they come.

    Args:
        bus: where the consumer is.
        stream: of the consumer.
        consumer: its name.
        on_message: takes a delivery, in order, on the loop; `credit` must be smaller by one when it returns,
            unless it is done with the message.
        credit: how many deliveries the caller could take now, those that he has not counted; call `wake` when it
            grew.
        on_missing: called when the consumer (or its stream) is not there, so that the caller makes it anew; the
            loop goes on trying.
        batch_max: most messages of one pull.
        expires_s: how long a pull waits at the server.
        heartbeat_s: after two of these in silence what is outstanding counts as lost.
        acked: whether the consumer wants acks (what comes unasked is then NAKed, else dropped).
        draw: gives the jitter of waits, in [0, 1).
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        on_message: Callable[[Delivery], None],
        credit: Callable[[], int],
        *,
        on_missing: Callable[[], None] | None = None,
        batch_max: int = BATCH_MAX,
        expires_s: float = EXPIRES_S,
        heartbeat_s: float = HEARTBEAT_S,
        acked: bool = True,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._bus = bus
        self._draw = draw
        self._next = f"{API_PREFIX}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._on_message = on_message
        self._credit = credit
        self._on_missing = on_missing
        self._batch_max = batch_max
        self._expires_s = expires_s
        self._heartbeat_s = min(heartbeat_s, expires_s / 2.5)
        self._acked = acked
        self._loop = asyncio.get_running_loop()
        self._inbox = f"{bus.new_inbox()}."
        self._refusable: dict[str, int] = {}
        self._pull_count = 0
        self._outstanding = 0
        self._heard_s = self._loop.time()
        self._failures = 0
        self._retry: asyncio.TimerHandle | None = None
        self._woken: asyncio.Handle | None = None
        self._returned = 0
        self._running = True
        self._subscription = bus.subscribe(f"{self._inbox}*", self._take)
        self._unhook = (bus.on_disconnect(self._forget), bus.on_reconnect(self.restart))
        self._watch: asyncio.TimerHandle = self._loop.call_later(self._heartbeat_s, self._look)
        self.wake()

    @property
    def outstanding(self) -> int:
        """Return how many messages are asked for and have not arrived."""
        return self._outstanding

    def wake(self) -> None:
        """Look at the credit again, in the next turn of the loop."""
        if self._woken is None and self._running:
            self._woken = self._loop.call_soon(self._on_wake)

    def ask(self) -> None:
        """Send a pull when enough of the credit is not asked for yet."""
        if self._retry is not None or not self._running or not self._bus.connected:
            return
        credit = self._credit()
        available = credit - self._outstanding
        if available <= 0 or 2 * available < credit:
            return
        size = min(available, self._batch_max)
        self._pull_count += 1
        reply = f"{self._inbox}{self._pull_count}"
        request = (
            f'{{"batch":{size},"expires":{round(self._expires_s * NS_PER_S)},'
            f'"idle_heartbeat":{round(self._heartbeat_s * NS_PER_S)}}}'
        )
        if self._outstanding == 0:
            self._heard_s = self._loop.time()
        try:
            self._bus.publish(self._next, request.encode(), reply=reply)
        except Unavailable as error:
            log.info("pull: %s", error, extra=named("pull_not_sent", error=error))
            self._ask_later()
            return
        self._outstanding += size
        self._refusable[reply] = size
        if len(self._refusable) > _REFUSABLE_MAX:
            del self._refusable[next(iter(self._refusable))]

    def restart(self) -> None:
        """Forget what is outstanding and ask anew, at once: the connection is back, or the consumer was made anew."""
        self._forget()
        self._failures = 0
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self.wake()

    async def stop(self) -> int:
        """Ask for no more, give back what is still on its way, and return how many that were. Twice is fine."""
        if not self._running:
            return self._returned
        self._running = False
        for handle in (self._retry, self._watch, self._woken):
            if handle is not None:
                handle.cancel()
        for unhook in self._unhook:
            unhook()
        # The server drops the pulls with the interest in their answers; what it sent before arrives before the pong.
        await self._subscription.drain(timeout_s=_STOP_TIMEOUT_S)
        if self._returned and self._bus.connected:
            try:
                await self._bus.flush(timeout_s=_STOP_TIMEOUT_S)
            except Unavailable as error:
                log.debug("pull: stopped without a confirmation: %s", error)
        return self._returned

    def ack(self, delivery: Delivery) -> None:
        """Tell the stream that the message is done with. Like all that it is told this may be lost: see `_tell`."""
        self._tell(delivery.reply, b"+ACK")

    def nak(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        """Give a message back, to be delivered again after `delay_s`."""
        self._tell(delivery.reply, b'-NAK {"delay":%d}' % round(delay_s * NS_PER_S) if delay_s else b"-NAK")

    def in_progress(self, delivery: Delivery) -> None:
        """Start the ack wait of a message anew."""
        self._tell(delivery.reply, b"+WPI")

    def term(self, delivery: Delivery) -> None:
        """Tell the stream never to deliver the message again."""
        self._tell(delivery.reply, b"+TERM")

    def _tell(self, reply: str, word: bytes) -> None:
        """Tell the stream what becomes of a message, unless the bus has no room for that.

        Nobody waits for an answer to it, and it may be lost on its way as well: the message is delivered again then.
        So who has to do more with the message goes on.
        """
        try:
            self._bus.publish(reply, word)
        except Unavailable as error:
            told = named("ack_not_sent", word=word.decode(), error=error)
            log.info("pull: %s is not told: %s", word.decode(), error, extra=told)

    def _take(self, message: Message) -> None:
        self._heard_s = self._loop.time()
        if message.status and not message.data and not message.reply:
            self._take_status(message)
            return
        if self._outstanding > 0:
            self._outstanding -= 1
        self._failures = 0
        if not self._running or self._credit() <= 0:
            self._give_back(message)
            return
        info = parse_ack_subject(message.reply)
        delivery = Delivery(
            message.subject,
            message.data,
            message.headers,
            message.reply,
            info.num_delivered,
            info.stream_seq,
            info.consumer_seq,
            info.at_us,
            info.pending,
        )
        call_guarded(self._on_message, delivery)
        self.ask()

    def _give_back(self, message: Message) -> None:
        self._returned += 1
        if self._acked:
            self._tell(message.reply, b"-NAK")

    def _take_status(self, message: Message) -> None:
        """Take what the server says of a pull: all but a heartbeat ends it."""
        if message.status == "100":
            return
        size = self._refusable.pop(message.subject, None)
        if size is None or not self._running:
            return
        headers = message.headers or {}
        description = headers.get("Description", "").lower()
        if message.status == "503" or "consumer deleted" in description or "not found" in description:
            self._forget()
            log.info("pull: %s is not there", self._next, extra=named("pull_without_consumer", subject=self._next))
            if self._on_missing is not None:
                call_guarded(self._on_missing)
            self._ask_later()
            return
        left = headers.get("Nats-Pending-Messages")
        if left is not None and left.isdigit():
            size = int(left)
        elif message.status == "409" and ("shutdown" in description or "leadership" in description):
            size = self._outstanding
        self._outstanding = max(0, self._outstanding - size)
        if message.status in {"404", "408"}:
            self.ask()
        else:
            told = named("pull_refused", subject=self._next, status=message.status, error=description)
            log.info("pull: %s answers %s %s", self._next, message.status, description, extra=told)
            self._ask_later()

    def _on_wake(self) -> None:
        self._woken = None
        self.ask()

    def _ask_later(self) -> None:
        if self._retry is not None:
            return
        bound = min(_RETRY_S_MAX, _RETRY_S_BASE * 2.0 ** min(self._failures, 16))
        self._failures += 1
        delay_s = bound * (0.5 + 0.5 * self._draw())
        self._retry = self._loop.call_later(delay_s, self._on_retry)

    def _on_retry(self) -> None:
        self._retry = None
        self.ask()

    def _look(self) -> None:
        """Notice silence where heartbeats are due."""
        self._watch = self._loop.call_later(self._heartbeat_s, self._look)
        silent_s = self._loop.time() - self._heard_s
        if self._outstanding and self._bus.connected and silent_s > 2.0 * self._heartbeat_s + 0.5:
            told = named("pull_silent", subject=self._next, silent_s=round(silent_s, 1))
            log.warning("pull: %s is silent for %.1f s; asking anew", self._next, silent_s, extra=told)
            # Under another inbox, so that pulls which wait somewhere after all lose the interest in them.
            self._subscription.unsubscribe()
            self._inbox = f"{self._bus.new_inbox()}."
            self._subscription = self._bus.subscribe(f"{self._inbox}*", self._take)
            self._forget()
        self.ask()

    def _forget(self) -> None:
        self._outstanding = 0
        self._refusable.clear()
