"""Workers as a node knows them, and the lines in which offers wait for them."""

from __future__ import annotations

from collections import deque
from typing import Final

from tasker.service.actors.dispatch.stream_demand import Window
from tasker.service.actors.dispatch.waiting_set import WaitingSet
from tasker.service.actors.task_actor import TaskActor

QUICK_PER_S: Final = 100.0
"""A line of which so many offers get a slot in a second moves quickly."""

QUICK_S: Final = 10.0
"""What waits in a line that moves quickly stays there when it is through within this."""

_PACE_WEIGHT: Final = 0.5

TURN_ITEMS: Final = 16
"""Offers in a row for one worker before it is the next one's turn."""

ITEM_BYTES_MAX: Final = 64 * 1024
"""Of one item that goes straight to a worker: larger ones go by the stream."""

QUEUE_TOKENS: Final = 3
HANDLER_TOKENS: Final = QUEUE_TOKENS + 1

Queue = tuple[str, str, str]
"""Tenant, namespace and name."""

LineKey = tuple[str, ...]
"""A queue; or a queue and one of its handlers, which has a limit; or both and a worker (`kept.py`)."""


class Offered:
    """An attempt on offer, for the first time unless `offer` says otherwise."""

    __slots__ = ("actor", "attempt", "offer", "step", "until_s")

    def __init__(self, actor: TaskActor, step: str, attempt: int, until_s: float, offer: int = 0) -> None:
        self.actor = actor
        self.step = step
        self.attempt = attempt
        self.until_s = until_s
        self.offer = offer


class Worker:
    """A worker, or a part of one, as this node knows it.

    Attributes:
        owner: the tenant, and the worker's id. name: of a part; "": the worker itself.
        whole: the worker, of which it may be a part. parts: its parts by name.
        taken: slots that others hold, as the worker said last.
        backlogged: queues of its that have a backlog in the stream.
        sent: how many items went to it. released: how many of those hold no slot any more, as it said.
        checked, checked_s: what `sent` was a while ago, and when.
        items, data, array_bytes: the array that is being gathered.
    """

    __slots__ = (
        "array_bytes",
        "backlogged",
        "checked",
        "checked_s",
        "data",
        "heard_s",
        "items",
        "name",
        "owner",
        "parts",
        "queues",
        "released",
        "sent",
        "slots",
        "subject",
        "taken",
        "whole",
    )

    def __init__(self, owner: tuple[str, str], subject: str, whole: Worker | None = None, name: str = "") -> None:
        self.owner = owner
        self.subject = subject
        self.whole = whole or self
        self.name = name
        self.parts: dict[str, Worker] = {}
        self.slots = 0
        self.taken = 0
        self.sent = 0
        self.released = 0
        self.checked = 0
        self.checked_s = 0.0
        self.heard_s = 0.0
        self.queues: frozenset[LineKey] = frozenset()
        self.backlogged: frozenset[LineKey] = frozenset()
        self.items: list[Offered] = []
        self.data: list[bytes] = []
        self.array_bytes = 0

    def all_of_it(self) -> tuple[Worker, ...]:
        """Return the worker and its parts."""
        return (self, *self.parts.values())

    @property
    def free(self) -> int:
        """Return how many more items it takes; below 0: too many are on their way."""
        return self.slots - self.taken - (self.sent - self.released)


class Order:
    """What a line has while its queue is ordered.

    Attributes:
        waiting: its offers. until_s: it is ordered until then, or longer.
        handed_s: when an offer got a slot last, or the first one came. window: what goes to the stream.
        full_until_s: the stream had no room for the queue lately: nothing goes there before this.
    """

    __slots__ = ("full_until_s", "handed_s", "until_s", "waiting", "window")

    def __init__(self, now_s: float) -> None:
        self.waiting = WaitingSet()
        self.window = Window()
        self.handed_s = now_s
        self.until_s = now_s
        self.full_until_s = 0.0


class Line:
    """The offers that wait for one queue, and the workers that serve it, the next one first.

    Attributes:
        overtaken: workers for whose backlog in the stream urgent work does not wait.
        order: of an ordered queue; then nothing is in `waiting`.
        item_bytes_max: a larger item goes by the stream.
        handed: how many offers got a slot since the last look at its pace.
    """

    item_bytes_max = ITEM_BYTES_MAX

    __slots__ = ("_per_s", "handed", "order", "overtaken", "stream_until_s", "turn", "waiting", "workers")

    def __init__(self) -> None:
        self.waiting: deque[Offered] = deque()
        self.workers: deque[Worker] = deque()
        self.overtaken: list[Worker] = []
        self.order: Order | None = None
        self.turn = 0
        self.stream_until_s = 0.0
        self.handed = 0
        self._per_s = 0.0

    def without(self, gone: set[Worker]) -> None:
        """Let workers serve it no more; one look at each that does, however many are gone."""
        self.workers = deque(one for one in self.workers if one not in gone)
        self.overtaken = [one for one in self.overtaken if one not in gone]

    def look(self, elapsed_s: float) -> None:
        """Take note of its pace since the last look."""
        self._per_s += _PACE_WEIGHT * (self.handed / elapsed_s - self._per_s)
        self.handed = 0

    @property
    def is_quick(self) -> bool:
        """Return whether what waits gets a slot soon at its present pace: no worker need be looked for elsewhere."""
        return self._per_s >= QUICK_PER_S and len(self.waiting) <= self._per_s * QUICK_S

    @property
    def count(self) -> int:
        """Return how many offers wait."""
        return len(self.waiting) if self.order is None else len(self.order.waiting)

    def worker_for_urgent(self) -> Worker | None:
        """Return a worker that takes urgent work before what its queue has in the stream."""
        found = min(self.overtaken, key=lambda one: one.sent - one.released, default=None)
        return found if found is not None and found.sent - found.released < found.slots else None

    def next_worker(self) -> Worker | None:
        """Return a worker with a free slot."""
        workers = self.workers
        if self.turn >= TURN_ITEMS:
            self.turn = 0
            workers.rotate(-1)
        for _ in range(len(workers)):
            if workers[0].free > 0:
                self.turn += 1
                return workers[0]
            self.turn = 0
            workers.rotate(-1)
        return None
