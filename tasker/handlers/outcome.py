"""How an attempt ends badly: what a handler raises, and the `ErrorInfo` that its report carries.

| raised by the handler                         | retryable | `type`                                    |
|-----------------------------------------------|-----------|-------------------------------------------|
| `RetryableError` (and its subclasses)          | yes, after its `retry_after_s` | the class            |
| `PermanentError`                               | no        | the class                                 |
| `EventRefused`: `ctx.emit` of an event that may not be | no | the class, e.g. `EventInvalid`         |
| `UsageRefused`: `ctx.usage`, `ctx.meter` of no exact amount | no | the class, e.g. `UsageInvalid`    |
| any other `Exception`                          | yes       | the class, e.g. `shop.errors.CardDeclined` |
| `sys.exit`, `KeyboardInterrupt`, other `BaseException` | no | the class                                  |
| nothing, but its result has no JSON form       | no        | `result_invalid`                          |
| nothing, but its arguments cannot be decoded   | no        | `input_invalid`                           |

A verdict of `errors_are` (by class, or by HTTP status) comes before the table. Texts are cut to their limits, made
safe and freed of secrets here, so that a strange exception never harms its report. The traceback has the chain of
causes; where it is cut, a line for each cause leads it.
Pure: whoever asks says what time it is.
"""

from __future__ import annotations

import asyncio
import math
import os
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from tasker.errors import EventRefused, TaskerError, UsageRefused
from tasker.events.task_events import ErrorInfo
from tasker.remedies import with_result_remedy
from tasker.scrubbing import masked_error
from tasker.times import to_datetime

MESSAGE_CHARS_MAX: Final = 2_000
STACK_CHARS_MAX: Final = 8_000
TYPE_CHARS_MAX: Final = 200
FRAMES_MAX: Final = 40
RETRY_AFTER_S_MAX: Final = 24 * 3600.0
"""A target that asks for a longer wait is asked again after this one."""

TIMEOUT: Final = "timeout"
WORKER_LOST: Final = "worker_lost"
RESULT_INVALID: Final = "result_invalid"
INPUT_INVALID: Final = "input_invalid"
CANCELLED: Final = "cancelled"

CAUSES_MAX: Final = 10
CAUSE_CHARS_MAX: Final = 300
_LOOKED_AT: Final = 4
"""Secrets are looked for in so many times what is kept: nothing that is kept was cut before."""

_VERDICT: Final = "__tasker_verdict__"
_OWN_FOLDER = f"{Path(__file__).parent}{os.sep}"


class RetryableError(Exception):
    """Raise it when another attempt may help and the target said when.

    Args:
        message: for people.
        retry_after_s: the wait that the target asked for, in seconds.
        retry_after: the same as a `Retry-After` header gives it: seconds, or an HTTP date. One that cannot
            be read is ignored.
    """

    def __init__(
        self, message: str = "", *, retry_after_s: float | None = None, retry_after: str | float | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.retry_after = retry_after


class PermanentError(Exception):
    """Raise it when no further attempt can help: the step fails at once."""


class Told(Exception):
    """Another process ran the handler and says how it failed.

    Attributes:
        info: what the report says.
    """

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


class Killed(asyncio.CancelledError):
    """An attempt was stopped by the end of the process that ran it.

    Attributes:
        stack: where the handler stood.
    """

    def __init__(self, stack: str | None) -> None:
        super().__init__("its process was killed")
        self.stack = stack


class AttemptCancelled(Exception):
    """The owner stopped the attempt; raised in sync handlers by `StepContext.raise_if_cancelled`."""


def error_info(error: BaseException, *, now_us: int) -> ErrorInfo:
    """Return what a report says of the exception that a handler raised.

    A group that holds a single exception is told as that exception; a permanent error anywhere in a group
    makes the whole of it permanent.

    Args:
        error: whatever it was.
        now_us: the time from which a `Retry-After` date is counted.
    """
    if isinstance(error, Told):
        return error.info
    leaves = list(_leaves(error))
    told = leaves[0] if len(leaves) == 1 else error
    retry_after_s = None
    if isinstance(told, RetryableError):
        retry_after_s = retry_delay_s(told, now_us=now_us)
    elif (verdict := _verdict_of(told)) is not None and verdict.retry_after is not None:
        asked = RetryableError(retry_after=verdict.retry_after)
        retry_after_s = retry_delay_s(asked, now_us=now_us)
    return ErrorInfo(
        type=_type_name(type(told)),
        message=_message(told),
        retryable=all(_is_retryable(leaf) for leaf in leaves),
        retry_after_s=retry_after_s,
        stack=stack_of(error),
    )


def timeout_info(limit_s: float, *, stack: str | None, blocked: str | None = None) -> ErrorInfo:
    """Return what a report says of an attempt past its `start_to_close`.

    Args:
        limit_s: its `start_to_close`.
        stack: where it was at that time.
        blocked: who held the handlers' loop, when somebody did.
    """
    message = f"the handler ran longer than its start_to_close of {limit_s:g} s"
    if blocked is not None:
        message = f"{message}: {blocked}"
    return ErrorInfo(type=TIMEOUT, message=cut_message(message), stack=cut_stack(stack))


def worker_lost_info(why: str) -> ErrorInfo:
    """Return what a report says of an attempt that its worker could not finish."""
    return ErrorInfo(type=WORKER_LOST, message=cut_message(why))


def cancelled_info(stack: str | None = None) -> ErrorInfo:
    """Return what a report says of an attempt that ended because it was cancelled."""
    return ErrorInfo(type=CANCELLED, message="the attempt was cancelled", retryable=False, stack=cut_stack(stack))


def result_invalid_info(error: Exception) -> ErrorInfo:
    """Return what a report says of a result that has no JSON form, naming the place in it, and what to do next."""
    why = with_result_remedy(cut_message(f"the handler's result: {_detail(error)}"), error)
    return ErrorInfo(type=RESULT_INVALID, message=cut_message(why), retryable=False)


def input_invalid_info(error: Exception) -> ErrorInfo:
    """Return what a report says of arguments that do not fit the handler's annotations."""
    return ErrorInfo(type=INPUT_INVALID, message=cut_message(_detail(error)), retryable=False)


def retry_delay_s(error: RetryableError, *, now_us: int) -> float | None:
    """Return the wait that `error` asks for: at least 0, at most `RETRY_AFTER_S_MAX`; None: it names none."""
    wait_s: float | None
    if error.retry_after_s is not None:
        wait_s = _seconds(error.retry_after_s)
    elif error.retry_after is not None:
        wait_s = _seconds(error.retry_after)
        if wait_s is None:
            wait_s = _until(str(error.retry_after), to_datetime(now_us))
    else:
        return None
    return None if wait_s is None else min(max(wait_s, 0.0), RETRY_AFTER_S_MAX)


def stack_of(error: BaseException) -> str | None:
    """Return the end of the traceback of `error` and its causes, without the SDK's own frames on top."""
    try:
        lines = traceback.format_exception(type(error), error, _user_part(error.__traceback__), limit=-FRAMES_MAX)
        return cut_stack("".join(lines), head=_causes_told(error))
    except Exception as broken:  # noqa: BLE001 - a user's __str__ or __repr__ may raise anything
        return f"(the traceback cannot be written: {type(broken).__name__})"


def cut_message(text: str) -> str:
    """Return `text` safe for JSON and without secrets, at most `MESSAGE_CHARS_MAX` characters: its beginning."""
    text = masked_error(safe_text(text[: MESSAGE_CHARS_MAX * _LOOKED_AT]))
    return text if len(text) <= MESSAGE_CHARS_MAX else text[: MESSAGE_CHARS_MAX - 1] + "…"


def cut_stack(text: str | None, *, head: str = "") -> str | None:
    """Return `text` safe for JSON and without secrets, at most `STACK_CHARS_MAX` characters: its end, behind `head`."""
    if text is None:
        return None
    kept = masked_error(safe_text(text[-STACK_CHARS_MAX * _LOOKED_AT :]))
    if len(kept) <= STACK_CHARS_MAX and len(text) <= STACK_CHARS_MAX * _LOOKED_AT:
        return kept
    head = masked_error(safe_text(head))[:STACK_CHARS_MAX]
    return head + kept[len(head) - STACK_CHARS_MAX :] if len(head) < STACK_CHARS_MAX else head


def _causes_told(error: BaseException) -> str:
    """Return a line for each cause of `error`, so that the chain is told where its traceback is cut."""
    told: list[str] = []
    cause = cause_of(error)
    while cause is not None and len(told) < CAUSES_MAX:
        told.append(f"caused by {_type_name(type(cause))}: {_message(cause)[:CAUSE_CHARS_MAX]}\n")
        cause = cause_of(cause)
    return "".join(told)


def cause_of(error: BaseException) -> BaseException | None:
    """Return what `error` was raised from, or while handling what."""
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


class Verdict(NamedTuple):
    """What was decided of an exception beside its class: whether another attempt may help, and after which wait."""

    retryable: bool
    retry_after: str | None = None


def give_verdict(error: BaseException, verdict: Verdict) -> None:
    """Have `error` count as `verdict` says, whatever its class; `errors_are` does."""
    setattr(error, _VERDICT, verdict)


def _verdict_of(error: BaseException) -> Verdict | None:
    verdict = getattr(error, _VERDICT, None)
    return verdict if isinstance(verdict, Verdict) else None


def _is_retryable(error: BaseException) -> bool:
    if (verdict := _verdict_of(error)) is not None:
        return verdict.retryable
    if isinstance(error, asyncio.CancelledError):
        return True  # something in the handler was cancelled, not the attempt
    return isinstance(error, Exception) and not isinstance(error, (PermanentError, EventRefused, UsageRefused))


def _type_name(kind: type[BaseException]) -> str:
    """Return `ValueError`, `RetryableError`, `shop.errors.CardDeclined`: what a template's list can name."""
    name = kind.__qualname__.rpartition("<locals>.")[2]
    module = kind.__module__
    if module not in ("builtins", "__main__", "asyncio.exceptions") and not module.startswith("tasker."):
        name = f"{module}.{name}"
    return safe_text(name)[:TYPE_CHARS_MAX]


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        text = f"the handler called sys.exit({error.code!r:.100}): a step ends by returning or raising an Exception"
    elif isinstance(error, asyncio.CancelledError):
        text = "something that the handler awaited was cancelled, by the handler's own code"
    else:
        try:
            text = str(error)
        except Exception as broken:  # noqa: BLE001 - a user's __str__ may raise anything
            text = f"(its text cannot be written: {type(broken).__name__})"
        if not isinstance(error, Exception) and not isinstance(error, BaseExceptionGroup):
            text = f"the handler raised {type(error).__name__}, which is no Exception" + (f": {text}" if text else "")
    return cut_message(text)


def _detail(error: Exception) -> str:
    if isinstance(error, TaskerError):
        return error.detail
    return f"{type(error).__name__}: {_message(error)}"


def _user_part(top: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame that is not the SDK's."""
    part = top
    while part is not None and part.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        part = part.tb_next
    return part or top


def safe_text(text: str) -> str:
    """Return `text` without U+0000 and lone surrogates, which cannot be stored; they stand as escapes."""
    if "\0" in text:
        text = text.replace("\0", "\\x00")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _seconds(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _until(text: str, now: datetime) -> float | None:
    """Return the seconds from `now` to the HTTP date `text` (RFC 9110, section 5.6.7)."""
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return (at - now).total_seconds()
