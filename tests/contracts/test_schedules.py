"""Schedules on the write side, over the log in memory and on PostgreSQL: real time, real takeovers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tasker.bus.memory_bus import MemoryBroker
from tasker.events.log import EventLog
from tasker.events.memory_log import MemoryLog
from tasker.events.postgres_log import PostgresLog
from tasker.events.schedule_events import ScheduleFired
from tasker.events.stored import from_recorded
from tasker.events.subjects import Subjects
from tasker.ids import schedule_stream_id
from tasker.service.actors.schedules.schedule_effects import ScheduleEffects
from tests.contracts.pair import SHARDS, Pair
from tests.servers import SharedCluster

SOON_S = 0.3
WAIT_S = 20.0


@pytest.fixture(params=["memory", "postgres"])
async def log(request: pytest.FixtureRequest, cluster: SharedCluster) -> AsyncIterator[EventLog]:
    if request.param == "memory":
        yield MemoryLog(shards=SHARDS)
        return
    dsn = await cluster.create_database()
    log = await PostgresLog.connect(dsn)
    yield log
    await log.close()
    await cluster.drop_database(dsn)


@pytest.fixture
async def pair(log: EventLog) -> AsyncIterator[Pair]:
    """One node; a test starts the others."""
    broker = MemoryBroker()
    pair = Pair(log, broker.connect(), Subjects())  # type: ignore[arg-type] # what of the twin only other tests use
    await pair.start(broker.connect())
    await pair.registered()
    yield pair
    await pair.stop()


async def created(pair: Pair, name: str, **document: Any) -> UUID:
    at = (datetime.now(UTC) + timedelta(seconds=SOON_S)).isoformat()
    told = await pair.ask("schedule.create", {"name": name, "schedule": {"template": "t", "at": [at], **document}})
    assert told["ok"], told
    assert told["schedule"] == {"namespace": "default", "name": name}
    return schedule_stream_id("default", "default", name)


async def history(pair: Pair, stream_id: UUID) -> list[str]:
    return [event.type for event in await pair.log.load_stream(stream_id, after_seq=0, limit=1_000)]


async def until(pair: Pair, stream_id: UUID, wanted: str) -> list[str]:
    async with asyncio.timeout(WAIT_S):
        while wanted not in (found := await history(pair, stream_id)):  # noqa: ASYNC110 - the log tells nobody
            await asyncio.sleep(0.02)
    return found


async def started(pair: Pair, stream_id: UUID) -> list[str]:
    """Return the first events of the tasks that the schedule's fires name, one each."""
    fired = [from_recorded(one) for one in await pair.log.load_stream(stream_id, after_seq=0, limit=1_000)]
    ids = [UUID(one.task_id) for one in fired if isinstance(one, ScheduleFired)]
    found = await pair.log.load(ids)
    return [found[one][0].type for one in ids if one in found]


async def test_a_fire_starts_its_task(pair: Pair) -> None:
    stream_id = await created(pair, "once")
    assert await until(pair, stream_id, "schedule_task_started") == [
        "schedule_created",
        "schedule_fired",
        "schedule_task_started",
    ]
    assert await started(pair, stream_id) == ["task_created"]


async def test_a_fire_of_a_time_when_nobody_served_is_the_next_owner_s(pair: Pair) -> None:
    stream_id = await created(pair, "late")
    await pair.stop(0)
    await asyncio.sleep(2 * SOON_S)
    assert await history(pair, stream_id) == ["schedule_created"]
    await pair.start(pair.bus)
    await until(pair, stream_id, "schedule_task_started")
    assert await started(pair, stream_id) == ["task_created"]


async def test_a_start_that_never_left_is_the_next_owner_s(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as lost:
        lost.setattr(ScheduleEffects, "start", lambda *_: None)
        stream_id = await created(pair, "lost")
        await until(pair, stream_id, "schedule_fired")
        await pair.stop(0)
    assert await started(pair, stream_id) == []
    await pair.start(pair.bus)
    found = await until(pair, stream_id, "schedule_task_started")
    assert found.count("schedule_fired") == 1
    assert await started(pair, stream_id) == ["task_created"]


async def test_commands_are_idempotent_and_their_errors_typed(pair: Pair) -> None:
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"name": "s", "schedule": {"template": "t", "at": [at]}}
    assert not (await pair.ask("schedule.create", body)).get("duplicate", False)
    assert (await pair.ask("schedule.create", body))["duplicate"]
    other = {"name": "s", "schedule": {"template": "t", "every_s": 60}}
    assert (await pair.ask("schedule.create", other))["error"]["code"] == "schedule_conflict"
    unknown = (await pair.ask("schedule.pause", {"name": "none"}))["error"]
    assert (unknown["code"], unknown["detail"]) == ("schedule_unknown", "there is no schedule default/none")
    unused = (await pair.ask("template.use", {"name": "none", "version": "1"}))["error"]
    assert unused["detail"].startswith("template default/none has never been registered")
    bad = {"name": "s", "schedule": {"template": "t", "cron": "x"}}
    assert (await pair.ask("schedule.update", bad))["error"]["code"] == "schedule_invalid"
    now = {"name": "s", "command_id": "now"}
    first, second = [await pair.ask("schedule.trigger", now) for _ in range(2)]
    assert first["task_id"]
    assert second["duplicate"]
    future = {"name": "s", "start": at, "end": (datetime.now(UTC) + timedelta(days=2)).isoformat()}
    assert (await pair.ask("schedule.backfill", future))["error"]["code"] == "body_invalid"
    assert (await pair.ask("schedule.stop_backfill", {"name": "s"}))["error"]["code"] == "schedule_forbids"
    ended = {"name": "s", "end": "yesterday"}
    assert (await pair.ask("schedule.stop_backfill", ended))["error"]["code"] == "body_invalid"
