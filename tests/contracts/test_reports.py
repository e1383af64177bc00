"""Reports that come with a bad one in one array, or to a task that takes no more."""

from __future__ import annotations

import asyncio
import json

import pytest

from tasker.bus.bus import Message
from tasker.events.messages import HEADER_RELEASED
from tests.contracts.pair import Pair

BAD = b'{"kind":"completed","task_id":7}'


async def test_a_bad_report_beside_a_good_one_keeps_no_slot_of_the_worker(pair: Pair) -> None:
    """What waits for the slot comes with the report, not with what the worker tells of its slots a second later."""
    arrived: asyncio.Queue[dict] = asyncio.Queue()

    def on_work(message: Message) -> None:
        for item in json.loads(message.data)["work"]:
            arrived.put_nowait(item)

    pair.bus.subscribe(pair.subjects.worker_work("default", "w", "*"), on_work)
    async with asyncio.timeout(25):
        await pair.heard_of_slots(1, "t")
        first = await pair.ask("task.create", {"template": "t"})
        await pair.ask("task.create", {"template": "t"})
        work = await arrived.get()
        assert work["task_id"] == first["task_id"]
        report = {"kind": "completed", "task_id": work["task_id"], "step": "only", "attempt": 1, "worker": "w"}
        answer = await pair.bus.request(
            pair.subjects.report("default", int(first["position"].partition(":")[0])),
            b"[%b,%b]" % (BAD, json.dumps(report).encode()),
            headers={HEADER_RELEASED: "1"},
            timeout_s=10,
        )
        bad, good = json.loads(answer.data)
        assert (bad["ok"], good["recorded"]) == (False, True)
        assert (await arrived.get())["task_id"] != first["task_id"]


async def test_what_another_tenant_says_of_an_attempt_is_nothing(pair: Pair) -> None:
    """A task's id can be found out from its key: who knows it must not have the work taken for begun, or returned."""
    owner = pair.sides[0]
    arrived = asyncio.Event()
    pair.bus.subscribe(pair.subjects.worker_work("default", "w", "*"), lambda _: arrived.set())
    async with asyncio.timeout(25):
        await pair.heard_of_slots(1, "t")
        made = await pair.ask("task.create", {"template": "t"})
        await arrived.wait()
    shard = int(made["position"].partition(":")[0])
    attempt = (made["task_id"], "only", 1)
    left = dict(owner._reports._first_offers._left)
    assert (attempt in owner._direct._unbegun, attempt in left) == (True, True)
    for kind in ("returned", "started"):
        report = {"kind": kind, "task_id": made["task_id"], "step": "only", "attempt": 1, "worker": "w"}
        answer = await pair.bus.request(pair.subjects.report("other", shard), json.dumps(report).encode(), timeout_s=10)
        assert json.loads(answer.data) == {"ok": True, "recorded": False, "reason": "task_unknown"}
    assert (attempt in owner._direct._unbegun, owner._reports._first_offers._left) == (True, left)


async def test_a_report_that_a_full_history_does_not_take_counts_in_no_histogram(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await pair.ask("task.create", {"template": "t"})
    shard = int(made["position"].partition(":")[0])
    report = {"task_id": made["task_id"], "step": "only", "attempt": 1, "worker": "w"}
    times = pair.sides[0]._step_times
    assert (await pair.report(shard, json.dumps(report | {"kind": "started"}).encode()))["recorded"]
    assert (sum(times.starts.counts), sum(times.outcomes["completed"].counts)) == (1, 0)
    monkeypatch.setattr("tasker.service.domain.decide.HISTORY_EVENTS_MAX", 1)
    monkeypatch.setattr("tasker.service.domain.decide.HISTORY_EVENTS_RESERVED", 0)
    assert not (await pair.report(shard, json.dumps(report | {"kind": "completed"}).encode()))["recorded"]
    assert sum(times.outcomes["completed"].counts) == 0


async def test_the_next_work_leaves_before_the_answer_to_what_it_follows_from(pair: Pair) -> None:
    """A worker that is told both in one go takes up the work first."""
    told: asyncio.Queue[str] = asyncio.Queue()
    pair.bus.subscribe(pair.subjects.worker_work("default", "w", "*"), lambda _: told.put_nowait("work"))
    pair.bus.subscribe("answers", lambda _: told.put_nowait("answer"))
    template = {"name": "two", "steps": [{"name": "first"}, {"name": "then", "after": ["first"]}]}
    assert (await pair.ask("template.register", {"template": template}))["ok"]
    async with asyncio.timeout(25):
        await pair.heard_of_slots(2, "two")
        made = await pair.ask("task.create", {"template": "two"})
        assert await told.get() == "work"
        report = {"kind": "completed", "task_id": made["task_id"], "step": "first", "attempt": 1, "worker": "w"}
        subject = pair.subjects.report("default", int(made["position"].partition(":")[0]))
        pair.bus.publish(subject, json.dumps([report]).encode(), reply="answers")
        assert [await told.get(), await told.get()] == ["work", "answer"]
