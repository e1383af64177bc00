"""Live news over the bus: one subscription a watched task, shared by all who watch it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

from tasker.bus.bus import Bus, Message, Subscription
from tasker.errors import TaskerError, Undecodable
from tasker.events.codec import decode_message
from tasker.events.messages import LifecycleEvent
from tasker.events.subjects import Subjects
from tasker.events.task_events import ENDING_TYPES
from tasker.projections.checkpoints import Positions

_OVER_TYPES: Final = ENDING_TYPES | {"task_blocked"}


class BusWatch:
    """`Watch` that a subscription feeds."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self.ended_at: Positions | None = None

    async def news(self, timeout_s: float) -> bool:
        """Return whether there was news since the last call, waiting for it up to `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True

    def tell(self, ended_at: Positions | None = None) -> None:
        """Take note of news."""
        if ended_at is not None:
            self.ended_at = ended_at
        self._news.set()


class _Shared:
    """The watches of one subject, and its subscription (None while the bus has none to give)."""

    def __init__(self) -> None:
        self.watches: set[BusWatch] = set()
        self.subscription: Subscription | None = None


class BusWatcher:
    """`Watcher` over core subscriptions. Without a connection there is no news, and who waits polls."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects
        self._shared: dict[str, _Shared] = {}

    def task(self, tenant: str, task_id: str) -> contextlib.AbstractContextManager[BusWatch]:
        """Return a watch over the events of one task."""
        return self._watch(self._subjects.events_of_task(tenant, task_id))

    def log(self) -> contextlib.AbstractContextManager[BusWatch]:
        """Return a watch over the growth of the log."""
        return self._watch(self._subjects.log_head)

    @contextlib.contextmanager
    def _watch(self, subject: str) -> Iterator[BusWatch]:
        shared = self._shared.get(subject)
        if shared is None:
            shared = self._shared[subject] = _Shared()
            watches = shared.watches
            with contextlib.suppress(TaskerError):
                shared.subscription = self._bus.subscribe(subject, lambda message: _tell(watches, message))
        watch = BusWatch()
        shared.watches.add(watch)
        try:
            yield watch
        finally:
            shared.watches.discard(watch)
            if not shared.watches and self._shared.get(subject) is shared:
                del self._shared[subject]
                if shared.subscription is not None:
                    shared.subscription.unsubscribe()


def _tell(watches: set[BusWatch], message: Message) -> None:
    ended_at: Positions | None = None
    if message.subject.rpartition(".")[2] in _OVER_TYPES:
        with contextlib.suppress(Undecodable, ValueError):
            event = decode_message(message.data, LifecycleEvent)
            ended_at = {event.shard: int(event.position)}
    for watch in watches:
        watch.tell(ended_at)
