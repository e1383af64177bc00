"""One command for everything that matches."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from tasker.events.messages.command import OperatorCommand
from tasker.events.messages.fields import Name, Time


class BulkTasks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which tasks a bulk is for; all of what is given must hold.

    Attributes:
        states: any of them; none: those to which the command makes sense.
        created_after, created_before: the first included, the second not.
    """

    states: tuple[str, ...] = ()
    namespace: Name | None = None
    template: Name | None = None
    tags: dict[str, str] = {}
    created_after: Time | None = None
    created_before: Time | None = None


class BulkDeadLetters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which dead letters a bulk is for; all of what is given must hold. Only those that are dead count.

    Attributes:
        statuses: any of them; none: `open` and `investigating`.
        reasons: any of them; none: those that the command may repair.
        step: of the template; its instances count as well.
        seen_after, seen_before: of the last failure; the first included, the second not.
    """

    statuses: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    namespace: Name | None = None
    template: Name | None = None
    step: Name | None = None
    fingerprint: str | None = None
    owner: str | None = None
    tags: dict[str, str] = {}
    seen_after: Time | None = None
    seen_before: Time | None = None


BulkVerb = Literal[
    "task.cancel",
    "task.fail",
    "task.retry",
    "task.pause",
    "task.resume",
    "task.update",
    "task.deadline",
    "task.restart",
    "dlq.retry",
    "dlq.resolve",
]

BULK_RATE_PER_S: Final = 200.0


class BulkCreate(OperatorCommand, kw_only=True, omit_defaults=True):
    """`bulk.create`: give one command to everything that matches; a task of the service's own does it.

    It is for what was there when it was created. `requested_by` and `reason` are asked for, and kept with each effect.

    Attributes:
        verb: the command. arguments: its further fields, such as `grace_s` of `task.cancel`.
        tasks, dead_letters: to what; `dead_letters` of the verbs `dlq.*`, else `tasks`.
        everything: said where no filter is.
        rate_per_s: so many commands a second at most; at most 1,000.

    A dry run answers how many match (`matched`), and a few of them (`sample`).
    """

    verb: BulkVerb
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    tasks: BulkTasks | None = None
    dead_letters: BulkDeadLetters | None = None
    everything: bool = False
    rate_per_s: float = BULK_RATE_PER_S
