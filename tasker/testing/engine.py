"""A thread that runs a world on its own loop, and how other threads have something done there.

The world is quiet between two calls: it runs until nothing can happen any more without time, and stops. So what a
test reads in between stands still, in whatever loop or thread the test itself runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, Protocol, TypeVar


class Place(Protocol):
    """What a thread runs: something that is opened, asked and closed on one loop."""

    async def open(self) -> None:
        """Start."""
        ...

    async def close(self) -> None:
        """End."""
        ...


T = TypeVar("T")
P = TypeVar("P", bound=Place)

REAL_S_MAX: Final = 60.0
JOIN_S: Final = 5.0


class Stuck(AssertionError):
    """A call did not end within its real time: a handler blocks, or waits for something outside."""


class Engine(Generic[P]):
    """One world in one thread.

    Args:
        make: makes the world, on its loop.
        new_loop: makes the loop.
        real_s_max: how long, in real time, one call may take.
    """

    def __init__(
        self,
        make: Callable[[], P],
        new_loop: Callable[[], asyncio.AbstractEventLoop],
        *,
        real_s_max: float = REAL_S_MAX,
    ) -> None:
        self._make = make
        self._new_loop = new_loop
        self._real_s_max = real_s_max
        self._opened: concurrent.futures.Future[P] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._main, name="tasker-test", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.world: P

    def start(self) -> None:
        """Open the world. Raises what its opening raises."""
        self._thread.start()
        self.world = self._opened.result(self._real_s_max)

    def stop(self) -> None:
        """Close the world. Twice is fine."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(JOIN_S)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns on the world's loop; blocks the caller.

        Raises:
            Stuck: not within the real time.
        """
        doing = self._submit(work)
        try:
            return doing.result(self._real_s_max)
        except concurrent.futures.TimeoutError:
            if doing.done():
                raise
            doing.cancel()
            raise self._stuck() from None

    async def reach(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns on the world's loop; for a caller on another loop.

        Raises:
            Stuck: not within the real time.
        """
        doing: Awaitable[T] = asyncio.wrap_future(self._submit(work))
        limit = asyncio.timeout(self._real_s_max)
        try:
            async with limit:
                return await doing
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._stuck() from None

    def _submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        if self._loop is None or not self._thread.is_alive():
            work.close()
            raise RuntimeError("the test kit is not open: use it with `async with` (or `with`)")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._new_loop) as runner:
                runner.run(self._live())
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)

    async def _live(self) -> None:
        world = self._make()
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            await world.open()
            self._opened.set_result(world)
            await self._stop.wait()
        finally:
            await world.close()

    def _stuck(self) -> Stuck:
        frames = sys._current_frames()  # noqa: SLF001 - the documented way to see another thread
        busy = [
            f"{thread.name}:\n{''.join(traceback.format_stack(frames[thread.ident])[-4:])}"
            for thread in threading.enumerate()
            if thread.name.startswith("tasker-") and thread.ident in frames
        ]
        return Stuck(
            f"no end after {self._real_s_max:g} s of real time. A handler blocks or computes, or waits for something "
            "that no timer brings. The threads stand here:\n" + "\n".join(busy)
        )
