"""What a step that has begun waits for: the one rule behind `waiting_facts` of steps and tasks, and behind `explain`.

It gives facts; `views.words` says them. A new reason is one case in each, and a name among `events.reads.WaitKind`.
"""

from __future__ import annotations

import msgspec

from tasker.events.reads import AskedFacts, Wait, WaitKind
from tasker.projections.views.awaits import Asked, read_awaits
from tasker.times import to_rfc3339_if


class Standing(msgspec.Struct, frozen=True):
    """The facts of a step's row that the rule looks at."""

    step: str
    state: str
    attempt: int = 1
    since_us: int | None = None
    worker: str | None = None
    retry_at_us: int | None = None
    waits: str | None = None
    awaits: str | None = None
    child: str | None = None
    cancelling: bool = False


def wait_of(one: Standing) -> Wait | None:
    """Return what a step waits for; None when it has ended."""
    kind = _kind(one)
    if kind is None:
        return None
    wait = Wait(kind=kind, step=one.step, attempt=one.attempt, since=to_rfc3339_if(one.since_us))
    match kind:
        case "worker" | "outcome" | "stop":
            wait.worker = one.worker
        case "child":
            wait.child_task_id = one.child
        case "signal" | "approval" | "event" | "place":
            _add_awaited(wait, one.awaits)
        case _:
            wait.until = to_rfc3339_if(one.retry_at_us)
    return wait


def _kind(one: Standing) -> WaitKind | None:
    match one.state:
        case "dispatched":
            return "worker"
        case "running":
            return "stop" if one.cancelling else "outcome"
        case "waiting":
            match one.waits:
                case "child" | "signal" | "approval" | "event" | "place" | "items" | "turn" | "time" | "checkpoint":
                    return one.waits
                case _:
                    return "retry"
        case _:
            return None


def _add_awaited(wait: Wait, awaits: str | None) -> None:
    if awaits is None:
        return
    found = read_awaits(awaits)
    wait.until = to_rfc3339_if(found.deadline_us)
    wait.signal, wait.count, wait.taken = found.signal, found.count, found.taken
    wait.event = found.event
    wait.key = found.place
    if found.asked is not None:
        wait.approval = _asked_facts(found.asked)


def _asked_facts(asked: Asked) -> AskedFacts:
    return AskedFacts(
        title=asked.title,
        assignees=asked.assignees,
        roles=asked.roles,
        approvals=asked.approvals,
        approved_by=asked.approved_by,
        escalate_at=None if asked.escalated else to_rfc3339_if(asked.escalate_us),
        escalated=asked.escalated,
    )
