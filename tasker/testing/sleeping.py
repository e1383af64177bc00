"""`time.sleep` in the threads of sync handlers: it takes virtual time, and no other thread notices.

Installed while a sync handler runs anywhere, and only looked at by threads that are inside `sleeping_threads`. A
handler that has bound the function under another name (`from time import sleep`) before sleeps in real time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_here = threading.local()
_lock = threading.Lock()
_inside = 0
_real = time.sleep


def _sleep(seconds: float, /) -> None:
    virtual: Callable[[float], None] | None = getattr(_here, "sleep", None)
    if virtual is None:
        _real(seconds)
    else:
        virtual(seconds)


@contextmanager
def sleeping_threads(sleep: Callable[[float], None]) -> Iterator[None]:
    """Have `time.sleep` call `sleep`, on this thread, while this is open."""
    global _inside, _real  # noqa: PLW0603 - one function of the process is replaced, whoever asks for it
    with _lock:
        if not _inside:
            _real = time.sleep
            time.sleep = _sleep  # type: ignore[assignment]
        _inside += 1
    _here.sleep = sleep
    try:
        yield
    finally:
        _here.sleep = None
        with _lock:
            _inside -= 1
            if not _inside:
                time.sleep = _real
