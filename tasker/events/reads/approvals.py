"""Approvals that nobody has decided yet."""

from __future__ import annotations

import msgspec

from tasker.events.task_events import OptionalRaw


class ApprovalView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a step asks people and nobody has decided yet.

    Attributes:
        attempt: the asking; an answer may name it.
        assignees, roles: who may answer now; both empty: everybody.
        form: JSON Schema of the values of an answer; absent: any values.
        approvals: how many have to approve. approved_by: who has.
        four_eyes: who created the task, or changed its input or a result by hand, may not answer.
        escalate_at: when others may answer as well. escalated: they may by now.
    """

    task_id: str
    step: str
    attempt: int
    namespace: str
    template: str
    requested_at: str
    title: str = ""
    assignees: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    form: OptionalRaw = None
    approvals: int = 1
    approved_by: tuple[str, ...] = ()
    four_eyes: bool = False
    may_delegate: bool = True
    deadline_at: str | None = None
    escalate_at: str | None = None
    escalated: bool = False
    position: str | None = None


class ApprovalPage(msgspec.Struct, kw_only=True):
    """Open approvals, the oldest first; `next` asks for the page behind this one."""

    items: list[ApprovalView]
    next: str | None
    position: str
