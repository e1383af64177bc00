"""Approvals: a step asks people and waits for what they decide.

    step begins -> approval requested -> answered, delegated, escalated ... -> step completed
    one rejection, or `approvals` different persons who approve, decide

Who may answer: the assignees, and who has one of the roles; where there are neither, everybody. Not: who created the
task or changed its input or a result by hand, where `four_eyes` says so; who has handed it over. That a person is who
they say, and has the roles that the command names, whoever sends the command vouches for. Who answers again in the same
way changes nothing.

The result is what was decided, also when it was not approved: the steps behind say what that means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from tasker.errors import (
    ApprovalForbidden,
    ApprovalInvalid,
    BodyInvalid,
    BodyTooLarge,
    ExpressionFailed,
    StateForbids,
)
from tasker.events.codec import canonical, decode_value
from tasker.events.envelope import US_PER_S
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    ApprovalAnswered,
    ApprovalDelegated,
    ApprovalEscalated,
    ApprovalRequested,
    StepCompleted,
    StepFailed,
)
from tasker.ids import is_person
from tasker.service.domain.commands import AnswerApproval, DelegateApproval
from tasker.service.domain.repairs.guards import must_be_current, must_go_on
from tasker.service.domain.state import StepState, StepStatus, TaskState
from tasker.service.domain.steps.bindings import expression_error, item_of, value_of
from tasker.service.domain.waits.wait_state import ApprovalWait
from tasker.templates import CompiledTemplate, StepSpec
from tasker.templates.instances import name_of
from tasker.templates.model import PERSONS_MAX
from tasker.times import to_rfc3339

VALUES_BYTES_MAX: Final = 16 * 1024
"""Most bytes of the values of all answers together: they are a part of the step's result."""

REASON_CHARS_MAX: Final = 1000

Moves = Iterator[AnyTaskEvent]
Events = tuple[AnyTaskEvent, ...]


# ---------------------------------------------------------------- a step asks


def request(  # noqa: PLR0917 - the facts of an attempt
    state: TaskState, template: CompiledTemplate, spec: StepSpec, instance: str, attempt: int, at_us: int
) -> AnyTaskEvent:
    """Return the event by which a step asks; its failure when whom it asks has no value."""
    approval = spec.approval
    assert approval is not None  # noqa: S101 - the caller looked
    assignees = approval.assignees
    if approval.assignees_from is not None:
        try:
            found = value_of(state, template, spec.name, approval.assignees_from, **item_of(state, instance))
            assignees = (*assignees, *_persons(found, approval.assignees_from))
        except ExpressionFailed as error:
            return StepFailed(step=instance, attempt=attempt, reason="expression_failed", error=expression_error(error))
    escalates = spec.on_wait_deadline == "escalate"
    escalate_after_s = spec.wait_deadline_s if escalates else approval.escalate_after_s
    return ApprovalRequested(
        step=instance,
        attempt=attempt,
        title=approval.title,
        assignees=tuple(dict.fromkeys(assignees)),
        roles=approval.roles,
        form=NULL if approval.form is None else msgspec.Raw(canonical(approval.form)),
        approvals=approval.approvals,
        four_eyes=approval.four_eyes,
        may_delegate=approval.may_delegate,
        deadline_us=None if escalates else _time(at_us, spec.wait_deadline_s),
        escalate_us=_time(at_us, escalate_after_s),
    )


def _time(at_us: int, seconds: float | None) -> int | None:
    return None if seconds is None else at_us + max(1, round(seconds * US_PER_S))


def _persons(value: Any, text: str) -> list[str]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(is_person(one) for one in found):
        raise ExpressionFailed(f"{text!r} gives {value!r:.80}, which is no person such as 'ada', nor a list of them")
    if len(found) > PERSONS_MAX:
        raise ExpressionFailed(f"{text!r} gives {len(found)} persons, above the {PERSONS_MAX} of an approval")
    return found


# ---------------------------------------------------------------- people answer


def answer(state: TaskState, template: CompiledTemplate, command: AnswerApproval) -> Events:
    """Return what an answer causes; () when the person has answered so before.

    Raises:
        CommandRejected: nothing is asked, not of them, they have answered otherwise, or their values do not fit.
    """
    wait, entry = _asked(state, template, command)
    before = next((one for one, _ in wait.answers if one.by == command.by), None)
    if before is not None and before.decision == command.decision:
        if decode_value(bytes(before.values)) != decode_value(bytes(command.values)):
            raise StateForbids(f"{command.by} has {before.decision} it already, with other values; they do not change")
        return ()
    if before is not None:
        raise StateForbids(f"{command.by} has {before.decision} it already")
    _must_be_asked(state, wait, command.by, command.roles)
    values = command.values
    schema = template.forms.get(name_of(command.step))
    faults = () if schema is None or _may_be_empty(command) else schema.faults(decode_value(bytes(values)))
    if faults:
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ApprovalInvalid(f"{first.pointer or 'the values'}: {first.detail}{more}", errors=faults)
    size = wait.size + len(bytes(values))
    if size > VALUES_BYTES_MAX:
        raise BodyTooLarge(f"the values of all answers would have {size} bytes, above the {VALUES_BYTES_MAX} allowed")
    return (
        ApprovalAnswered(
            step=command.step,
            attempt=entry.attempt,
            decision=command.decision,
            by=command.by,
            reason=command.reason[:REASON_CHARS_MAX],
            values=values,
        ),
    )


def _may_be_empty(command: AnswerApproval) -> bool:
    return command.decision == "rejected" and command.values == NULL


def delegate(state: TaskState, template: CompiledTemplate, command: DelegateApproval) -> Events:
    """Return what it causes that a person has somebody else answer; () when that is so.

    Raises:
        CommandRejected: nothing is asked, not of them, or the other may not answer.
    """
    wait, entry = _asked(state, template, command)
    by, to = command.by, command.to
    if wait.handed_over.get(by) == to:
        return ()
    _must_be_asked(state, wait, by, command.roles)
    if not wait.asked.may_delegate:
        raise ApprovalForbidden(f"the approval of step {command.step} may not be handed to others")
    if any(answer.by in (by, to) for answer, _ in wait.answers):
        raise StateForbids(f"{by} or {to} has answered already")
    if by == to or (to in wait.assignees):
        raise StateForbids(f"{to} may answer already")
    _must_be_another(state, wait, to)
    return (
        ApprovalDelegated(
            step=command.step, attempt=entry.attempt, by=by, to=to, reason=command.reason[:REASON_CHARS_MAX]
        ),
    )


def _asked(
    state: TaskState, template: CompiledTemplate, command: AnswerApproval | DelegateApproval
) -> tuple[ApprovalWait, StepState]:
    """Return what the step asks, and the step."""
    must_go_on(state)
    name = command.step
    must_be_current(state, template, name)
    entry = state.steps.get(name)
    now = "pending" if entry is None else str(entry.status)
    if entry is None or not isinstance(entry.wait, ApprovalWait):
        raise StateForbids(f"step {name} is {now}; it does not wait for an approval", state=now)
    if command.attempt is not None and command.attempt != entry.attempt:
        raise StateForbids(f"step {name} asks for the {entry.attempt}. time by now, not for the {command.attempt}.")
    if entry.wait.is_decided or entry.wait.released:
        raise StateForbids(f"the approval of step {name} is decided; it counts once the task is resumed")
    return entry.wait, entry


def _must_be_asked(state: TaskState, wait: ApprovalWait, by: str, roles: Sequence[str]) -> None:
    _must_be_another(state, wait, by)
    to = wait.handed_over.get(by)
    if to is not None:
        raise ApprovalForbidden(f"{by} has handed it to {to}")
    if by in wait.assignees or any(role in wait.roles for role in roles):
        return
    if not wait.asked.assignees and not wait.asked.roles:
        return
    raise ApprovalForbidden(f"{by} is not among those who may answer: {who_may(wait.assignees, wait.roles)}")


def _must_be_another(state: TaskState, wait: ApprovalWait, person: str) -> None:
    if not wait.asked.four_eyes:
        return
    if person == state.created_by:
        raise ApprovalForbidden(f"{person} created the task, and may not answer (four_eyes)")
    if person in (state.changed_by or ()):
        raise ApprovalForbidden(f"{person} changed the input or a result by hand, and may not answer (four_eyes)")


def changer_of(state: TaskState, template: CompiledTemplate, by: str | None) -> str | None:
    """Return who changes a result by hand, as the event keeps it; None: no approval of the template asks who.

    Raises:
        BodyInvalid: an approval may not be theirs, and the command does not say who they are.
        ApprovalForbidden: they have answered such an approval, and it is not decided.
    """
    if not template.knows_creator:
        return None
    if by is None or not is_person(by):
        raise BodyInvalid.at(
            "/requested_by", f"say who does it: an approval of {template.spec.name} may not be theirs (four_eyes)"
        )
    for name, step in state.steps.items():
        wait = step.wait
        if isinstance(wait, ApprovalWait) and wait.asked.four_eyes and any(one.by == by for one, _ in wait.answers):
            raise ApprovalForbidden(f"{by} has answered the approval of {name}, and may change nothing (four_eyes)")
    return by


def who_may(assignees: Sequence[str] | dict[str, None], roles: Sequence[str] | dict[str, None]) -> str:
    """Return in words who may answer."""
    named = ", ".join(assignees)
    of_roles = ", ".join(roles)
    return " or ".join(part for part in (named, of_roles and f"the role {of_roles}") if part) or "everybody"


# ---------------------------------------------------------------- what comes of it


def settle(state: TaskState, _template: CompiledTemplate, event: ApprovalAnswered, _at_us: int) -> Moves:
    """Complete the step when the answers decide."""
    entry = state.steps[event.step]
    if isinstance(entry.wait, ApprovalWait) and entry.wait.is_decided and state.stopping is None:
        yield decided(event.step, entry, entry.wait)


def decided(instance: str, entry: StepState, wait: ApprovalWait) -> StepCompleted:
    """Return the event that completes a step with what was decided."""
    last = wait.rejected or wait.answers[-1][0]
    return _completed(instance, entry, wait, last.decision, last)


def undecided(instance: str, entry: StepState, wait: ApprovalWait) -> StepCompleted:
    """Return the event that completes a step that nobody decided on, or not enough did."""
    return _completed(instance, entry, wait, "released" if wait.released else "expired", None)


def _completed(
    instance: str, entry: StepState, wait: ApprovalWait, decision: str, last: ApprovalAnswered | None
) -> StepCompleted:
    result = {
        "decision": decision,
        "by": None if last is None else last.by,
        "reason": None if last is None else last.reason,
        "values": None if last is None else decode_value(bytes(last.values)),
        "answers": [
            {
                "decision": one.decision,
                "by": one.by,
                "reason": one.reason,
                "values": decode_value(bytes(one.values)),
                "at": to_rfc3339(at_us),
            }
            for one, at_us in wait.answers
        ],
    }
    return StepCompleted(step=instance, attempt=entry.attempt, result=msgspec.Raw(canonical(result)))


def escalated(state: TaskState, template: CompiledTemplate, instance: str, attempt: int) -> Events:
    """Return the event that lets others answer as well."""
    approval = template.step(instance).approval
    entry = state.steps[instance]
    assert approval is not None  # noqa: S101 - only an approval is escalated
    assert entry.status is StepStatus.WAITING  # noqa: S101 - as its obligation says
    return (
        ApprovalEscalated(
            step=instance, attempt=attempt, assignees=approval.escalate_to, roles=approval.escalate_roles
        ),
    )
