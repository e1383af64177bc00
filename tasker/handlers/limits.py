"""How many attempts of one handler run at a time, below the slots of its worker.

A handler at its limit must not keep others of its queue waiting. So work for it holds no slot: a few messages wait in
hand, kept alive at the server, and run as soon as there is a place; what comes beyond goes back to the queue for a
while that doubles with each return, so that another worker, or a later moment, takes it. A queue of which every handler
has a limit is not asked for more than they have places.

Nodes, which send work themselves, are told of the places by `parts`: handlers under the same limits, with the share of
places that is theirs. So what they send for limited handlers finds a place, and what they send for others no limit.

Pure: what waits is the caller's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

RETURN_S_BASE: Final = 0.2
RETURN_S_MAX: Final = 10.0
WAITING_MAX: Final = 16
"""Messages in hand for one limit; never more than it has places."""


class Limit:
    """Places for attempts.

    Attributes:
        places: how many there are. busy: how many are taken.
    """

    __slots__ = ("busy", "places")

    def __init__(self, places: int) -> None:
        self.places = places
        self.busy = 0

    @property
    def free(self) -> int:
        """How many places are left."""
        return self.places - self.busy


Place = tuple[str, str, str]
"""What names a handler to nodes: namespace, queue, name."""


class LimitedPart:
    """Handlers under the same limits, as nodes are told of them.

    Attributes:
        name: for nodes.
        places: what names the handlers.
        handlers: themselves. limits: theirs.
        share: how many places are for work from nodes at most; where limits are shared, each part has its own.
    """

    __slots__ = ("handlers", "limits", "name", "places", "share")

    def __init__(self, name: str, limits: tuple[Limit, ...]) -> None:
        self.name = name
        self.limits = limits
        self.places: list[Place] = []
        self.handlers: set[Any] = set()
        self.share = 0


class Limits(Generic[T]):
    """The limits of a worker's handlers.

    Attributes:
        parts: the limited handlers, for nodes. has_others: there are handlers without a limit.

    Args:
        of: the limits under which each handler stands; one without any is not named.
        handlers: all that work may name, by namespace, queue and name.
    """

    def __init__(
        self,
        of: Mapping[Any, tuple[Limit, ...]] | None = None,
        handlers: Mapping[Place, Any] | None = None,
    ) -> None:
        self._of = dict(of or {})
        self._queues: dict[tuple[str, str], set[Limit]] = {}
        by_queue: dict[tuple[str, str], list[tuple[Limit, ...]]] = {}
        for (namespace, queue, _), handler in (handlers or {}).items():
            by_queue.setdefault((namespace, queue), []).append(self._of.get(handler, ()))
        for name, found in by_queue.items():
            if all(found):
                self._queues[name] = {min(limits, key=lambda one: one.places) for limits in found}
        self.parts = _parts(self._of, handlers or {})
        self.has_others = not all(all(found) for found in by_queue.values())
        self._waiting: dict[Any, deque[T]] = {}
        self.waiting = 0
        """How many wait in hand."""

    def enter(self, handler: object) -> bool:
        """Take a place for an attempt, where there is one."""
        limits = self._of.get(handler)
        if limits is None:
            return True
        if self._waiting.get(handler) or any(limit.free <= 0 for limit in limits):
            return False
        for limit in limits:
            limit.busy += 1
        return True

    def holds(self, handler: object) -> bool:
        """Say whether the handler has a limit."""
        return handler in self._of

    def leave(self, handler: object) -> None:
        """Give the place back."""
        for limit in self._of.get(handler, ()):
            limit.busy -= 1

    def wait(self, handler: object, attempt: T) -> bool:
        """Keep an attempt that found no place; False: too many wait already."""
        queue = self._waiting.setdefault(handler, deque())
        most = min(WAITING_MAX, *(limit.places for limit in self._of[handler]))
        if len(queue) >= most:
            return False
        queue.append(attempt)
        self.waiting += 1
        return True

    def next(self) -> T | None:
        """Take a place for the first that waits and can have one, and return it; handlers take turns."""
        for handler, queue in list(self._waiting.items()):
            limits = self._of[handler]
            if queue and all(limit.free > 0 for limit in limits):
                for limit in limits:
                    limit.busy += 1
                self.waiting -= 1
                self._waiting[handler] = self._waiting.pop(handler)  # its next turn comes last
                return queue.popleft()
        return None

    def give_up(self) -> list[T]:
        """Return all that wait; none does any more."""
        found = [attempt for queue in self._waiting.values() for attempt in queue]
        self._waiting.clear()
        self.waiting = 0
        return found

    def free(self, part: LimitedPart) -> int:
        """Return how many more attempts of the part find a place now: none while some wait for one in hand."""
        if any(self._waiting.get(handler) for handler in part.handlers):
            return 0
        return max(0, min(limit.free for limit in part.limits))

    def room(self, queue: tuple[str, str]) -> int | None:
        """Return how many attempts of a queue can find a place; None: not limited."""
        limits = self._queues.get(queue)
        return None if limits is None else max(0, sum(limit.free for limit in limits))


def _parts(of: Mapping[Any, tuple[Limit, ...]], handlers: Mapping[Place, Any]) -> tuple[LimitedPart, ...]:
    found: dict[tuple[Limit, ...], LimitedPart] = {}
    for place, handler in sorted(handlers.items(), key=lambda item: item[0]):
        limits = of.get(handler, ())
        if limits:
            part = found.get(limits)
            if part is None:
                part = found[limits] = LimitedPart(f"p{len(found)}", limits)
            part.places.append(place)
            part.handlers.add(handler)
    for part in found.values():
        part.share = min(limit.places // sum(limit in other for other in found) for limit in part.limits)
    return tuple(found.values())


def return_s(deliveries: int) -> float:
    """Return for how long a message goes back that was delivered so many times."""
    return min(RETURN_S_MAX, RETURN_S_BASE * 2.0 ** min(deliveries - 1, 10))
