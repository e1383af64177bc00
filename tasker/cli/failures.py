"""Errors of the command line: those of its own, and how each is told, with its exit code."""

from __future__ import annotations

from typing import Final

from cyclopts import CycloptsError, UnknownCommandError, UnknownOptionError, UnusedCliTokensError

from tasker.errors import TaskerError
from tasker.remedies import one_line, tell

USAGE: Final = 2

_OTHER_OPTIONS: Final = {
    "--all": "--everything",
    "--at": "--deadline",
    "--for": "--open-s",
    "--max-tasks": "--steps-max",
    "--template-version": "--version",
    "--why": "--of-reason",
}
"""What people call options that are spelled too differently to be found by that."""


class TaskNotCompleted(TaskerError):
    """The task that was waited for did not complete."""

    code = "task_not_completed"
    status = 409
    exit_code = 8
    title = "The task did not complete"


class TaskFailed(TaskNotCompleted):
    """It ended without a result."""

    code = "task_failed"
    title = "The task has failed"


class TaskCancelled(TaskNotCompleted):
    """Somebody ended it."""

    code = "task_cancelled"
    title = "The task was cancelled"


class TaskBlocked(TaskNotCompleted):
    """Nothing moves until a person helps."""

    code = "task_blocked"
    title = "The task is blocked until a person helps"


class CheckFailed(TaskerError):
    """A check found problems; they were printed."""

    code = "check_failed"
    exit_code = 9
    title = "The check found problems"


class NotReady(TaskerError):
    """The service answers, and says that it is not ready."""

    code = "not_ready"
    status = 503
    exit_code = 7
    title = "The service is not ready"


def report(error: TaskerError, output: str) -> int:
    """Write `error` to stderr; returns its exit code."""
    tell(error, output)
    return error.exit_code


class UsageError(TaskerError):
    """The command line cannot be understood."""

    code = "usage"
    status = 400
    exit_code = USAGE
    title = "The command line cannot be understood"


def report_usage(error: CycloptsError, output: str) -> int:
    """Write what the parser did not understand, and which help explains it."""
    chain = " ".join(["tasker", *(error.command_chain or ())])
    text = one_line(str(error)).rstrip(".")
    if isinstance(error, UnknownCommandError):
        # The parser's list ends after eight names and looks whole.
        there = [name for name in error.app or () if not name.startswith("-")]
        text = text.partition(" Available commands:")[0].rstrip(".")
        text += f"{' There' if text.endswith('?') else '; there'} are {', '.join(there)}"
    if isinstance(error, UnusedCliTokensError):
        text = f"it takes no more arguments: {' '.join(map(repr, error.unused_tokens or ()))}"
    if isinstance(error, UnknownOptionError) and (meant := _meant(error)) is not None:
        text = f"{text.partition(' Did you mean')[0].rstrip('.')}. Did you mean {meant}?"
    return report(UsageError(text, remedy=f"`{chain} --help` shows the forms"), output)


def _meant(error: UnknownOptionError) -> str | None:
    """Return the command's option that goes by the other name, or the only one that ends with it (`--key`)."""
    written = (error.token.keyword or error.token.value).partition("=")[0]
    names = [name for argument in error.argument_collection if argument.parse for name in argument.names]
    other = _OTHER_OPTIONS.get(written)
    if other in names:
        return other
    longer = [name for name in names if written.startswith("--") and name.endswith(written.removeprefix("-"))]
    return longer[0] if len(longer) == 1 else None
