"""What waits for one worker alone: attempts of sticky steps, while it lives.

    offer -> its worker is known, or may yet speak up -> the line of that worker and queue -> one of its slots
               |                                           |
               |                                           `- it stopped, is silent, or the attempt waited long enough
               `- it is gone                                    |
                    `----------------------------------------- `-> anybody: as if the step were not sticky

Such a line is ordered: nothing of it may go by the stream, from which any worker takes. So it does not wait for a
backlog there either. It lasts while something waits in it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from tasker.service.actors.dispatch.lines import QUEUE_TOKENS, Line, LineKey, Order, Queue, Worker
from tasker.service.actors.dispatch.waiting_set import Waiting


def kept_key(worker: Worker | None, queue: Queue, handler: str) -> LineKey:
    """Return what names the line of a queue, for one worker; of a handler for which that has a part, its own."""
    own = (*queue, handler)
    has_part = worker is not None and any(own in part.queues for part in worker.parts.values())
    return own if has_part else (*queue, "")


class KeptLine(Line):
    """The offers of one queue, or of one of its handlers, that wait for one worker.

    Attributes:
        key: see `kept_key`. until_s: unless the worker speaks up by then, it is gone.
    """

    item_bytes_max = 512 * 1024  # as large as work gets

    __slots__ = ("_added", "_limits", "key", "until_s")

    def __init__(self, key: LineKey, now_s: float, until_s: float) -> None:
        super().__init__()
        self.key = key
        self.until_s = until_s
        self.order = Order(now_s)
        self._limits: list[tuple[float, int, Waiting]] = []
        self._added = 0

    def aim(self, worker: Worker | None) -> bool:
        """Wait for a slot of the worker, or of the part of it that has the handler; returns whether it has any."""
        self.workers.clear()
        self.overtaken.clear()
        if worker is not None:
            queue = self.key[:QUEUE_TOKENS]
            part = next((one for one in worker.parts.values() if self.key in one.queues), None)
            if part is not None or queue in worker.queues:
                self.workers.append(part or worker)
            elif queue in worker.backlogged:
                self.overtaken.append(worker)
        return bool(self.workers or self.overtaken)

    def next_worker(self) -> Worker | None:
        """Return the worker if it takes one more."""
        return super().next_worker() or self.worker_for_urgent()

    def limit(self, one: Waiting, until_s: float) -> None:
        """Let an attempt wait no longer than until then."""
        self._added += 1
        heapq.heappush(self._limits, (until_s, self._added, one))

    def overdue(self, now_s: float) -> Iterator[Waiting]:
        """Yield what has waited long enough."""
        while self._limits and (self._limits[0][0] <= now_s or self._limits[0][2].gone):
            one = heapq.heappop(self._limits)[2]
            if not one.gone:
                yield one


class KeptLines:
    """All of them, by tenant and worker."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], dict[LineKey, KeptLine]] = {}

    def __iter__(self) -> Iterator[tuple[tuple[str, str], KeptLine]]:
        return iter([(worker, line) for worker, lines in self._of.items() for line in lines.values()])

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def find(self, worker: tuple[str, str], key: LineKey) -> KeptLine | None:
        """Return the line of a worker."""
        return self._of.get(worker, {}).get(key)

    def of(self, worker: tuple[str, str]) -> list[KeptLine]:
        """Return the lines of a worker."""
        return list(self._of[worker].values()) if worker in self._of else []

    def add(self, worker: tuple[str, str], line: KeptLine) -> None:
        """Begin a line."""
        self._of.setdefault(worker, {})[line.key] = line

    def remove(self, worker: tuple[str, str], line: KeptLine) -> None:
        """End a line in which nothing waits."""
        lines = self._of[worker]
        del lines[line.key]
        if not lines:
            del self._of[worker]

    def waiting_in(self, queue: Queue) -> int:
        """Return how many attempts of a queue wait for a worker of their own."""
        return sum(line.count for _, line in self if line.key[:QUEUE_TOKENS] == queue)
