"""The write side over a log in memory, on the real bus and on its twin: commands, on the owner and on another node.

Two nodes share the work of taking commands; the first owns every shard, so half of them are handed on.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from tasker.bus.bus import Message
from tasker.bus.streams import stream_info
from tasker.events.codec import encode_message
from tasker.events.log import Loaded
from tasker.events.messages import WorkerSlots
from tasker.settings import Limits
from tests.contracts.pair import Pair

TIMES = 8
"""Enough for both nodes to have had their turn."""


async def test_more_commands_than_a_node_takes_on_are_busy(pair: Pair) -> None:
    for side in pair.sides:
        side._entrance._limits = Limits(commands_pending_max=3)
    told = await pair.ask("task.create", [{"template": "t"} for _ in range(TIMES)])
    assert {one["error"]["code"] for one in told if not one["ok"]} == {"busy"}
    # The array as a whole is under way as well.
    assert 1 <= sum(one["ok"] for one in told) <= 3


async def test_a_tenant_whose_commands_fill_a_node_keeps_no_other_out(pair: Pair) -> None:
    flood = [f"acme{number}" for number in range(TIMES)]
    for side in pair.sides:
        side._entrance._limits = Limits(commands_pending_max=TIMES)
        for _ in flood:
            assert side._entrance._room.enter("acme", TIMES)
    told = await pair.ask("task.create", {"template": "t"}, tenant="acme")
    assert told["error"]["code"] == "busy"
    told = await pair.ask("task.create", [{"template": "t"}, {"template": "t"}])
    assert [one["ok"] for one in told] == [True, True]
    for side in pair.sides:
        for _ in flood:
            side._entrance._room.leave("acme")


async def test_only_the_first_owns_shards(pair: Pair) -> None:
    assert [sorted(side._shards.owned) for side in pair.sides] == [[0, 1, 2, 3], []]


async def test_an_answer_goes_to_no_place_but_the_callers(pair: Pair) -> None:
    """The service may publish where a caller may not: to other tenants, to its own nodes, to NATS itself."""
    subjects, heard = pair.subjects, list[Message]()
    pair.bus.subscribe(f"{subjects.prefix}.acme.>", heard.append)
    pair.bus.subscribe(f"{subjects.prefix}._node.views.>", heard.append)
    await pair.bus.flush()
    places = [
        subjects.worker_cancel("acme", "w"),
        subjects.views("any"),
        f"$JS.API.STREAM.PURGE.{subjects.event_stream}",
    ]
    slots = WorkerSlots(worker="w", slots=1)
    for reply in places * TIMES:
        pair.bus.publish(subjects.command("default", "task", "create"), b'{"template": "t"}', reply=reply)
        pair.bus.publish(subjects.command("default", "task", "create"), b"none", reply=reply)
        pair.bus.publish(subjects.report("default", 0), b"none", reply=reply)
        pair.bus.publish(subjects.slots("default"), encode_message(slots), reply=reply)
    async with asyncio.timeout(25):
        while [kind for _, _, kind in await pair.events()].count("task_created") < TIMES * len(places):  # noqa: ASYNC110 - as answers
            await asyncio.sleep(0.01)
    for _ in range(TIMES):
        await pair.ask("task.create", {"template": "t"})
        await pair.report(0, b"none")
    assert [message.subject for message in heard] == []
    # What was published before is there: nobody purged it.
    assert (await stream_info(pair.bus, subjects.event_stream)).state.first_seq == 1


async def test_a_creation_is_recorded_once_wherever_it_arrives(pair: Pair) -> None:
    """Repetitions are duplicates of the one task, from either node."""
    keys = [f"k-{number}" for number in range(TIMES)]
    made = [await pair.ask("task.create", {"template": "t", "idempotency_key": key}) for key in keys]
    assert all(one["ok"] and not one.get("duplicate") for one in made), made
    assert len({one["task_id"] for one in made}) == TIMES
    before = await pair.events()
    for _ in range(2):
        again = [await pair.ask("task.create", {"template": "t"}, key=key) for key in keys]
        assert [one["task_id"] for one in again] == [one["task_id"] for one in made]
        assert all(one["duplicate"] for one in again)
    assert await pair.events() == before


async def test_a_key_that_no_header_takes_is_handed_on(pair: Pair) -> None:
    key = "Zeile eins\nZeile zwei: \u00e4\u20ac"
    for _ in range(TIMES):
        told = await pair.ask("task.create", {"template": "t", "idempotency_key": key})
        assert told["ok"], told
        body = {"task_id": told["task_id"], "command_id": key}
        told = await pair.ask("task.cancel", body)
        assert told["ok"], told


async def test_a_creation_without_a_key_is_one_task_each(pair: Pair) -> None:
    """The id is drawn where it arrives and kept on the way."""
    made = [await pair.ask("task.create", {"template": "t"}) for _ in range(TIMES)]
    assert len({one["task_id"] for one in made}) == TIMES
    assert [kind for _, _, kind in await pair.events()].count("task_created") == TIMES


async def test_the_log_is_not_asked_for_a_task_whose_id_is_drawn(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be there under it; a key's task may be."""
    asked: list[UUID] = []
    load = pair.log.load_histories

    async def counted(stream_ids: Sequence[UUID]) -> dict[UUID, Loaded]:
        asked.extend(stream_ids)
        return await load(stream_ids)

    monkeypatch.setattr(pair.log, "load_histories", counted)
    await pair.stop(1)  # what arrives there is handed on, with its id
    made = await pair.ask("task.create", {"template": "t"})
    assert made["ok"], made
    assert asked == []
    made = await pair.ask("task.create", {"template": "t", "idempotency_key": "k"})
    assert asked == [UUID(made["task_id"])]


async def test_a_command_without_an_id_is_given_one_and_recorded(pair: Pair) -> None:
    for _ in range(TIMES):
        made = await pair.ask("task.create", {"template": "t"})
        told = await pair.ask("task.cancel", {"task_id": made["task_id"]})
        assert told["ok"], told
    assert [kind for _, _, kind in await pair.events()].count("task_cancelled") == TIMES


async def test_a_repeated_command_is_answered_from_the_log(pair: Pair) -> None:
    made = await pair.ask("task.create", {"template": "t"})
    told = [await pair.ask("task.cancel", {"task_id": made["task_id"], "command_id": "stop"}) for _ in range(TIMES)]
    assert [one.get("duplicate", False) for one in told] == [False, *[True] * (TIMES - 1)]


_SCHEDULE = {"name": "daily", "namespace": "shop"}
_QUEUE = {"scope": "queue", "namespace": "shop", "name": "q", "requested_by": "ada", "reason": "why"}


@pytest.mark.parametrize(
    ("first", "others"),
    [
        pytest.param(
            ("task.update", {"tags": {"team": "core"}}),
            [
                ("task.cancel", {}),
                ("task.pause", {}),
                ("task.update", {"tags": {"team": "edge"}}),
                ("task.update", {"tags": {"team": "core"}, "requested_by": "ada"}),
            ],
            id="task",
        ),
        pytest.param(
            ("template.register", {"template": {"name": "t", "version": "2.0.0", "steps": [{"name": "only"}]}}),
            [
                ("template.use", {"name": "t", "version": "2.0.0"}),
                ("template.register", {"template": {"name": "t", "version": "2.0.0", "steps": [{"name": "other"}]}}),
            ],
            id="template",
        ),
        pytest.param(
            ("schedule.create", {**_SCHEDULE, "schedule": {"template": "t", "every_s": 3600}}),
            [
                ("schedule.pause", _SCHEDULE),
                ("schedule.trigger", _SCHEDULE),
                ("schedule.create", {**_SCHEDULE, "schedule": {"template": "t", "every_s": 60}}),
            ],
            id="schedule",
        ),
        pytest.param(
            ("control.pause", _QUEUE),
            [("control.resume", _QUEUE), ("control.pause", _QUEUE | {"name": "other"})],
            id="control",
        ),
    ],
)
async def test_a_command_id_that_was_another_commands_is_a_conflict_and_changes_nothing(
    pair: Pair, first: tuple[str, dict[str, Any]], others: list[tuple[str, dict[str, Any]]]
) -> None:
    """Another verb, other fields, somebody else; why it is asked for may be said otherwise."""
    made = await pair.ask("task.create", {"template": "t"})

    async def ask(verb: str, fields: dict[str, Any]) -> Any:
        of_task = {"task_id": made["task_id"]} if verb.startswith("task.") else {}
        return await pair.ask(verb, {**of_task, **fields, "command_id": "mine"})

    told = await ask(*first)
    assert told["ok"], told
    before = await pair.events()
    for other in others:
        told = [await ask(*other) for _ in range(TIMES)]
        assert {one["error"]["code"] for one in told} == {"key_conflict"}, other
        assert "'mine'" in told[0]["error"]["detail"]
    verb, fields = first
    told = [await ask(verb, fields | {"reason": f"try {number}"}) for number in range(TIMES)]
    assert all(one["ok"] and one["duplicate"] for one in told), told
    assert await pair.events() == before


async def test_a_repeated_choice_of_a_version_is_answered_and_not_done_again(pair: Pair) -> None:
    """Its reply may have been lost; meanwhile somebody else has chosen."""
    for version in ("1.0.0", "9.9.9"):
        steps = [{"name": "only"}]
        told = await pair.ask("template.register", {"template": {"name": "t", "version": version, "steps": steps}})
        assert told["ok"], told
    use = {"name": "t", "version": "1.0.0", "command_id": "mine"}
    assert not (await pair.ask("template.use", use)).get("duplicate", False)
    assert (await pair.ask("template.use", {"name": "t", "version": "9.9.9", "command_id": "theirs"}))["ok"]
    told = [await pair.ask("template.use", use) for _ in range(TIMES)]
    assert all(one["ok"] and one["duplicate"] for one in told)
    assert [kind for _, _, kind in await pair.events()].count("template_used") == 2


@pytest.mark.parametrize(
    ("verb", "body", "code"),
    [
        ("task.create", b"", "body_invalid"),
        ("task.create", b"\xff", "body_invalid"),
        ("task.create", b"[1", "body_invalid"),
        ("task.create", b'{"template": "t", "input": NaN}', "body_invalid"),
        ("task.create", b'{"template": "t", "input": ' + b"[" * 100 + b"]" * 100 + b"}", "value_invalid"),
        ("task.create", rb'{"template": "t", "input": "\ud800"}', "value_invalid"),
        ("task.create", b'{"template": "t", "input": "' + b"x" * 66_000 + b'"}', "body_too_large"),
        ("task.create", b"[" + b",".join([b"{}"] * 501) + b"]", "body_too_large"),
        ("task.create", {"template": "T"}, "name_invalid"),
        ("task.create", {"template": "u"}, "template_unknown"),
        ("task.create", {"template": "t", "version": "3"}, "template_unknown"),
        ("task.create", {"template": "t", "nonsense": 1}, "body_invalid"),
        ("task.begin", {}, "verb_unknown"),
        ("task.cancel", {"task_id": "x"}, "task_unknown"),
        ("task.cancel", {"task_id": str(uuid.UUID(int=7))}, "task_unknown"),
        ("task.retry", {"task_id": 7}, "body_invalid"),
        ("template.register", {"template": {}}, "template_invalid"),
        ("template.use", {"name": "t", "version": "3"}, "template_unknown"),
    ],
)
async def test_a_bad_command_is_refused_alike_wherever_it_arrives(pair: Pair, verb: str, body: Any, code: str) -> None:
    before = await pair.events()
    told = [await pair.ask(verb, body) for _ in range(TIMES)]
    assert {one["error"]["code"] for one in told} == {code}
    assert await pair.events() == before


async def test_two_keys_and_a_key_with_another_input(pair: Pair) -> None:
    first = {"template": "t", "input": 1, "idempotency_key": "k"}
    assert (await pair.ask("task.create", first))["ok"]
    before = await pair.events()
    for _ in range(TIMES):
        assert (await pair.ask("task.create", first, key="other"))["error"]["code"] == "key_ambiguous"
        conflict = await pair.ask("task.create", {**first, "input": 2})
        assert conflict["error"]["code"] == "key_conflict"
    assert await pair.events() == before


async def test_an_array_is_answered_in_its_order(pair: Pair) -> None:
    items = [{"template": "t", "idempotency_key": f"i{n}"} if n % 4 else {"template": n} for n in range(100)]
    ids: set[str] = set()
    for _ in range(3):
        told = await pair.ask("task.create", items)
        ids |= {one["task_id"] for one in told if one["ok"]}
        assert ["ok" if one["ok"] else one["error"]["code"] for one in told] == [
            "ok" if n % 4 else "body_invalid" for n in range(100)
        ]
    assert len(ids) == 75
    assert await pair.ask("task.create", []) == []


async def test_half_a_character_spoils_its_item_alone(pair: Pair) -> None:
    body = rb'[{"template": "t"}, {"template": "t", "input": {"a": ["\ud800"]}}, {"template": "t"}]'
    told = await pair.ask("task.create", body)
    assert [one["ok"] for one in told] == [True, False, True]
    error = told[1]["error"]
    assert (error["code"], error["errors"][0]["pointer"]) == ("value_invalid", "/input/a/0")


async def test_half_a_character_in_a_result_fails_the_step(pair: Pair) -> None:
    """The place is told; other reports of the message are taken."""
    made = [await pair.ask("task.create", {"template": "t"}) for _ in range(2)]
    shards = [int(one["position"].partition(":")[0]) for one in made]
    report = rb'{"kind": "completed", "task_id": "%s", "step": "only", "attempt": 1, "worker": "w", "result": %s}'
    bad = report % (made[0]["task_id"].encode(), rb'{"a": ["\udc00"]}')
    told = await pair.report(shards[0], b"[" + bad + rb', {"kind": "\ud800"}]')
    assert [one["ok"] for one in told] == [True, False]
    assert told[1]["error"]["code"] == "value_invalid"
    assert (await pair.report(shards[1], report % (made[1]["task_id"].encode(), b"1")))["recorded"]
    [failed] = [event for event in await pair.recorded(shards[0]) if event.type == "step_attempt_failed"]
    error = json.loads(failed.payload)["error"]
    assert error["type"] == "result_invalid"
    assert error["message"].startswith("/a/0: ")
    assert "; let the handler return what JSON has: `tasker step retry`" in error["message"]


async def test_a_result_too_deep_to_be_read_fails_the_step(pair: Pair) -> None:
    """Not its worker's time: the attempt ends at once, and the other reports of the message are taken."""
    made = [await pair.ask("task.create", {"template": "t"}) for _ in range(2)]
    shards = [int(one["position"].partition(":")[0]) for one in made]
    report = b'{"kind": "completed", "task_id": "%b", "step": "only", "attempt": 1, "worker": "w", "result": %b}'
    deep = b"[" * 10_000 + b"]" * 10_000
    bodies = [report % (one["task_id"].encode(), result) for one, result in zip(made, (deep, b"1"), strict=True)]
    told = await pair.report(shards[0], b"[" + b",".join(bodies) + b"]")
    assert [one["recorded"] for one in told] == [True, True]
    [failed] = [event for event in await pair.recorded(shards[0]) if event.type == "step_attempt_failed"]
    assert json.loads(failed.payload)["error"]["type"] == "result_invalid"


async def test_an_owner_whose_lease_is_over_does_not_create_from_what_it_remembers(pair: Pair) -> None:
    """Another node took the template's shard and may have registered a version; the first one does not know yet."""
    made = await pair.ask("template.register", {"template": {"name": "t", "steps": [{"name": "only"}]}})
    template_shard = int(made["position"].partition(":")[0])
    owner = pair.sides[0]
    directory = owner._entrance._directory
    assert directory.registry_now("default", "default", "t") is not None
    pair.log._shards[template_shard].lease_until_us = 0
    assert (await pair.log.acquire("another", [template_shard], 60.0)).epochs
    owner._clock.lease(0.0, asked_s=owner._clock.monotonic_s())
    assert directory.registry_now("default", "default", "t") is None
    told = await asyncio.gather(*(pair.ask("task.create", {"template": "t"}) for _ in range(TIMES)))
    assert {one["error"]["code"] for one in told} <= {"unavailable", "fenced"}
    assert "task_created" not in {kind for _, _, kind in await pair.events()}


async def test_a_message_without_a_reply_is_taken_too(pair: Pair) -> None:
    pair.bus.publish(pair.subjects.command("default", "task", "create"), b'{"template": "t", "idempotency_key": "q"}')
    pair.bus.publish(pair.subjects.command("default", "task", "create"), b"{")
    async with asyncio.timeout(25):
        while "task_created" not in {kind for _, _, kind in await pair.events()}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await pair.ask("task.create", {"template": "t", "idempotency_key": "q"}))["duplicate"]


async def test_a_log_that_is_away_is_told_and_nothing_is_recorded(pair: Pair) -> None:
    pair.log.unavailable = True
    for _ in range(TIMES):
        told = await pair.ask("task.create", {"template": "t", "idempotency_key": "away"})
        assert told["error"]["code"] == "unavailable"
    pair.log.unavailable = False
    told = await pair.ask("task.create", {"template": "t", "idempotency_key": "away"})
    assert (told["ok"], told.get("duplicate", False)) == (True, False)


async def test_a_node_can_stop_while_the_log_is_away(pair: Pair) -> None:
    pair.log.unavailable = True
    await pair.stop()
    pair.log.unavailable = False


@pytest.mark.parametrize("reply", ["answers.\x7f", ""], ids=["no subject", "nowhere"])
async def test_an_answer_that_cannot_be_sent_stops_nothing(pair: Pair, reply: str) -> None:
    """The caller names where it goes; after the commit nobody can refuse it any more."""
    made = await pair.ask("task.create", {"template": "t"})
    shard = int(made["position"].partition(":")[0])
    report = {"kind": "started", "task_id": made["task_id"], "step": "only", "attempt": 1, "worker": "w"}
    sent = {
        pair.subjects.command("default", "task", "create"): b'{"template": "t", "idempotency_key": "q"}',
        pair.subjects.report("default", shard): json.dumps(report).encode(),
        pair.subjects.node_shard(shard, "cmd"): b"{}",
        pair.subjects.node_shard(shard, "registry"): b'{"tenant": "default", "namespace": "default", "name": "t"}',
    }
    for subject, data in sent.items():
        pair.bus.publish(subject, data, reply=reply)
    told = await pair.report(shard, json.dumps({**report, "kind": "heartbeat"}).encode())
    assert told["recorded"]
    async with asyncio.timeout(25):
        while [kind for _, _, kind in await pair.events()].count("task_created") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await pair.ask("task.create", {"template": "t", "idempotency_key": "q"}))["duplicate"]
    assert not any(running.done() for running in pair.running)


async def test_a_shard_taken_back_does_not_create_from_what_was_known_before(pair: Pair) -> None:
    """Meanwhile its owner was another node, and another version was registered there."""
    template = {"name": "t", "steps": [{"name": "only"}]}
    made = await pair.ask("template.register", {"template": template})
    shard = int(made["position"].partition(":")[0])
    first, second = pair.sides
    await first._entrance._directory.registry("default", "default", "t")
    await pair.hand_over(shard, first, second)
    told = await pair.ask("template.register", {"template": {**template, "steps": [{"name": "other"}]}})
    assert told["ok"], told
    await pair.hand_over(shard, second, first)
    created = [await pair.ask("task.create", {"template": "t"}) for _ in range(TIMES)]
    assert all(one["ok"] for one in created), created
    payloads = [json.loads(event.payload) for event in await pair.all_recorded() if event.type == "task_created"]
    assert {one["template"]["version"] for one in payloads} == {told["template"]["version"]}


async def test_a_dry_run_tells_what_would_happen_and_records_nothing(pair: Pair) -> None:
    made = await pair.ask("task.create", {"template": "t"})
    before = await pair.events()
    command = {"task_id": made["task_id"], "command_id": "hold", "requested_by": "ada", "reason": "why"}
    for _ in range(TIMES):
        told = await pair.ask("task.pause", command | {"dry_run": True})
        assert (told["dry_run"], told["would"]) == (True, [{"event": "task_paused"}])
        refused = await pair.ask("task.resume", {"task_id": made["task_id"], "dry_run": True})
        assert refused["error"]["code"] == "state_forbids"
    assert await pair.events() == before
    told = await pair.ask("task.pause", command)
    assert "would" not in told
    assert not told.get("duplicate", False)


async def test_a_paused_task_is_repaired_and_resumed_from_any_node(pair: Pair) -> None:
    for _ in range(TIMES):
        made = await pair.ask("task.create", {"template": "t"})
        task = {"task_id": made["task_id"]}
        step = task | {"step": "only"}
        assert (await pair.ask("task.pause", task))["ok"]
        assert (await pair.ask("step.skip", step | {"result": {"n": 1}}))["ok"]
        told = await pair.ask("step.edit", step | {"result": [1], "dry_run": True})
        assert told["would"] == [{"event": "step_result_edited", "steps": ["only"]}]
        assert (await pair.ask("task.resume", task))["ok"]
        assert (await pair.ask("step.resolve", step | {"result": 1}))["error"]["code"] == "task_ended"
    assert [kind for _, _, kind in await pair.events()].count("task_completed") == TIMES


async def test_a_result_given_by_hand_has_the_bound_of_a_result(pair: Pair) -> None:
    made = await pair.ask("task.create", {"template": "t"})
    step = {"task_id": made["task_id"], "step": "only"}
    for verb in ("step.skip", "step.resolve", "step.edit"):
        told = await pair.ask(verb, step | {"result": "x" * 66_000})
        assert told["error"]["code"] == "body_too_large"
    for verb, named in (("step.resolve", step), ("task.complete", {"task_id": made["task_id"]})):
        refused = (await pair.ask(verb, named))["error"]
        assert refused["code"] == "body_invalid"
        assert "result" in refused["detail"], "it is over with it: null has to be said"
    assert (await pair.ask("step.release", step | {"step": "a b"}))["error"]["code"] == "name_invalid"


async def test_a_task_is_completed_with_null_where_that_is_said(pair: Pair) -> None:
    task = {"task_id": (await pair.ask("task.create", {"template": "t"}))["task_id"]}
    assert (await pair.ask("task.complete", task | {"result": None}))["ok"]
    [ended] = [one for one in await pair.all_recorded() if one.type == "task_completed"]
    assert json.loads(ended.payload)["result"] is None


async def test_a_restart_is_one_new_task_however_often_it_is_told_and_wherever(pair: Pair) -> None:
    create = {"template": "t", "input": {"n": 1}, "tags": {"a": "b"}, "metadata": {"c": [1]}, "timeout_s": 60}
    old = (await pair.ask("task.create", create))["task_id"]
    command = {"task_id": old, "command_id": "again", "requested_by": "ada", "reason": "why"}
    refused = await pair.ask("task.restart", command)
    assert (refused["error"]["code"], "task cancel" in refused["error"]["detail"]) == ("state_forbids", True)
    assert (await pair.ask("task.complete", {"task_id": old, "result": 1}))["ok"]
    would = await pair.ask("task.restart", command | {"dry_run": True})
    assert (would["task_id"], [one["event"] for one in would["would"]]) == (old, ["task_created", "step_dispatched"])
    told = [await pair.ask("task.restart", command) for _ in range(TIMES)]
    assert {one["task_id"] for one in told} == {told[0]["task_id"]}
    assert [one.get("duplicate", False) for one in told] == [False, *[True] * (TIMES - 1)]
    [event] = [one for one in await pair.all_recorded() if str(one.stream_id) == told[0]["task_id"] and one.seq == 1]
    payload = json.loads(event.payload)
    assert (payload["restarted_from"], payload["input"], payload["tags"], payload["metadata"]) == (
        old,
        {"n": 1},
        {"a": "b"},
        {"c": [1]},
    )
    assert (payload["deadline_us"] - event.at_us, "idempotency_key" in payload) == (60_000_000, False)
    assert [json.loads(event.meta)[name] for name in ("requested_by", "reason")] == ["ada", "why"]
    other = await pair.ask("task.restart", {"task_id": old})
    assert (other["ok"], other["task_id"] != told[0]["task_id"]) == (True, True)


async def test_a_restart_takes_the_version_that_it_is_told(pair: Pair) -> None:
    made = await pair.ask("task.create", {"template": "t"})
    await pair.ask("task.complete", {"task_id": made["task_id"], "result": None})
    newer = await pair.ask("template.register", {"template": {"name": "t", "steps": [{"name": "other"}]}})
    task = {"task_id": made["task_id"]}
    ids = [
        (await pair.ask("task.restart", task | more))["task_id"]
        for more in ({}, {"current": True}, {"version": newer["template"]["version"]})
    ]
    events = {str(one.stream_id): json.loads(one.payload) for one in await pair.all_recorded() if one.seq == 1}
    versions = [events[one]["template"]["version"] for one in ids]
    assert versions == [events[made["task_id"]]["template"]["version"], *[newer["template"]["version"]] * 2]
    both = await pair.ask("task.restart", task | {"current": True, "version": "1"})
    assert both["error"]["code"] == "body_invalid"
    assert (await pair.ask("task.restart", task | {"version": "nine"}))["error"]["code"] == "template_unknown"


async def test_labels_and_deadline_are_changed_from_any_node(pair: Pair) -> None:
    made = await pair.ask("task.create", {"template": "t", "tags": {"a": "b"}})
    task = {"task_id": made["task_id"]}
    for number in range(TIMES):
        assert (await pair.ask("task.update", task | {"tags": {"n": str(number)}, "metadata": {"n": number}}))["ok"]
        assert (await pair.ask("task.deadline", task | {"within_s": 60 + number}))["ok"]
    assert (await pair.ask("task.update", task | {"metadata": {"n": TIMES - 1}}))["duplicate"]
    nothing = (await pair.ask("task.update", task | {"tags": {}}))["error"]
    assert (nothing["code"], "give tags, metadata, priority" in nothing["detail"]) == ("body_invalid", True)
    for body in ({}, {"within_s": 1, "remove": True}, {"within_s": 0}, {"deadline": "tomorrow"}):
        assert (await pair.ask("task.deadline", task | body))["error"]["code"] == "body_invalid", body
    assert (await pair.ask("task.fail", task | {"message": " "}))["error"]["code"] == "body_invalid"
    assert (await pair.ask("task.update", task | {"tags": {"x" * 129: ""}}))["error"]["code"] == "body_invalid"
    large = {"template": "t", "metadata": {"m": "x" * 17_000}}
    assert (await pair.ask("task.create", large))["error"]["code"] == "body_too_large"
    assert (await pair.ask("task.fail", task | {"message": "no more"}))["ok"]


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("task.cancel", {"task_id": "0192f7a2-1111-7111-8111-111111111111"}),
        ("bulk.create", {"verb": "task.cancel", "everything": True, "requested_by": "ada", "reason": "why"}),
    ],
)
async def test_an_empty_command_id_is_named_as_the_field_that_it_is(
    pair: Pair, verb: str, body: dict[str, Any]
) -> None:
    error = (await pair.ask(verb, body | {"command_id": ""}))["error"]
    assert (error["code"], error["errors"][0]["pointer"]) == ("body_invalid", "/command_id")
