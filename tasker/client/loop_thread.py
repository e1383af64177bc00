"""An event loop in a thread of its own, for programs without one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from tasker.errors import ConfigurationError

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread; others hand it work and wait."""

    def __init__(self) -> None:
        self.stopped = False
        self._handing = threading.Lock()
        """Under it calls are handed over, so that none comes behind `stop`, which would leave it waiting for ever."""

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="tasker-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` does on the loop. Who is interrupted (Ctrl-C) cancels it."""
        try:
            with self._handing:
                self._check()
                doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        except ConfigurationError:
            work.close()
            raise
        try:
            return doing.result()
        except BaseException:
            doing.cancel()
            raise

    def iterate(self, begin: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        """Yield what an async iterator does."""
        items = begin()
        while True:
            try:
                item = self.run(next_of(items))
            except StopAsyncIteration:
                return
            yield item

    def stop(self) -> None:
        """End the loop and its thread."""
        with self._handing:
            if self.stopped:
                return
            self.stopped = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _check(self) -> None:
        if self.stopped:
            raise ConfigurationError("the client is closed; make another")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise ConfigurationError("this thread runs an event loop, which the call would block: use TaskerClient")

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for one in left:
                one.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()


async def next_of(items: AsyncIterator[T]) -> T:
    """Return the next item, as a coroutine."""
    return await anext(items)
