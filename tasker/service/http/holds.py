"""What holds steps and tasks back, in the words of their reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Final

from tasker.controls import Controls, Place, chance_of
from tasker.errors import Unavailable
from tasker.events.reads import StepView, TaskView
from tasker.service.http.services import Services
from tasker.templates import TemplateSpec
from tasker.templates.instances import name_of, parse_instance

LOOK_S: Final = 1.0
"""Reads of tasks and steps may be so much behind the controls."""

_FOR_A_WORKER: Final = "a worker for step "


async def controls_now(services: Services) -> Controls | None:
    """Return the controls that hold something back; None when none does.

    What they are at most a second ago; when the log cannot be asked, what was known last.
    """
    with contextlib.suppress(Unavailable):
        await services.controls.look_if_older(LOOK_S)
    controls = services.controls.controls
    return controls if controls.hold_something(services.clock.now_us()) else None


async def add_to_steps(
    services: Services, view: TaskView, spec: TemplateSpec | None, steps: Iterable[StepView]
) -> None:
    """Say of steps that are on offer what holds them back."""
    waiting = [step for step in steps if step.state == "dispatched"]
    if spec is None or not waiting:
        return
    controls = await controls_now(services)
    if controls is None:
        if not any(step.rate_limit is not None for step in spec.steps):
            return
        controls = Controls()
    specs = {step.name: step for step in spec.steps}
    now_us = services.clock.now_us()
    for step in waiting:
        found = specs.get(name_of(step.step))
        if found is None:
            continue
        place = Place(view.tenant, view.namespace, view.template, spec.queue_of(found), found.handler)
        hold = controls.hold_of(place, chance_of(view.task_id, step.step), now_us)
        if hold is not None:
            step.waiting_on, step.waiting_for = hold.words, "hold"
        else:
            declared = None if parse_instance(step.step).undoes else found.rate_limit
            step.waiting_on = controls.limit_words(place, found.name, declared) or step.waiting_on


async def add_to_tasks(services: Services, tasks: Iterable[TaskView]) -> None:
    """Say of tasks that wait for a worker what holds their steps back; the queue is that of the template."""
    waiting = [task for task in tasks if task.waiting_on is not None and task.waiting_on.startswith(_FOR_A_WORKER)]
    if not waiting:
        return
    controls = await controls_now(services)
    if controls is None:
        return
    now_us = services.clock.now_us()
    for task in waiting:
        assert task.waiting_on is not None  # noqa: S101 - see above
        step = task.waiting_on.removeprefix(_FOR_A_WORKER).partition(";")[0]
        place = Place(task.tenant, task.namespace, task.template, task.template)
        hold = controls.hold_of(place, chance_of(task.task_id, step), now_us)
        if hold is not None:
            task.waiting_on, task.waiting_for = hold.words, "hold"
