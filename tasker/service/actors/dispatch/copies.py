"""What became of a message that the work stream had before: it waits there, or is in a worker's hands, or is done with.

A further offer has the id of the first one, so that a stream which has that does not keep it twice. The stream says
then which message it means. Whoever took that one may have asked in vain, and be done with it: an owner before this
one, or this one before the task left its memory, said `gone`; an operator purged the queue; a worker could not read it.
Then the stream has nothing that anybody could begin.

What the queue's consumer has not delivered yet waits for certain. So a backlog costs one question, whatever its length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import structlog

from tasker.bus.bus import Bus, Message
from tasker.bus.jetstream import API_PREFIX, API_TIMEOUT_S, parse_api_error
from tasker.errors import TaskerError
from tasker.events.subjects import Subjects
from tasker.service.actors.dispatch.lines import Queue

_log = structlog.get_logger(__name__)

_Look = tuple[int, Callable[[], None]]


class _Delivered(msgspec.Struct):
    stream_seq: int = 0


class _Info(msgspec.Struct):
    delivered: _Delivered


_decode_info = msgspec.json.Decoder(_Info).decode


class Copies:
    """Looks for messages of the work stream."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects
        self._waiting: dict[Queue, list[_Look]] = {}
        self._asking: set[Queue] = set()

    def look(self, queue: Queue, seq: int, gone: Callable[[], None]) -> None:
        """Have `gone` called if the message `seq` of a queue is not there any more, or nobody can say."""
        self._waiting.setdefault(queue, []).append((seq, gone))
        if queue not in self._asking:
            self._ask_consumer(queue)

    def _ask_consumer(self, queue: Queue) -> None:
        """Ask how far a queue is delivered. What is looked for meanwhile is asked for again: an answer may be older."""
        looks = self._waiting.pop(queue)
        self._asking.add(queue)

        def on_reply(reply: Message | TaskerError) -> None:
            self._asking.discard(queue)
            delivered = _delivered(reply)
            self._ask_stream([look for look in looks if delivered is None or look[0] <= delivered])
            if queue in self._waiting:
                self._ask_consumer(queue)

        consumer = self._subjects.work_consumer(*queue)
        self._ask(f"CONSUMER.INFO.{self._subjects.work_stream}.{consumer}", b"", on_reply)

    def _ask_stream(self, looks: Sequence[_Look]) -> None:
        for seq, gone in looks:
            body = b'{"seq":%d}' % seq
            self._ask(f"STREAM.MSG.GET.{self._subjects.work_stream}", body, partial(_told, gone))

    def _ask(self, verb: str, body: bytes, on_reply: Callable[[Message | TaskerError], None]) -> None:
        try:
            self._bus.ask(f"{API_PREFIX}.{verb}", body, on_reply, timeout_s=API_TIMEOUT_S)
        except TaskerError as error:
            on_reply(error)


def _delivered(reply: Message | TaskerError) -> int | None:
    """Return up to where a queue is delivered; None: nobody can say."""
    if isinstance(reply, TaskerError):
        return None
    try:
        return _decode_info(reply.data).delivered.stream_seq
    except msgspec.DecodeError:
        return None  # there is no such consumer


def _told(gone: Callable[[], None], reply: Message | TaskerError) -> None:
    if isinstance(reply, TaskerError):
        _log.debug("copy_not_told", error=str(reply))
        gone()
        return
    try:
        is_there = parse_api_error(reply.data) is None
    except msgspec.DecodeError:
        is_there = False
    if not is_there:
        gone()
