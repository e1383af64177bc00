"""Values that many attempts of one task share, fetched once: the input and parents' results of the items of a list.

Neither ever changes: the input not at all, a parent's result not within the visit that the items belong to. Nor does it
matter who asks: the owner answers from the task alone, whatever has become of the attempt that asks (`domain.reports`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tasker.bus.guard import call_guarded
from tasker.events.messages import ReportReply, Work
from tasker.templates.instances import node_of

SHARED_BYTES_MAX: Final = 16 * 1024 * 1024
"""What a worker keeps of them, the least used go first."""


OnReply = Callable[[ReportReply], None]


class SharedValues:
    """The values used last."""

    def __init__(self) -> None:
        self._values: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()
        self._bytes = 0
        self._asked: dict[tuple[str, str, str], list[OnReply]] = {}

    def get(self, work: Work, of: str) -> bytes | None:
        """Return the result of the parent `of` ("": the task's input) for the items that `work` is one of."""
        key = _key(work, of)
        found = self._values.get(key)
        if found is not None:
            self._values.move_to_end(key)
        return found

    def ask(self, work: Work, of: str, on_reply: OnReply) -> OnReply | None:
        """Wait for a value; returns what the answer is to be given to, or None where others have asked for it."""
        if work.item is None:
            return on_reply
        key = _key(work, of)
        if key in self._asked:
            self._asked[key].append(on_reply)
            return None
        self._asked[key] = [on_reply]

        def answer(reply: ReportReply) -> None:
            for waiting in self._asked.pop(key, []):
                call_guarded(waiting, reply)

        return answer

    def put(self, work: Work, of: str, value: bytes) -> None:
        """Keep a value that was fetched for one item."""
        if work.item is None or len(value) > SHARED_BYTES_MAX:
            return
        key = _key(work, of)
        self._bytes += len(value) - len(self._values.pop(key, b""))
        self._values[key] = value
        while self._bytes > SHARED_BYTES_MAX:
            _, dropped = self._values.popitem(last=False)
            self._bytes -= len(dropped)


def _key(work: Work, of: str) -> tuple[str, str, str]:
    return work.task_id, node_of(work.step), of
