"""Publishing to a stream with an ack for each message, by callback.

`js.publish` of nats-py costs 43-76 us of client CPU; this costs about 15. What is in flight is bounded: a
publisher that runs ahead of the server is told `Busy`, waits for `room`, and memory stays flat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from tasker.bus.bus import MSG_ID, Bus, Message, NoResponders
from tasker.bus.jetstream import PubAck, StreamMissing, parse_pub_ack
from tasker.errors import Busy, TaskerError

AckCallback = Callable[[PubAck | TaskerError], None]

IN_FLIGHT_MAX = 4096
ACK_TIMEOUT_S = 5.0


class AckedPublisher:
    """Publications to streams whose acks are awaited, at most `in_flight_max` at once."""

    def __init__(self, bus: Bus, *, in_flight_max: int = IN_FLIGHT_MAX, timeout_s: float = ACK_TIMEOUT_S) -> None:
        self._bus = bus
        self._in_flight_max = in_flight_max
        self._timeout_s = timeout_s
        self._in_flight = 0
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def in_flight(self) -> int:
        """Return how many publications have no answer yet."""
        return self._in_flight

    @property
    def room(self) -> int:
        """Return how many more may be published now."""
        return self._in_flight_max - self._in_flight

    def publish_acked(
        self,
        subject: str,
        data: bytes,
        on_ack: AckCallback,
        *,
        msg_id: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Publish, and call `on_ack` exactly once, later, with the ack or the error.

        The errors given to `on_ack`: `Busy` (the queue is full), `StreamMissing` (no stream takes the subject),
        `Unavailable` (`NotPermitted`; `Disconnected`, `DeadlineExceeded` or another refusal: it may be stored or not).

        Args:
            subject: of a stream.
            data: the message.
            on_ack: gets the answer.
            msg_id: by which the stream recognises a repetition.
            headers: more headers.

        Raises:
            Busy: too much is in flight; see `wait_room`.
            Disconnected: there is no connection; nothing was sent.
        """
        if self._in_flight >= self._in_flight_max:
            raise Busy("too many publications wait for their ack", retry_after_s=0.1)
        if msg_id:
            headers = {MSG_ID: msg_id} if headers is None else {**headers, MSG_ID: msg_id}

        def on_reply(reply: Message | TaskerError) -> None:
            self._in_flight -= 1
            if self._waiters:
                self._wake()
            on_ack(_answer(reply))

        self._bus.ask(subject, data, on_reply, timeout_s=self._timeout_s, headers=headers)
        self._in_flight += 1

    async def publish(
        self, subject: str, data: bytes, *, msg_id: str = "", headers: Mapping[str, str] | None = None
    ) -> PubAck:
        """Publish and return the ack, or raise the error that `publish_acked` would have given to its callback."""
        answer: asyncio.Future[PubAck] = asyncio.get_running_loop().create_future()

        def on_ack(result: PubAck | TaskerError) -> None:
            if answer.done():
                return
            if isinstance(result, PubAck):
                answer.set_result(result)
            else:
                answer.set_exception(result)

        self.publish_acked(subject, data, on_ack, msg_id=msg_id, headers=headers)
        return await answer

    async def wait_room(self) -> None:
        """Return when at least one more may be published."""
        while self._in_flight >= self._in_flight_max:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _answer(reply: Message | TaskerError) -> PubAck | TaskerError:
    if isinstance(reply, Message):
        return parse_pub_ack(reply.data)
    if isinstance(reply, NoResponders):
        return StreamMissing("no stream takes the subject")
    return reply
