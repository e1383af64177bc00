"""What people do about a dead letter: the union stored in a task's stream of kind `investigation`.

What made the letter is in the task's own stream. What is done about it is apart from it, because a task that has
ended takes no more events and one that is poisoned cannot be folded, and both are what is investigated. The two
streams lie in one slot (`ids.investigation_stream_id`), so that one shard orders them.

Each event names the step ("": the task itself) and the attempt that the person saw: a step that fails again is
a new matter. Who and why is in the event's meta (`requested_by`, `reason`), always.
"""

from __future__ import annotations

from typing import Final, get_args

import msgspec


class DeadLetterEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event of an investigation is.

    Attributes:
        step: the step's instance; "": the task itself.
        attempt: the newest attempt of the step at that time; 0 for the task itself.
    """

    task_id: str
    step: str
    attempt: int


class DeadLetterAdded(DeadLetterEvent, frozen=True, kw_only=True):
    """A person put it there, although nothing has failed for good."""


class DeadLetterInvestigated(DeadLetterEvent, frozen=True, kw_only=True):
    """Somebody looks into it."""


class DeadLetterAssigned(DeadLetterEvent, frozen=True, kw_only=True):
    """`owner` sees to it; None: nobody does."""

    owner: str | None = None


class DeadLetterNoted(DeadLetterEvent, frozen=True, kw_only=True):
    """A note of an investigation."""

    note: str


class DeadLetterResolved(DeadLetterEvent, frozen=True, kw_only=True):
    """A person settled it."""


class DeadLetterIgnored(DeadLetterEvent, frozen=True, kw_only=True):
    """A person decided that nothing is to be done about it."""


class DeadLetterReopened(DeadLetterEvent, frozen=True, kw_only=True):
    """It is not settled after all."""


AnyDeadLetterEvent = (
    DeadLetterAdded
    | DeadLetterInvestigated
    | DeadLetterAssigned
    | DeadLetterNoted
    | DeadLetterResolved
    | DeadLetterIgnored
    | DeadLetterReopened
)
DEAD_LETTER_EVENT_TYPES: Final[tuple[type[DeadLetterEvent], ...]] = get_args(AnyDeadLetterEvent)
