"""Actors from what the log holds of their streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import structlog

from tasker.errors import Fenced, TemplateUnknown, Unavailable, Undecodable
from tasker.events.envelope import RecordedEvent, StreamKind
from tasker.events.history import History
from tasker.service.actors.control_actor import ControlActor
from tasker.service.actors.directory import TemplateDirectory
from tasker.service.actors.investigation_actor import InvestigationActor
from tasker.service.actors.limits.concurrency_actor import ConcurrencyActor, ConcurrencyPorts
from tasker.service.actors.poisoned_task import PoisonedActor
from tasker.service.actors.schedules.schedule_actor import ScheduleActor, SchedulePorts
from tasker.service.actors.task_actor import TaskActor
from tasker.service.actors.task_ports import TaskPorts
from tasker.service.actors.template_actor import TemplateActor
from tasker.service.runtime.actor import Actor
from tasker.service.runtime.routes import Routes

_TASK: Final = StreamKind.TASK.value

_log = structlog.get_logger(__name__)


class Factory:
    """Implements `ActorFactory`."""

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        directory: TemplateDirectory,
        ports: TaskPorts,
        routes: Routes,
        schedules: SchedulePorts,
        keys: ConcurrencyPorts,
        on_control: Callable[[], None],
    ) -> None:
        self._keys = keys
        self._directory = directory
        self._ports = ports
        self._routes = routes
        self._schedules = schedules
        self._on_control = on_control

    def new(self, shard: int, stream_id: UUID, kind: str) -> Actor | None:
        """Return the actor of a task that does not exist yet; None for other kinds."""
        return TaskActor(stream_id, shard, self._ports) if kind == _TASK else None

    async def revive(self, stream_id: UUID, history: History, kind: str) -> Actor:
        """Return the actor of a stream; one that cannot be folded becomes a `PoisonedActor`."""
        shard = self._routes.shard_of(stream_id)
        try:
            match history.kind or kind:
                case StreamKind.TEMPLATE:
                    template = TemplateActor(stream_id, await history.folded(TemplateActor.form))
                    self._directory.show(template)
                    return template
                case StreamKind.SCHEDULE:
                    schedule = await history.folded(ScheduleActor.form)
                    return ScheduleActor(stream_id, shard, self._schedules, schedule)
                case StreamKind.CONCURRENCY:
                    key = await history.folded(ConcurrencyActor.form)
                    return ConcurrencyActor(stream_id, shard, self._keys, key, tenant=history.tenant)
                case StreamKind.INVESTIGATION:
                    return InvestigationActor(stream_id, await history.folded(InvestigationActor.form))
                case StreamKind.CONTROL:
                    return ControlActor(stream_id, self._on_control, await history.folded(ControlActor.form))
                case _:
                    return await self._task(stream_id, shard, await history.events())
        except (Unavailable, Fenced):
            # The log could not be asked, which says nothing about the task.
            raise
        except (Undecodable, TemplateUnknown) as error:
            detail = error.detail
        except Exception as error:  # noqa: BLE001 - a history that breaks the fold is poison, not a reason to stop
            detail = f"{type(error).__name__}: {error}"
        _log.error("task_poisoned", task_id=str(stream_id), shard=shard, error=detail)
        return PoisonedActor(stream_id, shard, detail, tenant=history.tenant)

    async def _task(self, stream_id: UUID, shard: int, events: Sequence[RecordedEvent]) -> Actor:
        actor = TaskActor(stream_id, shard, self._ports)
        if events:
            reference = actor.fold(events, self._ports.now_us())
            actor.template = self._directory.compiled_now(reference.hash)
            if actor.template is None:
                actor.template = await self._directory.compiled(reference.hash)
        return actor
