"""The handlers that the conformance suite asks for, for our own worker."""

import asyncio
from typing import Any

from tasker import PermanentError, RetryableError, Template

flow = Template("flow")


@flow.step
async def echo(input: Any) -> Any:
    return input


@flow.step
async def big() -> Any:
    return None


@flow.step
async def gather(big: Any) -> Any:
    return big


@flow.step
async def wait() -> None:
    await asyncio.Event().wait()


@flow.step
async def fail(input: dict[str, Any]) -> None:
    if input["retryable"]:
        raise RetryableError(input["message"], retry_after_s=input.get("retry_after_s"))
    raise PermanentError(input["message"])
