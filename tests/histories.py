"""Histories of tasks, recorded as the log records them: what projections and reads are tested with."""

import itertools
import uuid
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from tasker.events.chain import GENESIS, digest_of_batch, leaf_of
from tasker.events.envelope import Meta, NewEvent, RecordedEvent
from tasker.events.log import AppendOutcome, EventLog, ShardAppend
from tasker.events.schedule_events import (
    ScheduleBackfillRequested,
    ScheduleBackfillStopped,
    ScheduleCreated,
    ScheduleFireBuffered,
    ScheduleFired,
    ScheduleFiresSkipped,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleStartRefused,
    ScheduleTasksEnded,
    ScheduleTaskStarted,
    ScheduleUpdated,
)
from tasker.events.stored import DomainEvent, encode_meta, to_new_event
from tasker.events.task_events import (
    ErrorInfo,
    StepAttemptFailed,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepRetryScheduled,
    StepStarted,
    TaskBlocked,
    TaskCompleted,
    TaskCreated,
    TemplateRef,
)
from tasker.ids import shard_of

T0_US = 1_790_000_000_000_000
HASH = "ab" * 32
ERROR = ErrorInfo(type="ValueError", message="no such card")


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def created(template: str = "linear4", namespace: str = "shop", **fields: Any) -> TaskCreated:
    ref = TemplateRef(namespace=namespace, name=template, version="1.0.0", hash=fields.pop("hash", HASH))
    return TaskCreated(template=ref, input=fields.pop("input", raw({"n": 6})), request_hash="cd" * 32, **fields)


def ran(step: str, attempt: int = 1, result: Any = 1) -> list[DomainEvent]:
    """A step that a worker ran once, from offer to result."""
    return [
        StepDispatched(step=step, attempt=attempt),
        StepStarted(step=step, attempt=attempt, worker="w1", finish_by_us=T0_US, heartbeat_s=10.0),
        StepCompleted(step=step, attempt=attempt, result=raw(result)),
    ]


def failed(step: str) -> list[DomainEvent]:
    """A step whose second and last attempt failed."""
    return [
        StepDispatched(step=step, attempt=1),
        StepAttemptFailed(step=step, attempt=1, error=ERROR),
        StepRetryScheduled(step=step, attempt=2, delay_s=1.0, retry_at_us=T0_US + 1),
        StepDispatched(step=step, attempt=2),
        StepAttemptFailed(step=step, attempt=2, error=ERROR),
        StepFailed(step=step, attempt=2, reason="retries_exhausted", error=ERROR),
    ]


def completed_task(*steps: str, **fields: Any) -> list[DomainEvent]:
    return [created(**fields), *(event for step in steps for event in ran(step)), TaskCompleted(result=raw(36))]


def blocked_task(step: str = "charge", **fields: Any) -> list[DomainEvent]:
    return [created(**fields), *failed(step), TaskBlocked(reason="step_failed", steps=(step,))]


def scheduled(namespace: str = "shop", name: str = "nightly") -> list[DomainEvent]:
    """A schedule that fired, skipped, had a start refused, was paused and resumed, and has one that waits."""
    spec = ScheduleSpec(template="report", cron="0 * * * *", overlap="buffer_one", input=raw({"city": "Zürich"}))
    hours = [T0_US - T0_US % 3_600_000_000 + hour * 3_600_000_000 for hour in range(1, 8)]

    def to(hour: int) -> dict[str, int]:
        return {"next_us": hours[hour], "due_us": hours[hour]}

    return [
        ScheduleCreated(namespace=namespace, name=name, spec=spec, **to(0)),
        ScheduleFired(fire_us=hours[0], cause="time", task_id="t-0", key="k-0", **to(1)),
        ScheduleTaskStarted(task_id="t-0"),
        ScheduleFireBuffered(fire_us=hours[1], **to(2)),
        ScheduleFiresSkipped(first_us=hours[2], until_us=hours[2] + 1, reason="overlap", count=1, **to(3)),
        ScheduleTasksEnded(task_ids=("t-0",)),
        ScheduleFired(fire_us=hours[1], cause="buffered", task_id="t-1", key="k-1"),
        ScheduleStartRefused(task_id="t-1", code="template_unknown", detail="there is none"),
        SchedulePaused(note="closed"),
        ScheduleBackfillRequested(start_us=T0_US, end_us=hours[3], overlap="buffer_all", first_us=hours[0]),
        ScheduleFired(fire_us=hours[0], cause="backfill", task_id="t-0", key="k-0"),
        ScheduleTaskStarted(task_id="t-0", duplicate=True),
        ScheduleBackfillRequested(start_us=T0_US, end_us=hours[3], overlap="buffer_all", first_us=hours[0], fires=3),
        ScheduleBackfillStopped(next_us=hours[0], end_us=hours[3]),
        ScheduleResumed(),
        ScheduleFiresSkipped(first_us=hours[3], until_us=hours[5], reason="paused", count=2, **to(5)),
        ScheduleUpdated(spec=msgspec.structs.replace(spec, cron="30 * * * *"), **to(5)),
        ScheduleFireBuffered(fire_us=hours[5], **to(6)),
    ]


class Recorder:
    """A log in a list: numbers events as the owner of every shard would.

    Attributes:
        events: all of them, in the order of recording.
    """

    def __init__(self, shards: int = 4, tenant: str = "default") -> None:
        self.shards = shards
        self.tenant = tenant
        self.events: list[RecordedEvent] = []
        self.positions = dict.fromkeys(range(shards), 0)
        self._seqs: dict[UUID, int] = {}
        self._digests = dict.fromkeys(range(shards), GENESIS)
        self._ticks = itertools.count(T0_US, 1000)
        self._appended = 0

    def record(
        self,
        stream_id: UUID,
        events: Iterable[DomainEvent],
        *,
        tenant: str | None = None,
        meta: Meta | None = None,
        change: Any = lambda event: event,
    ) -> list[RecordedEvent]:
        """Record `events` behind what the stream has; `change` may damage each before."""
        recorded = []
        for event in events:
            seq = self._seqs[stream_id] = self._seqs.get(stream_id, 0) + 1
            new = to_new_event(
                event,
                stream_id=stream_id,
                seq=seq,
                tenant=tenant or self.tenant,
                at_us=next(self._ticks),
                meta=encode_meta(meta or Meta()),
            )
            recorded.append(self._place(change(new)))
        return recorded

    def task(self, events: Iterable[DomainEvent], **more: Any) -> UUID:
        """Record a new task; returns its id."""
        task_id = uuid.uuid4()
        self.record(task_id, events, **more)
        return task_id

    def of(self, stream_id: UUID) -> list[RecordedEvent]:
        return [event for event in self.events if event.stream_id == stream_id]

    async def append_to(self, log: EventLog, epochs: dict[int, int]) -> None:
        """Append what was recorded since the last call."""
        for recorded in self.events[self._appended :]:
            shard = recorded.shard
            new = NewEvent(**{name: getattr(recorded, name) for name in NewEvent.__struct_fields__})
            leaf = leaf_of(new, shard=shard, position=recorded.position, epoch=epochs[shard])
            known, self._digests[shard] = self._digests[shard], digest_of_batch(self._digests[shard], [leaf])
            part = ShardAppend(
                shard=shard,
                epoch=epochs[shard],
                position=recorded.position - 1,
                known=known,
                digest=self._digests[shard],
                events=[new],
            )
            assert await log.append([part]) == {shard: AppendOutcome.APPENDED}
        self._appended = len(self.events)

    def _place(self, new: NewEvent) -> RecordedEvent:
        shard = shard_of(new.stream_id, self.shards)
        self.positions[shard] += 1
        recorded = RecordedEvent(
            shard=shard,
            position=self.positions[shard],
            epoch=1,
            chain=None,
            **{name: getattr(new, name) for name in NewEvent.__struct_fields__},
        )
        self.events.append(recorded)
        return recorded


def damaged(event: NewEvent) -> NewEvent:
    """The event with a payload that is no JSON."""
    return msgspec.structs.replace(event, payload=b"\xff{")


def interleaved(*streams: Sequence[RecordedEvent]) -> list[RecordedEvent]:
    return [event for step in itertools.zip_longest(*streams) for event in step if event is not None]
