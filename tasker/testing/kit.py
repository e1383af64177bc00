"""What both kits have, `TaskerTest` and `SyncTaskerTest`: a world in process on a clock of its own.

What runs is the real thing, up to the drivers: actors, committer, timers, publisher, views, worker, and the handlers
under test. Only the log and the bus are in memory, and time passes at once.

Time stands still between two calls. `run`, `wait` and `advance` let it pass; the other calls let a twentieth of a
second pass, so that what they cause has happened when they return.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar, cast

from tasker.client.approvals import Approvals
from tasker.client.client import TaskerClient
from tasker.client.requests import NamedTemplate, TaskHandle
from tasker.errors import ConfigurationError
from tasker.events.stored import from_recorded
from tasker.events.task_events import TaskCreated
from tasker.handlers.outcome import RetryableError
from tasker.service.domain.costs.prices import price_table
from tasker.testing.engine import REAL_S_MAX, Engine
from tasker.testing.network import MessageKind
from tasker.testing.quiet import quiet_logs
from tasker.testing.run import RunView
from tasker.testing.script import Call, When
from tasker.testing.sources import Source, registry_of
from tasker.testing.virtual_loop import VirtualLoop
from tasker.testing.world import World
from tasker.times import to_datetime

T = TypeVar("T")

WITHIN_S: Final = 400 * 86_400.0
"""How much time a task may take, when a test does not say: more than any timeout that a template can name."""


REAL_SHARE: Final = 0.9
"""How much of the real time of a call its wait may take: the rest is for telling where the task stands."""


class NotOver(AssertionError):
    """A task neither ended nor was blocked in the time it was given, or as far as time passed in that of a call."""


class Kit:
    """What both forms of the kit share: what can be done without letting time pass.

    Args:
        sources: the workflows under test.
        handlers: functions marked `@handler`, for templates that are not written beside them; hooks (`@middleware`).
        seed: of every random choice: ids, jitter of retries. The same seed gives the same events.
        slots: how many attempts the worker runs at a time.
        labels: of the worker, for steps with `requires`; None: it has all that they ask for.
        prices: what usage costs, as the price table's file says it.
        real_s_max: how long one call may take in real time, before it fails as `Stuck`.
    """

    def __init__(
        self,
        *sources: Source,
        handlers: Sequence[Any] = (),
        seed: int = 0,
        slots: int = 100,
        labels: Mapping[str, str] | None = None,
        real_s_max: float = REAL_S_MAX,
        prices: Mapping[str, Any] | None = None,
    ) -> None:
        self._registry = registry_of(sources, handlers, labels)
        self.seed = seed
        self._real_s_max = real_s_max
        table = None if prices is None else price_table(dict(prices))
        self._engine: Engine[World] = Engine(
            partial(World, self._registry, seed=seed, slots=slots, prices=table), VirtualLoop, real_s_max=real_s_max
        )
        self._quiet = quiet_logs()

    @property
    def now(self) -> datetime:
        """The time; it begins with the year 2030."""
        return to_datetime(self._world.clock.now_us())

    def calls(self, step: str | None = None) -> tuple[Call, ...]:
        """Return which handlers were called, in order; those of one step when it is named."""
        return tuple(call for call in self._world.script.calls if step in (None, call.step))

    # ---------------------------------------------------------------- handlers

    def stub(self, step: str, result: object) -> None:
        """Let `step` return `result` in place of its handler; or what `result` returns, when it is like a handler."""
        self._world.script.stub(step, result)

    def fail(
        self,
        step: str,
        *,
        times: int = 1,
        error: BaseException | type[BaseException] | None = None,
        when: When = "before",
    ) -> None:
        """Let the next `times` attempts of `step` raise `error` (a `RetryableError` unless given).

        With `when="after"` the handler does its work first: its effect happened, and nobody is told.
        """
        self._world.script.fail(step, error or RetryableError("the test says so"), times=times, when=when)

    def crash_worker_in(self, step: str, *, times: int = 1, when: When = "after") -> None:
        """Let the worker die in the next `times` attempts of `step`, as by a kill; another one takes its place.

        Args:
            step: whose attempts.
            times: how many of its attempts.
            when: `after`: the handler has done its work, and nobody is told; `before`: it has done nothing.
        """
        self._world.script.crash(step, times=times, when=when)

    # ---------------------------------------------------------------- messages

    def duplicate(self, kind: MessageKind, *, step: str | None = None, times: int = 1) -> None:
        """Deliver the next `times` messages of a kind twice: work, a report, or the answer to one."""
        self._world.network.duplicate(kind, step=step, times=times)

    def lose(self, kind: MessageKind, *, step: str | None = None, times: int = 1) -> None:
        """Lose the next `times` messages of a kind."""
        self._world.network.lose(kind, step=step, times=times)

    def delay(self, kind: MessageKind, *, delay_s: float, step: str | None = None, times: int = 1) -> None:
        """Hold the next `times` messages of a kind up."""
        self._world.network.delay(kind, step=step, times=times, by_s=delay_s)

    # ---------------------------------------------------------------- what the two forms are made of

    @property
    def _world(self) -> World:
        try:
            return self._engine.world
        except AttributeError:
            raise RuntimeError("the test kit is not open: use it with `async with` (or `with`)") from None

    def open(self) -> None:
        """Start it; what `with` does on entering. Raises what is wrong with the templates."""
        self._quiet.__enter__()
        try:
            self._engine.start()
        except BaseException:
            self._quiet.__exit__(None, None, None)
            raise

    def close(self) -> None:
        """End it; what `with` does on leaving."""
        self._engine.stop()
        self._quiet.__exit__(None, None, None)

    async def _create(
        self, input: object, template: str | NamedTemplate | None, options: Mapping[str, Any]
    ) -> TaskHandle:
        if template is None:
            if len(self._registry.specs) != 1:
                names = ", ".join(spec.name for spec in self._registry.specs)
                raise ConfigurationError(f"there are several templates ({names}): say which, with template=")
            [template] = self._registry.specs
        world = self._world
        with world.loop.passing(world.loop.time() + world.client.timeout_s):
            handle = await world.client.create(template, input, **options)
        await world.settle()
        return handle

    def _handle_of(self, task_id: str) -> TaskHandle:
        """Return a handle of a task that another one has started."""
        [created] = (event for event in self._world.recorded(task_id) if event.seq == 1)
        template = cast("TaskCreated", from_recorded(created)).template
        return TaskHandle(task_id=task_id, template=template.name, namespace=template.namespace, idempotency_key="")

    async def _schedule(self, name: str, options: dict[str, Any]) -> tuple[str, str]:
        if "template" not in options:
            [spec] = self._registry.specs
            options["template"] = spec.name
        namespace = options.pop("namespace", None)
        if namespace is None:
            namespace = next(
                (spec.namespace for spec in self._registry.specs if spec.name == options["template"]), "default"
            )
        await self._command(self._world.client.schedules.create(name, options, namespace=namespace))
        return namespace, name

    async def _until_over(self, run: RunView, within_s: float) -> None:
        began = self.now
        within_real_s = self._real_s_max * REAL_SHARE
        if not await self._world.until_over(run.task_id, within_s=within_s, within_real_s=within_real_s):
            raise NotOver(f"task {run.task_id} is {run.state} after {self.now - began}: {_standing(run)}")

    async def _ask(self, command: Callable[[TaskerClient], Coroutine[Any, Any, T]]) -> T:
        return await self._command(command(self._world.client))

    async def _command(self, command: Coroutine[Any, Any, T]) -> T:
        world = self._world
        with world.loop.passing(world.loop.time() + world.client.timeout_s):
            answer = await command
        await world.settle()
        return answer

    async def _retry(self, task_id: str, step: str | None) -> None:
        client = self._world.client
        await self._command(client.retry(task_id) if step is None else client.step_retry(task_id, step))

    async def _signal(self, task_id: str, name: str, value: object, command_id: str | None) -> None:
        await self._command(self._world.client.signal(task_id, name, value, command_id=command_id))

    @property
    def _approvals(self) -> Approvals:
        return self._world.client.approvals

    async def _set_budget(
        self, task_id: str, cost_max: str | None, tokens_max: int | None, running_s_max: float | None
    ) -> None:
        call = self._world.client.set_budget(
            task_id, cost_max=cost_max, tokens_max=tokens_max, running_s_max=running_s_max
        )
        await self._command(call)

    async def _cancel(self, task_id: str, grace_s: float) -> None:
        await self._command(self._world.client.cancel(task_id, grace_s=grace_s))

    async def _advance(self, seconds: float) -> None:
        await self._world.advance(seconds)
        await self._world.settle()

    async def _crash_service(self, down_s: float) -> None:
        await self._world.kill_service()
        if down_s:
            await self._world.advance(down_s)
        await self._world.start_service()
        await self._world.settle()

    async def _crash_worker(self) -> None:
        await self._world.replace_worker()
        await self._world.settle()


def _standing(run: RunView) -> str:
    steps = [f"{step.name} {step.state} (attempt {step.attempts})" for step in run.steps.values()]
    return ", ".join(steps) + f"; last event: {run.history[-1]}"
