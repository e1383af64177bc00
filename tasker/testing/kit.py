"""`TaskerTest`: a workflow under test, in process, on a clock of its own.

```python
async def test_a_declined_card_is_tried_again() -> None:
    async with TaskerTest(orders) as tasker:
        tasker.fail("charge", times=2, error=RetryableError("the bank is away"))
        run = await tasker.run({"cart": 7})
        assert run.result == {"paid": True}
        assert run.steps["charge"].attempts == 3
```

What runs is the real thing, up to the drivers: actors, committer, timers, publisher, views, worker, and your
handlers. Only the log and the bus are in memory, and time passes at once.

Time stands still between two calls. `run`, `wait` and `advance` let it pass; the other calls let a twentieth of a
second pass, so that what they cause has happened when they return.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, Final, Self, TypeVar

from tasker.client.approvals import Approvals
from tasker.client.requests import NamedTemplate, TaskHandle
from tasker.client.schedules import Schedules
from tasker.errors import ConfigurationError
from tasker.events.messages import CANCEL_GRACE_S
from tasker.events.schedule_events import BackfillOverlap
from tasker.handlers.handler import HandlerSpec, plain_handlers_of
from tasker.handlers.hooks import Middleware
from tasker.handlers.outcome import RetryableError
from tasker.handlers.registry import Registry
from tasker.handlers.template import Template
from tasker.service.domain.costs.prices import price_table
from tasker.testing.engine import REAL_S_MAX, Engine
from tasker.testing.network import MessageKind
from tasker.testing.quiet import quiet_logs
from tasker.testing.run import RunView
from tasker.testing.schedule_run import ScheduleView
from tasker.testing.script import Call, When
from tasker.testing.virtual_loop import VirtualLoop
from tasker.testing.world import World
from tasker.times import to_datetime

T = TypeVar("T")

WITHIN_S: Final = 400 * 86_400.0
"""How much time a task may take, when a test does not say: more than any timeout that a template can name."""

Source = Template | ModuleType
"""What declares workflows: a template, or a module with templates and handlers."""


class NotOver(AssertionError):
    """A task neither ended nor was blocked in the time it was given."""


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

    def delay(self, kind: MessageKind, *, seconds: float, step: str | None = None, times: int = 1) -> None:
        """Hold the next `times` messages of a kind up."""
        self._world.network.delay(kind, step=step, times=times, by_s=seconds)

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
        if not await self._world.until_over(run.task_id, within_s=within_s):
            raise NotOver(f"task {run.task_id} is {run.state} after {within_s:g} s: {_standing(run)}")

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

    async def _set_budget(self, task_id: str, cost_max: str | None, tokens_max: int | None) -> None:
        await self._command(self._world.client.set_budget(task_id, cost_max=cost_max, tokens_max=tokens_max))

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


class Run(RunView):
    """A task under test; what it shows is how it is now."""

    def __init__(self, kit: TaskerTest, handle: TaskHandle) -> None:
        self._kit = kit
        world = kit._world  # noqa: SLF001 - a run is a part of its kit
        super().__init__(
            handle.task_id, world.steps_of(handle.namespace, handle.template), partial(world.recorded, handle.task_id)
        )

    async def wait(self, *, within_s: float = WITHIN_S) -> Run:
        """Let time pass until it has ended or is blocked, and return it.

        Raises:
            NotOver: it is neither, `within_s` later.
        """
        await self._kit._do(self._kit._until_over(self, within_s))  # noqa: SLF001
        return self

    async def cancel(self, *, grace_s: float = CANCEL_GRACE_S) -> None:
        """Ask for its end, as `TaskerClient.cancel` does."""
        await self._kit._do(self._kit._cancel(self.task_id, grace_s))  # noqa: SLF001

    async def retry(self, step: str | None = None) -> None:
        """Give its failed steps (or one) a fresh set of attempts, as a person does with a blocked task."""
        await self._kit._do(self._kit._retry(self.task_id, step))  # noqa: SLF001

    async def set_budget(self, *, cost_max: str | None = None, tokens_max: int | None = None) -> None:
        """Let it use more than its template's budget allows, as `TaskerClient.set_budget` does."""
        await self._kit._do(self._kit._set_budget(self.task_id, cost_max, tokens_max))  # noqa: SLF001

    async def signal(self, name: str, value: object = None, *, command_id: str | None = None) -> None:
        """Bring it a signal, as `TaskerClient.signal` does.

        Raises:
            SignalUnknown, SignalInvalid, TaskEnded, ...: as in production.
        """
        await self._kit._do(self._kit._signal(self.task_id, name, value, command_id))  # noqa: SLF001

    async def approve(
        self,
        step: str,
        values: object = None,
        *,
        by: str,
        roles: Sequence[str] = (),
        reason: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """Say yes to what a step asks, as `TaskerClient.approvals.approve` does.

        Raises:
            ApprovalForbidden, ApprovalInvalid, StateForbids, ...: as in production.
        """
        await self._ask(
            self._approvals.approve(self.task_id, step, values, by=by, roles=roles, reason=reason, attempt=attempt)
        )

    async def reject(
        self,
        step: str,
        values: object = None,
        *,
        by: str,
        roles: Sequence[str] = (),
        reason: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """Say no to what a step asks."""
        await self._ask(
            self._approvals.reject(self.task_id, step, values, by=by, roles=roles, reason=reason, attempt=attempt)
        )

    async def delegate(
        self, step: str, *, to: str, by: str, roles: Sequence[str] = (), reason: str | None = None
    ) -> None:
        """Have somebody else answer what a step asks `by`."""
        await self._ask(self._approvals.delegate(self.task_id, step, to=to, by=by, roles=roles, reason=reason))

    @property
    def _approvals(self) -> Approvals:
        return self._kit._approvals  # noqa: SLF001 - a part of its kit

    async def _ask(self, command: Coroutine[Any, Any, Any]) -> None:
        await self._kit._do(self._kit._command(command))  # noqa: SLF001


class ScheduleRun(ScheduleView):
    """A schedule under test; what it shows is how it is now."""

    def __init__(self, kit: TaskerTest, namespace: str, name: str) -> None:
        self._kit = kit
        super().__init__(namespace, name, kit._world.recorded, kit._world.steps_of)  # noqa: SLF001 - a part of its kit

    async def pause(self, note: str | None = None) -> None:
        """Let fire times start nothing until `resume`."""
        await self._ask(self._schedules.pause(self.name, note, namespace=self.namespace))

    async def resume(self, note: str | None = None) -> None:
        """Let fire times count again."""
        await self._ask(self._schedules.resume(self.name, note, namespace=self.namespace))

    async def trigger(self) -> None:
        """Start a task now."""
        await self._ask(self._schedules.trigger(self.name, namespace=self.namespace))

    async def backfill(
        self, start: datetime | str, end: datetime | str, *, overlap: BackfillOverlap = "buffer_all"
    ) -> None:
        """Start the tasks of past fire times."""
        await self._ask(self._schedules.backfill(self.name, start, end, overlap=overlap, namespace=self.namespace))

    async def update(self, **document: Any) -> None:
        """Give it another document, whole."""
        document.setdefault("template", self.document.template)
        await self._ask(self._schedules.update(self.name, document, namespace=self.namespace))

    async def delete(self) -> None:
        """End it."""
        await self._ask(self._schedules.delete(self.name, namespace=self.namespace))

    @property
    def _schedules(self) -> Schedules:
        return self._kit._world.client.schedules  # noqa: SLF001

    async def _ask(self, command: Coroutine[Any, Any, Any]) -> None:
        await self._kit._do(self._kit._command(command))  # noqa: SLF001


class TaskerTest(Kit):
    """The kit for async tests: use it with `async with`, under pytest-asyncio, anyio, or your own `asyncio.run`."""

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def start(self, input: object = None, *, template: str | NamedTemplate | None = None, **options: Any) -> Run:
        """Create a task and return it, without waiting for it; `options` are those of `TaskerClient.create`.

        Raises:
            CommandRejected: the service refuses it, as in production: `InputInvalid`, `TemplateUnknown`, ...
        """
        return Run(self, await self._do(self._create(input, template, options)))

    async def run(
        self,
        input: object = None,
        *,
        template: str | NamedTemplate | None = None,
        within_s: float = WITHIN_S,
        **options: Any,
    ) -> Run:
        """Create a task, let time pass until it has ended or is blocked, and return it.

        Raises as `start` and `Run.wait` do.
        """
        run = await self.start(input, template=template, **options)
        return await run.wait(within_s=within_s)

    async def schedule(self, name: str, **document: Any) -> ScheduleRun:
        """Begin a schedule and return it: `await tasker.schedule("nightly", cron="0 2 * * *")`.

        `document` is what `schedule.create` takes; `template` is the one under test unless given, `namespace` its own.

        Raises:
            CommandRejected: the service refuses it, as in production: `ScheduleInvalid`, ...
        """
        namespace, name = await self._do(self._schedule(name, document))
        return ScheduleRun(self, namespace, name)

    async def advance(
        self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> None:
        """Let time pass, and everything happen that falls into it."""
        await self._do(self._advance(seconds + 60 * minutes + 3_600 * hours + 86_400 * days))

    async def crash_service(self, *, down_s: float = 0.0) -> None:
        """End the service as by a kill, and start another one, which rebuilds everything from the log.

        Args:
            down_s: how long nobody serves in between.
        """
        await self._do(self._crash_service(down_s))

    async def crash_worker(self) -> None:
        """End the worker as by a kill, with all that it runs, and start another one."""
        await self._do(self._crash_worker())

    async def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._engine.reach(work)


class SyncRun(RunView):
    """A task under test; what it shows is how it is now."""

    def __init__(self, kit: SyncTaskerTest, handle: TaskHandle) -> None:
        self._kit = kit
        world = kit._world  # noqa: SLF001 - a run is a part of its kit
        super().__init__(
            handle.task_id, world.steps_of(handle.namespace, handle.template), partial(world.recorded, handle.task_id)
        )

    def wait(self, *, within_s: float = WITHIN_S) -> SyncRun:
        """See `Run.wait`."""
        self._kit._do(self._kit._until_over(self, within_s))  # noqa: SLF001
        return self

    def cancel(self, *, grace_s: float = CANCEL_GRACE_S) -> None:
        """See `Run.cancel`."""
        self._kit._do(self._kit._cancel(self.task_id, grace_s))  # noqa: SLF001

    def retry(self, step: str | None = None) -> None:
        """See `Run.retry`."""
        self._kit._do(self._kit._retry(self.task_id, step))  # noqa: SLF001

    def set_budget(self, *, cost_max: str | None = None, tokens_max: int | None = None) -> None:
        """See `Run.set_budget`."""
        self._kit._do(self._kit._set_budget(self.task_id, cost_max, tokens_max))  # noqa: SLF001

    def signal(self, name: str, value: object = None, *, command_id: str | None = None) -> None:
        """See `Run.signal`."""
        self._kit._do(self._kit._signal(self.task_id, name, value, command_id))  # noqa: SLF001

    def approve(
        self,
        step: str,
        values: object = None,
        *,
        by: str,
        roles: Sequence[str] = (),
        reason: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """See `Run.approve`."""
        self._ask(
            self._approvals.approve(self.task_id, step, values, by=by, roles=roles, reason=reason, attempt=attempt)
        )

    def reject(
        self,
        step: str,
        values: object = None,
        *,
        by: str,
        roles: Sequence[str] = (),
        reason: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """See `Run.reject`."""
        self._ask(
            self._approvals.reject(self.task_id, step, values, by=by, roles=roles, reason=reason, attempt=attempt)
        )

    def delegate(self, step: str, *, to: str, by: str, roles: Sequence[str] = (), reason: str | None = None) -> None:
        """See `Run.delegate`."""
        self._ask(self._approvals.delegate(self.task_id, step, to=to, by=by, roles=roles, reason=reason))

    @property
    def _approvals(self) -> Approvals:
        return self._kit._approvals  # noqa: SLF001 - a part of its kit

    def _ask(self, command: Coroutine[Any, Any, Any]) -> None:
        self._kit._do(self._kit._command(command))  # noqa: SLF001


class SyncScheduleRun(ScheduleView):
    """A schedule under test; what it shows is how it is now."""

    def __init__(self, kit: SyncTaskerTest, namespace: str, name: str) -> None:
        self._kit = kit
        super().__init__(namespace, name, kit._world.recorded, kit._world.steps_of)  # noqa: SLF001 - a part of its kit

    def pause(self, note: str | None = None) -> None:
        """Let fire times start nothing until `resume`."""
        self._ask(self._schedules.pause(self.name, note, namespace=self.namespace))

    def resume(self, note: str | None = None) -> None:
        """Let fire times count again."""
        self._ask(self._schedules.resume(self.name, note, namespace=self.namespace))

    def trigger(self) -> None:
        """Start a task now."""
        self._ask(self._schedules.trigger(self.name, namespace=self.namespace))

    def backfill(self, start: datetime | str, end: datetime | str, *, overlap: BackfillOverlap = "buffer_all") -> None:
        """Start the tasks of past fire times."""
        self._ask(self._schedules.backfill(self.name, start, end, overlap=overlap, namespace=self.namespace))

    def update(self, **document: Any) -> None:
        """Give it another document, whole."""
        document.setdefault("template", self.document.template)
        self._ask(self._schedules.update(self.name, document, namespace=self.namespace))

    def delete(self) -> None:
        """End it."""
        self._ask(self._schedules.delete(self.name, namespace=self.namespace))

    @property
    def _schedules(self) -> Schedules:
        return self._kit._world.client.schedules  # noqa: SLF001

    def _ask(self, command: Coroutine[Any, Any, Any]) -> None:
        self._kit._do(self._kit._command(command))  # noqa: SLF001


class SyncTaskerTest(Kit):
    """The kit for tests without asyncio: use it with `with`. Every call is that of `TaskerTest`, without `await`."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, input: object = None, *, template: str | NamedTemplate | None = None, **options: Any) -> SyncRun:
        """See `TaskerTest.start`."""
        return SyncRun(self, self._do(self._create(input, template, options)))

    def run(
        self,
        input: object = None,
        *,
        template: str | NamedTemplate | None = None,
        within_s: float = WITHIN_S,
        **options: Any,
    ) -> SyncRun:
        """See `TaskerTest.run`."""
        return self.start(input, template=template, **options).wait(within_s=within_s)

    def schedule(self, name: str, **document: Any) -> SyncScheduleRun:
        """See `TaskerTest.schedule`."""
        namespace, name = self._do(self._schedule(name, document))
        return SyncScheduleRun(self, namespace, name)

    def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0) -> None:
        """See `TaskerTest.advance`."""
        self._do(self._advance(seconds + 60 * minutes + 3_600 * hours + 86_400 * days))

    def crash_service(self, *, down_s: float = 0.0) -> None:
        """See `TaskerTest.crash_service`."""
        self._do(self._crash_service(down_s))

    def crash_worker(self) -> None:
        """See `TaskerTest.crash_worker`."""
        self._do(self._crash_worker())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._engine.wait(work)


def registry_of(
    sources: Sequence[Source], handlers: Sequence[Any] = (), labels: Mapping[str, str] | None = None
) -> Registry:
    """Return what templates, modules and functions marked `@handler` or `@middleware` declare together.

    Raises:
        TemplateInvalid, ConfigurationError: as `Registry`; also when there is no template among them.
    """
    templates: list[Template] = []
    hooks: list[Middleware] = [hook for hook in handlers if isinstance(hook, Middleware)]
    specs: list[HandlerSpec] = [spec for function in handlers for spec in plain_handlers_of(function)]
    for source in sources:
        values = list(vars(source).values()) if isinstance(source, ModuleType) else [source]
        templates += [value for value in values if isinstance(value, Template) and value not in templates]
        specs += [spec for value in values for spec in plain_handlers_of(value) if spec not in specs]
        hooks += [value for value in values if isinstance(value, Middleware) and value not in hooks]
    if not templates:
        raise ConfigurationError("there is no template to test: give a Template, or a module that has one")
    return Registry(templates, specs, hooks, labels=labels)


def _standing(run: RunView) -> str:
    steps = [f"{step.name} {step.state} (attempt {step.attempts})" for step in run.steps.values()]
    return ", ".join(steps) + f"; last event: {run.history[-1]}"
