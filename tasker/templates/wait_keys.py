"""The keys of a step that waits for something from outside: a signal, an approval."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from tasker.events import codec
from tasker.ids import PERSON_CHARS_MAX, is_event_name, is_person
from tasker.templates import model
from tasker.templates.model import Approval, StepSpec
from tasker.templates.reading import (
    VARIABLES_OF_EVENT,
    VARIABLES_OF_ITEM,
    VARIABLES_OF_SIGNAL,
    ObjectReader,
    Path,
    quoted,
)

_SIGNAL_KEYS: Final = ("signal_schema", "signal_take", "signal_count", "signal_when")
_DEADLINE_KEYS: Final = ("wait_deadline_s", "on_wait_deadline")
_WAITS: Final = ("signal", "approval", "event")


def wait_keys(read: ObjectReader) -> dict[str, Any]:
    """Return the values of a step's keys of waiting, with the faults of each by itself noted."""
    for keys, owners in ((_SIGNAL_KEYS, ("signal",)), (("event_when",), ("event",)), (_DEADLINE_KEYS, _WAITS)):
        for key in keys:
            if key in read and not any(owner in read for owner in owners):
                read.fault(key, f"does nothing without {' or '.join(owners)}")
    take = read.choice("signal_take", model.SignalTake, "first")
    if (take == "all") != ("signal_count" in read):
        at = (*read.path, "signal_count") if "signal_count" in read else read.path
        read.faults.add(at, "signal_count belongs to signal_take 'all', and that needs it: how many it waits for")
    if "on_wait_deadline" in read and "wait_deadline_s" not in read:
        read.fault("on_wait_deadline", "does nothing without wait_deadline_s")
    approval = _approval(read)
    on_wait_deadline = cast("model.OnWaitDeadline", read.choice("on_wait_deadline", model.OnWaitDeadline, "fail"))
    if on_wait_deadline == "escalate":
        _check_escalation(read, approval)
    return {
        "signal": _event_name(read, "signal"),
        "signal_schema": read.schema("signal_schema"),
        "signal_take": take,
        "signal_count": read.optional_whole("signal_count", high=model.SIGNALS_MAX),
        "signal_when": read.expression("signal_when", variables=VARIABLES_OF_SIGNAL),
        "wait_deadline_s": read.optional_seconds("wait_deadline_s"),
        "on_wait_deadline": on_wait_deadline,
        "approval": approval,
        "event": _event_name(read, "event"),
        "event_when": read.expression("event_when", variables=VARIABLES_OF_EVENT),
    }


def _event_name(read: ObjectReader, key: str) -> str | None:
    value = read.get(key)
    if value is None or (isinstance(value, str) and is_event_name(value)):
        return value
    read.fault(key, f"must be a name such as 'approved' or 'order.paid', not {quoted(value)}")
    return None


def _approval(step: ObjectReader) -> Approval | None:
    if "approval" not in step:
        return None
    read = ObjectReader(
        step.get("approval"), (*step.path, "approval"), "approval", Approval.__struct_fields__, step.faults
    )
    form = read.schema("form")
    if form is not None and len(codec.canonical(form)) > model.FORM_BYTES_MAX:
        read.fault("form", f"has more than the {model.FORM_BYTES_MAX} bytes of a form")
    approval = Approval(
        title=_title(read),
        assignees=_persons(read, "assignees"),
        assignees_from=read.expression("assignees_from", variables=VARIABLES_OF_ITEM),
        roles=_persons(read, "roles"),
        form=form,
        approvals=read.whole("approvals", 1, low=1, high=model.APPROVALS_MAX),
        four_eyes=read.flag("four_eyes", default=False),
        may_delegate=read.flag("may_delegate", default=True),
        escalate_after_s=read.optional_seconds("escalate_after_s"),
        escalate_to=_persons(read, "escalate_to"),
        escalate_roles=_persons(read, "escalate_roles"),
    )
    if "escalate_after_s" in read and step.get("on_wait_deadline") != "escalate":
        _check_time_to_escalate(read, step)
    if "escalate_after_s" in read and not approval.escalates:
        read.fault("escalate_after_s", "does nothing without escalate_to or escalate_roles: who may answer then")
    later = "escalate_after_s" in read or step.get("on_wait_deadline") == "escalate"
    for key in ("escalate_to", "escalate_roles"):
        if key in read and not later:
            read.fault(key, "does nothing without escalate_after_s, or on_wait_deadline 'escalate' at the step: when")
    for key in ("escalate_to", "escalate_roles"):
        if key in read and not (approval.assignees or approval.roles or approval.assignees_from):
            read.fault(key, "does nothing where everybody may answer: name assignees or roles")
    many = not (approval.roles or approval.escalates or approval.assignees_from or approval.may_delegate)
    if many and 0 < len(approval.assignees) < approval.approvals:
        read.fault("approvals", f"only {len(approval.assignees)} persons may answer, so that so many never approve")
    return approval


def _check_time_to_escalate(read: ObjectReader, step: ObjectReader) -> None:
    after_s, deadline_s = read.told_seconds("escalate_after_s"), step.told_seconds("wait_deadline_s")
    if after_s is not None and deadline_s is not None and deadline_s <= after_s:
        read.fault(
            "escalate_after_s",
            f"does nothing: the wait is over after {deadline_s:g} s (wait_deadline_s), not later than {after_s:g} s",
        )


def _title(read: ObjectReader) -> str:
    value = read.get("title")
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > model.TITLE_CHARS_MAX:
        read.fault("title", f"must be text of at most {model.TITLE_CHARS_MAX} characters, not {quoted(value)}")
        return ""
    return value


def _persons(read: ObjectReader, key: str) -> tuple[str, ...]:
    found = read.items(key, "names", at_most=model.PERSONS_MAX, read=lambda path, item: _person(read, path, item))
    if len(set(found)) != len(found):
        read.fault(key, "names somebody twice")
    return found


def _person(read: ObjectReader, path: Path, value: object) -> str | None:
    if is_person(value):
        return cast("str", value)
    read.faults.add(path, f"must be text of 1 to {PERSON_CHARS_MAX} printable characters, not {quoted(value)}")
    return None


def _check_escalation(read: ObjectReader, approval: Approval | None) -> None:
    if approval is None:
        read.fault("on_wait_deadline", "'escalate' belongs to an approval")
    elif not approval.escalates:
        read.fault(
            "on_wait_deadline", "'escalate' needs escalate_to or escalate_roles in approval: who may answer then"
        )
    elif approval.escalate_after_s is not None:
        read.fault("on_wait_deadline", "'escalate' does nothing beside escalate_after_s in approval: give one of them")


def check_wait(step: StepSpec, steps: Iterable[StepSpec], fault: Callable[[str, str], None]) -> None:
    """Note what is wrong with a wait beside the other steps: the values of a signal have one schema."""
    if step.expands and step.waits and step.items_at_a_time > model.WAITS_PARALLEL_MAX:
        key = "max_parallel" if step.batches is None else "parallelism"
        fault(key, f"at most {model.WAITS_PARALLEL_MAX} items may wait at a time, not {step.items_at_a_time}")
    if step.signal is None:
        return
    first = next(one for one in steps if one.signal == step.signal)
    if first.signal_schema != step.signal_schema:
        fault("signal_schema", f"step {quoted(first.name)} waits for this signal with another schema; give both one")
