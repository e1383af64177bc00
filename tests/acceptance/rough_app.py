"""Handlers that do what a handler should not do, one a template; `fine` does nothing wrong."""

import datetime as dt
import logging
import os
import sys
import time

import structlog

from tasker import Template
from tasker.handlers import Retry

ONCE = Retry(max_attempts=1)

set_result = Template("set-result")
nan_result = Template("nan-result")
big_result = Template("big-result")
object_result = Template("object-result")
base_exception = Template("base-exception")
sync_exit = Template("sync-exit")
async_exit = Template("async-exit")
interrupt = Template("interrupt")
blocking = Template("blocking")
sync_blocking = Template("sync-blocking")
fine = Template("fine")
logging_process = Template("logging-process")


@set_result.step(retry=ONCE)
async def returns_a_set() -> object:
    return {dt.date, "a"}


@nan_result.step(retry=ONCE)
async def returns_nan() -> float:
    return float("nan")


@big_result.step(retry=ONCE)
async def returns_too_much() -> str:
    return "x" * 70_000


@object_result.step(retry=ONCE)
def returns_an_object() -> object:
    return object()


class Odd(BaseException):
    """No Exception, so that `except Exception` does not see it."""


@base_exception.step(retry=ONCE)
async def raises_a_base_exception() -> None:
    raise Odd("out of the ordinary")


@sync_exit.step(retry=ONCE)
def exits() -> None:
    sys.exit(3)


@async_exit.step(retry=ONCE)
async def exits_its_loop() -> None:
    sys.exit(3)


@interrupt.step(retry=ONCE)
async def interrupts() -> None:
    raise KeyboardInterrupt


@blocking.step(retry=ONCE, start_to_close_s=1.0)
async def blocks_the_loop() -> None:
    time.sleep(4)  # noqa: ASYNC251 - the blocking line


@sync_blocking.step(retry=ONCE, start_to_close_s=1.0)
def blocks_its_thread() -> None:
    time.sleep(4)  # the blocking line of the thread


@fine.step
async def works() -> str:
    return "fine"


@logging_process.step(process=True)
def says_in_a_process(input: str) -> int:
    structlog.contextvars.bind_contextvars(**{f"bound_{input}": True})
    logging.getLogger("mine").info("said %s", input)
    return os.getpid()


dying = Template("dying")


@dying.step(retry=ONCE)
def dies() -> None:
    os._exit(7)


forking = Template("forking")


@forking.step(retry=ONCE, start_to_close_s=10)
def forks(input: str) -> int:
    child = os.fork()
    if child == 0:
        if input == "raise":
            raise SystemExit(3)
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
