"""Dead letters on the real service: many fail, somebody looks into it, all are retried, and log and views are right."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tasker.client import DeadLetterFilter, NewTask, TaskerClient, TaskHandle
from tasker.errors import DeadLetterUnknown, StateForbids, TemplateUnknown
from tasker.replay.verify import verify
from tests.acceptance.conftest import READY_S_MAX, Service

TASKS = 40
APP = """
from pathlib import Path
from tasker import PermanentError, Template

ledger = Template("ledger")

@ledger.step
async def book(input: dict) -> str:
    if not Path({open_now!r}).exists():
        raise PermanentError(f"account {{input['n']}} is closed")
    return "booked"
"""
WHO: dict[str, Any] = {"requested_by": "ada", "reason": "the ledger is open"}

pytestmark = [pytest.mark.linux, pytest.mark.timeout(120)]


async def registered(client: TaskerClient) -> TaskHandle:
    """A task, once a worker has made its template known."""
    async with asyncio.timeout(READY_S_MAX):
        while True:
            try:
                return await client.create("ledger", {"n": 0})
            except TemplateUnknown:
                await asyncio.sleep(0.05)


async def see_to_all(service: Service, open_now: Path) -> None:
    async with service.client() as client:
        first = await registered(client)
        made = await client.create_many(NewTask("ledger", {"n": number}) for number in range(1, TASKS))
        tasks = [first, *(handle for handle in made if isinstance(handle, TaskHandle))]
        assert len(tasks) == TASKS
        for task in tasks:
            assert (await client.wait(task, timeout_s=30)).state == "blocked"

        wanted = DeadLetterFilter(template="ledger")
        assert await client.dlq.count(wanted) == TASKS
        (group,) = [group async for group in client.dlq.groups(wanted)]
        assert (group.count, group.pattern, group.step) == (TASKS, "account <n> is closed", "book")
        settled = await client.dlq.resolve(first, "book", attempt=1, requested_by="ada", reason="booked by hand")
        assert await client.dlq.count(wanted, at_least=settled.position) == TASKS - 1
        with pytest.raises(StateForbids):
            await client.dlq.resolve(first, "book", attempt=2, **WHO)

        open_now.touch()
        told: list[tuple[int, int]] = []
        outcome = await client.dlq.retry_all(wanted, **WHO, on_progress=lambda done, of: told.append((done, of)))
        assert (outcome.matched, outcome.done, outcome.refused) == (TASKS - 1, TASKS - 1, 0)
        assert told[-1] == (TASKS - 1, TASKS - 1)
        for task in tasks[1:]:
            view = await client.get(task, at_least=outcome.position)
            assert (await client.wait(view, timeout_s=30)).state == "completed"
        assert [letter async for letter in client.dlq.list(wanted)] == []
        left = [
            letter
            async for letter in client.dlq.list(DeadLetterFilter(states=("left",), fingerprint=group.fingerprint))
        ]
        assert {letter.left_how for letter in left} == {"step_completed"}
        assert len(left) == TASKS - 1

        ended = await client.cancel(first)
        with pytest.raises(DeadLetterUnknown):
            await client.dlq.reopen(first, "book", **WHO)
        (letter,) = await client.dlq.of_task(first, at_least=ended.position)
        assert (letter.status, letter.settled_by, letter.left_how) == ("resolved", "ada", "task_cancelled")


def test_many_are_seen_to_and_the_views_are_the_fold_of_the_log(service: Service, tmp_path: Path) -> None:
    app, open_now = tmp_path / "ledger.py", tmp_path / "open"
    app.write_text(APP.format(open_now=str(open_now)))
    with service.worker(app):
        asyncio.run(see_to_all(service, open_now))
    report = asyncio.run(verify(service.database_url, workers=1))
    assert report.findings == []
