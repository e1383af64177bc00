"""Where running code stands, seen from another thread."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Iterator
from types import FrameType

from tasker.handlers.outcome import FRAMES_MAX


def thread_stack(thread_id: int | None) -> str | None:
    """Return where a thread stands now; None: there is none."""
    frame = sys._current_frames().get(thread_id or 0)  # noqa: SLF001 - the documented way to see another thread
    return None if frame is None else "".join(traceback.format_stack(frame)[-FRAMES_MAX:])


def await_stack(one: asyncio.Task[None]) -> str:
    """Return where a suspended asyncio task waits, down through the coroutines that it awaits."""
    frames = ((frame, frame.f_lineno) for frame in _await_frames(one.get_coro()))
    return "".join(traceback.StackSummary.extract(frames).format()[-FRAMES_MAX:])


def _await_frames(awaited: object) -> Iterator[FrameType]:
    while awaited is not None:
        frame = None
        inner = None
        for prefix, link in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame = frame or getattr(awaited, f"{prefix}_frame", None)
            inner = inner or getattr(awaited, link, None)
        if frame is None:
            return
        yield frame
        awaited = inner
