"""Commands about dead letters, checked at the door and turned into what the core takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, assert_never

from tasker.errors import BodyInvalid
from tasker.events.messages import (
    DeadLetterAdd,
    DeadLetterCommand,
    DeadLetterInvestigate,
    DeadLetterReopen,
    DeadLetterResolve,
    DeadLetterRetry,
)
from tasker.service.domain.commands import AnyTaskCommand, RetryStep, RetryTask
from tasker.service.domain.dead_letters.investigation import Add, Investigate, InvestigationCommand, Reopen, Resolve
from tasker.templates.instances import parse_instance

NOTE_CHARS_MAX: Final = 4_000
OWNER_CHARS_MAX: Final = 200


def check_who(command: DeadLetterCommand) -> None:
    """Return when `command` says who asks, why, and of which step.

    Raises:
        BodyInvalid: it does not say who or why. NameInvalid: its step is no name.
    """
    if command.step is not None:
        parse_instance(command.step)
    if not command.requested_by:
        raise BodyInvalid.at("/requested_by", "say who asks: it is kept with what is done about a dead letter")
    note = command.note if isinstance(command, DeadLetterInvestigate) else None
    if not command.reason and not note:
        raise BodyInvalid.at("/reason", "say why: it is kept with what is done about a dead letter")


def investigation_of(
    command: DeadLetterAdd | DeadLetterInvestigate | DeadLetterResolve | DeadLetterReopen,
) -> InvestigationCommand:
    """Return what is to be done about a dead letter.

    Raises:
        BodyInvalid, NameInvalid: the command's fields may not be used.
    """
    check_who(command)
    match command:
        case DeadLetterAdd():
            return Add()
        case DeadLetterInvestigate(owner=owner, note=note):
            if owner is not None and len(owner) > OWNER_CHARS_MAX:
                raise BodyInvalid.at("/owner", f"an owner has at most {OWNER_CHARS_MAX} characters")
            if note is not None and not 1 <= len(note) <= NOTE_CHARS_MAX:
                raise BodyInvalid.at("/note", f"a note has 1 to {NOTE_CHARS_MAX} characters")
            return Investigate(owner=owner, note=note)
        case DeadLetterResolve(attempt=attempt, ignore=ignore):
            return Resolve(attempt=attempt, ignore=ignore)
        case DeadLetterReopen():
            return Reopen()
        case _:
            assert_never(command)


def retry_of(command: DeadLetterRetry) -> Callable[[int], AnyTaskCommand]:
    """Return what gives the step, or every failed step of the task, a fresh set of attempts."""
    step, attempt = command.step, command.attempt
    if step is None:
        if attempt is not None:
            raise BodyInvalid.at("/attempt", "an attempt is one of a step; name the step")
        return lambda at_us: RetryTask(at_us=at_us)
    return lambda at_us: RetryStep(at_us=at_us, step=step, attempt=attempt)
