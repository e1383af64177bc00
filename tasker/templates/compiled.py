"""A template as it is run: the spec with its graph, its hash and its compiled input schema.

Compiling costs some milliseconds and is a function of the content alone, so it happens once for each
content in a process; the result is shared and immutable.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tasker.events import codec
from tasker.events.codec import JsonValue
from tasker.events.task_events import Ending
from tasker.templates.expressions import Expression, compile_expression
from tasker.templates.graph import Graph, graph_of
from tasker.templates.hash import canonical_bytes, from_canonical
from tasker.templates.input_schema import InputSchema, compiled_schema
from tasker.templates.instances import is_undo, name_of
from tasker.templates.loops import Loop, loops_of
from tasker.templates.model import Fairness, StepSpec, TemplateSpec, undo_step


@dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)
class CompiledTemplate:
    """A template ready to decide on: every lookup is O(1).

    Attributes:
        spec: the content; its version is None, since a content may have several.
        hash: of the content.
        steps: by name, in declared order.
        input_schema: what inputs must match; None: any value.
        sinks: the last steps; one that leads back is none.
        result_step: the step whose result is the task's; None: an object of all `sinks` by name.
        plain: steps that start on a worker once all their parents have completed, whatever these gave.
        loops: those of its steps that lead back.
        isolates: a step of it may wait for a person to repair items while others go on.
        undos: steps with a compensation -> how that is run: its handler, retries and times.
        signals: the signals that its steps wait for -> what their values must match; None: any value.
        forms: steps that ask people -> what the values of their answers must match.
        is_paced: a step of it has a rate limit: the gate is asked before its attempts begin.
        is_guarded: a step of it has a circuit breaker: how its attempts end is counted.
        is_shared: work of it takes shares of the slots of its queues.
        is_ordered: so it does, or a step of it has a priority: what waits of it has its place at its owner.
        is_sticky: a step of it may be kept for a worker.
        is_capped: whether a new task may be let in has to be asked.
        is_telling: a step of it raises domain events.
        is_listening: a step of it waits for events that fit an expression: what that reads may change meanwhile.
        knows_creator: a task of it keeps who created it, or changed it by hand: an approval of it may not be theirs.
    """

    spec: TemplateSpec
    hash: str
    graph: Graph
    steps: Mapping[str, StepSpec]
    input_schema: InputSchema | None
    sinks: tuple[str, ...]
    result_step: str | None
    plain: frozenset[str]
    loops: tuple[Loop, ...]
    isolates: bool
    undos: Mapping[str, StepSpec]
    signals: Mapping[str, InputSchema | None]
    forms: Mapping[str, InputSchema]
    knows_creator: bool
    is_capped: bool
    is_telling: bool
    is_listening: bool
    is_paced: bool
    is_guarded: bool
    is_shared: bool
    is_ordered: bool
    is_sticky: bool

    def __repr__(self) -> str:
        return f"CompiledTemplate({self.spec.namespace}/{self.spec.name}, {self.hash[:12]})"

    def __contains__(self, step: object) -> bool:
        return step in self.steps

    def step(self, name: str) -> StepSpec:
        """Return the step called `name`, or whose instance is called so; KeyError when there is none.

        For the compensation of an instance it is a step that runs that, behind the one that it undoes.
        """
        found = self.steps.get(name)
        if found is not None:
            return found
        return self.undos[name_of(name)] if is_undo(name) else self.steps[name_of(name)]

    def compensates(self, ending: Ending) -> bool:
        """Return whether a task undoes what it did when it ends so."""
        if ending == "completed" or not self.undos:
            return False
        return self.spec.compensate_on in ("both", "cancel" if ending == "cancelled" else "failure")

    def children_of(self, step: str) -> tuple[str, ...]:
        """Return the steps that wait for `step`, as the template declares them."""
        return self.graph.children[step]

    @property
    def roots(self) -> tuple[str, ...]:
        """Return the steps that wait for none."""
        return self.graph.roots

    def queue_of(self, step: str) -> str:
        """Return the queue to which the work of `step` belongs."""
        return self.spec.queue_of(self.step(step))

    def work_queue_of(self, step: str) -> str:
        """Return the queue in which the work of `step` is offered."""
        return self.spec.work_queue_of(self.step(step))

    def fairness_of(self, step: str) -> Fairness | None:
        """Return among whom the slots are shared for the work of `step`."""
        return self.step(step).fairness or self.spec.fairness

    def expression(self, text: str) -> Expression:
        """Return the compiled form of one of its expressions."""
        return compile_expression(text)

    def check_input(self, value: JsonValue) -> None:
        """Return when a task may start with `value`.

        Raises:
            InputInvalid: it does not match the schema; `errors` has each fault with its place.
        """
        if self.input_schema is not None:
            self.input_schema.check(value)


@functools.lru_cache(maxsize=4096)
def compiled_from(blob: bytes) -> CompiledTemplate:
    """Return the one compiled form of the content `blob`.

    Raises:
        Undecodable: this build does not understand the blob.
    """
    spec = from_canonical(blob)
    graph = graph_of(spec.steps)
    leads_back = {step.name for step in spec.steps if step.back_to is not None}
    sinks = tuple(name for name in graph.sinks if name not in leads_back)
    is_shared = spec.fairness is not None or any(step.fairness is not None for step in spec.steps)
    return CompiledTemplate(
        spec=spec,
        hash=codec.hash_of(blob),
        graph=graph,
        steps=MappingProxyType({step.name: step for step in spec.steps}),
        input_schema=_schema_of(spec.input_schema),
        sinks=sinks,
        result_step=spec.result or (sinks[0] if len(sinks) == 1 else None),
        plain=frozenset(step.name for step in spec.steps if _is_plain(step)),
        loops=loops_of(spec.steps, graph),
        isolates=any(step.isolates for step in spec.steps),
        undos=MappingProxyType({step.name: undo_step(step) for step in spec.steps if step.compensate is not None}),
        signals=MappingProxyType(
            {step.signal: _schema_of(step.signal_schema) for step in spec.steps if step.signal is not None}
        ),
        forms=MappingProxyType(
            {
                step.name: compiled_schema(codec.canonical(step.approval.form))
                for step in spec.steps
                if step.approval is not None and step.approval.form is not None
            }
        ),
        knows_creator=any(step.approval is not None and step.approval.four_eyes for step in spec.steps),
        is_paced=any(step.rate_limit is not None for step in spec.steps),
        is_guarded=any(step.circuit_breaker is not None for step in spec.steps),
        is_telling=any(step.emits for step in spec.steps),
        is_listening=any(step.event_when is not None for step in spec.steps),
        is_shared=is_shared,
        is_ordered=is_shared or any(step.priority for step in spec.steps),
        is_sticky=any(step.sticky is not None for step in spec.steps),
        is_capped=(spec.max_running, spec.max_ready, spec.singleton, spec.debounce) != (None, None, None, None),
    )


def _schema_of(schema: dict[str, Any] | None) -> InputSchema | None:
    return None if schema is None else compiled_schema(codec.canonical(schema))


def _is_plain(step: StepSpec) -> bool:
    return (
        step.kind == "handler"
        and step.join == "all"
        and step.when is None
        and not step.after_when
        and not step.expands
        and step.concurrency is None
    )


def compile_template(spec: TemplateSpec) -> CompiledTemplate:
    """Return the compiled form of a valid `spec`."""
    return compiled_from(canonical_bytes(spec))
