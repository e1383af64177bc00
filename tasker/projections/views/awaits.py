"""What a waiting step waits for from outside, kept as JSON text in its row."""

from __future__ import annotations

from uuid import UUID

import msgspec

from tasker.events.codec import encode_message
from tasker.events.reads import ApprovalView
from tasker.events.task_events import (
    NULL,
    ApprovalAnswered,
    ApprovalDelegated,
    ApprovalEscalated,
    ApprovalRequested,
    EventAwaited,
    PlaceRequested,
    StepAwaited,
    StepSignalled,
)
from tasker.times import to_rfc3339, to_rfc3339_if

ANYBODY = "*"


class Asked(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What people are asked; see `ApprovalRequested`.

    Attributes:
        assignees, roles: who may answer now.
        approved_by: who has approved.
        escalated: others may answer as well by now.
    """

    title: str = ""
    assignees: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    form: msgspec.Raw = NULL
    approvals: int = 1
    four_eyes: bool = False
    may_delegate: bool = True
    approved_by: tuple[str, ...] = ()
    escalate_us: int | None = None
    escalated: bool = False


class Awaits(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a step waits for.

    Attributes:
        deadline_us: until when; None: as long as it takes.
        signal: the name of a signal. count, taken: how many it waits for, and has.
        place: the concurrency key of a place, as JSON; with neither a signal nor a place it waits for people.
        event: the type or name of an event of another task.
        asked: what people are asked.
        asks: whom an approval asks, as a list of them is looked for: `p:` and a person, `r:` and a role, or `*`.
    """

    deadline_us: int | None = None
    signal: str | None = None
    place: str | None = None
    count: int = 1
    taken: int = 0
    asked: Asked | None = None
    asks: tuple[str, ...] = ()
    event: str | None = None


WaitEvent = (
    PlaceRequested
    | StepAwaited
    | EventAwaited
    | StepSignalled
    | ApprovalRequested
    | ApprovalAnswered
    | ApprovalDelegated
    | ApprovalEscalated
)


def awaits_after(awaits: str | None, event: WaitEvent) -> str | None:
    """Return what a row keeps of a wait, once `event` happened to it."""
    match event:
        case StepAwaited():
            return _text(Awaits(signal=event.signal, count=event.count, deadline_us=event.deadline_us))
        case PlaceRequested():
            return _text(Awaits(place=event.key))
        case EventAwaited():
            return _text(Awaits(event=event.event, deadline_us=event.deadline_us))
        case ApprovalRequested():
            return _approval_text(
                event.deadline_us,
                Asked(
                    title=event.title,
                    assignees=event.assignees,
                    roles=event.roles,
                    form=event.form,
                    approvals=event.approvals,
                    four_eyes=event.four_eyes,
                    may_delegate=event.may_delegate,
                    escalate_us=event.escalate_us,
                ),
            )
        case _:
            return None if awaits is None else _moved(read_awaits(awaits), event)


def _moved(found: Awaits, event: StepSignalled | ApprovalAnswered | ApprovalDelegated | ApprovalEscalated) -> str:
    if isinstance(event, StepSignalled):
        found.taken += len(event.numbers)
        return _text(found)
    asked = found.asked or Asked()
    match event:
        case ApprovalAnswered(decision="approved", by=by):
            asked.approved_by = (*asked.approved_by, by)
        case ApprovalAnswered():
            pass  # what comes of it says so
        case ApprovalDelegated(by=by, to=to):
            asked.assignees = (*(one for one in asked.assignees if one not in (by, to)), to)
        case ApprovalEscalated(assignees=assignees, roles=roles):
            asked.escalated = True
            asked.assignees = tuple(dict.fromkeys((*asked.assignees, *assignees)))
            asked.roles = tuple(dict.fromkeys((*asked.roles, *roles)))
    return _approval_text(found.deadline_us, asked)


def _approval_text(deadline_us: int | None, asked: Asked) -> str:
    asks = (*(f"p:{one}" for one in asked.assignees), *(f"r:{one}" for one in asked.roles)) or (ANYBODY,)
    return _text(Awaits(deadline_us=deadline_us, asked=asked, asks=asks))


def _text(awaits: Awaits) -> str:
    return encode_message(awaits).decode()


def read_awaits(text: str) -> Awaits:
    """Return what a row keeps."""
    return msgspec.json.decode(text, type=Awaits)


def to_approval(
    *,
    task_id: UUID,
    step: str,
    attempt: int,
    shard: int,
    position: int,
    dispatched_at_us: int,
    awaits: str,
    namespace: str,
    template: str,
) -> ApprovalView:
    """Return a row of a step that waits for people as a list of approvals shows it."""
    found = read_awaits(awaits)
    asked = found.asked or Asked()
    return ApprovalView(
        task_id=str(task_id),
        step=step,
        attempt=attempt,
        namespace=namespace,
        template=template,
        requested_at=to_rfc3339(dispatched_at_us),
        title=asked.title,
        assignees=asked.assignees,
        roles=asked.roles,
        form=None if asked.form == NULL else asked.form,
        approvals=asked.approvals,
        approved_by=asked.approved_by,
        four_eyes=asked.four_eyes,
        may_delegate=asked.may_delegate,
        deadline_at=to_rfc3339_if(found.deadline_us),
        escalate_at=None if asked.escalated else to_rfc3339_if(asked.escalate_us),
        escalated=asked.escalated,
        position=f"{shard}:{position}",
    )
