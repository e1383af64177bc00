"""What follows from an event: `FOLLOWS[type(event)](state, template, event, at_us)` yields the next ones.

It is asked with the state as the event left it. What it yields is taken up, with all that follows from that, before it
is asked for more; so it always looks at the state as it is.

    task created, started   -> the first steps begin, or a place for the task is asked for
    place taken             -> the first steps begin; or the step that asked for it
    place denied            -> the task stops; or the step is cancelled
    step completed (also by hand), closed, cancelled, its failure accepted
                            -> children whose parents say so begin, or will not run
    step failed             -> its failure is accepted once no child needs it
                               else on_failure "fail": the task stops as soon as one does; "block": others go on
    item ended              -> the next item begins, or the step it belongs to is complete (or fails)
    join ready              -> what only led to it is cancelled (`any`, `n_of`)
    signal received, step awaited
                            -> a step that waits takes the signal, and completes
    event matched           -> the step is complete
    approval answered       -> when that decides, the step is complete
    task compensating, a compensation completed
                            -> the next compensation begins

While a task is held (paused, over its budget, or past its deadline), or has not begun, nothing follows. When it goes
on, or begins behind what a person did to its steps, everything is looked at again: what follows from an event can be
told from the state that it left.

When nothing follows any more, `conclude` asks whether a loop turns, or the task is complete, compensates, is blocked or
ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from tasker.errors import ExpressionFailed
from tasker.events.messages import CANCEL_GRACE_S
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    ApprovalAnswered,
    ErrorInfo,
    EventMatched,
    LoopTurned,
    ParentsOverridden,
    PathsClosed,
    PlaceDenied,
    PlaceTaken,
    SignalReceived,
    StepAwaited,
    StepCancelled,
    StepCompleted,
    StepExpanded,
    StepFailed,
    StepFailureAccepted,
    StepGathered,
    StepReleased,
    StepResolved,
    StepSkipped,
    TaskBlocked,
    TaskBudgetSet,
    TaskCompensating,
    TaskCreated,
    TaskDeadlineSet,
    TaskEvent,
    TaskFailed,
    TaskStarted,
    TaskStopping,
    TaskUnpaused,
)
from tasker.service.domain.costs.usage import is_done
from tasker.service.domain.dead_letters.stale import stale_ended
from tasker.service.domain.limits.places import denied_words, request_for_task
from tasker.service.domain.state import (
    BUDGET_EXCEEDED,
    DEADLINE_PASSED,
    STEP_COMPLETED,
    STEP_OPEN,
    STEP_WAITING,
    TASK_ABSENT,
    TASK_RUNNING,
    StepState,
    StepStatus,
    TaskState,
    TaskStatus,
)
from tasker.service.domain.steps.begin import (
    attempt_with_place,
    begin,
    begin_again,
    cancel,
    cancel_node,
    complete_lists,
    dispatch,
    next_items,
    waits_for_childs_end,
)
from tasker.service.domain.steps.bindings import expression_error, is_true
from tasker.service.domain.steps.compensate import at_rest, next_undo
from tasker.service.domain.steps.joins import Need, Verdict, need_of, verdict_of
from tasker.service.domain.steps.loops import may_turn, needed_again
from tasker.service.domain.steps.timeouts import BLOCK
from tasker.service.domain.stop import stop
from tasker.service.domain.task_result import RESULT_LIMIT, completion
from tasker.service.domain.waits.approvals import settle
from tasker.service.domain.waits.common import look_again
from tasker.service.domain.waits.event_waits import matched
from tasker.service.domain.waits.signals import awaited, signalled
from tasker.templates import CompiledTemplate
from tasker.templates.instances import is_item, name_of, node_of, visit_of

Moves = Iterator[AnyTaskEvent]


# ---------------------------------------------------------------- steps begin


def _roots(state: TaskState, template: CompiledTemplate, event: TaskCreated | TaskStarted, at_us: int) -> Moves:
    if type(event) is TaskCreated and event.not_before_us is not None:
        return
    if template.spec.concurrency is not None:
        request = request_for_task(state, template)
        if request is not None:
            yield request
            return
    yield from _first_steps(state, template, at_us)


def _first_steps(state: TaskState, template: CompiledTemplate, at_us: int) -> Moves:
    if state.steps:
        yield from _look_at_all(state, template, at_us)
        return
    for name in template.graph.roots:
        yield from _consider(state, template, name, at_us)


def _taken(state: TaskState, template: CompiledTemplate, event: PlaceTaken, at_us: int) -> Moves:
    if event.step:
        yield attempt_with_place(state, template, template.step(event.step), event.step, event.attempt, at_us)
    else:
        yield from _first_steps(state, template, at_us)


def _denied(state: TaskState, template: CompiledTemplate, event: PlaceDenied, at_us: int) -> Moves:
    name = event.step
    if not name:
        yield from stop(state, template, at_us, ending="cancelled", cause="concurrency", grace_s=CANCEL_GRACE_S)
        return
    entry = state.steps[name]
    if entry.status not in STEP_OPEN:
        return
    reason = denied_words(event)
    if is_item(name):
        yield cancel(template, name, entry, reason, at_us)
        if not state.held:
            yield from next_items(state, template, node_of(name), at_us)
        return
    step = name_of(name)
    edges = tuple((step, child) for child in template.graph.children[step])
    if edges:
        yield PathsClosed(edges=edges, by=name, reason=reason)
    yield cancel(template, name, entry, reason, at_us)


def _children(state: TaskState, template: CompiledTemplate, step: str, at_us: int) -> Moves:
    closed: list[str] = []
    is_done = state.has_result(step)
    for child in template.graph.children[step]:
        if is_done and child in template.plain and state.is_plain:
            # The way of nearly every step, and the same as below.
            if child not in state.steps and _all_completed(state.steps, template.graph.parents[child]):
                yield from begin(state, template, child, at_us)
            continue
        condition = template.steps[child].after_when.get(step)
        if condition is not None and state.stopping is None and is_done and not state.has_begun(child):
            yield from _edge(state, template, step, child, condition)
        if not state.has_begun(child):
            verdict = verdict_of(state, template, child)
            if verdict is Verdict.READY:
                yield from _enter(state, template, child, at_us)
            elif verdict is Verdict.CLOSED:
                closed.append(child)
            elif state.failed:
                yield from _failures_ahead(state, template, child, at_us)
        elif state.failed and state.node(child) in state.failed:
            yield from _failures_ahead(state, template, child, at_us)  # it may have what it wants by now
    routes = template.steps[step].routes if is_done else ()
    not_chosen = _still_to_close(state, [one for one in closed if one in routes and (step, one) in state.closed_edges])
    if not_chosen:
        yield PathsClosed(steps=not_chosen, by=state.node(step), reason=f"{step} did not choose it")
    behind = _still_to_close(state, closed)
    if behind:
        yield PathsClosed(steps=behind, by=state.node(step), reason=f"no way to it is open behind {step}")


def _still_to_close(state: TaskState, steps: Sequence[str]) -> tuple[str, ...]:
    """Return those of `steps` that still will not run: what followed meanwhile may have closed some of them, or all."""
    return () if state.stopping is not None else tuple(step for step in steps if not state.has_begun(step))


def _all_completed(steps: dict[str, StepState], names: tuple[str, ...]) -> bool:
    for name in names:
        entry = steps.get(name)
        if entry is None or entry.status is not STEP_COMPLETED:
            return False
    return True


def _consider(state: TaskState, template: CompiledTemplate, step: str, at_us: int) -> Moves:
    if not state.has_begun(step) and verdict_of(state, template, step) is Verdict.READY:
        yield from _enter(state, template, step, at_us)


def _enter(state: TaskState, template: CompiledTemplate, step: str, at_us: int) -> Moves:
    yield from begin(state, template, step, at_us)
    if state.stopping is not None:
        return
    if template.steps[step].join in ("any", "n_of"):
        yield from _release(state, template, step, at_us)
    if state.failed:
        yield from _failures_ahead(state, template, step, at_us)


def _edge(state: TaskState, template: CompiledTemplate, parent: str, child: str, condition: str) -> Moves:
    if (parent, child) in state.closed_edges:
        return
    try:
        if not is_true(state, template, child, condition, behind=parent):
            reason = f"the condition of {child} behind {parent} is false: {condition}"
            yield PathsClosed(edges=((parent, child),), by=state.node(parent), reason=reason)
    except ExpressionFailed as error:
        yield StepFailed(step=state.node(child), attempt=1, reason="expression_failed", error=expression_error(error))


def _release(state: TaskState, template: CompiledTemplate, join: str, at_us: int) -> Moves:
    """Cancel what only led to a join that has what it wants; what has not begun of it will not run."""
    graph = template.graph
    needless: set[str] = set()
    ahead = graph.ancestors(join)
    for name in reversed(graph.order):
        if name not in ahead or name in state.closed or state.has_result(name):
            continue
        children = [one for one in graph.children[name] if (name, one) not in state.closed_edges]
        if all(one == join or one in needless or one in state.closed or state.has_begun(one) for one in children):
            needless.add(name)
    reason = f"step {join} has the results that it waited for"
    closed = tuple(name for name in graph.order if name in needless and not state.has_begun(name))
    if closed:
        yield PathsClosed(steps=closed, by=state.node(join), reason=reason)
    for name in (one for one in graph.order if one in needless):
        entry = state.at_node(name)
        if entry is not None and entry.status in STEP_OPEN:
            yield from cancel_node(state, template, state.node(name), reason, at_us)


# ---------------------------------------------------------------- steps end


def _ended(
    state: TaskState,
    template: CompiledTemplate,
    event: StepCompleted | StepSkipped | StepResolved | StepGathered | StepCancelled | StepFailureAccepted,
    at_us: int,
) -> Moves:
    if state.stopping is not None:
        yield from next_undo(state, template, event, at_us)
        return
    name = event.step
    if name in template.steps and not state.visits:
        yield from _children(state, template, name, at_us)
        if state.failed:
            yield from _failures_ahead(state, template, name, at_us)
        return
    if is_item(name):
        # An item is cancelled with its step, which goes its own way; behind one whose child had to end it may go on.
        if not isinstance(event, StepCancelled) or waits_for_childs_end(template, name, state.steps[name]):
            yield from next_items(state, template, node_of(name), at_us)
        return
    step = name_of(name)
    if name == state.node(step):
        yield from _children(state, template, step, at_us)
        if state.failed:
            yield from _failures_ahead(state, template, step, at_us)


def _closed(state: TaskState, template: CompiledTemplate, event: PathsClosed, at_us: int) -> Moves:
    for name in event.steps:
        yield from _children(state, template, name, at_us)
        if state.failed:
            yield from _failures_ahead(state, template, name, at_us)


def _failed(state: TaskState, template: CompiledTemplate, event: StepFailed, at_us: int) -> Moves:
    yield from _after_failure(state, template, event.step, at_us)


def _after_failure(state: TaskState, template: CompiledTemplate, name: str, at_us: int) -> Moves:
    if state.stopping is not None:
        return
    fails = template.spec.on_failure == "fail" and state.steps[name].timed_out != BLOCK
    if is_item(name):
        if template.step(name).isolates and fails:
            yield from _fail(state, template, name, at_us)
        else:
            yield from next_items(state, template, node_of(name), at_us)
        return
    step = name_of(name)
    joins = template.graph.children[step]
    needs = {need_of(state, template, step, child) for child in joins} or {Need.YES}
    if needs == {Need.NO}:
        yield StepFailureAccepted(step=name, joins=joins)
    elif Need.YES in needs and fails:
        yield from _fail(state, template, name, at_us)
    else:
        for child in joins:
            if template.steps[child].join == "all_settled":
                yield from _consider(state, template, child, at_us)


def _failures_ahead(state: TaskState, template: CompiledTemplate, step: str, at_us: int) -> Moves:
    """Look again at failed parents of a step: it may have begun without them, or cannot any more."""
    for parent in template.graph.parents[step]:
        node = state.node(parent)
        if node in state.failed:
            yield from _after_failure(state, template, node, at_us)


def _fail(state: TaskState, template: CompiledTemplate, step: str, at_us: int) -> Moves:
    yield from stop(state, template, at_us, ending="failed", cause="step_failed", grace_s=CANCEL_GRACE_S, step=step)


# ---------------------------------------------------------------- people


def begin_retried(state: TaskState, template: CompiledTemplate, attempts: Mapping[str, int], at_us: int) -> Moves:
    """Begin anew what a person retries (instance -> attempt), until one that fails at once stops the task.

    All of it is open already: what one of them comes to at once is looked at with the others on their way.
    """
    stopping = state.stopping
    for name, attempt in attempts.items():
        if state.stopping is not stopping:
            return
        if name not in state.steps:
            yield from _look_afresh(state, template, name_of(name), at_us)
        elif state.steps[name].status is STEP_WAITING:
            yield from begin_again(state, template, name, attempt, at_us)


def _look_afresh(state: TaskState, template: CompiledTemplate, step: str, at_us: int) -> Moves:
    """Let a step that failed before it began do so now, if its parents say that it may."""
    yield from _edges(state, template, step)
    if not state.has_begun(step):
        verdict = verdict_of(state, template, step)
        if verdict is Verdict.READY:
            yield from _enter(state, template, step, at_us)
        elif verdict is Verdict.CLOSED:
            yield PathsClosed(steps=(step,), by=state.node(step), reason="no way to it is open")


def _released(state: TaskState, template: CompiledTemplate, event: StepReleased, at_us: int) -> Moves:
    entry = state.steps[event.step]
    if entry.wait is not None:
        yield from look_again(state, template, event.step)
    elif entry.waits == "time":
        yield StepCompleted(step=event.step, attempt=event.attempt, result=NULL)
    else:
        yield dispatch(state, template.step(event.step), event.step, event.attempt + 1, at_us)


def _overridden(state: TaskState, template: CompiledTemplate, event: ParentsOverridden, at_us: int) -> Moves:
    yield from _enter(state, template, name_of(event.step), at_us)


def _more_given(
    state: TaskState, template: CompiledTemplate, event: TaskBudgetSet | TaskDeadlineSet, at_us: int
) -> Moves:
    if event.goes_on:
        yield from _unheld(state, template, event, at_us)


def _unheld(
    state: TaskState, template: CompiledTemplate, _event: TaskUnpaused | TaskBudgetSet | TaskDeadlineSet, at_us: int
) -> Moves:
    """Look at every step again, unless the task has not begun."""
    if state.status is not TaskStatus.PENDING:
        yield from _look_at_all(state, template, at_us)


def _look_at_all(state: TaskState, template: CompiledTemplate, at_us: int) -> Moves:
    """Look at every step again: what came to rest while the task was held, or had not begun, is followed up now."""
    for name in template.graph.order:
        yield from _edges(state, template, name)
    for name in template.graph.roots:
        yield from _consider(state, template, name, at_us)
    for name, entry in list(state.steps.items()):
        if entry.status is not StepStatus.WAITING or state.stopping is not None:
            continue
        if entry.waits in ("pause", "turn"):
            yield from begin_again(state, template, name, entry.first_attempt, at_us)
        elif entry.wait is not None:
            yield from look_again(state, template, name)
        elif entry.waits == "place" and name in state.places and state.places[name].held:
            yield attempt_with_place(state, template, template.step(name), name, entry.attempt, at_us)
    for name in template.graph.order:
        if state.stopping is not None:
            return
        yield from _looked_at_again(state, template, name, at_us)


def _edges(state: TaskState, template: CompiledTemplate, step: str) -> Moves:
    """Ask the conditions of the edges to a step that has not begun, of those parents that are done."""
    for parent, condition in template.steps[step].after_when.items():
        if state.has_result(parent) and not state.has_begun(step) and state.stopping is None:
            yield from _edge(state, template, parent, step, condition)


def _looked_at_again(state: TaskState, template: CompiledTemplate, step: str, at_us: int) -> Moves:
    node = state.node(step)
    entry = state.steps.get(node)
    if step in state.closed or node in state.accepted:
        yield from _children(state, template, step, at_us)
    elif entry is None:
        return
    elif entry.status in (StepStatus.COMPLETED, StepStatus.CANCELLED):
        yield from _children(state, template, step, at_us)
    elif entry.status is StepStatus.FAILED:
        yield from _after_failure(state, template, node, at_us)
    elif entry.expansion is not None:
        for item in list(entry.expansion.failed)[:1]:
            yield from _after_failure(state, template, item, at_us)
        yield from next_items(state, template, node, at_us)


def _expanded(state: TaskState, template: CompiledTemplate, event: StepExpanded, at_us: int) -> Moves:
    yield from next_items(state, template, event.step, at_us)


def _turned(state: TaskState, template: CompiledTemplate, event: LoopTurned, at_us: int) -> Moves:
    spec = template.steps[event.step]
    node = state.node(event.step)
    if event.visit > spec.max_visits:
        message = f"step {event.step} was visited {spec.max_visits} times, as often as max_visits allows"
        error = ErrorInfo(type="visits_exhausted", message=message, retryable=False)
        yield StepFailed(step=node, attempt=1, reason="visits_exhausted", error=error)
    elif spec.unchanged_visits_max is not None and _is_unchanged(state, event, spec.unchanged_visits_max):
        message = f"the last {spec.unchanged_visits_max} visits of {event.step} gave the same result: nothing moves"
        error = ErrorInfo(type="no_progress", message=message, retryable=False)
        yield StepFailed(step=node, attempt=1, reason="no_progress", error=error)
    elif verdict_of(state, template, event.step) is Verdict.CLOSED:  # its first visit began by hand, without them
        yield PathsClosed(steps=(event.step,), by=event.by, reason="no way to it is open")
    else:
        yield from _consider(state, template, event.step, at_us)  # by hand it may have turned ahead of its parents
    for failed in event.failures:
        if failed in state.failed:
            yield from _after_failure(state, template, failed, at_us)


def _is_unchanged(state: TaskState, event: LoopTurned, visits: int) -> bool:
    """Return whether the last `visits` visits of the loop's target all gave the same result."""
    if event.visit <= visits:
        return False
    results = (state.result_at(visit_of(event.step, event.visit - back)) for back in range(1, visits + 1))
    return len({None if result is None else bytes(result) for result in results}) == 1


FOLLOWS: Final[dict[type[TaskEvent], Callable[[TaskState, CompiledTemplate, Any, int], Moves]]] = {
    TaskCreated: _roots,
    TaskStarted: _roots,
    StepCompleted: _ended,
    StepSkipped: _ended,
    StepResolved: _ended,
    StepReleased: _released,
    ParentsOverridden: _overridden,
    StepGathered: _ended,
    StepCancelled: _ended,
    StepFailureAccepted: _ended,
    StepFailed: _failed,
    StepExpanded: _expanded,
    PathsClosed: _closed,
    SignalReceived: signalled,
    StepAwaited: awaited,
    ApprovalAnswered: settle,
    PlaceTaken: _taken,
    PlaceDenied: _denied,
    EventMatched: matched,
    TaskCompensating: next_undo,
    LoopTurned: _turned,
    TaskUnpaused: _unheld,
    TaskBudgetSet: _more_given,
    TaskDeadlineSet: _more_given,
}
"""Type of an event -> what follows from it, asked when the state has taken it up; from others nothing does."""

FOLLOWS_WHILE_HELD: Final[dict[type[TaskEvent], Callable[[TaskState, CompiledTemplate, Any, int], Moves]]] = {
    PlaceDenied: _denied,
}
"""The same of a held task: what only widens a person's word."""


# ---------------------------------------------------------------- when nothing follows


def conclude(state: TaskState, template: CompiledTemplate) -> AnyTaskEvent | None:
    """Return what is to be said when a turn is at rest: a loop turns, the task ends, compensates, or is blocked."""
    if state.ended or state.status is TASK_ABSENT:
        return None
    if state.staleness is not None:
        moved = stale_ended(state)
        if moved is not None:
            return moved
    if state.stopping is not None:
        return None if state.open else at_rest(state, template, state.stopping)
    if state.over_budget is not None or state.is_late:
        return _held_up(state, template)
    if state.status is not TASK_RUNNING:
        return None
    for loop in template.loops:
        if may_turn(state, template, loop):
            return LoopTurned(
                step=loop.target,
                by=state.node(loop.by),
                visit=state.visits.get(loop.target, 1) + 1,
                steps=loop.body,
                failures=needed_again(state, template, loop) if state.accepted else (),
            )
    if state.open and not (template.isolates and _only_isolated(state, template)):
        return None
    if state.settled == len(template.steps):
        return _ending(state, template)
    failed = _holding_up(state, template)
    if failed:
        return TaskBlocked(reason="step_failed", steps=failed)
    waiting = tuple(name for name in template.steps if not state.has_begun(name))
    return TaskBlocked(reason="no_progress", steps=waiting, detail="no step can begin, and none is open")


def _ending(state: TaskState, template: CompiledTemplate) -> AnyTaskEvent:
    ending = completion(state, template)
    if isinstance(ending, TaskFailed) and template.compensates("failed"):
        return TaskStopping(ending="failed", cause=RESULT_LIMIT)
    return ending


def _held_up(state: TaskState, template: CompiledTemplate) -> AnyTaskEvent | None:
    """Return what is said of a task that has used up its budget or its time: it is done all the same, or blocked."""
    if state.paused:
        return None
    if is_done(state, template):
        return next(iter(complete_lists(state, template)), None) or _ending(state, template)
    if state.blocked_reason == "history_limit":
        return None
    reason: Literal["budget_exceeded", "deadline_passed"] = (
        DEADLINE_PASSED if state.over_budget is None else BUDGET_EXCEEDED
    )
    return None if state.blocked_reason == reason else TaskBlocked(reason=reason, detail=state.over_budget)


def _only_isolated(state: TaskState, template: CompiledTemplate) -> bool:
    """Return whether all that is open are steps that wait for a person to repair items."""
    waiting = 0
    for name, spec in template.steps.items():  # not all instances: a turn must not cost more as items do
        entry = state.at_node(name) if spec.isolates else None
        expansion = None if entry is None or entry.status is not STEP_WAITING else entry.expansion
        if expansion is not None:
            if expansion.open or not expansion.failed:
                return False
            waiting += 1
    return 0 < waiting == state.open


def _holding_up(state: TaskState, template: CompiledTemplate) -> tuple[str, ...]:
    failed = list(state.failed)
    for name, entry in state.steps.items():
        if entry.expansion is not None and entry.status is StepStatus.WAITING and template.step(name).isolates:
            failed += entry.expansion.failed
    return tuple(failed)
