"""The service's own worker for bulks in virtual time, over views that are read from the log as they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from tasker.bus.pull import PullLoop
from tasker.events.envelope import RecordedEvent
from tasker.handlers.runner import Runner
from tasker.handlers.worker import Worker
from tasker.ids import RESERVED_NAMESPACE
from tasker.projections.checkpoints import PositionWatch
from tasker.projections.dead_letter_queries import DeadLetterQueries
from tasker.projections.queries import Queries, TaskQuery, Tasks
from tasker.replay.state_at import folded
from tasker.service.bulk.part import BulkParts
from tasker.service.bulk.targets import BulkTargets
from tasker.service.bulk.worker import SLOTS, BulkHandlers
from tasker.service.domain.state import TaskState, TaskStatus
from tasker.service.http.gateway import BusGateway
from tasker.settings import DirectSettings
from tasker.times import to_rfc3339
from tests.simulation.scripted import STREAMS

if TYPE_CHECKING:
    from tests.simulation.offers import Stage

COMMAND_S: Final = 5.0


class _Shown:
    """What a bulk reads of a task."""

    def __init__(self, task_id: str, created_us: int, state: TaskState) -> None:
        self.task_id = task_id
        self.created_us = created_us
        self.created_at = to_rfc3339(created_us)
        self.state = TaskStatus.PAUSED if state.paused else state.status
        self.namespace, self.template = state.template.namespace, state.template.name

    def matches(self, query: TaskQuery) -> bool:
        """Return whether a bulk's query finds it."""
        wanted = (query.namespace in {None, self.namespace}, query.template in {None, self.template})
        before = query.created_to_us is None or self.created_us < query.created_to_us
        return all(wanted) and before and self.state in query.states and self.namespace != RESERVED_NAMESPACE


class LogViews:
    """Of `Queries` what bulks ask for. They lag: each answer is of `lag_s` ago."""

    def __init__(self, stage: Stage) -> None:
        self.lag_s = 0.0
        self._stage = stage

    def _known(self, events: list[RecordedEvent]) -> list[RecordedEvent]:
        until_us = self._stage.clock.now_us() - round(self.lag_s * 1e6)
        return [one for one in events if one.at_us <= until_us]

    async def positions(self) -> dict[int, int]:
        """Return how far they are."""
        return {number: len(self._known(shard.events)) for number, shard in self._stage.log._shards.items()}

    async def task(self, _tenant: str, task_id: UUID) -> _Shown | None:
        """Return a task."""
        events = self._known(list(self._stage.log.events_of(task_id)))
        return _Shown(str(task_id), events[0].at_us, folded(events)) if events else None

    async def tasks(self, tenant: str, query: TaskQuery) -> Tasks:
        """Return a page, those that were created first before the others."""
        self._stage.look()
        ids = [*self._stage.tasks, *self._stage.bulks]
        shown = [one for task_id in ids if (one := await self.task(tenant, UUID(task_id))) is not None]
        found = sorted((one.created_us, one.task_id, one) for one in shown if one.matches(query))
        behind = [one for *key, one in found if query.after is None or str(key) > query.after]
        page = behind[: query.limit]
        more = str([page[-1].created_us, page[-1].task_id]) if len(behind) > len(page) else None
        return Tasks(cast("Any", page), more, {})

    async def count_tasks(self, tenant: str, query: TaskQuery) -> int:
        """Return how many there are."""
        everything = TaskQuery(**{field: getattr(query, field) for field in ("states", "namespace", "template")})
        return len((await self.tasks(tenant, everything)).items)


class BulkSide:
    """One process's worker for bulks.

    Attributes:
        views: what it reads.
    """

    def __init__(self, stage: Stage) -> None:
        self.views = LogViews(stage)
        self._stage = stage
        self._bus = stage.broker.connect()
        queries, gateway = cast("Queries", self.views), BusGateway(self._bus, stage.subjects)

        async def send(tenant: str, verb: str, body: bytes, headers: Mapping[str, str] = {}) -> bytes:
            return await gateway.send(tenant, verb, body, headers, timeout_s=COMMAND_S)

        targets = BulkTargets(queries, cast("DeadLetterQueries", None))
        watch = PositionWatch(queries.positions, stage.clock)
        parts = BulkParts(targets, queries, watch, stage.log, len(stage.log._shards), send, stage.clock)
        self._worker = Worker(
            self._bus,
            BulkHandlers(parts),
            subjects=stage.subjects,
            tenant="*",
            slots=SLOTS,
            worker_id=f"bulks-{stage.draw.randrange(10**9)}",
            streams=STREAMS,
            direct=DirectSettings(enabled=False),
            clock=stage.clock,
            runner=partial(Runner, loop=stage.loop, clock=stage.clock),
            pull=partial(PullLoop, draw=stage.draw.random),
            draw=stage.draw.random,
        )

    async def start(self) -> None:
        """Take bulks from now on."""
        await self._worker.start()

    async def kill(self) -> None:
        """End as by SIGKILL."""
        self._bus.cut()
        self._stage.broker.forget(self._bus)
        await self._worker.stop(settle_s=0)
