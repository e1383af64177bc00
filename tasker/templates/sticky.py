"""The keys `sticky` and `sticky_wait_s` of a step: it runs on the worker that ran an earlier one, while that lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tasker.templates.graph import Graph
from tasker.templates.model import StepSpec
from tasker.templates.reading import ObjectReader, quoted


def sticky_keys(step: ObjectReader) -> dict[str, Any]:
    """Return the values of both keys of a step's document; faulty ones are left out."""
    if "sticky_wait_s" in step and "sticky" not in step:
        step.fault("sticky_wait_s", "does nothing without sticky, which names the step whose worker it waits for")
    return {"sticky": step.name("sticky"), "sticky_wait_s": step.optional_seconds("sticky_wait_s")}


def check_sticky(
    step: StepSpec, steps: Mapping[str, StepSpec], graph: Graph, fault: Callable[[str, str], None]
) -> None:
    """Note what is wrong with the step that a step sticks to: it is itself, or ran on one worker before.

    All that is ahead of `step` is known; whether there is a step of that name is looked at elsewhere.
    """
    name = step.sticky
    if name is None or name == step.name or name not in steps:
        return
    if name not in graph.ancestors(step.name):
        fault(
            "sticky", f"step {quoted(name)} does not run ahead of {step.name}: name it in `after`, or a step behind it"
        )
    elif steps[name].kind != "handler":
        fault("sticky", f"no worker runs step {quoted(name)}")
    elif steps[name].expands:
        fault("sticky", f"step {quoted(name)} runs for many items, on many workers")
