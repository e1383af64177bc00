"""Trying again: which errors are worth it, how long to wait, and when to give up.

A command carries a key or a command id, so a repetition is answered with what the first one did.
That makes every lost answer harmless, and is why the client may repeat at all.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from operator import itemgetter
from typing import TypeVar

import msgspec

from tasker.clock import Clock
from tasker.errors import DeadlineExceeded, OutcomeUnknown, TaskerError, is_passing

T = TypeVar("T")

_ATTEMPT_S_MIN = 0.02
"""Less time than this is not worth an attempt: its timeout would hide what the one before said."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How a call is repeated.

    Attributes:
        attempt_s: the longest wait for one answer. A lost one is asked for again after it.
        delay_s_base: the bound of the first wait; it doubles each time.
        delay_s_max: the bound of any wait.
        on_repeat: called with each error that another attempt follows.
        draw: gives the jitter of each wait, in [0, 1).
    """

    attempt_s: float = 10.0
    delay_s_base: float = 0.1
    delay_s_max: float = 3.0
    on_repeat: Callable[[TaskerError], object] | None = None
    draw: Callable[[], float] = random.random


def backoff_s(policy: RetryPolicy, *, attempt: int, jitter: float, retry_after_s: float | None) -> float:
    """Return the wait after failed attempt number `attempt` (from 1); `jitter` is in [0, 1).

    Full jitter, so that many clients do not come back at once; never before the time the service named.
    """
    bound = min(policy.delay_s_max, policy.delay_s_base * 2.0 ** min(attempt - 1, 32))
    return max(retry_after_s or 0.0, 0.0) + jitter * bound


async def attempt_until(
    ask: Callable[[float], Awaitable[T]],
    *,
    deadline_s: float,
    policy: RetryPolicy,
    clock: Clock,
    conclude: Callable[[list[TaskerError]], TaskerError] = itemgetter(-1),
) -> T:
    """Return what `ask(timeout_s)` answers, asking again while errors pass, until `deadline_s` (monotonic).

    Raises:
        TaskerError: the first that does not pass, or at the deadline what `conclude` makes of all of them.
    """
    errors: list[TaskerError] = []
    while True:
        left_s = deadline_s - clock.monotonic_s()
        try:
            return await ask(max(0.001, min(policy.attempt_s, left_s)))
        except TaskerError as error:
            if not is_passing(error):
                raise
            errors.append(error)
            delay_s = backoff_s(policy, attempt=len(errors), jitter=policy.draw(), retry_after_s=error.retry_after_s)
            if clock.monotonic_s() + delay_s + _ATTEMPT_S_MIN >= deadline_s:
                raise conclude(errors) from error
            if policy.on_repeat is not None:
                policy.on_repeat(error)
        await asyncio.sleep(delay_s)


def verdict(errors: list[TaskerError]) -> TaskerError:
    """Return the error that tells the truth of a command's attempts: the last one, unless one left a doubt.

    "Nothing was recorded" of the last attempt says nothing of one whose answer was lost.
    """
    last = errors[-1]
    if len(errors) > 1 and any(map(_leaves_doubt, errors)):
        detail = f"{last.detail} (after {len(errors)} attempts; one of them may have been recorded)"
        return OutcomeUnknown(detail, retry_after_s=last.retry_after_s, **last.context)
    return last


def _leaves_doubt(error: TaskerError) -> bool:
    return isinstance(error, (OutcomeUnknown, DeadlineExceeded))
