"""Errors of the command line: those of its own, and how each is told, with its exit code."""

from __future__ import annotations

from typing import Final

from cyclopts import CycloptsError, UnknownCommandError

from tasker.errors import TaskerError
from tasker.remedies import one_line, tell

USAGE: Final = 2


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
        # The parser's list ends after eight names and looks whole; the help has all of them.
        text = text.partition(" Available commands:")[0].rstrip(".")
    return report(UsageError(text, remedy=f"`{chain} --help` shows the forms"), output)
