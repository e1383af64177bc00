"""Handlers that cause what metrics tell: quick ones, slow ones, and one that fails once."""

import asyncio

from tasker import StepContext, Template
from tasker.handlers import Retry

quick = Template("quick")


@quick.step
async def nothing(ctx: StepContext) -> None:
    """Return at once."""


slow = Template("slow")


@slow.step
async def wait(ctx: StepContext, input: float) -> None:
    """Take as long as the input says."""
    await asyncio.sleep(input)


flaky = Template("flaky")


@flaky.step(retry=Retry(max_attempts=3, delay_s=0.05))
async def second_time(ctx: StepContext) -> None:
    """Succeed at the second attempt; both cost something."""
    ctx.usage(model="m", tokens_in=10, tokens_out=2, cost="0.01")
    if ctx.attempt == 1:
        raise RuntimeError("not yet")


doomed = Template("doomed")


@doomed.step(retry=Retry(max_attempts=1))
async def never(ctx: StepContext) -> None:
    """Fail for good, so that a person has to decide."""
    raise RuntimeError("never")
