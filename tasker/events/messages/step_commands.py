"""Commands to steps, and answers to what they ask people."""

from __future__ import annotations

import msgspec

from tasker.events.messages.command import StepOperatorCommand
from tasker.events.messages.fields import Name, Person
from tasker.events.task_events import NULL


class StepRetry(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.retry`: give one failed step a fresh set of attempts.

    Attributes:
        attempt: the failed attempt that the caller saw; another one now is a conflict. None: whichever.
    """

    attempt: int | None = None


class StepSkip(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.skip`: complete a step without running it (any more); it is marked as skipped.

    Attributes:
        result: what the steps behind it get.
        routes: of a decision, the steps that are to run; (): none.
    """

    result: msgspec.Raw = NULL
    routes: tuple[Name, ...] = ()


class StepResolve(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.resolve`: complete a step with a result that was got in another way; it counts as completed.

    Attributes:
        routes: of a decision, the steps that are to run.
    """

    result: msgspec.Raw
    routes: tuple[Name, ...] = ()


class StepReset(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.reset`: let the failures of an open step count no more, so that it has all its attempts again."""


class StepEdit(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.edit`: give a completed step another result.

    The old one stays in the log. Steps that have used it are not repeated; those that begin later get the new one.
    """

    result: msgspec.Raw


class StepRelease(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.release`: end what a step waits for. Its retry or its time comes now; a pending step begins at once."""


class ApprovalCommand(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """A person's word on what a step asks; `requested_by` is who, and must be given.

    Attributes:
        attempt: the asking that the person saw; another one now is a conflict. None: whichever.
        roles: that the person has. Whoever sends the command vouches for them, and for who it is.
    """

    attempt: int | None = None
    roles: tuple[Person, ...] = ()


class StepApprove(ApprovalCommand, kw_only=True, omit_defaults=True):
    """`step.approve`: say yes to what a step asks.

    Attributes:
        values: of the approval's form.
    """

    values: msgspec.Raw = NULL


class StepReject(ApprovalCommand, kw_only=True, omit_defaults=True):
    """`step.reject`: say no to what a step asks.

    Attributes:
        values: of the approval's form; null: none.
    """

    values: msgspec.Raw = NULL


class StepDelegate(ApprovalCommand, kw_only=True, omit_defaults=True):
    """`step.delegate`: have somebody else answer what a step asks.

    Attributes:
        to: who is to answer instead.
    """

    to: Person
