"""Child processes: never more than asked for, and one whose attempt is stopped is ended."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tasker.handlers.context import StepContext
from tasker.handlers.options import GIVE_BACK_S
from tasker.handlers.process_pool import Place, ProcessPool
from tests.integration.scripted_owner import seen
from tests.unit.handlers.test_context import context

APP = Path(__file__).with_name("sdk_app.py")


@pytest.fixture
async def pool(tmp_path, monkeypatch) -> AsyncIterator[ProcessPool]:
    monkeypatch.setenv("WORKER_APP_FOLDER", str(tmp_path))
    pool = ProcessPool(str(APP), 1, start_method="spawn")
    yield pool
    await pool.close(GIVE_BACK_S)


def place(handler: str) -> Place:
    return Place("default", "flow", handler)


def an_attempt() -> StepContext:
    return context(deadline_in_s=60.0)


async def test_the_first_attempt_takes_the_process_that_is_being_made(pool) -> None:
    pool.warm_up()
    await pool.run(place("squares"), an_attempt(), b"3", {})
    assert len(pool.process_ids) == 1


async def test_one_that_is_stopped_twice_is_ended_all_the_same(pool, tmp_path) -> None:
    running = asyncio.ensure_future(pool.run(place("burns"), an_attempt(), b"null", {}))
    await seen((tmp_path / "notes").exists)
    (process,) = map(psutil.Process, pool.process_ids)
    running.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not process.is_running()
