"""Answers to what we ask: one subscription, one dictionary, one timer each.

A request of nats-py draws ids, makes a task and a timer each (43-76 us); here an ask is an entry in a
dictionary under a subject that counts up. And nats-py lets every waiting request run into its own timeout
when the connection drops; here all fail at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from tasker.bus.bus import Disconnected, Message, NoResponders, ReplyCallback
from tasker.bus.guard import call_guarded
from tasker.errors import DeadlineExceeded, NotPermitted, TaskerError

Publish = Callable[[str, bytes, "Mapping[str, str] | None", str], None]


class ReplyMultiplexer:
    """The asks of one connection that have no answer yet.

    Args:
        prefix: of the reply subjects; `<prefix>.*` must be subscribed with `dispatch` as its callback.
        publish: sends `(subject, data, headers, reply)`.
    """

    def __init__(self, prefix: str, publish: Publish) -> None:
        self.pattern = f"{prefix}.*"
        self._prefix = f"{prefix}."
        self._publish = publish
        self._count = 0
        self._waiting: dict[str, tuple[ReplyCallback, asyncio.TimerHandle, str]] = {}
        """Reply subject -> who waits, until when, and what was asked."""

        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(
        self,
        subject: str,
        data: bytes,
        on_reply: ReplyCallback,
        timeout_s: float,
        headers: Mapping[str, str] | None,
    ) -> str:
        """Send, and call `on_reply` once with the answer or the error; return the reply subject."""
        self._count += 1
        reply = f"{self._prefix}{self._count}"
        self._publish(subject, data, headers, reply)
        self._waiting[reply] = (on_reply, self._loop.call_later(timeout_s, self._expire, reply), subject)
        return reply

    def forget(self, reply: str) -> None:
        """Take an ask back."""
        entry = self._waiting.pop(reply, None)
        if entry is not None:
            entry[1].cancel()

    async def request(self, subject: str, data: bytes, timeout_s: float, headers: Mapping[str, str] | None) -> Message:
        """Send, and return the answer or raise the error."""
        answer: asyncio.Future[Message] = self._loop.create_future()

        def on_reply(result: Message | TaskerError) -> None:
            if answer.done():
                return
            if isinstance(result, Message):
                answer.set_result(result)
            else:
                answer.set_exception(result)

        reply = self.ask(subject, data, on_reply, timeout_s, headers)
        try:
            return await answer
        finally:
            self.forget(reply)

    def dispatch(self, message: Message) -> None:
        """Give an answer to who asked; one that comes too late is dropped."""
        entry = self._waiting.pop(message.subject, None)
        if entry is None:
            return
        on_reply, timer, _ = entry
        timer.cancel()
        if message.headers is not None and message.status == "503":
            on_reply(NoResponders("nobody listens on the subject"))
        else:
            on_reply(message)

    def fail_all(self, detail: str) -> None:
        """Fail whatever waits with `Disconnected`."""
        waiting, self._waiting = self._waiting, {}
        for on_reply, timer, _ in waiting.values():
            timer.cancel()
            call_guarded(on_reply, Disconnected(detail))

    def refuse(self, subject: str) -> None:
        """Fail with `NotPermitted` whatever was asked on `subject`, which the server tells in lower case."""
        for reply, (on_reply, timer, asked) in tuple(self._waiting.items()):
            if asked.lower() == subject and self._waiting.pop(reply, None) is not None:
                timer.cancel()
                call_guarded(on_reply, NotPermitted(f"NATS does not let this user publish to {asked}"))

    def _expire(self, reply: str) -> None:
        on_reply, _, subject = self._waiting.pop(reply)
        call_guarded(on_reply, DeadlineExceeded(f"no answer on {subject}"))
