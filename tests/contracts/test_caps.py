"""Caps over two nodes: the keys lie in shards of the one, tasks that ask in shards of both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tasker.service.actors.dispatch import backlogs
from tests.contracts.pair import Pair

WHO = {"requested_by": "ada", "reason": "enough"}


async def shared_out(pair: Pair, **caps: Any) -> None:
    """Give each node two shards, and make a template known."""
    one, two = pair.sides
    for shard in (1, 3):
        await pair.hand_over(shard, one, two)
    told = await pair.ask("template.register", {"template": {"name": "c", "steps": [{"name": "only"}], **caps}})
    assert told["ok"], told


async def create(pair: Pair, count: int, input: Any = None, **more: Any) -> list[Any]:
    body = {"template": "c", "input": {} if input is None else input, **more}
    return list(await asyncio.gather(*(pair.ask("task.create", body) for _ in range(count))))


async def cancelled(pair: Pair, task_id: str) -> None:
    told = await pair.ask("task.cancel", {"task_id": task_id, "grace_s": 0, **WHO})
    assert told["ok"], told


def shards_of(made: list[Any]) -> set[str]:
    return {one["position"].partition(":")[0] for one in made}


async def test_max_running_is_one_number_for_both(pair: Pair) -> None:
    await shared_out(pair, max_running=8)
    answers = await create(pair, 24)
    made = [one for one in answers if one["ok"]]
    assert len(made) == 8
    refused = [one["error"] for one in answers if not one["ok"]]
    assert {(error["code"], error["status"], error["retry_after_s"]) for error in refused} == {("busy", 429, 1.0)}
    for one in made[:3]:
        await cancelled(pair, one["task_id"])
    async with asyncio.timeout(20):
        while not (await create(pair, 1))[0]["ok"]:  # noqa: ASYNC110 - the word of a free place is on its way
            await asyncio.sleep(0.01)
    again = [one for one in await create(pair, 24) if one["ok"]]
    assert len(again) <= 2
    created = [event for event in await pair.all_recorded() if event.type == "task_created"]
    assert len(created) == len(made) + 1 + len(again)


async def test_a_singleton_is_one_task_for_both(pair: Pair) -> None:
    await shared_out(pair, singleton="input.shop")
    first = (await create(pair, 1, {"shop": "a"}))[0]
    answers = await create(pair, 16, {"shop": "a"})
    assert {(one["ok"], one.get("task_id"), one.get("duplicate")) for one in answers} == {
        (True, first["task_id"], True)
    }
    assert len(shards_of(answers)) > 1
    await cancelled(pair, first["task_id"])
    async with asyncio.timeout(20):
        while not (second := (await create(pair, 1, {"shop": "a"}))[0])["ok"]:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)
    assert second["task_id"] != first["task_id"]


async def test_starts_of_both_go_to_the_one_task_that_waits(pair: Pair) -> None:
    await shared_out(pair, debounce={"key": "input.shop", "for_s": 3600})
    first = (await create(pair, 1, {"shop": "a"}))[0]
    answers = await create(pair, 16, {"shop": "a"})
    assert {(one["ok"], one["task_id"], one["duplicate"], one["debounced"]) for one in answers} == {
        (True, first["task_id"], True, True)
    }
    kinds = [event.type for event in await pair.all_recorded()]
    assert (kinds.count("task_created"), kinds.count("task_postponed")) == (1, 16)
    await cancelled(pair, first["task_id"])
    assert (await create(pair, 1, {"shop": "a"}))[0]["task_id"] != first["task_id"]


async def test_each_node_lets_in_no_more_than_may_wait_in_a_queue(pair: Pair) -> None:
    """Nobody works: after the first looks each of them sees what both have filled."""
    await shared_out(pair, max_ready=5)
    made = [one for one in await create(pair, 40) if one["ok"]]
    assert 5 <= len(made) <= 10
    async with asyncio.timeout(20):
        while any(one["ok"] for one in await create(pair, 8)):  # noqa: ASYNC110 - NATS tells nobody what it counts
            await asyncio.sleep(0.1)
    waiting = [event for event in await pair.all_recorded() if event.type == "step_dispatched"]
    assert len(waiting) <= 10 + 10


async def test_what_waits_in_order_in_the_hand_of_either_counts_for_both(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work with a priority stays with its owner until somebody has a slot: the stream tells nothing of it."""
    monkeypatch.setattr(backlogs, "LOOK_S", 0.0)
    await shared_out(pair, max_ready=5)
    answers = [(await create(pair, 1, priority=1))[0] for _ in range(16)]
    assert [one["ok"] for one in answers] == [True] * 5 + [False] * 11
    in_hand = [side._direct.waiting_in(("default", "default", "c")) for side in pair.sides]
    assert sum(in_hand) == 5


async def test_what_ends_while_it_waits_in_order_makes_room(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no worker, which alone would find out that what it is handed has ended."""
    monkeypatch.setattr(backlogs, "LOOK_S", 0.0)
    await shared_out(pair, max_ready=5)
    made = [(await create(pair, 1, priority=1))[0] for _ in range(5)]
    for one in made[:2]:
        await cancelled(pair, one["task_id"])
    skipped = await pair.ask("step.skip", {"task_id": made[2]["task_id"], "step": "only", **WHO})
    assert skipped["ok"], skipped
    assert sum(side._direct.waiting_in(("default", "default", "c")) for side in pair.sides) == 2
    assert [(await create(pair, 1, priority=1))[0]["ok"] for _ in range(4)] == [True, True, True, False]


async def test_what_ends_while_it_is_held_back_makes_room(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlogs, "LOOK_S", 0.0)
    await shared_out(pair, max_ready=5)
    told = await pair.ask("control.pause", {"scope": "queue", "name": "c", **WHO})
    assert told["ok"], told
    async with asyncio.timeout(20):
        while not all(side._gate.shut for side in pair.sides):  # noqa: ASYNC110 - each looks by itself
            await asyncio.sleep(0.01)
    made = []
    while (one := (await create(pair, 1))[0])["ok"]:
        made.append(one)
    assert sum(side._gate.held for side in pair.sides) == len(made) == 5
    for one in made:
        await cancelled(pair, one["task_id"])
    assert sum(side._gate.held for side in pair.sides) == 0
    assert [(await create(pair, 1))[0]["ok"] for _ in range(6)] == [True] * 5 + [False]
