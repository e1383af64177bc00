"""A step that tells its progress from a process of its own, until a file says that it may end."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from tasker import StepContext, Template, resource

digging = Template("digging")


@resource
def folder() -> Iterator[Path]:
    yield Path(os.environ["SDK_APP_FOLDER"])


@digging.step(process=True, concurrency=1)
def digs(ctx: StepContext, folder: Path) -> str:
    done = 0
    while not (folder / "enough").exists():
        done += 1
        ctx.progress(done, 100, "digging")
        time.sleep(0.05)
    return f"{done > 0} {ctx.random.randint(1, 10**9)}"


@digging.step
def checks(ctx: StepContext, digs: str) -> bool:
    return abs(ctx.now.timestamp() - time.time()) < 60
