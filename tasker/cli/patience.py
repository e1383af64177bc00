"""What a task waits for, told to a person who waits for it: nobody sits before a silent command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from tasker.cli.options import Format
from tasker.cli.output import note
from tasker.client import TaskerClient
from tasker.client.requests import TaskRef, task_id_of
from tasker.errors import TaskerError
from tasker.events.reads import TaskView

FIRST_S: Final = 4.0
"""How long a task may take before anything is said; a worker that is there begins far sooner."""

AGAIN_S: Final = 15.0
"""How often is looked whether it waits for something else."""


@asynccontextmanager
async def telling(service: TaskerClient, task: TaskRef, output: Format) -> AsyncIterator[None]:
    """Say on stderr, while the body waits for `task`, what the task itself waits for; to programs nothing is said."""
    if output != "table":
        yield
        return
    teller = asyncio.create_task(_tell(service, task_id_of(task)), name="tell what it waits for")
    try:
        yield
    finally:
        teller.cancel()
        with suppress(asyncio.CancelledError):
            await teller


async def _tell(service: TaskerClient, task_id: str) -> None:
    told = ""
    await asyncio.sleep(FIRST_S)
    while True:
        words = ""
        # What keeps us from asking is told by the wait itself.
        with suppress(TaskerError):
            words = _words(await service.get(task_id))
        if words and words != told:
            note(words)
            told = words
        await asyncio.sleep(AGAIN_S)


def _words(view: TaskView) -> str:
    """Return what `view` waits for, and what to do about it."""
    if not view.waiting_on:
        return ""
    if not any(wait.kind == "worker" for wait in view.waiting_facts):
        return f"waiting on {view.waiting_on}"
    return f"waiting on {view.waiting_on}; nobody has begun it yet: `tasker worker APP.py` runs the handlers of an app"
