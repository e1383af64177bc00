"""A step that never succeeds: after its last attempt the task is blocked, and what depends on it never runs."""

from tasker import Retry, Template

always_fails = Template("always_fails")


@always_fails.step(retry=Retry(max_attempts=3, delay_s=0.05))
async def broken() -> str:
    raise ConnectionError("the target is gone for good")


@always_fails.step
async def downstream(broken: str) -> str:
    return broken


BLOCKS = [(None, "broken", "the target is gone for good", 3)]
