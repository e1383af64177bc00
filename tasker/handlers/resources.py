"""Long-lived things that handlers need: connection pools, HTTP sessions, models in memory.

A resource is a generator function marked `@resource`: what it yields is handed to every handler that has a parameter of
its name (or annotated `Annotated[Pool, pool]`); what stands behind the `yield` gives it back. It is made at its first
use, once a process, and torn down when the worker has drained, the last made first. One that cannot be made fails the
attempt that wanted it, retryably; the next attempt tries again.

Resources may take other resources, in the same two ways. A name means what it means to Python: the resource which the
module of the function knows by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import typing
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final, Generic, TypeVar, overload

import structlog

from tasker.errors import ConfigurationError
from tasker.handlers.cancellation import times_cancelled
from tasker.handlers.options import GIVE_BACK_S
from tasker.handlers.outcome import RetryableError

T = TypeVar("T")

TEARDOWN_S: Final = 5.0
"""How long one resource may take to be given back, within the time that all of them have (`GIVE_BACK_S`)."""

_log = structlog.get_logger(__name__)


class ResourceUnknown(ConfigurationError):
    """A resource takes something that is no resource.

    Attributes:
        resource: whose function that is. parameter: of it.
    """

    code = "resource_unknown"
    title = "A resource needs what is not there"


class ResourceCycle(ConfigurationError):
    """Resources need each other in a circle.

    Attributes:
        path: the names, from one back to itself.
    """

    code = "resource_cycle"
    title = "Resources need each other"


class ResourceFailed(RetryableError):
    """A resource could not be made; the cause says why. Another attempt tries again."""


class Resource(Generic[T]):
    """A generator function whose yielded value is shared by the handlers of a process.

    Attributes:
        name: of the function; a parameter called so takes it.
        function: makes it, yields it once, and gives it back.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self.is_async = inspect.isasyncgenfunction(function)
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"resource({self.name!r})"

    def needs(self) -> tuple[tuple[str, Resource[Any]], ...]:
        """Return what its function takes: parameter and resource.

        Raises:
            ResourceUnknown: a parameter is no resource and has no default.
        """
        found = []
        for name, parameter in inspect.signature(self.function).parameters.items():
            needed = resource_of(self.function, name, parameter.annotation)
            if needed is not None:
                found.append((name, needed))
            elif parameter.default is parameter.empty:
                raise ResourceUnknown(
                    f"{self!r} takes {name!r}, which is no resource its module knows: mark a generator function "
                    f"of that name @resource, or import it",
                    resource=self.name,
                    parameter=name,
                )
        return tuple(found)


@overload
def resource(function: Callable[..., AsyncIterator[T]], /) -> Resource[T]: ...
@overload
def resource(function: Callable[..., Iterator[T]], /) -> Resource[T]: ...
def resource(function: Callable[..., Any], /) -> Resource[Any]:
    """Mark a generator function, async or not, as a resource.

    A sync one is made and torn down in a thread, so that it may block.

    Raises:
        ConfigurationError: it is no generator function.
    """
    if not (inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)):
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigurationError(f"@resource {name}: write a generator function that yields the resource once")
    return Resource(function)


def resource_of(function: Callable[..., Any], name: str, annotation: object) -> Resource[Any] | None:
    """Return the resource that parameter `name` of `function` takes; None: it takes none."""
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    for extra in _metadata(annotation, scope):
        if isinstance(extra, Resource):
            return extra
    found = scope.get(name)
    return found if isinstance(found, Resource) else None


def check_resources(resources: Iterable[Resource[Any]]) -> None:
    """Return when all of them can be made in some order.

    Raises:
        ResourceUnknown, ResourceCycle: they cannot.
    """
    done: set[Resource[Any]] = set()

    def visit(one: Resource[Any], path: tuple[Resource[Any], ...]) -> None:
        if one in path:
            names = [each.name for each in (*path[path.index(one) :], one)]
            raise ResourceCycle(f"resources need each other: {' -> '.join(names)}; break the circle", path=names)
        if one not in done:
            for _, needed in one.needs():
                visit(needed, (*path, one))
            done.add(one)

    for one in resources:
        visit(one, ())


class ResourceScope:
    """The resources of one process. All methods but `get_blocking` are for the loop that it was opened on."""

    def __init__(self) -> None:
        self._making: dict[Resource[Any], asyncio.Task[Any]] = {}
        self._entering: dict[asyncio.Future[Any], Resource[Any]] = {}
        self._closers: list[tuple[Resource[Any], Callable[[], Any]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say on which loop resources are made. On any thread."""
        self._loop = loop

    async def get(self, wanted: Resource[T]) -> T:
        """Return the resource, made now if it is not there yet.

        Raises:
            ResourceFailed: it could not be made.
        """
        making = self._making.get(wanted)
        if making is None:
            making = self._making[wanted] = asyncio.create_task(self._make(wanted), name=f"resource-{wanted.name}")
            making.add_done_callback(functools.partial(self._on_made, wanted))
        try:
            # Who waits may be cancelled; the others still want it.
            found: T = await asyncio.shield(making)
        except asyncio.CancelledError as error:
            if times_cancelled() or not making.cancelled():
                raise
            raise ResourceFailed(f"{wanted!r} could not be made: CancelledError") from error
        except ResourceFailed:
            raise
        except Exception as error:
            raise ResourceFailed(f"{wanted!r} could not be made: {type(error).__name__}: {error}") from error
        return found

    def get_blocking(self, wanted: Resource[T], *, timeout_s: float) -> T:
        """Return what `get` does, in a thread of its own.

        Raises:
            ResourceFailed: it could not be made, or not in time.
        """
        assert self._loop is not None  # noqa: S101 - a bug of ours: it was not opened
        making = asyncio.run_coroutine_threadsafe(self.get(wanted), self._loop)
        try:
            return making.result(timeout_s)
        except TimeoutError as error:
            making.cancel()
            raise ResourceFailed(f"{wanted!r} was not made within {timeout_s:.1f} s") from error

    async def close(self, timeout_s: float = GIVE_BACK_S) -> None:
        """Tear down what was made, the last first, all within `timeout_s`. Whatever fails is logged."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + timeout_s

        def may_take_s() -> float:
            return max(0.0, min(TEARDOWN_S, ends_s - loop.time()))

        for making in [making for making in self._making.values() if not making.done()]:
            making.cancel()
            await asyncio.wait([making], timeout=may_take_s())
        if self._entering:
            await asyncio.wait(self._entering, timeout=may_take_s())
        for late in self._entering.values():
            _log.error("resource_not_torn_down", resource=late.name, hint="its making does not end")
        before = times_cancelled()
        while self._closers:
            one, tear_down = self._closers.pop()
            if not may_take_s():
                _log.error("resource_not_torn_down", resource=one.name, hint=f"others took all of the {timeout_s:g} s")
                continue
            try:
                async with asyncio.timeout(may_take_s()):
                    await tear_down()
            except BaseException as error:  # a user's own code; the others are torn down all the same
                if isinstance(error, asyncio.CancelledError) and times_cancelled() > before:
                    raise
                _log.exception("resource_teardown_failed", resource=one.name)
        self._making.clear()

    async def _make(self, wanted: Resource[Any]) -> Any:
        needs = {name: await self.get(needed) for name, needed in wanted.needs()}
        if wanted.is_async:
            manager: AbstractAsyncContextManager[Any] = contextlib.asynccontextmanager(wanted.function)(**needs)
            value = await manager.__aenter__()
            self._closers.append((wanted, lambda: manager.__aexit__(None, None, None)))
        else:
            blocking: AbstractContextManager[Any] = contextlib.contextmanager(wanted.function)(**needs)
            value = await self._enter_blocking(wanted, blocking)
        _log.debug("resource_made", resource=wanted.name)
        return value

    async def _enter_blocking(self, wanted: Resource[Any], blocking: AbstractContextManager[Any]) -> Any:
        """Make a sync one in a thread, which goes on when who waits is cancelled: what it makes is given back then."""
        run = contextvars.copy_context().run
        entering = asyncio.get_running_loop().run_in_executor(None, run, blocking.__enter__)
        self._entering[entering] = wanted

        def on_entered(_entering: asyncio.Future[Any]) -> None:
            del self._entering[entering]
            if entering.exception() is None:
                self._closers.append((wanted, lambda: asyncio.to_thread(blocking.__exit__, None, None, None)))

        entering.add_done_callback(on_entered)
        return await asyncio.shield(entering)

    def _on_made(self, wanted: Resource[Any], making: asyncio.Task[Any]) -> None:
        """Have the next who wants it try again, where it could not be made, whether anybody still waits or not."""
        if (making.cancelled() or making.exception() is not None) and self._making.get(wanted) is making:
            del self._making[wanted]


def _metadata(annotation: object, scope: dict[str, Any]) -> tuple[Any, ...]:
    """Return what `Annotated` adds to a type; nothing when it is another annotation, or cannot be read (yet)."""
    if isinstance(annotation, str):
        if "Annotated" not in annotation:
            return ()
        holder = type("Holder", (), {"__annotations__": {"it": annotation}})
        try:
            annotation = typing.get_type_hints(holder, globalns=scope, include_extras=True)["it"]
        except Exception:  # noqa: BLE001 - an annotation may be any expression; who decodes by it says what is wrong
            return ()
    return tuple(getattr(annotation, "__metadata__", ()))
