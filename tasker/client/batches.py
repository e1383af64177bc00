"""Many creates at once: arrays within the wire's bounds, several in flight, a verdict for each item.

Pure but for the sending, which is handed in: `pack` cuts, `merge` puts verdicts back in their places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from tasker.errors import BodyTooLarge, Fenced, TaskerError
from tasker.events.codec import BATCH_ITEMS_MAX, BODY_BYTES_MAX
from tasker.events.messages import Reply, TaskCreate

BATCHES_IN_FLIGHT = 4
_answers: msgspec.json.Decoder[list[Reply] | Reply] = msgspec.json.Decoder(list[Reply] | Reply)
_BRACKETS_BYTES = 2
_COMMA_BYTES = 1


class Item(msgspec.Struct, frozen=True):
    """One command of a batch, with its place in the caller's list."""

    index: int
    command: TaskCreate
    data: bytes


def pack(
    items: Iterable[Item], *, items_max: int = BATCH_ITEMS_MAX, bytes_max: int = BODY_BYTES_MAX
) -> Iterator[list[Item]]:
    """Yield `items` in order, cut into batches that the wire takes; an item alone may still be too large."""
    batch: list[Item] = []
    batch_bytes = _BRACKETS_BYTES
    for item in items:
        item_bytes = len(item.data) + _COMMA_BYTES
        if batch and (len(batch) == items_max or batch_bytes + item_bytes > bytes_max):
            yield batch
            batch, batch_bytes = [], _BRACKETS_BYTES
        batch.append(item)
        batch_bytes += item_bytes
    if batch:
        yield batch


def body_of(batch: Sequence[Item]) -> bytes:
    """Return the array of a batch.

    Raises:
        BodyTooLarge: a single item is more than a body may have.
    """
    body = b"[" + b",".join(item.data for item in batch) + b"]"
    if len(body) > BODY_BYTES_MAX:
        raise BodyTooLarge(f"{len(body)} bytes are more than the {BODY_BYTES_MAX} allowed")
    return body


def verdicts_of(
    batch: Sequence[Item], data: bytes, *, unreadable: Callable[[str], TaskerError]
) -> list[Reply | TaskerError]:
    """Return what the answer `data` says of each item of `batch`; one refusal may be for all of them.

    Args:
        batch: what was sent.
        data: what came back.
        unreadable: returns the error of an answer that cannot be read, for a reason.
    """
    try:
        replies: list[Reply] | Reply = _answers.decode(data)
    except msgspec.DecodeError as error:
        return [unreadable(str(error))] * len(batch)
    if isinstance(replies, Reply):
        return [_verdict(replies)] * len(batch)
    if len(replies) != len(batch):
        return [unreadable(f"{len(replies)} answers came for {len(batch)} items")] * len(batch)
    return [_verdict(reply) for reply in replies]


def _verdict(reply: Reply) -> Reply | TaskerError:
    if reply.ok:
        return reply
    return TaskerError.from_problem(reply.error) if reply.error else Fenced("refused without a reason")
