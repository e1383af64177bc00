"""What a test makes of handlers: what they return instead, how they fail, where their worker dies; and who was called.

The real worker asks here for its handlers. A handler without a rule is the user's own function, called as ever: with
its resources, inside the hooks, within its limit. A stub has its own resources, and what fails here fails inside the
hooks.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import msgspec

from tasker.errors import ConfigurationError
from tasker.handlers.context import StepContext
from tasker.handlers.equipment import Equipment
from tasker.handlers.handler import HandlerSpec, parameters_of
from tasker.handlers.outcome import PermanentError
from tasker.handlers.registry import Registry
from tasker.handlers.resources import Resource
from tasker.handlers.runner import Invocable
from tasker.templates.instances import is_undo, name_of, undo_of

When = Literal["before", "after"]
"""Whether something happens before the handler did its work, or after it, with the result not told yet."""


class Call(msgspec.Struct, frozen=True):
    """A handler was called (or what stands for it)."""

    step: str
    task_id: str
    attempt: int
    idempotency_key: str
    worker: str


class _Rule:
    """What happens to the next `left` attempts of a step."""

    def __init__(self, left: int, when: When, error: BaseException | type[BaseException] | None) -> None:
        self.left = left
        self.when = when
        self.error = error
        """None: the worker dies."""


class Script:
    """The rules of one test.

    Args:
        die: ends the worker as a kill would; returns when it is gone.
        die_in_thread: the same, for a handler in a thread.
    """

    def __init__(
        self, registry: Registry, die: Callable[[], Awaitable[None]], die_in_thread: Callable[[], None]
    ) -> None:
        self.calls: list[Call] = []
        self.die = die
        self.die_in_thread = die_in_thread
        self._registry = registry
        steps = [step for spec in registry.specs for step in spec.steps]
        self._steps = {step.name for step in steps if step.kind == "handler"}
        self._steps |= {undo_of(step.name) for step in steps if step.compensate}
        self._of_service = {step.name: step.kind for step in steps}
        self._stubs: dict[str, Any] = {}
        self._rules: dict[str, list[_Rule]] = {}
        self._equipment = Equipment(registry, dress=partial(_Scripted, self))
        self._without_function: dict[tuple[str, str, str], Invocable] = {}

    # ---------------------------------------------------------------- rules

    def stub(self, step: str, result: object) -> None:
        """Let attempts of `step` return `result`; or what it returns, when it is a function like a handler."""
        self._known(step)
        if callable(result) and not isinstance(result, type):
            parameters, faults = parameters_of(result, None)
            if faults:
                raise ConfigurationError(f"the stub of step {step!r}: {'; '.join(faults)}")
            result = HandlerSpec(name=step, queue=None, function=result, parameters=parameters)
        self._stubs[step] = result

    def fail(self, step: str, error: BaseException | type[BaseException], *, times: int, when: When) -> None:
        """Let the next `times` attempts of `step` raise `error`."""
        self._known(step)
        self._rules.setdefault(step, []).append(_Rule(times, when, error))

    def crash(self, step: str, *, times: int, when: When) -> None:
        """Let the worker die in the next `times` attempts of `step`."""
        self._known(step)
        self._rules.setdefault(step, []).append(_Rule(times, when, None))

    def _known(self, step: str) -> None:
        if any(name in self._steps for name in _names(step)):
            return
        kind = next((self._of_service[name] for name in _names(step) if name in self._of_service), None)
        if kind == "child":
            raise ConfigurationError(f"no handler runs step {step!r}: it starts a child task; name a step of that one")
        if kind is not None:
            raise ConfigurationError(f"no handler runs step {step!r}: the service completes it itself ({kind})")
        raise ConfigurationError(f"there is no step {step!r}; there are {', '.join(sorted(self._steps))}")

    # ---------------------------------------------------------------- for the worker

    def equip(self) -> Equipment:
        """Return what a new worker runs with: resources of its own, limits, hooks."""
        self._equipment = Equipment(self._registry, dress=partial(_Scripted, self))
        self._without_function.clear()
        return self._equipment

    def queues(self) -> Iterable[tuple[str, str]]:
        """Return every queue of the templates, with handlers here or without: a stub may stand for those."""
        found = {(spec.namespace, spec.work_queue_of(step)) for spec in self._registry.specs for step in spec.steps}
        return {place for place in found if self._registry.may_serve(place[1])}

    def lookup(self, namespace: str, queue: str, handler: str) -> Invocable:
        """Return what runs a piece of work."""
        key = (namespace, queue, handler)
        found = self._equipment.lookup(*key) or self._without_function.get(key)
        if found is None:
            found = self._without_function[key] = self._equipment.equipped(_Scripted(self, None))
        return found

    def take_rule(self, step: str) -> _Rule | None:
        """Return the rule of this attempt, used up by it."""
        for name in _names(step):
            for rule in self._rules.get(name, ()):
                if rule.left > 0:
                    rule.left -= 1
                    return rule
        return None

    def callee(self, step: str, spec: HandlerSpec | None) -> HandlerSpec | _Constant:
        """Return what is called in an attempt of `step`."""
        for name in _names(step):
            if name in self._stubs:
                stub = self._stubs[name]
                return stub if isinstance(stub, HandlerSpec) else _Constant(stub)
        if spec is None:
            raise PermanentError(f"step {step!r} has no function here: give its module's handlers, or stub it")
        return spec


class _Constant:
    """A stub that is a value."""

    resources: tuple[tuple[str, Resource[Any]], ...] = ()

    def __init__(self, value: Any) -> None:
        self._value = value

    def bind(self, _context: StepContext, _input: bytes, _results: Mapping[str, bytes]) -> Callable[[], Any]:
        return lambda: self._value


class _Scripted:
    """A handler under the script."""

    def __init__(self, script: Script, spec: HandlerSpec | None) -> None:
        self._script = script
        self._spec = spec

    @property
    def is_async(self) -> bool:
        """Whether it runs on the loop."""
        return self._spec is None or self._spec.is_async

    def needs(self, context: StepContext) -> tuple[tuple[str, Resource[Any]], ...]:
        """Return the resources that an attempt takes, by parameter."""
        return self._script.callee(context.step, self._spec).resources

    def bind(self, context: StepContext, input_bytes: bytes, results: Mapping[str, bytes]) -> Callable[..., Any]:
        """Return the call, with its arguments decoded; it takes the resources."""
        callee = self._script.callee(context.step, self._spec)
        self._script.calls.append(
            Call(context.step, context.task_id, context.attempt, context.idempotency_key, context.worker)
        )
        rule = self._script.take_rule(context.step)
        call = callee.bind(context, input_bytes, results)
        return partial(self._async if self.is_async else self._sync, call, rule)

    async def _async(self, call: Callable[..., Any], rule: _Rule | None, **resources: Any) -> Any:
        if rule is not None and rule.when == "before":
            await self._end(rule)
        value = call(**resources)
        if inspect.isawaitable(value):
            value = await value
        if rule is not None:
            await self._end(rule)
        return value

    def _sync(self, call: Callable[..., Any], rule: _Rule | None, **resources: Any) -> Any:
        if rule is not None and rule.when == "before":
            self._end_in_thread(rule)
        value = call(**resources)
        if inspect.iscoroutine(value):
            value.close()
            raise PermanentError("the stub of a sync handler must be a sync function")
        if rule is not None:
            self._end_in_thread(rule)
        return value

    async def _end(self, rule: _Rule) -> None:
        if rule.error is not None:
            raise rule.error
        await self._script.die()

    def _end_in_thread(self, rule: _Rule) -> None:
        if rule.error is not None:
            raise rule.error
        self._script.die_in_thread()


def _names(step: str) -> tuple[str, ...]:
    """Return what a rule for an instance may be given under: its own name, then that of its step (or compensation)."""
    name = name_of(step)
    return (step, undo_of(name) if is_undo(step) else name)
