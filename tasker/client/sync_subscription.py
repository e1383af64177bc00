"""Subscriptions for programs without an event loop: their events block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from tasker.client.domain_events import DomainSubscription
from tasker.client.loop_thread import LoopThread, next_of
from tasker.client.subscription import Subscription
from tasker.events.messages import DomainEventMessage, LifecycleEvent

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)


class _Events(Protocol[E_co]):
    """An open subscription."""

    async def __aenter__(self) -> object: ...
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def __aiter__(self) -> AsyncIterator[E_co]: ...
    async def __anext__(self) -> E_co: ...


class _Blocking(Generic[E]):
    """A subscription whose events block."""

    def __init__(self, loop: LoopThread, subscription: _Events[E]) -> None:
        self._loop = loop
        self._subscription = subscription
        self._coming: asyncio.Task[E] | None = None

    def __enter__(self) -> Self:
        self._loop.run(self._open())
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.run(self._close(exc_type, exc, traceback))

    def __iter__(self) -> Iterator[E]:
        return self

    def __next__(self) -> E:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout_s: float | None = None) -> E | None:
        """Return the next event; None when none came within `timeout_s`, which loses none of them."""
        return self._loop.run(self._next(timeout_s))

    def _note(self) -> None:
        """Take note of where the subscription is, before the loop goes on with it."""

    async def _open(self) -> None:
        await self._subscription.__aenter__()
        self._note()

    async def _close(self, *why: Any) -> None:
        if self._coming is not None:
            self._coming.cancel()
            why = (asyncio.CancelledError, None, None)  # an event that came meanwhile was shown to nobody
        await self._subscription.__aexit__(*why)

    async def _next(self, timeout_s: float | None) -> E | None:
        if self._coming is None:
            self._coming = asyncio.ensure_future(next_of(self._subscription))
        await asyncio.wait([self._coming], timeout=timeout_s)
        if not self._coming.done():
            self._note()
            return None
        coming, self._coming = self._coming, None
        event = coming.result()
        self._note()
        return event


class SyncSubscription(_Blocking[LifecycleEvent]):
    """Lifecycle events that block; use it with `with`, then iterate."""

    def __init__(self, loop: LoopThread, subscription: Subscription) -> None:
        super().__init__(loop, subscription)
        self._events = subscription
        self._position: str | None = None

    @property
    def position(self) -> str | None:
        """The position to resume from: as it was when `next` returned; None while nothing is known."""
        return self._position

    def _note(self) -> None:
        # Not what it is by now: an event that comes between two calls counts there, and nobody has seen it yet.
        self._position = self._events.position


class SyncDomainSubscription(_Blocking[DomainEventMessage]):
    """Domain events that block; use it with `with`, then iterate."""

    def __init__(self, loop: LoopThread, subscription: DomainSubscription) -> None:
        super().__init__(loop, subscription)
        self._events = subscription

    @property
    def deliveries(self) -> int:
        """How often the event shown last was delivered, this time included; 1 when live."""
        return self._events.deliveries

    def ack(self) -> None:
        """Be done with the event shown last; asking for the next one does it, too."""
        self._loop.run(self._ack())

    async def _ack(self) -> None:
        self._events.ack()
