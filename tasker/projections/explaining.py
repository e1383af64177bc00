"""Why a task or a step is where it is: one sentence and its causes, from what the views and NATS say.

Pure: the rows, the template and the facts about queues come in, an `Explanation` goes out. What a step that has begun
waits for is the rule of `views.reasons`; here it is joined with what is around it: the task, steps ahead, its queue.
Words of one wait are those of `views.words`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from tasker.events.reads import (
    TASK_ENDED,
    AskedFacts,
    Cause,
    EndFacts,
    Explanation,
    HoldFacts,
    PlaceFacts,
    QueueFacts,
    RouteFacts,
    StepView,
    TaskView,
    TurnFacts,
    Wait,
)
from tasker.labels import required_by
from tasker.projections.recorded import Told
from tasker.projections.views.words import NAMED_MAX, words_of, words_of_task
from tasker.templates import StepSpec, TemplateSpec
from tasker.templates.graph import Graph, graph_of
from tasker.templates.instances import is_item, is_undo, name_of, node_of, parse_instance
from tasker.templates.model import PRIORITY_MAX

CAUSES_MAX: Final = 10


class Around(NamedTuple):
    """What the views do not know of what steps wait for.

    Attributes:
        queues: name of the step -> how its queue stands, of those that wait for a worker.
        places: the same of concurrency keys, of those that wait for a place; "": of the task.
        told: what the log tells of what is over.
        turns: when those have their turn that wait for one under a rate limit.
    """

    queues: Mapping[str, QueueFacts] = {}
    places: Mapping[str, PlaceFacts] = {}
    told: Told = Told()
    turns: Mapping[str, TurnFacts] = {}


def explain_task(view: TaskView, steps: Sequence[StepView], around: Around) -> Explanation:
    """Return why a task is where it is.

    Args:
        view: of the task.
        steps: those that have begun, as many as are to be named; of items that failed those that are waited for.
        around: what else there is to be known.
    """
    causes = [*_of_task(view, around)]
    if view.state not in ("blocked", "paused", "pending"):
        lists = {one.step for one in steps if one.waiting_facts is not None and one.waiting_facts.kind == "items"}
        causes += _first(
            cause
            for step in steps
            for cause in (_of_failed(step) if _failed_in(step, lists) else _of_step(step, around, ()))
        )
    return Explanation(
        task_id=view.task_id,
        state=view.state,
        sentence=_task_sentence(view, causes, around.told.end),
        position=view.position,
        causes=tuple(causes),
        end=around.told.end,
    )


def explain_step(
    view: TaskView, name: str, spec: TemplateSpec | None, steps: Sequence[StepView], around: Around
) -> Explanation:
    """Return why a step is where it is: an instance among `steps`, or one of the template that has not begun.

    Args:
        view: of its task.
        name: of the instance.
        spec: the template; None: it is not known, so of a step that has not begun no more can be said.
        steps: those of the task that have begun.
        around: as `explain_task` takes it.
    """
    step = next((one for one in steps if one.step == name), None)
    causes: list[Cause] = []
    if step is None:
        state = "not_chosen" if name in view.not_chosen else "pending"
        sentence = _sentence_of_absent(view, name, spec, steps, around, causes)
    else:
        state = step.state
        causes += (
            [] if step.state == "running" else [cause for cause in _of_task(view, around) if cause.kind == "resume"]
        )
        causes += _first(_of_step(step, around, steps))
        if step.state == "failed":
            # The list that an item has failed goes on when it is retried itself: with what of it is left.
            held_up = {name, node_of(name)}.intersection(view.blocked_steps)
            causes += [cause for one in steps if one.step in held_up for cause in _of_failed(one)]
        sentence = _sentence_of_step(step, causes, around.told)
    return Explanation(
        task_id=view.task_id,
        step=name,
        state=state,
        sentence=sentence,
        position=view.position,
        causes=tuple(causes),
        route=around.told.route,
        end=around.told.end,
    )


def unmet_words(spec: StepSpec, open_parents: Sequence[str]) -> str | None:
    """Return in words for which of its parents a step waits; None: for none."""
    if not open_parents:
        return None
    named = ", ".join(open_parents)
    match spec.join:
        case "any":
            return f"the first of step{'s' * (len(open_parents) > 1)} {named}"
        case "n_of":
            return f"{spec.join_count} of its parents, of which step{'s' * (len(open_parents) > 1)} {named} are open"
        case _:
            return f"step{'s' * (len(open_parents) > 1)} {named}"


# ---------------------------------------------------------------- the task


def _of_task(view: TaskView, around: Around) -> Iterable[Cause]:
    if view.state not in ("blocked", "paused", "pending", "compensating") or not view.waiting_facts:
        return
    first, remedy = view.waiting_facts[0], view.remedy
    text = words_of_task(view.waiting_facts) or ""
    if first.kind == "place":
        first = msgspec.structs.replace(first, place=around.places.get("", first.place))
        text = words_of(first)
        remedy = remedy or _remedy_of_place(view.task_id, first.place)
    yield _cause(first, text, remedy)


def _cause(wait: Wait, text: str, remedy: str | None) -> Cause:
    facts = {name: getattr(wait, name) for name in Wait.__struct_fields__}
    return Cause(**facts, text=text, remedy=remedy)


def _task_sentence(view: TaskView, causes: Sequence[Cause], end: EndFacts | None) -> str:
    if view.state in TASK_ENDED:
        error = "" if view.error is None else f": {view.error.type}: {view.error.message[:200]}"
        return f"The task has ended: it {_ENDED[view.state]} at {view.ended_at}{error}{_end_words(end)}."
    if not causes:
        return f"The task is {view.state}; nothing that it waits for has reached the views yet."
    ending = next((wait.ending for wait in view.waiting_facts if wait.kind == "stop"), None)
    state = view.state if ending is None else f"{view.state} and ends as {ending}"
    return f"The task is {state}: it waits for {_joined(_in_task(cause) for cause in causes)}{_end_words(end)}."


_ENDED: Final = {"completed": "completed", "failed": "failed", "cancelled": "was cancelled"}


def _end_words(end: EndFacts | None) -> str:
    """Return what ended the task, where its state and its error do not say it."""
    if end is None:
        return ""
    if end.cause == "concurrency":
        other = "another task" if end.taken_by is None else f"task {end.taken_by}"
        if end.place != "full":
            return f"; it made room for {other} under its concurrency key"
        return "; no place was free under its concurrency key" + (f": {other} had one" if end.taken_by else "")
    if end.cause not in {"cancel", "operator"} or not (end.requested_by or end.reason):
        return ""
    who = end.requested_by or "somebody"
    return f"; {who} asked for it" + (f": {end.reason}" if end.reason else "")


def _in_task(cause: Cause) -> str:
    return cause.text if cause.step is None else f"{cause.text} (step {cause.step})"


def _joined(words: Iterable[str]) -> str:
    found = list(words)
    more = f"; and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
    return "; ".join(found[:NAMED_MAX]) + more


# ---------------------------------------------------------------- a step that has begun


def _of_step(step: StepView, around: Around, steps: Sequence[StepView]) -> Iterable[Cause]:
    wait = step.waiting_facts
    if wait is None:
        return
    match wait.kind:
        case "worker":
            wait = msgspec.structs.replace(wait, queue=around.queues.get(step.step), turn=around.turns.get(step.step))
        case "place":
            wait = msgspec.structs.replace(wait, place=around.places.get(step.step, wait.place))
        case _:
            pass
    yield _cause(wait, words_of(wait), _remedy(step, wait))
    if wait.kind == "items":
        for one in steps:
            if is_item(one.step) and node_of(one.step) == step.step:
                yield from _of_failed(one) if one.state == "failed" else _of_step(one, around, steps)


def _remedy(step: StepView, wait: Wait) -> str | None:
    """Return a command that helps, or tells more; None: there is nothing to be done but to wait."""
    at = f"{step.task_id} {step.step}"
    match wait.kind:
        case "worker" if wait.turn is not None and (wait.queue is None or wait.queue.asking):
            return f"tasker task update {step.task_id} --priority {PRIORITY_MAX}" if wait.turn.ahead else None
        case "worker" if wait.worker is not None and wait.queue is not None and wait.queue.asking:
            return None
        case "worker":
            labels = {} if wait.queue is None else required_by(wait.queue.queue)
            return " ".join(["tasker worker APP.py", *(f"--label {name}={labels[name]}" for name in sorted(labels))])
        case "approval":
            return f"tasker approval approve {at} --requested-by NAME{_in_a_role(wait.approval)}"
        case "signal":
            return f"tasker task signal {step.task_id} {wait.signal or 'NAME'}"
        case "retry" | "time" | "checkpoint" if step.state == "waiting":
            return f"tasker step release {at}"
        case "child" if wait.child_task_id is not None:
            return f"tasker task explain {wait.child_task_id}"
        case "hold":
            return _remedy_of_hold(wait.hold)
        case "place":
            return _remedy_of_place(step.task_id, wait.place)
        case _:
            return None


def _in_a_role(asked: AskedFacts | None) -> str:
    """Return the option without which nobody may answer: a role, where no person is asked by name."""
    if asked is None or asked.assignees or not asked.roles:
        return ""
    return f" --role {asked.roles[0] if len(asked.roles) == 1 else 'ROLE'}"


def _remedy_of_place(task_id: str, place: PlaceFacts | None) -> str | None:
    """Return the command that lets a task go before others, or, where it is the next, tells what is before it."""
    if place is not None and place.ahead:
        return f"tasker task update {task_id} --priority {PRIORITY_MAX}"
    if place is not None and place.holders:
        holder = place.holders[0]
        if holder.task_id == task_id and holder.step is not None:
            return f"tasker step explain {task_id} {holder.step}"
        return f"tasker task explain {holder.task_id}"
    return None


def _remedy_of_hold(hold: HoldFacts | None) -> str:
    """Return the command that ends a pause; of a circuit, the one that tells how it came to be open."""
    if hold is None or hold.ramp_until is not None:
        return "tasker controls"
    at = f" --namespace {hold.namespace}" if hold.namespace not in ("", "default") else ""
    if hold.circuit is not None:
        return f"tasker circuits events {hold.name}{at}"
    named = f" {hold.name}" if hold.scope in ("template", "queue") else ""
    return f"tasker resume {hold.scope}{named}{at} --reason WHY"


def _failed_in(step: StepView, lists: Container[str]) -> bool:
    return step.state == "failed" and is_item(step.step) and node_of(step.step) in lists


def _of_failed(step: StepView) -> Iterable[Cause]:
    detail = None if step.error is None else f"{step.error.type}: {step.error.message[:200]}"
    wait = Wait(
        kind="repair", reason="step_failed", step=step.step, steps=(step.step,), since=step.ended_at, detail=detail
    )
    yield _cause(wait, words_of(wait), f"tasker step retry {step.task_id} {step.step}")


def _sentence_of_step(step: StepView, causes: Sequence[Cause], told: Told) -> str:
    match step.state:
        case "completed":
            how = f" ({step.by_hand} by hand)" if step.by_hand else ""
            if step.error is not None:
                how = f" without a result, as its template says, after {step.error.type}: {step.error.message[:200]}"
            return f"Step {step.step} completed at {step.ended_at}{how}{_route_words(told.route)}."
        case "failed":
            error = "" if step.error is None else f": {step.error.type}: {step.error.message[:200]}"
            return f"Step {step.step} failed at {step.ended_at}, with attempt {step.attempt}{error}."
        case "cancelled":
            why = f": {told.cancelled}" if told.cancelled else ""
            return f"Step {step.step} was cancelled at {step.ended_at}{why}{_end_words(told.end)}."
        case "running":
            return f"Step {step.step} has run on worker {step.worker} since {step.started_at} (attempt {step.attempt})."
        case _:
            words = _joined(cause.text if cause.step in {None, step.step} else _in_task(cause) for cause in causes)
            error = (
                ""
                if step.error is None
                else f" Its last attempt failed: {step.error.type}: {step.error.message[:200]}."
            )
            return f"Step {step.step} waits for {words}.{error}"


def _route_words(route: RouteFacts | None) -> str:
    if route is None:
        return ""
    chosen, closed = ", ".join(route.chosen), ", ".join(route.closed)
    which = f"{chosen}, not {closed}" if chosen and closed else chosen or f"none of {closed}"
    why = f": {route.reason}" if route.reason else ""
    return f"; {route.requested_by or 'it'} chose {which}{why}"


# ---------------------------------------------------------------- a step that has not begun


def _sentence_of_absent(  # noqa: PLR0917 - what is around it
    view: TaskView,
    name: str,
    spec: TemplateSpec | None,
    steps: Sequence[StepView],
    around: Around,
    causes: list[Cause],
) -> str:
    if name in view.not_chosen:
        return f"Step {name} will not run: {view.not_chosen[name]}."
    if view.state in TASK_ENDED:
        return (
            f"Step {name} has not begun, and the task has ended: it {_ENDED[view.state]}{_end_words(around.told.end)}."
        )
    causes += [cause for cause in _of_task(view, around) if cause.kind in ("resume", "start_time", "place")]
    if is_item(name):
        causes += _of_item(name, spec, steps, around)
    declared = {} if spec is None else {step.name: step for step in spec.steps}
    step = declared.get(name)
    if spec is not None and step is not None:
        nodes = newest_visits(steps)
        unmet = unmet_parents(view, step, nodes.get)
        words = unmet_words(step, unmet)
        if words is not None:
            causes.append(Cause(kind="parents", text=words, step=name, steps=tuple(unmet)))
            ahead = _ahead(view, graph_of(spec.steps), declared, unmet, nodes)
            causes += _first(
                cause
                for one in ahead
                for cause in (_of_failed(one) if one.state == "failed" else _of_step(one, around, steps))
            )
    if not causes:
        return f"Step {name} has not begun; what it waits for has not reached the views yet."
    return f"Step {name} has not begun: it waits for {_joined(_in_chain(cause, name) for cause in causes)}."


def _of_item(name: str, spec: TemplateSpec | None, steps: Sequence[StepView], around: Around) -> list[Cause]:
    """Return what an item waits for that has not begun: its turn, behind those of its step that are open."""
    node = node_of(name)
    row = next((one for one in steps if one.step == node), None)
    of_step = None if spec is None else next((one for one in spec.steps if one.name == name_of(node)), None)
    if row is None or of_step is None or row.waiting_facts is None or row.waiting_facts.kind != "items":
        return []
    text = f"its turn: of step {node} {of_step.items_at_a_time} run at a time"
    first = Cause(kind="items", text=text, step=name)
    return [first, *_first(cause for cause in _of_step(row, around, steps) if cause.step != node)][:CAUSES_MAX]


def _in_chain(cause: Cause, name: str) -> str:
    return cause.text if cause.step in {None, name} else f"there {_in_task(cause)}"


def newest_visits(steps: Iterable[StepView]) -> dict[str, StepView]:
    """Return the newest visit of each step that has begun, by the step's name."""
    found: dict[str, tuple[int, StepView]] = {}
    for one in steps:
        if is_item(one.step) or is_undo(one.step):
            continue
        instance = parse_instance(one.step)
        if instance.visit >= found.get(instance.name, (0, one))[0]:
            found[instance.name] = (instance.visit, one)
    return {name: one for name, (_, one) in found.items()}


def unmet_parents(view: TaskView, step: StepSpec, begun: Callable[[str], StepView | None]) -> list[str]:
    """Return the parents of a step that has not begun which have not completed and still may."""
    return [
        name
        for name in step.after
        if name not in view.not_chosen and ((one := begun(name)) is None or one.state != "completed")
    ]


def _ahead(
    view: TaskView,
    graph: Graph,
    declared: Mapping[str, StepSpec],
    unmet: Sequence[str],
    nodes: Mapping[str, StepView],
) -> list[StepView]:
    """Return the steps ahead that have begun and not completed: what everything behind them waits for."""
    found: dict[str, StepView] = {}
    seen: set[str] = set()
    waiting = list(unmet)
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        one = nodes.get(name)
        if one is None:
            waiting += unmet_parents(view, declared[name], nodes.get)
        elif one.state != "completed":
            found[name] = one
    return [found[name] for name in graph.order if name in found]


def _first(causes: Iterable[Cause]) -> list[Cause]:
    """Return the first causes; items of one list that wait for the same are one, which says how many they are."""
    found: list[Cause] = []
    alike: dict[tuple[object, ...], Cause] = {}
    for cause in causes:
        likeness = _likeness(cause)
        first = None if likeness is None else alike.get(likeness)
        if first is not None:
            first.more += 1
            continue
        if likeness is not None:
            alike[likeness] = cause
        found.append(cause)
    for cause in alike.values():
        if cause.more:
            cause.text += f"; so do{_more_items(cause.more)}"
    return found[:CAUSES_MAX]


def _more_items(count: int) -> str:
    return f" {count} more items of its list" if count > 1 else "es 1 more item of its list"


def _likeness(cause: Cause) -> tuple[object, ...] | None:
    """Return what is the same of items that wait for the same; None: it is no item, or waits for what is its own."""
    if cause.step is None or not is_item(cause.step) or cause.kind not in {"worker", "place", "hold", "turn"}:
        return None
    queue = None if cause.queue is None else cause.queue.queue
    return node_of(cause.step), cause.kind, cause.key, cause.worker, queue, cause.hold
