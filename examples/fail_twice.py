"""A step that fails twice and then succeeds: a retry is a new attempt, recorded with the delay that was chosen."""

from tasker import Retry, RetryableError, StepContext, Template

fail_twice = Template("fail_twice")


@fail_twice.step(retry=Retry(max_attempts=5, delay_s=0.05))
async def flaky(ctx: StepContext) -> dict[str, int]:
    if ctx.attempt <= 2:
        raise RetryableError(f"attempt {ctx.attempt} fails")
    return {"attempts": ctx.attempt}


EXPECTED = [(None, {"attempts": 3})]
