"""What holds steps and tasks back, added to what reads say they wait for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Final, cast

import msgspec

from tasker.controls import Circuit, Controls, Place, Target, chance_of
from tasker.controls.fold import Hold, Paced
from tasker.errors import Unavailable
from tasker.events.control_events import ControlScope, LimitScope
from tasker.events.reads import CircuitFacts, HoldFacts, LimitFacts, LimitOf, StepView, TaskView, Wait
from tasker.projections.views.words import words_of, words_of_task
from tasker.service.http.services import Services
from tasker.templates import TemplateSpec
from tasker.templates.instances import name_of, parse_instance
from tasker.times import to_rfc3339, to_rfc3339_if

LOOK_S: Final = 1.0
"""Reads of tasks and steps may be so much behind the controls."""


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
        if found is None or step.waiting_facts is None:
            continue
        place = Place(view.tenant, view.namespace, view.template, spec.queue_of(found), found.handler)
        hold = controls.hold_of(place, chance_of(view.task_id, step.step), now_us)
        if hold is not None:
            step.waiting_facts = held(step.waiting_facts, hold)
        else:
            declared = None if parse_instance(step.step).undoes else found.rate_limit
            step.waiting_facts.limits = _limits(controls.limits_of(place, found.name, declared))
        step.waiting_on = words_of(step.waiting_facts)


async def add_to_tasks(services: Services, tasks: Iterable[TaskView]) -> None:
    """Say of tasks that wait for a worker what holds their steps back; queue and handler are as by default."""
    waiting = [task for task in tasks if any(wait.kind == "worker" for wait in task.waiting_facts)]
    if not waiting:
        return
    controls = await controls_now(services)
    if controls is None:
        return
    now_us = services.clock.now_us()
    for task in waiting:
        place = Place(task.tenant, task.namespace, task.template, task.template)

        def of(wait: Wait, task: TaskView = task, place: Place = place) -> Wait:
            step = wait.step or ""
            hold = controls.hold_of(place._replace(handler=name_of(step)), chance_of(task.task_id, step), now_us)
            return wait if hold is None else held(wait, hold)

        task.waiting_facts = tuple(of(wait) if wait.kind == "worker" else wait for wait in task.waiting_facts)
        task.waiting_on = words_of_task(task.waiting_facts)


def held(wait: Wait, hold: Hold) -> Wait:
    """Return what an attempt waits for that is held back."""
    target = hold.target
    facts = HoldFacts(
        scope=cast("ControlScope | LimitScope", target.scope),
        since=to_rfc3339(hold.since_us),
        namespace=target.namespace,
        name=target.name or target.tenant,
        requested_by=hold.by,
        reason=hold.reason,
        ramp_until=to_rfc3339_if(hold.ramp_until_us),
        circuit=None if hold.circuit is None else circuit_facts(hold.circuit),
    )
    until = to_rfc3339_if(hold.until_us)
    return msgspec.structs.replace(wait, kind="hold", hold=facts, until=until)


def circuit_facts(circuit: Circuit) -> CircuitFacts:
    """Return how a circuit that holds attempts stands."""
    opened = circuit.opened
    return CircuitFacts(
        state="half_open" if circuit.state == "half_open" else "open",
        opened_at=to_rfc3339(circuit.opened_us),
        trial_at=to_rfc3339(circuit.until_us),
        open_s=opened.open_s,
        again=opened.again,
        failures=opened.failures,
        attempts=opened.attempts,
        error=opened.error,
    )


def _limits(found: Iterable[tuple[Target, Paced]]) -> tuple[LimitFacts, ...]:
    return tuple(
        LimitFacts(
            scope=cast("LimitOf", target.scope),
            per_s=limit.per_s,
            namespace=target.namespace,
            name=target.name,
            key=limit.key,
        )
        for target, limit in found
    )
