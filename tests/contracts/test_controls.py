"""Controls of two nodes: recorded once wherever they are given, and heeded by both."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tasker.bus.bus import Message
from tasker.controls.watch import ControlsWatch
from tasker.events.stored import meta_of
from tasker.ids import control_stream_id, shard_of
from tasker.service.runtime import snapshots
from tasker.service.write_side import WriteSide
from tests.contracts.pair import SHARDS, Pair

TIMES = 6
"""Enough for both nodes to have had their turn."""

WHO = {"requested_by": "ada", "reason": "the bank is down"}
QUEUE = {"scope": "queue", "name": "t"} | WHO


async def known(side: WriteSide, seq: int) -> None:
    """Return when a node knows so many controls."""
    async with asyncio.timeout(25):
        while side._gate._watch.controls.seq < seq or side._gate._recorded.is_set():  # noqa: ASYNC110 - tells nobody
            await asyncio.sleep(0.001)


async def events(pair: Pair) -> list[tuple[str, str, str | None]]:
    stream_id = control_stream_id()
    found = [event for event in await pair.all_recorded() if event.stream_id == stream_id]
    return [(event.type, event.tenant, meta_of(event).requested_by) for event in found]


async def test_a_control_is_recorded_once_wherever_it_arrives(pair: Pair) -> None:
    answers = [await pair.ask("control.pause", QUEUE | {"command_id": "mine"}) for _ in range(TIMES)]
    assert [answer.get("duplicate", False) for answer in answers] == [False, *[True] * (TIMES - 1)]
    assert (await pair.ask("control.pause", QUEUE))["duplicate"]
    assert (await pair.ask("control.resume", QUEUE))["ok"]
    assert (await pair.ask("control.resume", QUEUE))["error"]["code"] == "state_forbids"
    assert await events(pair) == [("work_paused", "default", "ada"), ("work_resumed", "default", "ada")]


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("control.pause", {"reason": None}),
        ("control.pause", {"requested_by": ""}),
        ("control.pause", {"name": None}),
        ("control.pause", {"scope": "tenant"}),
        ("control.pause", {"scope": "tenant", "name": None, "namespace": "shop"}),
        ("control.pause", {"scope": "handler"}),
        ("control.resume", {"ramp_s": -1}),
        ("control.resume", {"ramp_s": 1e9}),
    ],
)
async def test_a_bad_control_is_refused(pair: Pair, verb: str, body: dict[str, Any]) -> None:
    assert (await pair.ask(verb, QUEUE | body))["error"]["code"] == "body_invalid"
    assert await events(pair) == []


async def test_only_the_operators_pause_everything(pair: Pair) -> None:
    everything = {"scope": "everything"} | WHO
    assert (await pair.ask("control.pause", everything, tenant="acme"))["error"]["code"] == "body_invalid"
    assert (await pair.ask("control.pause", everything))["ok"]


async def test_both_nodes_hold_back_and_let_go(pair: Pair) -> None:
    """A task of each shard, on whichever node owns it, before and after its shard has changed hands."""
    work: list[Message] = []
    pair.bus.subscribe(pair.subjects.work_all, work.append)
    one, two = pair.sides
    await pair.hand_over(0, one, two)
    await pair.ask("control.pause", QUEUE)
    for side in (one, two):
        await known(side, 1)
    made: list[dict[str, Any]] = []
    while len(made) < 24 or {int(answer["position"].partition(":")[0]) for answer in made} != set(range(SHARDS)):
        made.append(await pair.ask("task.create", {"template": "t"}))  # where its drawn id lies
    await pair.hand_over(1, one, two)
    await pair.bus.flush()
    assert work == []
    await pair.ask("control.resume", QUEUE)
    async with asyncio.timeout(20):
        while len({json.loads(message.data)["task_id"] for message in work}) < len(made):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_work_that_was_offered_before_is_not_run_when_its_worker_asks(pair: Pair) -> None:
    made = await pair.ask("task.create", {"template": "t"})
    shard = int(made["position"].partition(":")[0])
    claim = b'{"kind":"claim","task_id":"%s","step":"only","attempt":1,"worker":"w"}' % made["task_id"].encode()
    await pair.ask("control.pause", {"scope": "template", "name": "t"} | WHO)
    await known(pair.sides[0], 1)
    answer = await pair.report(shard, claim)
    assert (answer["recorded"], answer["reason"]) == (False, "gone")
    await pair.ask("control.resume", {"scope": "template", "name": "t"} | WHO)
    await known(pair.sides[0], 2)
    assert (await pair.report(shard, claim))["run"]


async def test_what_runs_goes_on_and_is_recorded(pair: Pair) -> None:
    made = await pair.ask("task.create", {"template": "t"})
    shard = int(made["position"].partition(":")[0])
    about = b'"task_id":"%s","step":"only","attempt":1,"worker":"w"' % made["task_id"].encode()
    assert (await pair.report(shard, b'{"kind":"started",%b}' % about))["recorded"]
    await pair.ask("control.pause", {"scope": "tenant"} | WHO)
    await known(pair.sides[0], 1)
    assert (await pair.report(shard, b'{"kind":"completed","result":1,%b}' % about))["recorded"]


async def test_a_limit_is_recorded_and_refused_as_a_pause_is(pair: Pair) -> None:
    limit = {"scope": "handler", "name": "only", "per_s": 5, "burst": 2, "key": "input.n"} | WHO
    answers = [await pair.ask("limit.set", limit) for _ in range(TIMES)]
    assert [answer.get("duplicate", False) for answer in answers] == [False, *[True] * (TIMES - 1)]
    for body, code in (
        ({"per_s": 0}, "body_invalid"),
        ({"burst": 0}, "body_invalid"),
        ({"key": "results.a"}, "expression_invalid"),
        ({"name": "No"}, "name_invalid"),
        ({"reason": ""}, "body_invalid"),
    ):
        assert (await pair.ask("limit.set", limit | body))["error"]["code"] == code
    named = {"scope": "handler", "name": "only"} | WHO
    assert (await pair.ask("limit.remove", named))["ok"]
    assert (await pair.ask("limit.remove", named))["error"]["code"] == "state_forbids"
    assert [kind for kind, *_ in await events(pair)] == ["rate_limit_set", "rate_limit_removed"]


async def test_two_nodes_share_a_limit(pair: Pair) -> None:
    """Each has half of the shards, so what begins on both together stays within it."""
    work: list[Message] = []
    pair.bus.subscribe(pair.subjects.work_all, work.append)
    one, two = pair.sides
    for shard in range(SHARDS // 2):
        await pair.hand_over(shard, one, two)
    await pair.ask("limit.set", {"scope": "queue", "name": "t", "per_s": 0.001, "burst": 1} | WHO)
    for side in (one, two):
        await known(side, 1)
    for _ in range(24):
        await pair.ask("task.create", {"template": "t"})
    await pair.bus.flush()
    assert len(work) <= len(pair.sides)
    await pair.ask("limit.remove", {"scope": "queue", "name": "t"} | WHO)
    async with asyncio.timeout(20):
        while len({json.loads(message.data)["task_id"] for message in work}) < 24:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_another_node_begins_with_the_snapshot_and_needs_none(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the controls as their owner folds them, and as every node does."""
    monkeypatch.setattr(snapshots, "SNAPSHOT_EVENTS", 3)
    stream_id = control_stream_id()
    shard = shard_of(stream_id, SHARDS)
    for number in range(1, 5):
        assert (await pair.ask("control.pause", QUEUE | {"name": f"q{number}", "command_id": f"c{number}"}))["ok"]
    await pair.sides[0]._node.write_snapshots()
    assert pair.log.kept[stream_id].seq == 3
    for kept in (pair.log.kept, {}):
        pair.log.kept = dict(kept)
        watch = ControlsWatch(pair.log, time.monotonic)
        assert await watch.look()
        assert (watch.controls.seq, len(watch.controls.pauses)) == (4, 4)
        assert not await watch.look()
        await pair.hand_over(shard, pair.sides[0], pair.sides[1])
        assert (await pair.ask("control.pause", QUEUE | {"name": "q1", "command_id": "c1"}))["duplicate"]
        assert (await pair.ask("control.pause", QUEUE | {"name": "q2"}))["duplicate"]
        await pair.hand_over(shard, pair.sides[1], pair.sides[0])
    assert len(await events(pair)) == 4


BREAKER = {"failure_rate": 0.5, "min_attempts": 3}
GUARDED = {"name": "guarded", "steps": [{"name": "only", "handler": "bank", "circuit_breaker": BREAKER}]}


async def test_a_circuit_that_one_node_trips_is_open_on_both(pair: Pair) -> None:
    """The node that counts does not own the controls; what it says twice, or too late, is recorded once."""
    work: list[Message] = []
    pair.bus.subscribe(pair.subjects.work_all, work.append)
    one, two = pair.sides
    its_shard = shard_of(control_stream_id(), SHARDS)
    counting = (its_shard + 1) % SHARDS
    await pair.hand_over(counting, one, two)
    assert (await pair.ask("template.register", {"template": GUARDED}))["ok"]
    failed = 0
    while failed < 6:
        made = await pair.ask("task.create", {"template": "guarded"})
        if int(made["position"].partition(":")[0]) == counting:
            error = b'"error":{"type":"Down","message":"no answer","retryable":true}'
            about = b'"task_id":"%s","step":"only","attempt":1,"worker":"w"' % made["task_id"].encode()
            assert (await pair.report(counting, b'{"kind":"failed",%b,%b}' % (about, error)))["recorded"]
            failed += 1
    for side in (one, two):
        await known(side, 1)
    await pair.bus.flush()
    work.clear()
    held = [await pair.ask("task.create", {"template": "guarded"}) for _ in range(12)]
    await pair.bus.flush()
    assert work == []
    bank = {"name": "bank"} | WHO
    assert (await pair.ask("circuit.close", bank))["ok"]
    assert (await pair.ask("circuit.close", bank))["error"]["code"] == "state_forbids"
    waiting = {answer["task_id"] for answer in held}
    async with asyncio.timeout(20):
        while not waiting <= {json.loads(message.data)["task_id"] for message in work}:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert await events(pair) == [("circuit_opened", "default", "tasker"), ("circuit_closed", "default", "ada")]


@pytest.mark.parametrize(
    ("verb", "body", "code"),
    [
        ("circuit.open", {"open_s": 0.5}, "body_invalid"),
        ("circuit.open", {"name": "No"}, "name_invalid"),
        ("circuit.open", {"reason": ""}, "body_invalid"),
        ("circuit.close", {"ramp_s": -1}, "body_invalid"),
        ("circuit.close", {}, "state_forbids"),
    ],
)
async def test_a_bad_command_to_a_circuit_is_refused(pair: Pair, verb: str, body: dict[str, Any], code: str) -> None:
    assert (await pair.ask(verb, {"name": "bank"} | WHO | body))["error"]["code"] == code
    assert await events(pair) == []
