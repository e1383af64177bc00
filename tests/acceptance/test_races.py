"""The same thing asked many times in one moment, things that exclude each other, and an event that nobody can read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import asyncpg
import nats
import nats.errors
import pytest
from nats.aio.client import Client as Nats

from tasker.events.subjects import Subjects
from tasker.ids import shard_of, task_id_of
from tasker.replay.findings import Invariant
from tasker.replay.verify import verify
from tests.acceptance.conftest import Service

pytestmark = [pytest.mark.faults, pytest.mark.linux]

SHARDS = 16


class Caller:
    """Asks over NATS and over HTTP."""

    def __init__(self, service: Service, bus: Nats, http: aiohttp.ClientSession) -> None:
        self._service = service
        self._subjects = Subjects(service.nats_prefix)
        self._bus = bus
        self._http = http

    async def ask(self, subject: str, body: dict[str, Any], *, timeout_s: float = 30) -> dict[str, Any]:
        """Return the answer to a message."""
        return json.loads((await self._bus.request(subject, json.dumps(body).encode(), timeout=timeout_s)).data)

    async def command(self, noun: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a command over NATS."""
        return await self.ask(self._subjects.command("default", noun, verb), body)

    async def create(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        """Create a task, over the one way or the other."""
        if number % 2:
            return await self.command("task", "create", body)
        async with self._http.post(f"{self._service.http_url}/v1/tasks", json=body) as answer:
            told = await answer.json(content_type=None)
            return told if answer.status < 400 else {"ok": False, "error": told}

    async def signal(self, number: int, task_id: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Bring a task a signal, over the one way or the other."""
        if number % 2:
            return await self.command("task", "signal", {"task_id": task_id, "name": name, **body})
        async with self._http.post(f"{self._service.http_url}/v1/tasks/{task_id}/signals/{name}", json=body) as answer:
            told = await answer.json(content_type=None)
            return told if answer.status < 400 else {"ok": False, "error": told}

    async def complete(self, task_id: str) -> dict[str, Any]:
        """Report the result of a task's one step, until its owner has taken it: as workers do."""
        shard = shard_of(uuid.UUID(task_id), SHARDS)
        report = {"kind": "completed", "task_id": task_id, "step": "only", "attempt": 1, "worker": "w", "result": 1}
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(nats.errors.TimeoutError, nats.errors.NoRespondersError):
                    told = await self.ask(self._subjects.report("default", shard), report, timeout_s=5)
                    if told["ok"] or told["error"]["status"] != 503:
                        return told

    async def report(self, shard: int, task_ids: list[str], worker: str) -> list[dict[str, Any]]:
        """Report what a worker says are the results of the one step of some tasks of a shard, in one message."""
        reports = [
            {"kind": "completed", "task_id": one, "step": "only", "attempt": 1, "worker": worker, "result": worker}
            for one in task_ids
        ]
        answer = await self._bus.request(
            self._subjects.report("default", shard), json.dumps(reports).encode(), timeout=30
        )
        return json.loads(answer.data)


@asynccontextmanager
async def calling(service: Service) -> AsyncIterator[Caller]:
    """Connect a caller, and make its template known."""
    bus = await nats.connect(service.nats_url)
    try:
        async with aiohttp.ClientSession() as http:
            caller = Caller(service, bus, http)
            told = await caller.command(
                "template", "register", {"template": {"name": "one", "steps": [{"name": "only"}]}}
            )
            assert told["ok"], told
            yield caller
    finally:
        await bus.close()


async def test_one_key_a_hundred_times_at_once_is_one_task(service: Service) -> None:
    """Over both ways; among them some with another body, who lose or win together."""
    async with calling(service) as caller:
        inputs = [int(n % 10 == 0) for n in range(100)]
        told = await asyncio.gather(
            *(
                caller.create(n, {"template": "one", "input": given, "idempotency_key": "same"})
                for n, given in enumerate(inputs)
            )
        )
        made = [one for one in told if one["ok"]]
        assert len({one["task_id"] for one in made}) == 1
        assert sum(not one.get("duplicate", False) for one in made) == 1
        won = {given for given, one in zip(inputs, told, strict=True) if one["ok"]}
        assert len(won) == 1, "the key belongs to one body"
        lost = [one["error"] for given, one in zip(inputs, told, strict=True) if given not in won]
        assert {one["code"] for one in lost} == {"key_conflict"}
        assert all(made[0]["task_id"] in json.dumps(one) for one in lost), "the conflict names the task"


async def test_of_a_cancellation_and_a_result_one_wins(service: Service) -> None:
    async with calling(service) as caller:
        made = await asyncio.gather(*(caller.create(1, {"template": "one", "input": {}}) for _ in range(60)))
        ids = [one["task_id"] for one in made]
        asked: list[Coroutine[Any, Any, dict[str, Any]]] = []
        for number, task_id in enumerate(ids):
            rivals = [caller.complete(task_id), caller.command("task", "cancel", {"task_id": task_id})]
            asked += rivals if number % 2 else reversed(rivals)
        await asyncio.gather(*asked)
    connection = await asyncpg.connect(service.database_url)
    try:
        rows = await connection.fetch(
            "SELECT stream_id, array_agg(type) AS types FROM event WHERE stream_id = ANY ($1)"
            " AND type IN ('task_completed', 'task_cancelled') GROUP BY stream_id",
            ids,
        )
    finally:
        await connection.close()
    ends = Counter(kind for row in rows for kind in row["types"])
    assert len(rows) == sum(ends.values()) == len(ids), "each ended, and once"
    assert set(ends) == {"task_completed", "task_cancelled"}, "each won somewhere"
    assert not (await verify(service.database_url, workers=1)).findings


async def test_a_thousand_tasks_at_once_on_real_servers_have_one_outcome_each(service: Service) -> None:
    """Two workers report each outcome in the same moment, all tasks side by side: one of them is recorded."""
    async with calling(service) as caller:
        made = await asyncio.gather(*(caller.create(1, {"template": "one", "input": {}}) for _ in range(1000)))
        ids = [one["task_id"] for one in made]
        assert len(set(ids)) == 1000
        shards: dict[int, list[str]] = {}
        for one in ids:
            shards.setdefault(shard_of(uuid.UUID(one), SHARDS), []).append(one)
        told = await asyncio.gather(*(caller.report(*at, worker) for at in shards.items() for worker in ("w1", "w2")))
    assert Counter(one["recorded"] for batch in told for one in batch) == {True: 1000, False: 1000}
    connection = await asyncpg.connect(service.database_url)
    try:
        rows = await connection.fetch(
            "SELECT stream_id, array_agg(type) AS types FROM event WHERE stream_id = ANY ($1)"
            " AND type IN ('step_completed', 'task_completed') GROUP BY stream_id",
            ids,
        )
    finally:
        await connection.close()
    assert len(rows) == 1000
    assert {tuple(sorted(row["types"])) for row in rows} == {("step_completed", "task_completed")}
    assert not (await verify(service.database_url, workers=1)).findings


async def signals_of(service: Service, task_ids: list[str]) -> dict[str, list[int]]:
    """Return the numbers of the signals of some tasks, as they stand in the log."""
    connection = await asyncpg.connect(service.database_url)
    try:
        rows = await connection.fetch(
            "SELECT stream_id, array_agg((convert_from(payload, 'UTF8')::json ->> 'number')::int ORDER BY seq) AS n"
            " FROM event WHERE stream_id = ANY ($1) AND type = 'signal_received' GROUP BY stream_id",
            task_ids,
        )
    finally:
        await connection.close()
    return {str(row["stream_id"]): row["n"] for row in rows}


async def test_a_hundred_signals_at_once_to_one_task_are_all_counted(service: Service) -> None:
    """Over both ways, each sent twice: every one counts once, in an order without a gap."""
    steps = [{"name": "votes", "signal": "vote", "signal_take": "all", "signal_count": 100}]
    async with calling(service) as caller:
        told = await caller.command("template", "register", {"template": {"name": "poll", "steps": steps}})
        assert told["ok"], told
        task_id = (await caller.create(1, {"template": "poll"}))["task_id"]
        signals = [{"value": number, "command_id": f"vote-{number}"} for number in range(100)]
        answers = await asyncio.gather(*(caller.signal(n, task_id, "vote", signals[n % 100]) for n in range(200)))
        assert all(one["ok"] for one in answers), answers
        assert sum(not one.get("duplicate", False) for one in answers) == 100
        again = await caller.signal(1, task_id, "vote", signals[0])
        assert again["duplicate"], "known for as long as the task is, also when that has ended"
    assert await signals_of(service, [task_id]) == {task_id: list(range(1, 101))}
    connection = await asyncpg.connect(service.database_url)
    try:
        payload = await connection.fetchval(
            "SELECT payload FROM event WHERE stream_id = $1 AND type = 'task_completed'", task_id
        )
    finally:
        await connection.close()
    assert sorted(json.loads(payload)["result"]) == list(range(100))
    assert not (await verify(service.database_url, workers=1)).findings


async def test_a_signal_that_meets_the_start_of_its_task_is_taken_or_refused_by_name(service: Service) -> None:
    async with calling(service) as caller:
        steps = [{"name": "wait", "signal": "go"}]
        told = await caller.command("template", "register", {"template": {"name": "waiting", "steps": steps}})
        assert told["ok"], told
        keys = [f"meet-{number}" for number in range(40)]
        ids = [str(task_id_of("default", "default", "waiting", key)) for key in keys]
        asked: list[Coroutine[Any, Any, dict[str, Any]]] = []
        for number, (key, task_id) in enumerate(zip(keys, ids, strict=True)):
            create = caller.create(1, {"template": "waiting", "idempotency_key": key})
            rivals = [create, caller.signal(1, task_id, "go", {"value": number, "command_id": key})]
            asked += rivals if number % 2 else reversed(rivals)
        told_all = await asyncio.gather(*asked)
        assert {one["error"]["code"] for one in told_all if not one["ok"]} <= {"task_unknown"}
        again = [caller.signal(1, task_id, "go", {"value": n, "command_id": keys[n]}) for n, task_id in enumerate(ids)]
        assert all(one["ok"] for one in await asyncio.gather(*again))
    assert await signals_of(service, ids) == {task_id: [1] for task_id in ids}
    assert not (await verify(service.database_url, workers=1)).findings


async def test_of_an_approval_and_its_deadline_one_wins(service: Service) -> None:
    """Each decides once: what the step came to is what the caller was told."""
    steps = [{"name": "ask", "approval": {}, "wait_deadline_s": 0.5, "on_wait_deadline": "continue"}]
    async with calling(service) as caller:
        told = await caller.command("template", "register", {"template": {"name": "hasty", "steps": steps}})
        assert told["ok"], told
        made = await asyncio.gather(*(caller.create(1, {"template": "hasty"}) for _ in range(60)))
        ids = [one["task_id"] for one in made]

        async def approve(number: int) -> dict[str, Any]:
            await asyncio.sleep(0.3 + number / 150)  # some before the deadline, some about it, some after
            body = {"task_id": ids[number], "step": "ask", "requested_by": "ada"}
            return await caller.command("step", "approve", body)

        told_all = await asyncio.gather(*(approve(number) for number in range(60)))
        refused = {one["error"]["code"] for one in told_all if not one["ok"]}
        assert refused <= {"task_ended"}
        connection = await asyncpg.connect(service.database_url)
        try:
            rows = await connection.fetch(
                "SELECT stream_id, convert_from(payload, 'UTF8')::json -> 'result' ->> 'decision' AS said FROM event"
                " WHERE stream_id = ANY ($1) AND type = 'step_completed'",
                ids,
            )
        finally:
            await connection.close()
        decided = {str(row["stream_id"]): row["said"] for row in rows}
    approved = {task_id: one["ok"] for task_id, one in zip(ids, told_all, strict=True)}
    assert decided == {task_id: "approved" if ok else "expired" for task_id, ok in approved.items()}
    assert len(rows) == 60
    assert set(decided.values()) == {"approved", "expired"}, "each won somewhere"
    assert not (await verify(service.database_url, workers=1)).findings


async def test_a_wait_for_an_event_outlives_the_service(own_service: Service) -> None:
    """Killed while tasks wait for the end of others: what ends before and after the restart is found."""
    steps = [{"name": "wait", "event": "task_completed", "event_when": "event.task_id == input.task"}]
    async with calling(own_service) as caller:
        told = await caller.command("template", "register", {"template": {"name": "behind", "steps": steps}})
        assert told["ok"], told
        others = [(await caller.create(1, {"template": "one", "input": {}}))["task_id"] for _ in range(20)]
        waiting = [
            (await caller.create(1, {"template": "behind", "input": {"task": one}}))["task_id"] for one in others
        ]
        await asyncio.gather(*(caller.complete(task_id) for task_id in others[:10]))
        await asyncio.to_thread(own_service.process.kill)
        await asyncio.to_thread(own_service.start)
        await asyncio.gather(*(caller.complete(task_id) for task_id in others[10:]))
        connection = await asyncpg.connect(own_service.database_url)
        try:
            async with asyncio.timeout(60):
                while (  # noqa: ASYNC110 - the log tells nobody here
                    await connection.fetchval(
                        "SELECT count(*) FROM event WHERE stream_id = ANY ($1) AND type = 'task_completed'", waiting
                    )
                    < len(waiting)
                ):
                    await asyncio.sleep(0.05)
            rows = await connection.fetch(
                "SELECT stream_id, convert_from(payload, 'UTF8')::json ->> 'task_id' AS other FROM event"
                " WHERE stream_id = ANY ($1) AND type = 'event_matched'",
                waiting,
            )
        finally:
            await connection.close()
    assert {(str(row["stream_id"]), row["other"]) for row in rows} == set(zip(waiting, others, strict=True))
    assert len(rows) == len(waiting)
    assert not (await verify(own_service.database_url, workers=1)).findings


async def test_an_event_that_nobody_understands_blocks_its_task_alone(own_service: Service) -> None:
    """Changed behind our back: commands on its task are refused by name, others go on, and the verifier names it."""
    async with calling(own_service) as caller:
        ids = [(await caller.create(1, {"template": "one", "input": {}}))["task_id"] for _ in range(20)]
        assert await asyncio.to_thread(own_service.process.stop) == 0
        connection = await asyncpg.connect(own_service.database_url)
        try:
            await connection.execute(
                "UPDATE event SET type = 'step_exploded' WHERE stream_id = $1 AND type = 'step_dispatched'", ids[0]
            )
        finally:
            await connection.close()
        await asyncio.to_thread(own_service.start)
        for told in (await caller.command("task", "cancel", {"task_id": ids[0]}), await caller.complete(ids[0])):
            assert told["error"]["code"] == "task_poisoned", told
        for task_id in ids[1:]:
            assert (await caller.complete(task_id))["recorded"]
    found = (await verify(own_service.database_url, workers=1)).findings
    assert {one.invariant for one in found} >= {Invariant.COMPLETE, Invariant.FOLD}
    assert {one.task_id for one in found if one.task_id is not None} == {ids[0]}
