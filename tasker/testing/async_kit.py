"""`TaskerTest`: a workflow under test, in process, on a clock of its own.

```python
async def test_a_declined_card_is_tried_again() -> None:
    async with TaskerTest(orders) as tasker:
        tasker.fail("charge", times=2, error=RetryableError("the bank is away"))
        run = await tasker.run({"cart": 7})
        assert run.result == {"paid": True}
        assert run.steps["charge"].attempts == 3
```
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from tasker.client.approvals import Approvals
from tasker.client.client import TaskerClient
from tasker.client.requests import NamedTemplate, TaskHandle
from tasker.client.schedules import Schedules
from tasker.events.messages import CANCEL_GRACE_S
from tasker.events.schedule_events import BackfillOverlap
from tasker.testing.kit import WITHIN_S, Kit
from tasker.testing.run import RunView
from tasker.testing.schedule_run import ScheduleView

T = TypeVar("T")


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

    async def set_budget(
        self, *, cost_max: str | None = None, tokens_max: int | None = None, running_s_max: float | None = None
    ) -> None:
        """Let it use more than its template's budget allows, as `TaskerClient.set_budget` does."""
        await self._kit._do(self._kit._set_budget(self.task_id, cost_max, tokens_max, running_s_max))  # noqa: SLF001

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
        requested_by: str,
        roles: Sequence[str] = (),
        reason: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """Say yes to what a step asks, as `TaskerClient.approvals.approve` does.

        Raises:
            ApprovalForbidden, ApprovalInvalid, StateForbids, ...: as in production.
        """
        await self._ask(
            self._approvals.approve(
                self.task_id, step, values, requested_by=requested_by, roles=roles, reason=reason, attempt=attempt
            )
        )

    async def reject(
        self,
        step: str,
        values: object = None,
        *,
        requested_by: str,
        roles: Sequence[str] = (),
        reason: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """Say no to what a step asks."""
        await self._ask(
            self._approvals.reject(
                self.task_id, step, values, requested_by=requested_by, roles=roles, reason=reason, attempt=attempt
            )
        )

    async def delegate(
        self, step: str, *, to: str, requested_by: str, roles: Sequence[str] = (), reason: str | None = None
    ) -> None:
        """Have somebody else answer what a step asks `by`."""
        await self._ask(
            self._approvals.delegate(self.task_id, step, to=to, requested_by=requested_by, roles=roles, reason=reason)
        )

    def child(self, step: str) -> Run:
        """Return the task that `step` (or one of its items) started last, which is under test like this one.

        Raises:
            LookupError: the step has started none.
        """
        return Run(self._kit, self._kit._handle_of(self._child_id(step)))  # noqa: SLF001

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

    async def stop_backfill(self, end: datetime | str | None = None) -> None:
        """Let open backfills start nothing more; `end`: only those up to it."""
        await self._ask(self._schedules.stop_backfill(self.name, end=end, namespace=self.namespace))

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

    async def ask(self, command: Callable[[TaskerClient], Coroutine[Any, Any, T]]) -> T:
        """Return what a command of the client is answered: what people do that a run has no call for.

        `await tasker.ask(lambda client: client.step_resolve(run.task_id, "charge", {"paid": 1}))`. Reads of the client
        have nobody to ask here: a run shows what they would.

        Raises:
            CommandRejected: the service refuses it, as in production: `StateForbids`, `StepUnknown`, ...
        """
        return await self._do(self._ask(command))

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
