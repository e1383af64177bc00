"""The app that worker processes of the tests run. Handlers tell by files what they do."""

import asyncio
import ctypes
import gc
import os
import sys
import time
from pathlib import Path

from tasker import StepContext, Template

flow = Template("flow")
FOLDER = Path(os.environ.get("WORKER_APP_FOLDER", "."))
LEAKED: list[bytes] = []


@flow.step
async def quick(input: int) -> int:
    return input + 1


@flow.step
def pid() -> int:
    return os.getpid()


@flow.step
def young_objects() -> int:
    return gc.get_threshold()[0]


@flow.step
def leaks(ctx: StepContext, input: int) -> None:
    """Hold on to `input` MiB for ever, and note the run."""
    LEAKED.append(b"x" * (input * 1024 * 1024))
    with (FOLDER / "runs").open("a") as runs:
        runs.write(f"{ctx.task_id}\n")


@flow.step
def waits_for_file(input: str) -> str:
    while not (FOLDER / input).exists():
        time.sleep(0.01)
    return input


@flow.step
async def sleeps() -> None:
    await asyncio.sleep(60)


@flow.step
async def blocks() -> None:
    time.sleep(60)  # noqa: ASYNC251 - the blocking line


@flow.step
async def exits() -> None:
    sys.exit(3)


@flow.step
def dies() -> None:
    os._exit(0)


@flow.step
def holds_the_lock() -> None:
    ctypes.PyDLL(None).sleep(60)


@flow.step
async def leaves_a_bomb(ctx: StepContext) -> int:
    async def bomb() -> None:
        raise SystemExit(4)

    ctx_task = asyncio.get_running_loop().create_task(bomb())
    ctx_task.add_done_callback(lambda done: done.exception())
    return 1
