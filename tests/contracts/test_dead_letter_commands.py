"""Commands about dead letters, on the owner and on another node: decided on what the task itself says."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tasker.events.envelope import StreamKind
from tasker.events.stored import meta_of
from tasker.ids import investigation_stream_id
from tests.contracts.pair import Pair

TIMES = 6
"""Enough for both nodes to have had their turn."""

WHO = {"requested_by": "ada", "reason": "the bank is back"}


async def blocked(pair: Pair) -> tuple[str, int]:
    """A task whose only step has failed for good."""
    made = await pair.ask("task.create", {"template": "t"})
    shard = int(made["position"].partition(":")[0])
    report = (
        b'{"kind":"failed","task_id":"%s","step":"only","attempt":1,"worker":"w",'
        b'"error":{"type":"Declined","message":"no","retryable":false}}' % made["task_id"].encode()
    )
    assert (await pair.report(shard, report))["recorded"]
    return made["task_id"], shard


async def told(pair: Pair, task_id: str) -> list[tuple[str, str | None, str | None]]:
    """What is recorded of a task's investigation: type, who, why."""
    stream_id = investigation_stream_id("default", UUID(task_id))
    events = [event for event in await pair.all_recorded() if event.stream_id == stream_id]
    assert {event.kind for event in events} <= {StreamKind.INVESTIGATION}
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [(event.type, (meta := meta_of(event)).requested_by, meta.reason) for event in events]


async def test_an_investigation_is_recorded_in_the_shard_of_its_task(pair: Pair) -> None:
    for _ in range(TIMES):
        task_id, shard = await blocked(pair)
        at = {"task_id": task_id, "step": "only"} | WHO
        answer = await pair.ask("dlq.investigate", at | {"owner": "ada", "note": "it answers again"})
        assert (answer["ok"], answer["task_id"], answer["position"].partition(":")[0]) == (True, task_id, str(shard))
        assert (await pair.ask("dlq.resolve", at | {"attempt": 1}))["ok"]
        kinds = ["dead_letter_investigated", "dead_letter_assigned", "dead_letter_noted", "dead_letter_resolved"]
        assert await told(pair, task_id) == [(kind, "ada", "the bank is back") for kind in kinds]


async def test_a_repeated_command_is_done_once(pair: Pair) -> None:
    task_id, _ = await blocked(pair)
    note = {"task_id": task_id, "step": "only", "note": "seen", "command_id": "mine", "requested_by": "ada"}
    answers = [await pair.ask("dlq.investigate", note) for _ in range(TIMES)]
    assert [answer.get("duplicate", False) for answer in answers] == [False, *[True] * (TIMES - 1)]
    assert len(await told(pair, task_id)) == 2


async def test_a_command_id_that_was_another_commands_is_a_conflict_and_changes_nothing(pair: Pair) -> None:
    task_id, _ = await blocked(pair)
    note = {"task_id": task_id, "step": "only", "note": "seen", "command_id": "mine", "requested_by": "ada"}
    assert (await pair.ask("dlq.investigate", note))["ok"]
    before = await told(pair, task_id)
    closes = {key: value for key, value in note.items() if key != "note"} | {"reason": "done"}
    for verb, body in [("dlq.investigate", note | {"note": "seen twice"}), ("dlq.resolve", closes)]:
        answers = [await pair.ask(verb, body) for _ in range(TIMES)]
        assert {answer["error"]["code"] for answer in answers} == {"key_conflict"}, verb
    assert (await pair.ask("dlq.investigate", note))["duplicate"]
    assert await told(pair, task_id) == before


async def test_a_retry_goes_to_the_task_and_its_step_is_no_dead_letter_any_more(pair: Pair) -> None:
    for _ in range(TIMES):
        task_id, _ = await blocked(pair)
        at = {"task_id": task_id, "step": "only"} | WHO
        assert (await pair.ask("dlq.retry", at | {"attempt": 1}))["ok"]
        assert (await pair.ask("dlq.retry", at | {"attempt": 1}))["error"]["code"] == "state_forbids"
        assert (await pair.ask("dlq.resolve", at))["error"]["code"] == "dead_letter_unknown"
        retried = [event for event in await pair.all_recorded() if event.type == "step_retried"]
        assert meta_of(retried[-1]).requested_by == "ada"


async def test_a_person_adds_a_running_task(pair: Pair) -> None:
    made = await pair.ask("task.create", {"template": "t"})
    at = {"task_id": made["task_id"]} | WHO
    assert (await pair.ask("dlq.add", at))["ok"]
    assert (await pair.ask("dlq.add", at))["duplicate"]
    assert (await pair.ask("dlq.resolve", at | {"ignore": True}))["ok"]
    assert [kind for kind, *_ in await told(pair, made["task_id"])] == ["dead_letter_added", "dead_letter_ignored"]


@pytest.mark.parametrize(
    ("verb", "more", "code"),
    [
        ("dlq.resolve", {"requested_by": None}, "body_invalid"),
        ("dlq.resolve", {"reason": None}, "body_invalid"),
        ("dlq.retry", {"requested_by": ""}, "body_invalid"),
        ("dlq.retry", {"step": None, "attempt": 1}, "body_invalid"),
        ("dlq.investigate", {"reason": None}, "body_invalid"),
        ("dlq.investigate", {"note": "x" * 4001}, "body_invalid"),
        ("dlq.investigate", {"owner": "x" * 201}, "body_invalid"),
        ("dlq.resolve", {"step": "A"}, "name_invalid"),
        ("dlq.resolve", {"step": "other"}, "step_unknown"),
        ("dlq.resolve", {"step": None}, "dead_letter_unknown"),
        ("dlq.resolve", {"attempt": 7}, "state_forbids"),
        ("dlq.add", {}, "state_forbids"),
        ("dlq.reopen", {"task_id": str(UUID(int=7))}, "task_unknown"),
        ("dlq.reopen", {"task_id": "x"}, "task_unknown"),
        ("dlq.resolve", {"nonsense": 1}, "body_invalid"),
    ],
)
async def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    pair: Pair, verb: str, more: dict[str, Any], code: str
) -> None:
    task_id, _ = await blocked(pair)
    body = {"task_id": task_id, "step": "only", **WHO, **more}
    body = {key: value for key, value in body.items() if value is not None}
    before = await pair.events()
    assert (await pair.ask(verb, body))["error"]["code"] == code
    assert await pair.events() == before


async def test_a_task_of_another_tenant_is_unknown(pair: Pair) -> None:
    task_id, _ = await blocked(pair)
    answer = await pair.ask("dlq.resolve", {"task_id": task_id, "step": "only"} | WHO, tenant="acme")
    assert answer["error"]["code"] == "task_unknown"


async def test_an_investigation_goes_on_with_the_shards_next_owner(pair: Pair) -> None:
    task_id, shard = await blocked(pair)
    at = {"task_id": task_id, "step": "only"} | WHO
    assert (await pair.ask("dlq.resolve", at | {"command_id": "first"}))["ok"]
    await pair.hand_over(shard, *pair.sides)
    assert (await pair.ask("dlq.resolve", at | {"command_id": "first"}))["duplicate"]
    assert (await pair.ask("dlq.reopen", at))["ok"]
    assert [kind for kind, *_ in await told(pair, task_id)] == ["dead_letter_resolved", "dead_letter_reopened"]
