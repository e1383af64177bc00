"""Hooks around handlers: for spans, metrics, logs, contexts of other libraries.

A middleware is a generator function of the attempt's context, marked `@middleware`. What stands before its `yield` runs
before the handler; the `yield` gives how the handler ended; what stands behind runs then. Hooks are entered in the
order of their `order`, then of their declaration, and left the other way round.

A hook observes. It changes neither result nor error, and what it raises itself is logged and goes no further.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import Any, Final, TypeVar, overload

import msgspec
import structlog

from tasker.callers import place_of_caller
from tasker.errors import ConfigurationError
from tasker.handlers.cancellation import times_cancelled
from tasker.handlers.context import StepContext
from tasker.handlers.keywords import keywords_told
from tasker.templates.reading import kind_of

T = TypeVar("T")
HOOK_S: Final = 10.0
"""How long a sync handler waits for an async hook, which runs on the handlers' loop."""

_log = structlog.get_logger(__name__)


class Outcome(msgspec.Struct, frozen=True):
    """How a handler ended, as it left it.

    Attributes:
        result: what it returned; None when it raised.
        error: what it raised; an `asyncio.CancelledError` when the attempt was stopped.
    """

    result: Any = None
    error: BaseException | None = None


Hook = Callable[[StepContext], Generator[None, Outcome, None]]
AsyncHook = Callable[[StepContext], AsyncGenerator[None, Outcome]]


class Middleware:
    """A hook around each handler of its module.

    Attributes:
        function: the generator function.
        order: smaller ones are entered first.
    """

    def __init__(self, function: Hook | AsyncHook, order: int) -> None:
        self.function = function
        self.order = order
        self.is_async = inspect.isasyncgenfunction(function)
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"middleware({self.name!r})"


@overload
def middleware(function: Hook | AsyncHook, /) -> Middleware: ...
@overload
def middleware(*, order: int = 0) -> Callable[[Hook | AsyncHook], Middleware]: ...
@keywords_told
def middleware(function: Hook | AsyncHook | None = None, /, *, order: int = 0) -> Any:
    """Mark a generator function of a `StepContext` as a hook around every handler of the app.

    An async one runs on the handlers' loop; a sync one where the handler runs, so beside an async handler it must not
    block.

    Raises:
        ConfigurationError: it is no generator function, or `order` is no whole number.
    """
    if isinstance(order, bool) or not isinstance(order, int):
        raise ConfigurationError(f"{place_of_caller()}middleware: order is a whole number, not {kind_of(order)}")

    def mark(function: Hook | AsyncHook) -> Middleware:
        if not (inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)):
            name = getattr(function, "__qualname__", repr(function))
            raise ConfigurationError(f"@middleware {name}: write a generator function of the context that yields once")
        return Middleware(function, order)

    return mark if function is None else mark(function)


async def around(hooks: Sequence[Middleware], context: StepContext, call: Callable[[], Awaitable[T]]) -> T:
    """Return what `call` does, with the hooks around it; on the handlers' loop."""
    entered: list[tuple[Middleware, Any]] = []
    try:
        for hook in hooks:
            running = await (_enter_async(hook, context) if hook.is_async else _enter_soon(hook, context))
            if running is not None:
                entered.append((hook, running))
        result = await call()
    except BaseException as error:
        await _leave_all(entered, Outcome(error=error))
        raise
    await _leave_all(entered, Outcome(result=result))
    return result


def around_blocking(
    hooks: Sequence[Middleware], context: StepContext, call: Callable[[], T], loop: asyncio.AbstractEventLoop | None
) -> T:
    """Return what `call` does, with the hooks around it; in a thread, with the async ones on `loop`."""
    entered: list[tuple[Middleware, Any]] = []
    try:
        for hook in hooks:
            running = _on(loop, _enter_async(hook, context), hook) if hook.is_async else _enter(hook, context)
            if running is not None:
                entered.append((hook, running))
        result = call()
    except BaseException as error:
        _leave_all_blocking(entered, Outcome(error=error), loop)
        raise
    _leave_all_blocking(entered, Outcome(result=result), loop)
    return result


async def _leave_all(entered: list[tuple[Middleware, Any]], outcome: Outcome) -> None:
    while entered:
        hook, running = entered.pop()
        if hook.is_async:
            await _leave_async(hook, running, outcome)
        else:
            _leave(hook, running, outcome)


def _leave_all_blocking(
    entered: list[tuple[Middleware, Any]], outcome: Outcome, loop: asyncio.AbstractEventLoop | None
) -> None:
    while entered:
        hook, running = entered.pop()
        if hook.is_async:
            _on(loop, _leave_async(hook, running, outcome), hook)
        else:
            _leave(hook, running, outcome)


def _on(loop: asyncio.AbstractEventLoop | None, work: Any, hook: Middleware) -> Any:
    assert loop is not None  # noqa: S101 - a bug of ours: nothing was opened
    doing = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return doing.result(HOOK_S)
    except TimeoutError:
        doing.cancel()
        _log.error("middleware_slow", middleware=hook.name, waited_s=HOOK_S)
        return None


async def _enter_soon(hook: Middleware, context: StepContext) -> Any:
    return _enter(hook, context)


def _enter(hook: Middleware, context: StepContext) -> Any:
    """Return the generator at its `yield`; None when there is nothing to come back to."""
    try:
        running: Any = hook.function(context)
        next(running)
    except StopIteration:
        return None
    except BaseException:  # noqa: BLE001 - a hook changes nothing, whatever it raises
        _log.exception("middleware_failed", middleware=hook.name, context=repr(context))
        return None
    return running


def _leave(hook: Middleware, running: Any, outcome: Outcome) -> None:
    try:
        running.send(outcome)
        running.close()
    except StopIteration:
        return
    except BaseException:  # noqa: BLE001 - as in _enter
        _log.exception("middleware_failed", middleware=hook.name)
        return
    _log.error("middleware_yields_twice", middleware=hook.name)


async def _enter_async(hook: Middleware, context: StepContext) -> Any:
    before = times_cancelled()
    try:
        running: Any = hook.function(context)
        await anext(running)
    except StopAsyncIteration:
        return None
    except BaseException as error:  # as in _enter
        if isinstance(error, asyncio.CancelledError) and times_cancelled() > before:
            raise
        _log.exception("middleware_failed", middleware=hook.name, context=repr(context))
        return None
    return running


async def _leave_async(hook: Middleware, running: Any, outcome: Outcome) -> None:
    before = times_cancelled()
    try:
        await running.asend(outcome)
        await running.aclose()
    except StopAsyncIteration:
        return
    except BaseException as error:  # as in _enter
        if isinstance(error, asyncio.CancelledError) and times_cancelled() > before:
            raise
        _log.exception("middleware_failed", middleware=hook.name)
        return
    _log.error("middleware_yields_twice", middleware=hook.name)
