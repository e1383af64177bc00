"""Loops of a template: an edge that goes back is no edge of the DAG, but says what begins anew.

    check -> pause (back_to: check)        when pause has completed, check and all behind it begin anew: check#2, ...
          -> done

The body of a loop is its target and every step behind that. A visit ends before the next begins: the loop turns when
nothing of the body is open any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tasker.templates.graph import Graph
from tasker.templates.model import StepSpec


class Loop(NamedTuple):
    """One step that leads back.

    Attributes:
        by: the step that leads back. target: where to.
        body: what begins anew, in declared order.
    """

    by: str
    target: str
    body: tuple[str, ...]


def loops_of(steps: Sequence[StepSpec], graph: Graph) -> tuple[Loop, ...]:
    """Return the loops of valid `steps`, in declared order."""
    found = []
    for step in steps:
        if step.back_to is not None:
            behind = graph.descendants(step.back_to) | {step.back_to}
            found.append(Loop(step.name, step.back_to, tuple(one.name for one in steps if one.name in behind)))
    return tuple(found)
