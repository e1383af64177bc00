"""Commands to dead letters."""

from __future__ import annotations

from tasker.events.messages.command import OperatorCommand
from tasker.events.messages.fields import Id


class DeadLetterCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """What every command about a dead letter says; `requested_by` and `reason` (or a note) are asked for.

    Attributes:
        step: the step's instance; None: the task itself.
    """

    task_id: Id
    step: str | None = None


class DeadLetterAdd(DeadLetterCommand, kw_only=True, omit_defaults=True):
    """`dlq.add`: put a task or a step among the dead letters, although nothing has failed for good."""


class DeadLetterInvestigate(DeadLetterCommand, kw_only=True, omit_defaults=True):
    """`dlq.investigate`: look into a dead letter, give it an owner, add a note.

    Attributes:
        owner: who sees to it from now on; "": nobody. None: as before.
        note: what was found out; at most 4,000 characters.
    """

    owner: str | None = None
    note: str | None = None


class DeadLetterResolve(DeadLetterCommand, kw_only=True, omit_defaults=True):
    """`dlq.resolve`: settle a dead letter.

    Attributes:
        attempt: the failed attempt that the caller saw; another one now is a conflict. None: whichever.
        ignore: it is settled because nothing is to be done about it.
    """

    attempt: int | None = None
    ignore: bool = False


class DeadLetterReopen(DeadLetterCommand, kw_only=True, omit_defaults=True):
    """`dlq.reopen`: a settled dead letter is not settled after all."""


class DeadLetterRetry(DeadLetterCommand, kw_only=True, omit_defaults=True):
    """`dlq.retry`: give the step (or every failed step of the task) a fresh set of attempts, as `step.retry` does.

    Attributes:
        attempt: the failed attempt that the caller saw; another one now is a conflict. None: whichever.
    """

    attempt: int | None = None
