"""`bulk.create`, checked at the door and turned into the creation of a task of `tasker/bulk`.

Everything that can be wrong with an order is told here, so that its task has only refusals of single targets to tell.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from tasker.errors import BodyInvalid, CommandRejected
from tasker.events.bulk import BulkOrder, is_of_letters
from tasker.events.codec import canonical, decode_command
from tasker.events.messages import (
    COMMANDS,
    BulkCreate,
    BulkDeadLetters,
    BulkTasks,
    DeadLetterResolve,
    DeadLetterRetry,
    TaskCreate,
    TaskOperatorCommand,
    TaskRestart,
)
from tasker.events.reads import DEAD_LETTER_REASONS, INVESTIGATION_STATUSES, TASK_STATUSES
from tasker.ids import RESERVED_NAMESPACE, check_name
from tasker.service.actors.entrances.dead_letter_entrance import investigation_of, retry_of
from tasker.service.actors.entrances.requests import check_tags, time_us_of
from tasker.service.actors.restarts import check_restart
from tasker.service.actors.task_commands import decided_of
from tasker.templates.built_in import BULK

RATE_PER_S_MAX: Final = 1_000.0
TEXT_CHARS_MAX: Final = 200
_SOME_TASK: Final = "00000000-0000-8000-8000-000000000000"
_NOT_ARGUMENTS: Final = frozenset(
    {"task_id", "step", "attempt", "command_id", "dry_run", "requested_by", "reason", "correlation_id"}
)
"""What the bulk says itself, of each target."""


def bulk_task_of(command: BulkCreate) -> TaskCreate:
    """Return the creation of the task that does what `command` asks for.

    Raises:
        CommandRejected: one of its fields may not be used; it names the one.
    """
    if not command.requested_by:
        raise BodyInvalid.at("/requested_by", "say who asks: it is kept with each effect")
    if not command.reason:
        raise BodyInvalid.at("/reason", "say why: it is kept with each effect")
    if not (math.isfinite(command.rate_per_s) and 1 <= command.rate_per_s <= RATE_PER_S_MAX):
        raise BodyInvalid.at("/rate_per_s", f"a rate is from 1 to {RATE_PER_S_MAX:.0f} commands a second")
    _check_filter(command)
    _check_arguments(command)
    order = BulkOrder(
        verb=command.verb,
        requested_by=command.requested_by,
        reason=command.reason,
        arguments=command.arguments,
        tasks=command.tasks,
        dead_letters=command.dead_letters,
        rate_per_s=command.rate_per_s,
    )
    return TaskCreate(
        template=BULK,
        namespace=RESERVED_NAMESPACE,
        input=msgspec.Raw(canonical(msgspec.to_builtins(order))),
        idempotency_key=command.command_id,
        requested_by=command.requested_by,
        reason=command.reason,
        correlation_id=command.correlation_id,
    )


def _check_filter(command: BulkCreate) -> None:
    of_letters = is_of_letters(command.verb)
    name = "dead_letters" if of_letters else "tasks"
    if (command.tasks if of_letters else command.dead_letters) is not None:
        raise BodyInvalid.at(f"/{'tasks' if of_letters else 'dead_letters'}", f"{command.verb} is for {name}")
    wanted: BulkTasks | BulkDeadLetters | None = command.dead_letters if of_letters else command.tasks
    says_something = wanted is not None and wanted != type(wanted)()
    if says_something == command.everything:
        detail = "say which, or `everything: true`" if not says_something else "do not say `everything` with a filter"
        raise BodyInvalid.at(f"/{name}", detail)
    if wanted is None:
        return
    for field in ("namespace", "template", "step"):
        if (value := getattr(wanted, field, None)) is not None:
            check_name(value, field)
    check_tags(wanted.tags)
    if isinstance(wanted, BulkTasks):
        if wanted.namespace == RESERVED_NAMESPACE:
            raise BodyInvalid.at("/tasks/namespace", "the service's own tasks are told one by one")
        _check_choices("/tasks/states", wanted.states, TASK_STATUSES)
        time_us_of(wanted.created_after, "/tasks/created_after")
        time_us_of(wanted.created_before, "/tasks/created_before")
        return
    _check_choices("/dead_letters/statuses", wanted.statuses, INVESTIGATION_STATUSES)
    _check_choices("/dead_letters/reasons", wanted.reasons, DEAD_LETTER_REASONS)
    for field in ("fingerprint", "owner"):
        if len(getattr(wanted, field) or "") > TEXT_CHARS_MAX:
            raise BodyInvalid.at(f"/dead_letters/{field}", f"has at most {TEXT_CHARS_MAX} characters")
    time_us_of(wanted.seen_after, "/dead_letters/seen_after")
    time_us_of(wanted.seen_before, "/dead_letters/seen_before")


def _check_choices(pointer: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for value in given:
        if value not in known:
            raise BodyInvalid.at(pointer, f"{value[:80]!r} is none; there are {', '.join(known)}")


def _check_arguments(command: BulkCreate) -> None:
    """Try the command on a task, as every target of the bulk will have it."""
    own = _NOT_ARGUMENTS.intersection(command.arguments)
    if own:
        raise BodyInvalid.at(f"/arguments/{min(own)}", "the bulk says that itself, of each target")
    told: dict[str, Any] = {
        **command.arguments,
        "task_id": _SOME_TASK,
        "requested_by": command.requested_by,
        "reason": command.reason,
    }
    try:
        one = decode_command(canonical(told), COMMANDS[command.verb])
        if isinstance(one, TaskRestart):
            check_restart(one)
        elif isinstance(one, TaskOperatorCommand):
            decided_of(one)
        elif isinstance(one, DeadLetterRetry):
            retry_of(one)
        elif isinstance(one, DeadLetterResolve):
            investigation_of(one)
    except CommandRejected as error:
        pointer, detail = (error.errors[0].pointer, error.errors[0].detail) if error.errors else ("", error.detail)
        raise BodyInvalid.at(f"/arguments{pointer}", f"{command.verb}: {detail}") from error
