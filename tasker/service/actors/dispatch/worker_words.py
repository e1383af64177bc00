"""What a worker says of its slots, taken from its message and checked: it comes from outside."""

from __future__ import annotations

from typing import Final

from tasker.errors import Undecodable
from tasker.events.codec import decode_message
from tasker.events.messages import SlotsPart, WorkerSlots
from tasker.events.subjects import is_token
from tasker.ids import is_name
from tasker.labels import is_work_queue

QUEUES_MAX: Final = 1_000
"""Queues that one worker may serve, handlers with a limit, and nodes that it may name."""

_COUNT_MAX: Final = 2**53


def slots_of(data: bytes) -> WorkerSlots:
    """Return what a worker says.

    Raises:
        Undecodable: it is no word of a worker; the detail says why.
    """
    said = decode_message(data, WorkerSlots)
    fault = _fault_of(said)
    if fault is not None:
        raise Undecodable(fault)
    return said


def _fault_of(said: WorkerSlots) -> str | None:
    """Return why a worker's message is not heard; None when it is sound."""
    if not is_token(said.worker):
        return "the worker's id is no subject token"
    handlers = [handler for part in said.parts for handler in part.handlers]
    if max(len(said.queues), len(said.backlogged), len(said.parts), len(handlers)) > QUEUES_MAX:
        return f"more than {QUEUES_MAX} queues or handlers"
    places = (*said.queues, *said.backlogged, *handlers)
    names = [name for namespace, _, *handler in places for name in (namespace, *handler)]
    if not all(is_name(name) for name in (*names, *(part.name for part in said.parts))) or not all(
        is_work_queue(queue) for _, queue, *_ in places
    ):
        return "a name of a queue, a namespace, a handler or a part is none"
    sums: tuple[WorkerSlots | SlotsPart, ...] = (said, *said.parts)
    for one in sums:
        if len(one.nodes) > QUEUES_MAX:
            return f"more than {QUEUES_MAX} nodes"
        counts = [one.elsewhere, *(count for pair in one.nodes.values() for count in pair)]
        if one.slots > _COUNT_MAX or not all(0 <= count <= _COUNT_MAX for count in counts):
            return "a count is out of range"
    return None
