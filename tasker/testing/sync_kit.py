"""`SyncTaskerTest`: `TaskerTest` for tests without asyncio; each call blocks, nothing else is different."""

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

    def set_budget(
        self, *, cost_max: str | None = None, tokens_max: int | None = None, running_s_max: float | None = None
    ) -> None:
        """See `Run.set_budget`."""
        self._kit._do(self._kit._set_budget(self.task_id, cost_max, tokens_max, running_s_max))  # noqa: SLF001

    def signal(self, name: str, value: object = None, *, command_id: str | None = None) -> None:
        """See `Run.signal`."""
        self._kit._do(self._kit._signal(self.task_id, name, value, command_id))  # noqa: SLF001

    def approve(
        self,
        step: str,
        values: object = None,
        *,
        requested_by: str,
        roles: Sequence[str] = (),
        reason: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """See `Run.approve`."""
        self._ask(
            self._approvals.approve(
                self.task_id, step, values, requested_by=requested_by, roles=roles, reason=reason, attempt=attempt
            )
        )

    def reject(
        self,
        step: str,
        values: object = None,
        *,
        requested_by: str,
        roles: Sequence[str] = (),
        reason: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """See `Run.reject`."""
        self._ask(
            self._approvals.reject(
                self.task_id, step, values, requested_by=requested_by, roles=roles, reason=reason, attempt=attempt
            )
        )

    def delegate(
        self, step: str, *, to: str, requested_by: str, roles: Sequence[str] = (), reason: str | None = None
    ) -> None:
        """See `Run.delegate`."""
        self._ask(
            self._approvals.delegate(self.task_id, step, to=to, requested_by=requested_by, roles=roles, reason=reason)
        )

    def child(self, step: str) -> SyncRun:
        """See `Run.child`."""
        return SyncRun(self._kit, self._kit._handle_of(self._child_id(step)))  # noqa: SLF001

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

    def stop_backfill(self, end: datetime | str | None = None) -> None:
        """Let open backfills start nothing more; `end`: only those up to it."""
        self._ask(self._schedules.stop_backfill(self.name, end=end, namespace=self.namespace))

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

    def ask(self, command: Callable[[TaskerClient], Coroutine[Any, Any, T]]) -> T:
        """See `TaskerTest.ask`; the call of the client is the same: `lambda client: client.pause(run.task_id)`."""
        return self._do(self._ask(command))

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
