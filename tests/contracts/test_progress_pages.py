"""The progress of very many running attempts is told in parts, as no message carries it whole."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from tasker.events.subjects import Subjects
from tasker.service.http.progress import OwnersProgress
from tests.contracts.pair import Pair

ITEMS = 900
MESSAGE = "\u0001" * 200
"""As long as one may be, and six bytes of JSON each: together more than the MiB that a message may have."""


async def report(pair: Pair, shard: int, items: list[dict[str, Any]]) -> None:
    for start in range(0, len(items), 300):
        told = await pair.report(shard, json.dumps(items[start : start + 300]).encode())
        assert all(one["ok"] for one in told), told


async def running(pair: Pair, count: int) -> tuple[str, int]:
    """Return a task with so many running items, each of which has told its progress, and its shard."""
    steps = [
        {"name": "all", "each": "input.items", "max_parallel": count, "on_item_failure": "continue"},
        {"name": "last", "after": ["all"]},
    ]
    template = {"name": "wide", "steps": steps}
    assert (await pair.ask("template.register", {"template": template}))["ok"]
    made = await pair.ask("task.create", {"template": "wide", "input": {"items": list(range(count))}})
    shard = int(made["position"].partition(":")[0])
    base = {"task_id": made["task_id"], "attempt": 1, "worker": "w"}
    names = [f"all[{number}]" for number in range(count)]
    await report(pair, shard, [{**base, "kind": "started", "step": name} for name in names])
    told = [
        {**base, "kind": "heartbeat", "step": name, "progress": {"done": number, "message": MESSAGE}}
        for number, name in enumerate(names)
    ]
    await report(pair, shard, told)
    return made["task_id"], shard


async def test_of_any_number_of_running_attempts_all_progress_is_read(pair: Pair) -> None:
    task_id, shard = await running(pair, ITEMS)
    progress_of = OwnersProgress(pair.bus, pair.subjects, lambda _: shard)
    found = dict(await progress_of("default", UUID(task_id)))
    of_list = found.pop("all")
    assert (of_list.done, of_list.total, of_list.failed) == (0, ITEMS, 0)
    assert {name: one.done for name, one in found.items()} == {f"all[{number}]": number for number in range(ITEMS)}


async def test_of_a_list_it_is_told_how_many_items_have_completed_and_failed(pair: Pair) -> None:
    task_id, shard = await running(pair, 5)
    base = {"task_id": task_id, "attempt": 1, "worker": "w"}
    error = {"type": "Broken", "message": "no", "retryable": False}
    over = [{**base, "kind": "completed", "step": f"all[{number}]", "result": number} for number in range(3)]
    await report(pair, shard, [*over, {**base, "kind": "failed", "step": "all[3]", "error": error}])
    progress_of = OwnersProgress(pair.bus, pair.subjects, lambda _: shard)
    found = await progress_of("default", UUID(task_id))
    assert set(found) == {"all", "all[4]"}
    assert (found["all"].done, found["all"].total, found["all"].failed) == (3, 5, 1)


async def test_progress_that_takes_too_long_is_told_as_far_as_it_came(pair: Pair) -> None:
    task_id, shard = await running(pair, 3)
    progress_of = OwnersProgress(pair.bus, pair.subjects, lambda _: shard)
    assert len(await progress_of("default", UUID(task_id))) == 4
    nobody = OwnersProgress(pair.bus, Subjects("nobody"), lambda _: shard)
    assert await nobody("default", UUID(task_id)) == {}


async def test_a_result_that_no_message_carries_is_refused_and_not_asked_for_for_ever(pair: Pair) -> None:
    """Planted bug: the answer does not fit, and nothing is said."""
    task_id, shard = await running(pair, ITEMS)
    base = {"task_id": task_id, "attempt": 1, "worker": "w"}
    done = [{**base, "kind": "completed", "step": f"all[{number}]", "result": MESSAGE} for number in range(ITEMS)]
    await report(pair, shard, done)
    asked = {**base, "kind": "result", "step": "last", "of": "all"}
    assert (await pair.report(shard, json.dumps({**asked, "kind": "started"}).encode()))["recorded"]
    told = await pair.report(shard, json.dumps(asked).encode())
    assert (told["ok"], told["error"]["code"]) == (False, "body_too_large")
