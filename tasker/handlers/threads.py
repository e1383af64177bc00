"""Threads for jobs that may block, or never end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Threads(Generic[T]):
    """Daemon threads that run sync jobs: one more whenever none is idle, so that a stuck one keeps nobody waiting.

    Not `ThreadPoolExecutor`: that one joins its threads when the interpreter ends, and a stuck handler would
    keep the process for ever.
    """

    def __init__(self, run: Callable[[T], None]) -> None:
        self._run = run
        self._jobs: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    def submit(self, job: T) -> None:
        """Run a job in a thread."""
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False):
            self._count += 1
            threading.Thread(target=self._main, name=f"tasker-sync-{self._count}", daemon=True).start()

    def stop(self) -> None:
        """Let each thread end when it is done."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _main(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._run(job)
            del job
            self._idle.release()
