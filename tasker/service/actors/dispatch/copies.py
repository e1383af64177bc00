"""Copies of work in the work stream: which attempts have one that nobody has asked about, and whether it is there.

An attempt that nobody begins is offered again, each time after as long as it has waited. While the stream still has its
copy there is nothing to offer: a backlog would be published anew again and again, and each copy costs a worker a
question. So a node remembers the copy that the stream has acked, until a worker reports on the attempt: from then on
that worker may be done with it at any moment. What is remembered is asked for instead of published; what the node
forgot, or another owner published, has the id of the first offer, so that a stream which has that does not keep it
twice. The stream says then which message it means.

Whoever took that one may have asked in vain, and be done with it: an owner before this one said `gone`; an operator
purged the queue; a worker could not read it. Then the stream has nothing that anybody could begin.

What the queue's consumer has not delivered yet waits for certain. So a backlog costs one question, whatever its length.

The copy of an attempt that ended before a worker asked about it is deleted: it would cost a worker a question, count as
ready work, and take the room of other work.

Sequences are those of one stream. Once it is known to be another one, nothing is remembered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple
from uuid import UUID

import msgspec
import structlog

from tasker.bus.bus import Bus, Message
from tasker.bus.jetstream import API_PREFIX, API_TIMEOUT_S, parse_api_error
from tasker.errors import TaskerError
from tasker.events.subjects import Subjects
from tasker.service.actors.dispatch.lines import Queue

COPIES_MAX: Final = 200_000
"""Copies that a node remembers; of more, each is published again with each further offer."""

IN_FLIGHT_MAX: Final = 256
"""Questions to the stream at once. The server drops what waits beyond some thousands, of all clients together."""

_log = structlog.get_logger(__name__)

Key = tuple[UUID, str, int]
"""Stream, step and number of an attempt."""

Answer = Literal["there", "gone", "untold"]
"""What the stream says of a message; untold: nothing, for now."""

Told = Callable[[Answer], None]

_Look = tuple[int, Told]


class Copy(NamedTuple):
    """A message of the work stream, and when the stream acked it."""

    seq: int
    since_us: int


class _Delivered(msgspec.Struct):
    stream_seq: int = 0


class _Info(msgspec.Struct):
    delivered: _Delivered


_decode_info = msgspec.json.Decoder(_Info).decode


class Copies:
    """Remembers copies of the attempts of a node's shards, and looks for them. A `ShardService`."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects
        self._known: dict[int, dict[Key, Copy]] = {}
        self._count = 0
        self._waiting: dict[Queue, list[_Look]] = {}
        self._asking: set[Queue] = set()
        self._line: deque[tuple[str, bytes, Told]] = deque()
        self._in_flight = 0

    def __len__(self) -> int:
        return self._count

    # ---------------------------------------------------------------- what is remembered

    def find(self, shard: int, key: Key) -> Copy | None:
        """Return the copy of an attempt, as far as it is known."""
        return self._known.get(shard, {}).get(key)

    def keep(self, shard: int, key: Key, copy: Copy) -> None:
        """Remember what the stream has of an attempt."""
        known = self._known.setdefault(shard, {})
        if key in known:
            known[key] = copy
        elif self._count < COPIES_MAX:
            known[key] = copy
            self._count += 1

    def forget(self, shard: int, key: Key) -> Copy | None:
        """Forget the copy of an attempt; returns it."""
        copy = self._known.get(shard, {}).pop(key, None)
        if copy is not None:
            self._count -= 1
        return copy

    def clear(self) -> None:
        """Forget everything: the stream is another one."""
        self._known.clear()
        self._count = 0
        line, self._line = self._line, deque()
        for _, _, told in line:
            told("untold")

    async def open_shard(self, shard: int, epoch: int) -> None:
        """Do nothing: what its attempts have in the stream shows."""

    def close_shard(self, shard: int) -> None:
        """Forget what is another node's to know."""
        self._count -= len(self._known.pop(shard, {}))

    # ---------------------------------------------------------------- what the stream says

    def look(self, queue: Queue, seq: int, told: Told) -> None:
        """Find out whether the message `seq` of a queue is there: it waits, or is in a worker's hands."""
        self._waiting.setdefault(queue, []).append((seq, told))
        if queue not in self._asking:
            self._ask_consumer(queue)

    def delete(self, copy: Copy) -> None:
        """Have the stream drop a message, if it is there. If the word is lost, a worker asks about it in vain."""
        # Not overwritten on the disk: it is no secret, and that would be a write of its own.
        self._in_line("STREAM.MSG.DELETE", b'{"seq":%d,"no_erase":true}' % copy.seq, _note_deletion)

    def _ask_consumer(self, queue: Queue) -> None:
        """Ask how far a queue is delivered. What is looked for meanwhile is asked for again: an answer may be older."""
        looks = self._waiting.pop(queue)
        self._asking.add(queue)

        def on_reply(reply: Message | TaskerError) -> None:
            self._asking.discard(queue)
            self._tell(looks, _delivered(reply))
            if queue in self._waiting:
                self._ask_consumer(queue)

        consumer = self._subjects.work_consumer(*queue)
        try:
            self._ask(f"CONSUMER.INFO.{self._subjects.work_stream}.{consumer}", b"", on_reply)
        except TaskerError as error:
            on_reply(error)

    def _tell(self, looks: Sequence[_Look], delivered: int | None) -> None:
        for seq, told in looks:
            if delivered is not None and seq > delivered:
                told("there")
            else:
                self._in_line("STREAM.MSG.GET", b'{"seq":%d}' % seq, told)

    def _in_line(self, verb: str, body: bytes, told: Told) -> None:
        self._line.append((verb, body, told))
        self._pump()

    def _pump(self) -> None:
        while self._line and self._in_flight < IN_FLIGHT_MAX:
            verb, body, told = self._line.popleft()
            try:
                self._ask(f"{verb}.{self._subjects.work_stream}", body, partial(self._answered, told))
            except TaskerError:
                told("untold")
            else:
                self._in_flight += 1

    def _answered(self, told: Told, reply: Message | TaskerError) -> None:
        self._in_flight -= 1
        told(_answer(reply))
        self._pump()

    def _ask(self, verb: str, body: bytes, on_reply: Callable[[Message | TaskerError], None]) -> None:
        self._bus.ask(f"{API_PREFIX}.{verb}", body, on_reply, timeout_s=API_TIMEOUT_S)


def _delivered(reply: Message | TaskerError) -> int | None:
    """Return up to where a queue is delivered; None: nobody can say."""
    if isinstance(reply, TaskerError):
        return None
    try:
        return _decode_info(reply.data).delivered.stream_seq
    except msgspec.DecodeError:
        return None  # there is no such consumer


def _answer(reply: Message | TaskerError) -> Answer:
    """Return what the stream says of a message that it was asked for, or to delete."""
    if isinstance(reply, TaskerError):
        return "untold"
    try:
        return "there" if parse_api_error(reply.data) is None else "gone"
    except msgspec.DecodeError:
        return "untold"


def _note_deletion(answer: Answer) -> None:
    if answer == "untold":
        _log.debug("copy_not_deleted")
