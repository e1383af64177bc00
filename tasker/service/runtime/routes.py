"""Where a stream lives, and how to reach the shard's owner when it is another node."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar
from uuid import UUID

import structlog

from tasker.bus.bus import Bus, Message
from tasker.errors import TaskerError, Unavailable, Undecodable
from tasker.events.codec import decode_message, encode_message
from tasker.events.log import LogInfo
from tasker.events.subjects import HEADER_TENANT, Subjects
from tasker.failpoints import failpoint
from tasker.ids import slot_of

_log = structlog.get_logger(__name__)

T = TypeVar("T")

LOCATED_MAX = 10_000
NODE_TIMEOUT_S = 5.0
VIEWS_TIMEOUT_S = 12.0
"""They may have to count a million rows first."""

HEADER_VERB = "Tasker-Verb"
HEADER_TASK_ID = "Tasker-Task-Id"
HEADER_DEPTH = "Tasker-Depth"
HEADER_OWN = "Tasker-Own"

RawReply = Callable[[bytes | TaskerError], None]


def depth_of(header: str | None) -> int:
    """Return how many tasks are above one that a node hands on; 0: no task starts it."""
    return int(header) if header is not None and header.isdecimal() else 0


class Routes:
    """Shards of streams, and requests to the owners of other shards."""

    def __init__(self, info: LogInfo, bus: Bus, subjects: Subjects) -> None:
        self._shard_of_slot = info.shard_of_slot
        self._bus = bus
        self._subjects = subjects
        self.locate = lru_cache(maxsize=LOCATED_MAX)(self._locate)
        """Text of a task's id -> id and shard. A task's reports come one after another; parsing costs more."""

    def _locate(self, text: str) -> tuple[UUID, int]:
        stream_id = UUID(text)
        return stream_id, self.shard_of(stream_id)

    def shard_of(self, stream_id: UUID) -> int:
        """Return the shard that a stream lives in."""
        return self._shard_of_slot[slot_of(stream_id)]

    def ask_owner(self, shard: int, what: str, data: bytes, headers: dict[str, str], on_reply: RawReply) -> None:
        """Ask the node that owns `shard`; `on_reply` gets its bytes or why there are none."""

        def answered(reply: Message | TaskerError) -> None:
            if isinstance(reply, TaskerError):
                on_reply(Unavailable(f"shard {shard} has no owner at the moment", retry_after_s=1.0))
            else:
                on_reply(reply.data)

        try:
            self._bus.ask(
                self._subjects.node_shard(shard, what), data, answered, timeout_s=NODE_TIMEOUT_S, headers=headers
            )
        except TaskerError as error:
            on_reply(Unavailable(error.detail, retry_after_s=1.0))

    def ask(
        self, shard: int, what: str, words: object, kind: type[T], on_reply: Callable[[T | TaskerError], None]
    ) -> None:
        """Ask the node that owns `shard` in words of ours; `on_reply` gets its answer or why there is none.

        An answer that this build does not understand is none: a newer node may say more.
        """

        def answered(reply: bytes | TaskerError) -> None:
            answer: T | TaskerError
            try:
                answer = reply if isinstance(reply, TaskerError) else decode_message(reply, kind)
            except Undecodable as error:
                answer = Unavailable(f"the owner of shard {shard} answers otherwise: {error.detail}", retry_after_s=1.0)
            on_reply(answer)

        self.ask_owner(shard, what, encode_message(words), {}, answered)

    def ask_views(self, what: str, tenant: str, data: bytes, on_reply: RawReply) -> None:
        """Ask whoever reads the views, for a tenant; `on_reply` gets the bytes or why there are none."""

        def answered(reply: Message | TaskerError) -> None:
            if isinstance(reply, TaskerError):
                on_reply(Unavailable("nobody who reads the views answers at the moment", retry_after_s=1.0))
            else:
                on_reply(reply.data)

        try:
            headers = {HEADER_TENANT: tenant}
            self._bus.ask(self._subjects.views(what), data, answered, timeout_s=VIEWS_TIMEOUT_S, headers=headers)
        except TaskerError as error:
            on_reply(Unavailable(error.detail, retry_after_s=1.0))

    def tell(self, shard: int, what: str, words: object) -> None:
        """Tell the node that owns `shard`, which may not hear it."""
        try:
            self._bus.publish(self._subjects.node_shard(shard, what), encode_message(words))
        except TaskerError as error:
            _log.debug("owner_not_told", shard=shard, what=what, error=error.detail)

    @property
    def answer_bytes_max(self) -> int:
        """Return how large an answer may be."""
        return self._bus.payload_bytes_max

    def respond(self, message: Message, data: bytes) -> None:
        """Answer a message, if anybody waits, at a place of his; a lost answer is asked for again by who does."""
        if not message.reply:
            return
        if not self._subjects.is_callers(message.reply):
            _log.warning("reply_not_sent", error=f"{message.reply[:80]!r} is no place for answers")
            return
        failpoint("before_reply")
        try:
            self._bus.publish(message.reply, data)
        except (TaskerError, ValueError) as error:
            # ValueError: the sender named no subject. Whatever it was, the committer that called must go on.
            _log.warning("reply_not_sent", error=str(error))
        failpoint("after_reply")
