"""May a step begin? What its parents say, by the way it joins them.

Every parent is, for one child: *done* (completed), *out* (it will give no result: it does not run, was cancelled, or
the edge does not count), *failed*, or still *coming*.

| join          | ready                          | closed (it will not run)                | else it waits |
|---------------|--------------------------------|-----------------------------------------|---------------|
| `all`         | all done                       | one is out                              |               |
| `deferred`    | none coming or failed, one done| all out                                 |               |
| `any`, `n_of` | enough done                    | too few can come, and none has failed   |               |
| `all_settled` | none coming, one done or failed| all out                                 |               |

A failure is *accepted* once no child needs the failed step: then it holds nothing up. Whether a join of the kind `any`
or `n_of` does is open while enough others can complete.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from tasker.service.domain.state import StepStatus, TaskState
from tasker.templates import CompiledTemplate, StepSpec


class Verdict(Enum):
    """What the parents of a step say."""

    READY = auto()
    CLOSED = auto()
    WAIT = auto()


class Need(Enum):
    """Whether a step needs the result of a parent that failed."""

    YES = auto()
    NO = auto()
    OPEN = auto()


class _Parents(NamedTuple):
    done: int
    out: int
    failed: int
    coming: int


def verdict_of(state: TaskState, template: CompiledTemplate, step: str) -> Verdict:
    """Return whether a step that has not begun may begin."""
    parents = template.graph.parents[step]
    spec = template.steps[step]
    if not parents:
        return Verdict.READY
    done, out, failed, coming = _parents(state, step, parents)
    match spec.join:
        case "all":
            return Verdict.CLOSED if out else _ready_if(done == len(parents))
        case "deferred":
            return Verdict.CLOSED if out == len(parents) else _ready_if(not coming and not failed)
        case "any" | "n_of":
            wanted = wanted_of(spec)
            if done >= wanted:
                return Verdict.READY
            return Verdict.CLOSED if done + coming + failed < wanted else Verdict.WAIT
        case "all_settled":
            return Verdict.CLOSED if out == len(parents) else _ready_if(not coming)


def need_of(state: TaskState, template: CompiledTemplate, failed: str, child: str) -> Need:
    """Return whether `child` needs a result of `failed`, a step that has failed."""
    if child in state.closed or (failed, child) in state.closed_edges:
        return Need.NO
    entry = state.at_node(child)
    if entry is not None and (not entry.failed_before_it_began or state.node(child) in state.accepted):
        return Need.NO  # a retry of one that failed at an expression, before it began, looks at its parents again
    spec = template.steps[child]
    if spec.join == "all_settled":
        return Need.NO
    if spec.join in ("all", "deferred"):
        return Need.YES
    parents = _parents(state, child, template.graph.parents[child])
    if parents.done >= wanted_of(spec):
        return Need.NO
    return Need.OPEN if parents.done + parents.coming >= wanted_of(spec) else Need.YES


def wanted_of(spec: StepSpec) -> int:
    """Return how many results a join of the kind `any` or `n_of` needs."""
    return 1 if spec.join == "any" else spec.join_count or 1


def _ready_if(is_ready: object) -> Verdict:
    return Verdict.READY if is_ready else Verdict.WAIT


def _parents(state: TaskState, step: str, parents: tuple[str, ...]) -> _Parents:
    done = out = failed = 0
    for parent in parents:
        if parent in state.closed or (parent, step) in state.closed_edges:
            out += 1
            continue
        entry = state.at_node(parent)
        if entry is None:
            continue
        match entry.status:
            case StepStatus.COMPLETED:
                done += 1
            case StepStatus.FAILED:
                failed += 1
            case StepStatus.CANCELLED:
                out += 1
            case _:
                pass
    return _Parents(done, out, failed, len(parents) - done - out - failed)
