"""What a person does to a step by hand: skip, resolve, reset, edit, release.

    skip, resolve   an open, failed or not begun step   -> completed, with the person's result
    reset           an open step with attempts          -> it has all of them again
    edit            a completed step                    -> another result; what used the old one stays. A task that is
                                                       blocked because its result is too large goes on
    release         a step that waits for a time        -> its time is now
                    one that waits for a signal or for
                    people                              -> it completes with what it has
                    one that has not begun              -> it begins, whatever its parents say

A compensation that failed for good is resolved (it was undone in another way) or skipped (it is given up) as well, and
the rest of them goes on.

Each is a fact of its own in the log. What follows from it is `follow`'s, as after any other completion: a repaired task
goes on by itself. A paused task takes repairs too, and goes on when it is resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from tasker.errors import StateForbids
from tasker.events.task_events import (
    AnyTaskEvent,
    Choice,
    ParentsOverridden,
    StepAttemptsReset,
    StepReleased,
    StepResolved,
    StepResultEdited,
    StepRouted,
    StepSkipped,
)
from tasker.service.domain.commands import EditResult, ReleaseStep, ResetStep, ResolveStep, SkipStep
from tasker.service.domain.limits.places import waits_as_a_whole
from tasker.service.domain.repairs.guards import must_be_current, must_go_on, unblocked
from tasker.service.domain.state import StepState, StepStatus, TaskState, TaskStatus
from tasker.service.domain.steps.begin import cancel_items
from tasker.service.domain.steps.choices import fault_of_choice
from tasker.service.domain.steps.compensate import failed_undo
from tasker.service.domain.task_result import RESULT_LIMIT
from tasker.service.domain.waits.approvals import changer_of
from tasker.templates import CompiledTemplate
from tasker.templates.instances import is_item, name_of

Moves = Iterator[AnyTaskEvent]
Events = tuple[AnyTaskEvent, ...]


def repair(
    state: TaskState, template: CompiledTemplate, command: SkipStep | ResolveStep | ResetStep | EditResult | ReleaseStep
) -> Events | Moves:
    """Return what `command` causes.

    Raises:
        CommandRejected: the state forbids it.
    """
    if isinstance(command, SkipStep | ResolveStep) and command.step == failed_undo(state):
        choice = _choice_of(template, command)
        return _completed(state, template, command, choice, changer_of(state, template, command.by))
    must_go_on(state)
    must_be_current(state, template, command.step)
    if isinstance(command, SkipStep | ResolveStep | ReleaseStep) and waits_as_a_whole(state):
        raise StateForbids(
            "the task waits for its place under a concurrency key; nothing of it can begin", state="pending"
        )
    match command:
        case SkipStep() | ResolveStep():
            choice = _choice_of(template, command)
            _must_be_completable(state, command.step)
            return _completed(state, template, command, choice, changer_of(state, template, command.by))
        case ResetStep(step=name):
            return _reset(state, name)
        case EditResult():
            return _edited(state, template, command)
        case ReleaseStep(step=name):
            return _released(state, template, name)
        case _:
            assert_never(command)


# ---------------------------------------------------------------- skip, resolve


def _choice_of(template: CompiledTemplate, command: SkipStep | ResolveStep) -> Choice | None:
    routes = template.step(command.step).routes
    choice = command.choice
    if choice is None and routes and isinstance(command, SkipStep):
        return Choice(reason="a person skipped the decision")
    if choice is None and routes:
        raise StateForbids(
            f"step {command.step} is a decision: say which of its routes are to run ({', '.join(routes)}), or skip it"
        )
    fault = fault_of_choice(command.step, routes, choice) if routes or choice is not None else None
    if fault is not None:
        raise StateForbids(fault)
    return choice


def _must_be_completable(state: TaskState, name: str) -> None:
    entry = state.steps.get(name)
    if entry is None:
        why_not = state.closed.get(name_of(name))
        if why_not is not None:
            raise StateForbids(f"step {name} will not run: {why_not}")
        if is_item(name):
            raise StateForbids(f"item {name} has not begun; only items that have can be completed by hand")
        return
    if entry.status is StepStatus.COMPLETED:
        raise StateForbids(f"step {name} is completed; `tasker step edit` gives it another result", state="completed")
    if entry.status is StepStatus.CANCELLED:
        raise StateForbids(f"step {name} is cancelled; nothing waits for it any more", state="cancelled")
    if _waits_for(entry, "child"):
        child = entry.child or "that is being started"
        raise StateForbids(
            f"step {name} waits for its child task {child}; `tasker task cancel` ends that, which fails the step"
        )


def _completed(
    state: TaskState,
    template: CompiledTemplate,
    command: SkipStep | ResolveStep,
    choice: Choice | None,
    by: str | None,
) -> Moves:
    name = command.step
    entry = state.steps.get(name)
    attempt = 0 if entry is None else entry.attempt
    failed = entry is not None and entry.status is StepStatus.FAILED
    yield from unblocked(state)
    if entry is not None and entry.expansion is not None:
        yield from cancel_items(state, template, entry.expansion, f"step {name} is completed by hand", command.at_us)
    if choice is not None:
        routes = template.step(name).routes
        yield StepRouted(
            step=name,
            attempt=attempt,
            chosen=tuple(route for route in routes if route in choice.routes),
            closed=tuple(route for route in routes if route not in choice.routes),
            reason=choice.reason,
        )
    made = StepSkipped if isinstance(command, SkipStep) else StepResolved
    yield made(step=name, attempt=attempt, result=command.result, failed=failed, by=by)


# ---------------------------------------------------------------- reset, edit


def _reset(state: TaskState, name: str) -> Events:
    entry = state.steps.get(name)
    if entry is not None and entry.status in (StepStatus.DISPATCHED, StepStatus.RUNNING):
        first = entry.attempt
    elif entry is not None and _waits_for(entry, "retry"):
        first = entry.attempt + 1
    else:
        detail = (
            f"step {name} is {_now(entry)}; only one that is with a worker or waits for its retry has attempts to reset"
        )
        if entry is not None and entry.status is StepStatus.FAILED:
            detail += ": `tasker step retry` gives a failed one a fresh set"
        raise StateForbids(detail, state=_now(entry))
    return () if entry.first_attempt == first else (StepAttemptsReset(step=name, attempt=first),)


def _edited(state: TaskState, template: CompiledTemplate, command: EditResult) -> Events:
    name, result = command.step, command.result
    entry = state.steps.get(name)
    if entry is None or entry.status is not StepStatus.COMPLETED:
        raise StateForbids(
            f"step {name} is {_now(entry)}, so it has no result to edit; `tasker step resolve` gives it one",
            state=_now(entry),
        )
    if entry.expansion is not None:
        raise StateForbids(
            f"the result of step {name} is the list of its items' results; edit one of those ({name}[...])"
        )
    if entry.result == result:
        return ()
    by = changer_of(state, template, command.by)
    goes_on = unblocked(state) if state.blocked_reason == RESULT_LIMIT else ()
    return (*goes_on, StepResultEdited(step=name, result=result, by=by))


# ---------------------------------------------------------------- release


def _released(state: TaskState, template: CompiledTemplate, name: str) -> Events:
    entry = state.steps.get(name)
    if entry is None:
        return _overridden(state, template, name)
    if any(_waits_for(entry, what) for what in ("retry", "time", "signal", "approval", "event")):
        return (StepReleased(step=name, attempt=entry.attempt),)
    raise StateForbids(f"step {name} {_why_not_released(entry, name)}", state=_now(entry))


def _overridden(state: TaskState, template: CompiledTemplate, name: str) -> Events:
    step = name_of(name)
    if is_item(name):
        raise StateForbids(f"item {name} has not begun; its turn comes when others of the list have ended")
    if step in state.closed:
        raise StateForbids(f"step {name} will not run: {state.closed[step]}")
    if state.status is TaskStatus.PENDING:
        raise StateForbids("the task has not reached its start time; nothing of it can begin")
    if state.held:
        why, first = ("has used up its budget", "budget")
        if state.paused:
            why, first = ("is paused", "resume")
        elif state.is_late:
            why, first = ("is past its deadline", "deadline")
        raise StateForbids(f"the task {why}, and nothing begins meanwhile; `tasker task {first}` comes first")
    parents = tuple(one for one in template.graph.parents[step] if not state.has_result(one))
    return (*unblocked(state), ParentsOverridden(step=name, parents=parents))


def _why_not_released(entry: StepState, name: str) -> str:
    if entry.status in (StepStatus.DISPATCHED, StepStatus.RUNNING):
        return "is with the workers; it waits for nothing that can be released"
    if entry.status is StepStatus.FAILED:
        return "has failed; `tasker step retry` tries it again"
    if entry.status is not StepStatus.WAITING:
        return f"is {entry.status}; it waits for nothing"
    match entry.waits:
        case "items":
            return f"waits for its items; release one of those ({name}[...])"
        case "turn":
            return "waits for its turn: so many items run at a time"
        case "child":
            return "waits for its child task; release what that waits for"
        case "place":
            return "waits for a place under its concurrency key; there are no more than its limit"
        case _:
            return "is held by the pause; `tasker task resume` lets it go on"


def _waits_for(entry: StepState, what: str) -> bool:
    return entry.status is StepStatus.WAITING and entry.waits == what


def _now(entry: StepState | None) -> str:
    return "pending" if entry is None else str(entry.status)
