"""Who goes first where work waits: a task's priority, what its step adds, and whose share it takes."""

from __future__ import annotations

from typing import Final, NamedTuple

from tasker.errors import ExpressionFailed
from tasker.service.domain.state import TaskState
from tasker.templates import CompiledTemplate
from tasker.templates.fairness import NO_SHARE, Share, share_of
from tasker.templates.model import PRIORITY_MAX

OLD_S: Final = 60.0
"""What has waited longer than this is old."""

OLD_EVERY: Final = 16
"""One of so many turns is for what has waited longest, if that is old, whatever its priority: nothing starves."""


class Rank(NamedTuple):
    """How something that waits stands beside others.

    Attributes:
        priority: the higher goes first.
        share, weight: among those of one priority, whose share it takes (None: that of all without a key), and how
            large that is.
    """

    priority: int = 0
    share: str | None = None
    weight: float = 1.0


PLAIN: Final = Rank()


def priority_of(state: TaskState, template: CompiledTemplate, step: str) -> int:
    """Return the priority of a step's work: that of the task, and what the step adds; "": of the task."""
    priority = state.priority
    if step and template.is_ordered:
        return max(-PRIORITY_MAX, min(priority + template.step(step).priority, PRIORITY_MAX))
    return priority


def step_share_of(state: TaskState, template: CompiledTemplate, step: str) -> Share:
    """Return whose share the work of a step takes; "": the task as a whole.

    An input that gives none (a build before this one found it good) takes that of all without a key.
    """
    if not template.is_shared:
        return NO_SHARE
    fairness = template.fairness_of(step) if step else template.spec.fairness
    if fairness is None:
        return NO_SHARE
    try:
        return share_of(fairness, state.input)
    except ExpressionFailed:
        return NO_SHARE


def rank_of(state: TaskState, template: CompiledTemplate, step: str) -> Rank:
    """Return how a step (or "", the task as a whole) stands where it waits."""
    return Rank(priority_of(state, template, step), *step_share_of(state, template, step))
