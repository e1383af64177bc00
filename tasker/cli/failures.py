"""Errors as a person reads them: one line, the faults one by one, and what to do next. And their exit codes."""

from __future__ import annotations

import sys
from typing import Final

import msgspec
from cyclopts import CycloptsError, UnknownCommandError

from tasker.errors import TaskerError

USAGE: Final = 2

_NEXT: Final = {
    "task_unknown": "`tasker task list` shows the tasks",
    "dead_letter_unknown": "`tasker dlq list` shows the dead letters",
    "step_unknown": "`tasker step list TASK` shows the steps",
    "template_unknown": "`tasker template list` shows what is registered; a worker registers its own at its start",
    "template_conflict": "give it another version, or none: then its content hash is the version",
    "schedule_conflict": "`tasker schedule update` changes it; `tasker schedule show NAME` says what it is",
    "schedule_unknown": "`tasker schedule list` names them; `tasker schedule create --help` makes one",
    "schedule_invalid": "mend what is named; `tasker schedule next` shows when a schedule would fire",
    "schedule_forbids": "`tasker schedule show NAME` says what state it is in",
    "key_conflict": "to get the first task again, send the same input and version; another request needs another key",
    "task_ended": "create a new task: an ended one does not change",
    "state_forbids": "`tasker task show TASK` says what state it is in",
    "unavailable": "`tasker doctor` says what is wrong; `tasker up` starts a service on this machine",
    "outcome_unknown": "run it again with the same --key: it is done once",
    "deadline_exceeded": "the work goes on; `tasker task wait TASK` waits again",
    "behind": "ask again in a moment",
    "busy": "ask again in a moment",
    "body_invalid": "give JSON; on the command line in single quotes, as `@input.json`, or as `-` for stdin",
    "position_invalid": "a position is what an earlier command printed, such as 3:812, or `start`",
    "schema_mismatch": "run `tasker migrate`",
}


def next_step(code: str) -> str | None:
    """Return what a person does next about an error of `code`, where that is always the same."""
    return _NEXT.get(code)


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
    if output == "table":
        _write(f"error: {_one_line(error.detail)} ({error.code})")
        only = error.errors[0] if len(error.errors) == 1 else None
        for fault in error.errors if only is None or only.detail not in error.detail else ():
            _write(f"  {fault.pointer or '/'}: {_one_line(fault.detail)}")
        remedy = error.context.get("remedy") or next_step(error.code)
        if remedy:
            _write(f"next: {remedy}")
    else:
        _write(msgspec.json.encode(error.problem()).decode())
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
    text = _one_line(str(error)).rstrip(".")
    if isinstance(error, UnknownCommandError):
        # The parser's list ends after eight names and looks whole; the help has all of them.
        text = text.partition(" Available commands:")[0].rstrip(".")
    return report(UsageError(text, remedy=f"`{chain} --help` shows the forms"), output)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _write(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 errors are for stderr
