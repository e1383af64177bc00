"""A template as it is run: the spec with its graph, its hash and its compiled input schema.

Compiling costs some milliseconds and is a function of the content alone, so it happens once for each
content in a process; the result is shared and immutable.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType

from tasker.events import codec
from tasker.events.codec import JsonValue
from tasker.templates.graph import Graph, graph_of
from tasker.templates.hash import canonical_bytes, from_canonical
from tasker.templates.input_schema import InputSchema, compiled_schema
from tasker.templates.model import StepSpec, TemplateSpec


@dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)
class CompiledTemplate:
    """A template ready to decide on: every lookup is O(1).

    Attributes:
        spec: the content; its version is None, since a content may have several.
        hash: of the content.
        steps: by name, in declared order.
        input_schema: what inputs must match; None: any value.
    """

    spec: TemplateSpec
    hash: str
    graph: Graph
    steps: Mapping[str, StepSpec]
    input_schema: InputSchema | None

    def __repr__(self) -> str:
        return f"CompiledTemplate({self.spec.namespace}/{self.spec.name}, {self.hash[:12]})"

    def __contains__(self, step: object) -> bool:
        return step in self.steps

    def step(self, name: str) -> StepSpec:
        """Return the step called `name`; KeyError when there is none."""
        return self.steps[name]

    def parents_of(self, step: str) -> tuple[str, ...]:
        """Return the steps that `step` waits for, as its `after` declares them."""
        return self.graph.parents[step]

    def children_of(self, step: str) -> tuple[str, ...]:
        """Return the steps that wait for `step`, as the template declares them."""
        return self.graph.children[step]

    @property
    def roots(self) -> tuple[str, ...]:
        """Return the steps that wait for none."""
        return self.graph.roots

    @property
    def sinks(self) -> tuple[str, ...]:
        """Return the last steps."""
        return self.graph.sinks

    @property
    def result_step(self) -> str | None:
        """Return the step whose result is the task's; None: an object of all `sinks` by name."""
        if self.spec.result is not None:
            return self.spec.result
        return self.sinks[0] if len(self.sinks) == 1 else None

    def queue_of(self, step: str) -> str:
        """Return the queue on which the work of `step` is offered."""
        return self.spec.queue_of(self.steps[step])

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
    return CompiledTemplate(
        spec=spec,
        hash=codec.hash_of(blob),
        graph=graph_of(spec.steps),
        steps=MappingProxyType({step.name: step for step in spec.steps}),
        input_schema=None if spec.input_schema is None else compiled_schema(codec.canonical(spec.input_schema)),
    )


def compile_template(spec: TemplateSpec) -> CompiledTemplate:
    """Return the compiled form of a valid `spec`."""
    return compiled_from(canonical_bytes(spec))
