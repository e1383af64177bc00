"""When a loop turns, and whose failure counts again then."""

from __future__ import annotations

from tasker.service.domain.state import STEP_OPEN, StepState, TaskState
from tasker.service.domain.steps.joins import wanted_of
from tasker.templates import CompiledTemplate
from tasker.templates.instances import name_of
from tasker.templates.loops import Loop


def may_turn(state: TaskState, template: CompiledTemplate, loop: Loop) -> bool:
    """Return whether the step that leads back has completed, and nothing of the loop is open."""
    if not state.has_result(loop.by):
        return False
    if state.visits.get(loop.target, 1) > template.steps[loop.target].max_visits and (
        state.node(loop.target) in state.accepted
    ):
        return False  # what comes behind the target has gone on without it: it would for ever
    for name in loop.body:
        entry = state.at_node(name)
        if entry is not None and (entry.status in STEP_OPEN or _has_open_items(entry)):
            return False
    return True


def _has_open_items(entry: StepState) -> bool:
    """Return whether children of items have not ended that were cancelled with their step."""
    return entry.expansion is not None and bool(entry.expansion.open)


def needed_again(state: TaskState, template: CompiledTemplate, loop: Loop) -> tuple[str, ...]:
    """Return the failed steps outside a loop without which its steps went on, or did not run, and now cannot."""
    body = frozenset(loop.body)
    found: list[str] = []
    for node in state.accepted:
        name = name_of(node)
        if node != state.node(name) or name in body:
            continue  # what an earlier visit failed with is history
        if any(child in body and _needs(state, template, child, name, body) for child in template.graph.children[name]):
            found.append(node)
    return tuple(found)


def _needs(state: TaskState, template: CompiledTemplate, child: str, parent: str, body: frozenset[str]) -> bool:
    """Return whether a step of a loop that turns cannot do without a failed parent outside of it."""
    if (parent, child) in state.closed_edges:
        return False
    spec = template.steps[child]
    if spec.join not in ("any", "n_of"):
        return spec.join != "all_settled"
    outside = (one for one in template.graph.parents[child] if one not in body)
    done = sum(state.has_result(one) and (one, child) not in state.closed_edges for one in outside)
    return done < wanted_of(spec)
