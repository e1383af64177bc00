"""What commands have in common."""

from __future__ import annotations

import msgspec

from tasker.events.messages.fields import Id, Key, StepInstance


class Command(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all commands may say.

    Attributes:
        requested_by, reason: who asks and why; kept with the events that the command causes.
    """

    requested_by: str | None = None
    reason: str | None = None
    correlation_id: str | None = None


class OperatorCommand(Command, kw_only=True, omit_defaults=True):
    """A command to something that exists.

    Attributes:
        command_id: names the command; a repetition gets the same answer, and another command with it is refused.
            Drawn when absent.
        dry_run: only answer what would happen (`would`), after the same checks; nothing is recorded.
    """

    command_id: Key | None = None
    dry_run: bool = False


class TaskOperatorCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """A command to a task."""

    task_id: Id


class StepOperatorCommand(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """A command to a step of a task."""

    step: StepInstance
