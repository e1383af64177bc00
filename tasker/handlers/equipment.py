"""What an app's handlers run with: resources, middleware, limits, the process pool.

`Equipment` stands between a registry and a worker: it hands the worker functions that fetch their resources, run
inside their hooks, or go to a process of their own. A handler that needs none of this is handed on as it is.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from tasker.handlers.context import StepContext
from tasker.handlers.handler import HandlerSpec
from tasker.handlers.hooks import around, around_blocking
from tasker.handlers.limits import Limit, Limits
from tasker.handlers.process_pool import Place, ProcessPool
from tasker.handlers.registry import Registry
from tasker.handlers.resources import Resource, ResourceScope
from tasker.handlers.runner import Invocable
from tasker.settings.model import LoggingSettings


class Callee(Invocable, Protocol):
    """A function and what it takes; `HandlerSpec` is one."""

    def needs(self, context: StepContext) -> tuple[tuple[str, Resource[Any]], ...]:
        """Return the resources that its call in an attempt takes, by parameter."""
        ...


class Equipment:
    """A registry's handlers with what they run with; the worker's `Handlers` and its `Life`.

    Args:
        app: what child processes load; None: this is such a child, or there are none, and everything runs here.
        processes: how many child processes at most; None: one a core.
        start_method: of child processes; None: `forkserver` where there is one.
        logging: what child processes write to stderr; None: as the settings say that nobody has set.
        dress: makes of each function what is run in its place, inside the hooks; None: the function itself.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        app: str | None = None,
        processes: int | None = None,
        start_method: str | None = None,
        logging: LoggingSettings | None = None,
        dress: Callable[[HandlerSpec], Callee] | None = None,
    ) -> None:
        self._registry = registry
        self._dress = dress
        self.scope = ResourceScope()
        self.loop: asyncio.AbstractEventLoop | None = None
        places = max(1, processes or os.cpu_count() or 1)
        self._pool = None
        if app is not None and any(spec.process for spec in registry.specs_of_work().values()):
            self._pool = ProcessPool(app, places, start_method=start_method, logging=logging)
        pool_limit = Limit(places)
        limits: dict[Callable[..., Any], tuple[Limit, ...]] = {}
        self._found: dict[tuple[str, str, str], Invocable] = {}
        of: dict[Any, tuple[Limit, ...]] = {}
        for work, spec in registry.specs_of_work().items():
            # Of its function, however many queues bring it.
            mine = limits.get(spec.function)
            if mine is None:
                own = () if spec.concurrency is None else (Limit(spec.concurrency),)
                shared = (pool_limit,) if spec.process and self._pool is not None else ()
                mine = limits[spec.function] = (*own, *shared)
            invocable = self._found[work] = self._invocable(spec, Place(*work))
            if mine:
                of[invocable] = mine
        self.limits: Limits[Any] = Limits(of, self._found)

    def queues(self) -> Iterable[tuple[str, str]]:
        """Return namespace and queue of all work that these handlers take."""
        return self._registry.queues()

    def lookup(self, namespace: str, queue: str, handler: str) -> Invocable | None:
        """Return the handler that work of the queue names; None: there is none here."""
        return self._found.get((namespace, queue, handler))

    @property
    def process_ids(self) -> list[int]:
        """The child processes there are now."""
        return [] if self._pool is None else self._pool.process_ids

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say on which loop handlers run, before the first does. On any thread."""
        self.loop = loop
        self.scope.open(loop)
        if self._pool is not None:
            loop.call_soon_threadsafe(self._pool.warm_up)

    async def close(self, timeout_s: float) -> None:
        """Give everything back within `timeout_s`; on the handlers' loop, when nothing runs on it any more."""
        parts = [self.scope.close(timeout_s)]
        if self._pool is not None:
            parts.append(self._pool.close(timeout_s))
        for fault in await asyncio.gather(*parts, return_exceptions=True):
            if fault is not None:
                raise fault

    def _invocable(self, spec: HandlerSpec, place: Place) -> Invocable:
        if spec.process and self._pool is not None:
            return _InProcess(self._pool, place)
        if self._dress is not None:
            return self.equipped(self._dress(spec))
        return self.equipped(spec) if spec.resources or self._registry.middlewares else spec

    def equipped(self, callee: Callee) -> Invocable:
        """Return what calls it with its resources, inside the hooks."""
        return _Equipped(callee, self)

    def call_async(self, spec: Callee, context: StepContext, call: Callable[..., Any]) -> Any:
        """Return the awaitable of a call with its resources, inside the hooks."""

        async def run() -> Any:
            made = {name: await self.scope.get(needed) for name, needed in spec.needs(context)}
            return await call(**made)

        return around(self._registry.middlewares, context, run)

    def call_blocking(self, spec: Callee, context: StepContext, call: Callable[..., Any]) -> Any:
        """Do a call with its resources, inside the hooks."""

        def run() -> Any:
            made = {
                name: self.scope.get_blocking(needed, timeout_s=context.remaining_s)
                for name, needed in spec.needs(context)
            }
            return call(**made)

        return around_blocking(self._registry.middlewares, context, run, self.loop)


class _Equipped:
    """A function with resources or hooks."""

    def __init__(self, spec: Callee, equipment: Equipment) -> None:
        self._spec = spec
        self._equipment = equipment
        self.is_async = spec.is_async

    def bind(self, context: StepContext, input_bytes: bytes, results: Mapping[str, bytes]) -> Callable[[], Any]:
        """Return the call with its arguments decoded."""
        call = self._spec.bind(context, input_bytes, results)
        run = self._equipment.call_async if self.is_async else self._equipment.call_blocking
        return functools.partial(run, self._spec, context, call)


class _InProcess:
    """A function that a child process runs; to the worker it is an async one, whose cancellation kills the child."""

    is_async = True

    def __init__(self, pool: ProcessPool, place: Place) -> None:
        self._pool = pool
        self._place = place

    def bind(self, context: StepContext, input_bytes: bytes, results: Mapping[str, bytes]) -> Callable[[], Any]:
        """Return the call; its arguments are decoded in the child."""
        return functools.partial(self._pool.run, self._place, context, input_bytes, results)
