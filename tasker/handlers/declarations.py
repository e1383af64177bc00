"""What the decorators of a template in Python have declared, put together: its document, and its functions.

The DAG comes from the functions' own signatures; a function may depend on one that is declared further down, so nothing
is looked at before all of them are there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from tasker.errors import ConfigurationError, FieldError
from tasker.handlers.handler import HandlerSpec, Parameter, faults_of_running, parameters_of, place_of, type_of
from tasker.handlers.models import schema_of
from tasker.suggestions import did_you_mean
from tasker.templates.model import StepSpec, TemplateSpec

_POINTER_OF_STEP: Final = re.compile(r"/steps/(\d+)(/compensate.*)?")


@dataclasses.dataclass(frozen=True, slots=True)
class StepHandler:
    """A step's function with the place it serves: work of `queue` in `namespace` that names `spec.name`."""

    namespace: str
    queue: str
    spec: HandlerSpec


@dataclasses.dataclass(frozen=True, slots=True)
class DeclaredStep:
    """A step as its decorator, or its method, was told of it; `function` is None where the service does it.

    Attributes:
        place: where it is declared, to begin a message with.
    """

    name: str
    place: str
    handler: str | None
    function: Callable[..., Any] | None
    after: tuple[str, ...]
    conditions: dict[str, str]
    keys: dict[str, Any]
    process: bool
    concurrency: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Undo:
    """What undoes the step called `step`."""

    step: str
    handler: str
    function: Callable[..., Any]
    keys: dict[str, Any]
    process: bool
    concurrency: int | None


class Declarations:
    """The steps and compensations of a template that is being written, in the order in which they are declared."""

    def __init__(self) -> None:
        self.steps: list[DeclaredStep] = []
        self.undos: list[Undo] = []

    def document(self, keys: Mapping[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
        """Return the document of a template with these keys, and what is wrong with the functions."""
        names = [declared.name for declared in self.steps]
        undos, faults = self._undo_keys(names)
        steps = []
        inputs: list[tuple[Callable[..., Any], Parameter]] = []
        for index, declared in enumerate(self.steps):
            results: list[str] = []
            if declared.function is not None:
                parameters, found = parameters_of(declared.function, [name for name in names if name != declared.name])
                running = faults_of_running(
                    declared.function, process=declared.process, concurrency=declared.concurrency
                )
                found = (*found, *running, *_faults_of_item(declared, parameters))
                faults += [FieldError(f"/steps/{index}", f"{declared.place}: {fault}") for fault in found]
                inputs += [(declared.function, parameter) for parameter in parameters if parameter.source == "input"]
                results = [parameter.step for parameter in parameters if parameter.step is not None]
            parents = list(dict.fromkeys((*results, *declared.after)))
            faults += [
                FieldError(f"/steps/{index}/after", f"{declared.place}: {fault}")
                for fault in _faults_of_conditions(declared, parents)
            ]
            step = {
                "name": declared.name,
                "handler": declared.handler,
                "after": _edges(declared, parents),
                **declared.keys,
                **undos.get(declared.name, {}),
            }
            steps.append(_given(step))
        document = _given(keys) | {"steps": steps}
        if "input_schema" not in document:
            schema = _derived_schema(inputs)
            if schema is not None:
                document["input_schema"] = schema
        return document, faults

    def placed(self, faults: Iterable[FieldError]) -> list[FieldError]:
        """Return the faults of a document of these steps, those of a step with the place of its declaration."""
        undos = {undo.step: place_of(undo.function) for undo in self.undos}
        found = []
        for fault in faults:
            of_step = _POINTER_OF_STEP.match(fault.pointer)
            if of_step is not None:
                step = self.steps[int(of_step[1])]
                place = undos.get(step.name, step.place) if of_step[2] else step.place
                fault = FieldError(fault.pointer, f"{place}: {fault.detail}")  # noqa: PLW2901 - the same, told better
            found.append(fault)
        return found

    def handlers(self, spec: TemplateSpec) -> tuple[StepHandler, ...]:
        """Return the functions with the places they serve in the finished template."""
        by_name = {step.name: step for step in spec.steps}
        steps = [
            _served(spec, by_name, by_name[one.name], by_name[one.name].handler, one.function, one)
            for one in self.steps
            if one.function is not None
        ]
        undos = [_served(spec, by_name, by_name[one.step], one.handler, one.function, one) for one in self.undos]
        return (*steps, *undos)

    def _undo_keys(self, names: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[FieldError]]:
        """Return the keys of steps with a compensation, and the faults of these."""
        keys: dict[str, dict[str, Any]] = {}
        faults: list[FieldError] = []
        for undo in self.undos:
            place = place_of(undo.function)
            if undo.step not in names:
                hint = did_you_mean(undo.step, names)
                faults.append(FieldError("", f"{place}: there is no step {undo.step!r} that it could undo{hint}"))
                continue
            if undo.step in keys:
                faults.append(FieldError("", f"{place}: step {undo.step!r} has another compensation already"))
            index = names.index(undo.step)
            found = _faults_of_undo(undo, self.steps[index], names)
            faults += [FieldError(f"/steps/{index}/compensate", f"{place}: {fault}") for fault in found]
            keys[undo.step] = {"compensate": undo.handler, **undo.keys}
        return keys, faults


def _served(  # noqa: PLR0917 - a function, and where it is to run
    spec: TemplateSpec,
    steps: Collection[str],
    step: StepSpec,
    name: str,
    function: Callable[..., Any],
    declared: DeclaredStep | Undo,
) -> StepHandler:
    queue = spec.work_queue_of(step)
    bound = HandlerSpec(
        name=name,
        queue=queue,
        function=function,
        parameters=parameters_of(function, steps)[0],
        process=declared.process,
        concurrency=declared.concurrency,
    )
    return StepHandler(spec.namespace, queue, bound)


def _faults_of_undo(undo: Undo, undone: DeclaredStep, names: Sequence[str]) -> tuple[str, ...]:
    parameters, found = parameters_of(undo.function, names)
    running = faults_of_running(undo.function, process=undo.process, concurrency=undo.concurrency)
    others = [one.name for one in parameters if one.step not in {None, undo.step} and not one.is_optional]
    other = (
        f"parameter {name!r}: a compensation gets the input and the result of {undo.step!r} alone; "
        f"ask ctx.result({name!r}) for another"
        for name in others
    )
    return (*found, *running, *other, *_faults_of_item(undone, parameters))


def _edges(declared: DeclaredStep, parents: list[str]) -> list[Any]:
    conditions = declared.conditions
    return [{"step": name, "when": conditions[name]} if name in conditions else name for name in parents]


def _faults_of_conditions(declared: DeclaredStep, parents: Collection[str]) -> Iterable[str]:
    """Yield what is wrong with conditions of edges that there are not: nothing would ever ask them."""
    for name in declared.conditions:
        if name not in parents:
            hint = did_you_mean(str(name), parents)
            yield f"after_when: {declared.name} has no parent {name!r}{hint}; name it in after, or take its result"


def _faults_of_item(declared: DeclaredStep, parameters: Sequence[Parameter]) -> tuple[str, ...]:
    takes = any(parameter.source == "item" for parameter in parameters)
    if takes and declared.keys.get("each") is None and declared.keys.get("batches") is None:
        return ("parameter 'item' is of a step that runs for a list: give it each=... or batches=...",)
    return ()


def _given(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if value is not None}


def _derived_schema(inputs: Iterable[tuple[Callable[..., Any], Parameter]]) -> dict[str, Any] | None:
    """Return the JSON Schema of the one type that all `inputs` are annotated with; None when there is none."""
    try:
        kinds = [type_of(function, parameter) for function, parameter in inputs]
    except ConfigurationError:
        return None  # a worker says so at its start; a caller who only registers need not have the types
    if not kinds or any(kind is not kinds[0] for kind in kinds):
        return None
    return schema_of(kinds[0])
