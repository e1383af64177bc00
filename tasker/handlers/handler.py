"""A worker's function: how each parameter is bound, and plain handlers declared with `@handler`.

A parameter is the context (annotated `StepContext`, or called `ctx`), the task's input (called `input`), one item of
the list that the step runs for (called `item`), the result of the step it is called like, or a resource (`resources`).
Values are decoded strictly by annotation, at the call; an annotation itself is looked at once, when a worker starts, so
that types may be defined further down.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from tasker.callers import place_of_caller
from tasker.errors import ConfigurationError, FieldError, NameInvalid, TaskerError
from tasker.handlers.keywords import keywords_told
from tasker.handlers.models import Decoder, decoder_of
from tasker.handlers.resources import Resource, resource_of
from tasker.ids import check_name
from tasker.labels import is_work_queue, work_queue
from tasker.suggestions import did_you_mean
from tasker.templates.reading import kind_of

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT: Final = "ctx"
INPUT: Final = "input"
ITEM: Final = "item"

_CONTEXT_TYPE = "StepContext"
_MARK = "__tasker_handlers__"


class InputMismatch(TaskerError):
    """The input or a parent's result does not fit the handler's annotation; no retry can help.

    Attributes:
        parameter: of the handler.
    """

    title = "The arguments do not fit the handler"

    def __init__(self, detail: str, *, parameter: str, place: str) -> None:
        super().__init__(f"parameter {parameter!r}: {detail}", errors=(FieldError(place, detail),), parameter=parameter)
        self.parameter = parameter


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """How one parameter of a handler gets its argument.

    Attributes:
        source: the context, the task's input, the item, the result of `step`, or `resource`.
        annotation: as written; `inspect.Parameter.empty` when there is none.
        is_optional: it has a default, which stands when `step` gives no result here.
    """

    name: str
    source: Literal["ctx", "input", "item", "result", "resource"]
    step: str | None
    annotation: Any
    is_optional: bool
    resource: Resource[Any] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class HandlerSpec:
    """A function that a worker can run.

    Attributes:
        name: what a step's `handler` names.
        queue: the only one it serves; None: each queue of its module.
        parameters: in the order of the function's signature.
        process: it runs in a process of its own, which a timeout or a cancellation kills.
        concurrency: how many attempts of it a worker runs at a time; None: as many as it has slots.
    """

    name: str
    queue: str | None
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    process: bool = False
    concurrency: int | None = None

    @property
    def is_async(self) -> bool:
        """Whether a call returns an awaitable."""
        return _is_async(self.function)

    @property
    def steps(self) -> tuple[str, ...]:
        """Return the steps whose results it takes, in the order of the signature."""
        return tuple(parameter.step for parameter in self.parameters if parameter.step is not None)

    @property
    def resources(self) -> tuple[tuple[str, Resource[Any]], ...]:
        """Return the resources it takes, by parameter."""
        return tuple((p.name, p.resource) for p in self.parameters if p.resource is not None)

    def needs(self, _context: Any) -> tuple[tuple[str, Resource[Any]], ...]:
        """Return the resources that its call in an attempt takes: `resources`."""
        return self.resources

    @property
    def needed_steps(self) -> tuple[str, ...]:
        """Return those of `steps` without which it cannot be called."""
        return tuple(p.step for p in self.parameters if p.step is not None and not p.is_optional)

    def bind(self, context: Any, input_bytes: bytes, results: Mapping[str, bytes]) -> Callable[[], Any]:
        """Return the call, with its arguments decoded; resources are for who calls it.

        Raises:
            InputMismatch: the input or a result does not fit; it names the parameter and the place.
        """
        arguments: dict[str, Any] = {}
        for parameter, decoder in self.decoders:
            if parameter.resource is not None:
                continue
            if decoder is None:
                arguments[parameter.name] = context
            elif parameter.source == "input":
                arguments[parameter.name] = _decoded(decoder, input_bytes, parameter, "/input")
            elif parameter.step is None:
                if context.item is not None:
                    arguments[parameter.name] = _decoded(decoder, bytes(context.item), parameter, "/item")
                elif not parameter.is_optional:
                    detail = "the step runs for no list: give it `each` or `batches` in the template"
                    raise InputMismatch(detail, parameter=parameter.name, place="/item")
            elif (step := step_called(parameter.step, results)) is not None:
                arguments[parameter.name] = _decoded(decoder, results[step], parameter, f"/results/{step}")
            elif not parameter.is_optional:
                detail = (
                    f"the step has no parent {parameter.step!r} whose result it could be, and no @resource is called so"
                )
                raise InputMismatch(detail, parameter=parameter.name, place="/results")
        return functools.partial(self.function, **arguments)

    @functools.cached_property
    def decoders(self) -> tuple[tuple[Parameter, Decoder | None], ...]:
        """Return each parameter with the decoder of its type; None: it takes the context, or a resource.

        Raises:
            ConfigurationError: an annotation cannot be resolved, or names a type that JSON cannot give.
        """
        return tuple(
            (parameter, None if parameter.source in {CONTEXT, "resource"} else self._decoder(parameter))
            for parameter in self.parameters
        )

    def check_types(self) -> None:
        """Return when every annotation can be decoded.

        Raises:
            ConfigurationError: one cannot.
        """
        len(self.decoders)

    def _decoder(self, parameter: Parameter) -> Decoder:
        kind = type_of(self.function, parameter)
        try:
            return decoder_of(kind)
        except Exception as error:  # an annotation may be any object
            raise ConfigurationError(
                f"{place_of(self.function)}: parameter {parameter.name!r} cannot be decoded as {kind!r}: {error}"
            ) from error


@keywords_told
def handler(
    name: str,
    *,
    queue: str | None = None,
    requires: Mapping[str, str] | None = None,
    process: bool = False,
    concurrency: int | None = None,
) -> Callable[[F], F]:
    """Mark a function as the plain handler `name`, for templates that are not written beside it.

    A parameter that is neither the context nor `input` takes the result of the step it is called like
    (a step `reserve-stock` is `reserve_stock` here); with a default it may be absent.

    Args:
        name: what the `handler` of a step names.
        queue: the only one it serves; None: each queue of the module's templates, or `default`.
        requires: the labels that steps of that queue require for which it is; only a worker that has them serves it.
        process: run it in a process of its own, for work that needs a core; a timeout or a cancellation kills that.
        concurrency: how many attempts of it one worker runs at a time; None: as many as there are slots.

    Raises:
        ConfigurationError: the name is none, or the function cannot be a handler.
    """
    if not isinstance(name, str):
        raise ConfigurationError(
            f"{place_of_caller()}handler() is given the name that steps say, such as "
            f"'{getattr(name, '__name__', 'charge')}', not {kind_of(name)}"
        )
    if not (requires is None or isinstance(requires, Mapping)):
        raise ConfigurationError(
            f"@handler({name!r}): requires is labels with their values, such as {{'gpu': 'a100'}}, "
            f"not {kind_of(requires)}"
        )
    try:
        check_name(name, "handler")
        if queue is not None:
            check_name(queue, "queue")
            queue = work_queue(queue, requires or {})
    except NameInvalid as error:
        raise ConfigurationError(f"@handler({name!r}): {error.detail}") from error
    if requires and queue is None:
        raise ConfigurationError(f"@handler({name!r}): requires does nothing without queue: name the one of its steps")
    if queue is not None and not is_work_queue(queue):
        raise ConfigurationError(
            f"@handler({name!r}): requires {dict(requires or {})!r} are no labels that a step can require"
        )

    def mark(function: F) -> F:
        if not inspect.isfunction(function):  # nothing else is looked for in an app
            raise ConfigurationError(f"{place_of_caller()}@handler({name!r}) marks a function, not {kind_of(function)}")
        parameters, faults = parameters_of(function, None)
        faults = (*faults, *faults_of_running(function, process=process, concurrency=concurrency))
        if faults:
            raise ConfigurationError(f"{place_of(function)}: {'; '.join(faults)}")
        spec = HandlerSpec(
            name=name,
            queue=queue,
            function=function,
            parameters=parameters,
            process=process,
            concurrency=concurrency,
        )
        setattr(function, _MARK, (*plain_handlers_of(function), spec))
        return function

    return mark


def plain_handlers_of(value: object) -> tuple[HandlerSpec, ...]:
    """Return what `@handler` declared of `value`; empty when it is none."""
    found: tuple[HandlerSpec, ...] = vars(value).get(_MARK, ()) if inspect.isfunction(value) else ()
    # Read once more: a resource may be defined behind the function that takes it.
    return tuple(dataclasses.replace(spec, parameters=parameters_of(spec.function, None)[0]) for spec in found)


def faults_of_running(function: Callable[..., Any], *, process: object, concurrency: object) -> tuple[str, ...]:
    """Return what is wrong with how a function is to be run."""
    faults = []
    if not isinstance(process, bool):
        faults.append(f"process is {process!r}: True or False")
    elif process and _is_async(function):
        faults.append("process=True is for plain functions: write `def`, not `async def`")
    if concurrency is not None and (
        isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1
    ):
        faults.append(f"concurrency is {concurrency!r}: how many attempts run at a time, a whole number, at least 1")
    return tuple(faults)


def parameters_of(
    function: Callable[..., Any], steps: Collection[str] | None
) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """Return how the parameters of `function` are bound, and what is wrong with the function.

    Args:
        function: step or plain handler.
        steps: the steps there are, whose results a parameter may take; None: not known yet, any.
    """
    faults: list[str] = []
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        faults.append("a handler returns its result; it cannot yield")
    found: list[Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            faults.append(f"parameter {name!r} cannot be given by name; name each dependency as a parameter")
            continue
        optional = parameter.default is not parameter.empty
        if name == CONTEXT or _is_context(parameter.annotation):
            found.append(Parameter(name, "ctx", None, parameter.annotation, optional))
        elif name == INPUT:
            found.append(Parameter(name, "input", None, parameter.annotation, optional))
        elif name == ITEM and (steps is None or ITEM not in steps):
            found.append(Parameter(name, "item", None, parameter.annotation, optional))
        elif (needed := resource_of(function, name, parameter.annotation)) is not None:
            found.append(Parameter(name, "resource", None, parameter.annotation, optional, needed))
            if steps is not None and step_called(name, steps) is not None and needed.name == name:
                faults.append(f"parameter {name!r} is a step and a resource; rename one of them")
        else:
            step = name if steps is None else step_called(name, steps)
            if step is None:
                hint = did_you_mean(name, [CONTEXT, INPUT, ITEM, *(steps or ())])
                faults.append(f"parameter {name!r} is neither the context, nor input, nor a step{hint}, nor a resource")
                continue
            found.append(Parameter(name, "result", step, parameter.annotation, optional))
    return tuple(found), tuple(faults)


def step_called(parameter: str, steps: Collection[str]) -> str | None:
    """Return the one of `steps` that `parameter` means; a dash in its name is an underscore in Python."""
    if parameter in steps:
        return parameter
    return next((step for step in steps if step.replace("-", "_") == parameter), None)


def type_of(function: Callable[..., Any], parameter: Parameter) -> Any:
    """Return the type that `parameter` is annotated with; Any when it is not.

    Raises:
        ConfigurationError: the annotation is text that cannot be resolved where the function is defined.
    """
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    holder = _Annotated()
    holder.__annotations__ = {parameter.name: parameter.annotation}
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=scope, include_extras=True)[parameter.name]
    except Exception as error:  # an annotation may be any expression
        raise ConfigurationError(
            f"{place_of(function)}: the annotation {parameter.annotation!r} of parameter {parameter.name!r} "
            f"cannot be resolved: {error}"
        ) from error


def place_of(function: Callable[..., Any]) -> str:
    """Return where `function` stands, such as "charge() in app.py:12"."""
    name = getattr(function, "__qualname__", type(function).__qualname__).rpartition("<locals>.")[2]
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{name}()" if code is None else f"{name}() in {Path(code.co_filename).name}:{code.co_firstlineno}"


class _Annotated:
    """Holds one annotation, so that one that cannot be resolved does not hide the others."""

    __annotations__: dict[str, Any]


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _is_context(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.strip("'\" ").rpartition(".")[2] == _CONTEXT_TYPE
    return getattr(annotation, "__name__", None) == _CONTEXT_TYPE


def _decoded(decoder: Decoder, data: bytes, parameter: Parameter, place: str) -> Any:
    try:
        return decoder(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise InputMismatch(f"{place}: {error}", parameter=parameter.name, place=place) from error
