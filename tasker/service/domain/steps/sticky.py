"""The worker that a sticky step is kept for: what an earlier step left there, a file or a model in memory, is at hand.

It stands in the event that offers an attempt, so that whoever owns the task keeps to it, and whoever asks can see it.
Whether that worker still lives is not decided here: who hands the attempt out knows, and gives it to any other then.
"""

from __future__ import annotations

from tasker.service.domain.state import TaskState
from tasker.templates import StepSpec


def kept_for(state: TaskState, spec: StepSpec, instance: str, ran_on: str | None = None) -> str | None:
    """Return the worker that the next attempt of an instance is kept for; None: any.

    It is the one that began an attempt of it, or of the step that it sticks to, last. `ran_on`: the worker of its
    attempt that ends in this very turn.
    """
    if ran_on is not None:
        return ran_on
    assert spec.sticky is not None  # noqa: S101 - asked of sticky steps alone
    found = [state.steps.get(state.node(spec.sticky)), state.steps.get(instance)]
    ran = [one for one in found if one is not None and one.worker is not None]
    return max(ran, key=lambda one: one.started_us).worker if ran else None
