"""An event loop on which time stands still, and jumps when somebody waits for it.

While anything can run, it runs, and no time passes. When nothing can and somebody is `passing` time, the clock jumps to
the next timer that matters. Nobody sleeps: a backoff of an hour costs as much as one of a millisecond.

The service's periodic duties (renewing leases, writing behind, looking for idle actors) would cut every jump into
pieces of milliseconds. So what they wait for does not matter by itself: they run late, once, when the clock has
jumped for another reason, as on a machine that was suspended. What they would have found due in between is told by
`wakes`.

    runnable -> run it                              | no time passes
    threads at work -> wait for them                | after `THREAD_PATIENCE_S` time goes on at its usual pace
    sockets open -> wait a little for an answer     | `io_patience_s` of real time
    else -> jump to the next timer that matters     | up to what is being passed
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import selectors
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_S: Final = 1_000.0
THREAD_PATIENCE_S: Final = 1.0
"""How long time stands still for a thread at work."""

IO_PATIENCE_S: Final = 0.1
RESOLUTION_S: Final = 1e-6
"""A timer is due when it is so near: above what a float can tell apart after a hundred years."""

_Events = list[tuple[selectors.SelectorKey, int]]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with a clock of its own.

    Attributes:
        wakes: each returns the next time (of `time()`) at which a duty in the background would find something due.
        background: names of asyncio tasks whose timers do not matter by themselves.
        io_patience_s: how long, in real time, to wait for an open socket before each jump.
    """

    def __init__(self) -> None:
        self.wakes: list[Callable[[], float | None]] = []
        self.background: Collection[str] = frozenset()
        self.io_patience_s = IO_PATIENCE_S
        self._now_s = START_S
        self._limits: dict[object, float] = {}
        self._exact = 0
        self._order = 0
        self._foreground: list[_Timer] = []
        self._settling: list[asyncio.Future[None]] = []
        self._threads = 0
        self._owner = threading.get_ident()
        self._selecting = _Selector(self)
        super().__init__(self._selecting)
        self._clock_resolution = RESOLUTION_S
        self._own_sockets = len(self._selecting.get_map())

    # ---------------------------------------------------------------- time

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._now_s

    @contextmanager
    def passing(self, until_s: float, *, exactly: bool = False) -> Iterator[None]:
        """Let time pass up to `until_s`, while this is open; `exactly`: duties in the background matter, too."""
        token = object()
        self._limits[token] = until_s
        self._exact += exactly
        try:
            yield
        finally:
            del self._limits[token]
            self._exact -= exactly

    async def pass_until(self, at_s: float) -> None:
        """Return when the time is `at_s`."""
        reached = self.create_future()
        timer = self.call_at(at_s, _set, reached)
        try:
            with self.passing(at_s):
                await reached
        finally:
            timer.cancel()

    async def settled(self) -> None:
        """Return when nothing can run any more at the present moment."""
        idle = self.create_future()
        self._settling.append(idle)
        await idle

    # ---------------------------------------------------------------- threads

    def thread_begins(self) -> None:
        """Take note that a thread is at work: time waits for it. On the loop."""
        self._threads += 1

    def thread_ends(self) -> None:
        """Take note that it is done, or sleeps. On the loop."""
        self._threads -= 1

    @property
    def has_threads_at_work(self) -> bool:
        """Return whether time waits for a thread."""
        return bool(self._threads)

    def sleep_in_thread(self, seconds: float) -> None:
        """Return when `seconds` of virtual time have passed; for a thread that `thread_begins` has counted."""
        over = threading.Event()

        def wake() -> None:
            self.thread_begins()
            over.set()

        def begin() -> None:
            self.thread_ends()
            self.call_later(max(0.0, seconds), wake)

        self.call_soon_threadsafe(begin)
        over.wait()

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run `func` in a thread, as any loop does; time waits for it."""
        self.thread_begins()
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(lambda _: self.thread_ends())
        return future

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Call in the next turn.

        Another thread may ask while the loop stands still, as when a test sets an event that a handler waits for: it
        is called once the loop is woken. Not at once, because whoever asks is in the middle of something.
        """
        if self.is_running() and threading.get_ident() != self._owner:
            handle = asyncio.Handle(callback, args, self, context)
            self._ready.append(handle)  # type: ignore[attr-defined]
            return handle
        return super().call_soon(callback, *args, context=context)

    def run_forever(self) -> None:
        """Run on the calling thread, which owns the loop from now on."""
        self._owner = threading.get_ident()
        super().run_forever()

    # ---------------------------------------------------------------- timers

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call at a time; what is due at the same time is called in the order in which it was asked for."""
        self._order += 1
        timer = _Timer(when, callback, args, self, context, self._order)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # noqa: SLF001 - as BaseEventLoop.call_at does
        if not self._is_background():
            heapq.heappush(self._foreground, timer)
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call in `delay` seconds of virtual time."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def _is_background(self) -> bool:
        try:
            current = asyncio.current_task(self)
        except RuntimeError:
            return False
        return current is not None and current.get_name() in self.background

    # ---------------------------------------------------------------- when nothing can run

    def idle(self, wait: Callable[[float | None], _Events]) -> _Events:
        """Return what happened on the sockets; nothing, when the clock has jumped instead."""
        if events := wait(0):
            return events
        if self._threads:
            return self._await_threads(wait)
        if self._release_settling():
            return []
        target_s = self._target_s()
        if target_s is None:
            return wait(None)
        if len(self._selecting.get_map()) > self._own_sockets and (events := wait(self.io_patience_s)):
            return events
        self._now_s = max(self._now_s, target_s)
        return []

    def _await_threads(self, wait: Callable[[float | None], _Events]) -> _Events:
        began_s = time.monotonic()
        if events := wait(THREAD_PATIENCE_S):
            return events
        if not self._release_settling() and (target_s := self._target_s()) is not None:
            self._now_s = max(self._now_s, min(target_s, self._now_s + time.monotonic() - began_s))
        return []

    def _release_settling(self) -> bool:
        waiting, self._settling = self._settling, []
        for idle in waiting:
            _set(idle)
        return bool(waiting)

    def _target_s(self) -> float | None:
        """Return the time to jump to; None: nobody waits for time, or nothing comes while they do."""
        if not self._limits:
            return None
        foreground = self._foreground
        while foreground and (foreground[0].cancelled() or not foreground[0].waits):
            heapq.heappop(foreground)
        times = [at_s for wake in self.wakes if (at_s := wake()) is not None]
        if foreground:
            times.append(foreground[0].when())
        next_s = min(times, default=None)
        if self._exact or (next_s is not None and next_s <= self._now_s):
            # A duty in the background has to look: its timer matters now.
            timers = self._scheduled  # type: ignore[attr-defined]
            next_s = min((timer.when() for timer in timers if not timer.cancelled()), default=None)
        return next_s if next_s is not None and next_s <= max(self._limits.values()) else None


class _Timer(asyncio.TimerHandle):
    """A timer that comes after those which were set before it for the same time."""

    __slots__ = ("order",)
    _scheduled: bool

    def __init__(  # noqa: PLR0917 - as TimerHandle's
        self,
        when: float,
        callback: Callable[..., object],
        args: Any,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
        order: int,
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self.order = order

    @property
    def waits(self) -> bool:
        """Whether it has not been called yet."""
        return bool(self._scheduled)

    def __lt__(self, other: Any) -> bool:
        return (self.when(), self.order) < (other.when(), other.order)


class _Selector(selectors.DefaultSelector):
    """Waits as its loop says."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> _Events:
        """Return what happened; a wait without end or with a time is the loop's to shape."""
        if timeout is not None and timeout <= 0:
            return super().select(0)
        return self._loop.idle(super().select)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
