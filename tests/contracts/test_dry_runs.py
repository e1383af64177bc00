"""Dry runs on the owner and on another node: what they foresee is what the command then does, and nothing else is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tasker.events.messages import COMMANDS, TaskCreate, TaskOperatorCommand
from tasker.events.stored import meta_of
from tests.contracts.pair import Pair

TIMES = 4
"""Enough for both nodes to have had their turn."""

WHO = {"requested_by": "ada", "reason": "why"}
YEARLY = {"template": "t", "cron": "@yearly", "start_at": "2020-01-01T00:00:00Z"}
TWO_YEARS = {"name": "s", "start": "2020-01-01T00:00:00Z", "end": "2021-06-01T00:00:00Z"}
QUEUE = {"scope": "queue", "name": "t"} | WHO
CHARGE = {"name": "charge"} | WHO

STORY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("template.register", {"template": {"name": "t", "version": "2.0.0", "steps": [{"name": "other"}]}}),
    ("template.register", {"template": {"name": "t", "version": "3.0.0", "steps": [{"name": "third"}]}}),
    ("template.use", {"name": "t", "version": "2.0.0"}),
    ("schedule.create", {"name": "s", "schedule": YEARLY}),
    ("schedule.update", {"name": "s", "schedule": YEARLY | {"fires_max": 9}}),
    ("schedule.pause", {"name": "s", "note": "closed"}),
    ("schedule.resume", {"name": "s"}),
    ("schedule.trigger", {"name": "s"}),
    ("schedule.backfill", TWO_YEARS),
    ("schedule.stop_backfill", {"name": "s"}),
    ("schedule.delete", {"name": "s"}),
    ("control.pause", QUEUE),
    ("control.resume", QUEUE),
    ("limit.set", QUEUE | {"per_s": 2}),
    ("limit.remove", QUEUE),
    ("circuit.open", CHARGE),
    ("circuit.close", CHARGE),
    ("dlq.add", WHO),
    ("dlq.investigate", WHO | {"step": "only", "owner": "ada", "note": "it answers again"}),
    ("dlq.resolve", WHO | {"step": "only"}),
    ("dlq.reopen", WHO | {"step": "only"}),
    ("dlq.retry", WHO | {"step": "only", "attempt": 1}),
)
"""Commands of which each is possible once those before it are done; `dlq` of a task that is blocked at its step."""


def test_every_command_has_a_dry_run() -> None:
    assert all("dry_run" in kind.__struct_fields__ for kind in COMMANDS.values())
    of_tasks = {verb for verb, kind in COMMANDS.items() if issubclass(kind, TaskOperatorCommand | TaskCreate)}
    told = set(COMMANDS) - of_tasks - {"bulk.create"}
    assert told == {verb for verb, _ in STORY}, "tasks and bulks have tests of their own"


async def test_what_a_dry_run_foresees_is_what_the_command_records(pair: Pair) -> None:
    task_id = await _blocked(pair)
    for number, (verb, fields) in enumerate(STORY):
        command = fields | ({"task_id": task_id} if verb.startswith("dlq.") else {}) | {"command_id": f"c{number}"}
        before = await pair.events()
        told = [await pair.ask(verb, command | {"dry_run": True}) for _ in range(TIMES)]
        assert all(one["ok"] and one["dry_run"] and ":" in one["position"] for one in told), told
        assert await pair.events() == before, verb
        assert [one["would"] for one in told] == [told[0]["would"]] * TIMES
        done = await pair.ask(verb, command)
        assert done["ok"], done
        assert not {"duplicate", "dry_run", "would"} & set(done), "the dry run has not taken the command's place"
        recorded = [one for one in await pair.all_recorded() if meta_of(one).command_id == f"c{number}"]
        assert [one.type for one in recorded] == [one["event"] for one in told[0]["would"]], verb
        assert recorded, verb
        if verb == "schedule.trigger":
            await _settled(pair)


CHECKED = {
    "name": "checked",
    "version": "1.0.0",
    "input_schema": {"type": "object", "required": ["n"]},
    "max_running": 99,
    "steps": [{"name": "only"}],
}


@pytest.mark.parametrize("create", [{"template": "t"}, {"template": "checked", "input": {"n": 1}}])
async def test_what_the_dry_run_of_a_creation_foresees_is_what_it_records(pair: Pair, create: dict[str, Any]) -> None:
    """Also where it has to be let in."""
    assert (await pair.ask("template.register", {"template": CHECKED}))["ok"]
    for number in range(TIMES):
        command = create | {"idempotency_key": f"k{number}", "timeout_s": 60}
        before = await pair.events()
        told = [await pair.ask("task.create", command | {"dry_run": True}) for _ in range(2)]
        assert [one["dry_run"] for one in told] == [True, True], told
        assert "task_id" not in told[0]
        assert await pair.events() == before
        done = await pair.ask("task.create", command)
        assert not {"duplicate", "dry_run", "would"} & set(done)
        recorded = [one.type for one in await pair.all_recorded() if str(one.stream_id) == done["task_id"]]
        foreseen = [one["event"] for one in told[0]["would"]]
        assert recorded[: len(foreseen)] == foreseen
        assert foreseen[0] == "task_created"
        before = await pair.events()
        again = await pair.ask("task.create", command | {"dry_run": True})
        assert (again["dry_run"], again.get("would", [])) == (True, [])
        other = await pair.ask("task.create", command | {"input": {"n": 2}, "dry_run": True})
        assert other["error"]["code"] == "key_conflict"
        assert await pair.events() == before


@pytest.mark.parametrize(
    ("create", "code"),
    [
        ({"template": "none"}, "template_unknown"),
        ({"template": "checked", "input": {}}, "input_invalid"),
        ({"template": "t", "priority": 500}, "body_invalid"),
        ({"template": "t", "namespace": "tasker"}, "name_invalid"),
    ],
)
async def test_the_dry_run_of_a_creation_is_refused_as_it_is(pair: Pair, create: dict[str, Any], code: str) -> None:
    assert (await pair.ask("template.register", {"template": CHECKED}))["ok"]
    before = await pair.events()
    told = [await pair.ask("task.create", create | {"dry_run": dry_run}) for dry_run in (True, False) * TIMES]
    assert [one["error"]["code"] for one in told] == [code] * len(told)
    assert {one["error"]["detail"] for one in told} == {told[0]["error"]["detail"]}
    assert await pair.events() == before


async def test_the_dry_run_of_a_restart_asks_the_version_that_it_would_run(pair: Pair) -> None:
    old = (await pair.ask("task.create", {"template": "t", "input": 7}))["task_id"]
    assert (await pair.ask("task.complete", {"task_id": old, "result": None}))["ok"]
    strict = {"name": "t", "version": "2.0.0", "input_schema": {"type": "object"}, "steps": [{"name": "only"}]}
    assert (await pair.ask("template.register", {"template": strict}))["ok"]
    before = await pair.events()
    restart = {"task_id": old, "dry_run": True}
    for _ in range(TIMES):
        assert (await pair.ask("task.restart", restart))["would"][0] == {"event": "task_created"}
        assert (await pair.ask("task.restart", restart | {"current": True}))["error"]["code"] == "input_invalid"
    assert await pair.events() == before


async def test_a_dry_run_says_how_many_fire_times_it_is_about(pair: Pair) -> None:
    assert (await pair.ask("schedule.create", {"name": "s", "schedule": YEARLY}))["ok"]
    told = await pair.ask("schedule.backfill", TWO_YEARS | {"dry_run": True})
    assert told["would"] == [{"event": "schedule_backfill_requested", "fires": 2}]
    assert told["schedule"] == {"namespace": "default", "name": "s"}


async def test_a_dry_run_of_what_is_so_already_foresees_nothing(pair: Pair) -> None:
    assert (await pair.ask("schedule.create", {"name": "s", "schedule": YEARLY}))["ok"]
    assert (await pair.ask("control.pause", QUEUE))["ok"]
    for verb, command in (
        ("schedule.create", {"name": "s", "schedule": YEARLY}),
        ("schedule.resume", {"name": "s"}),
        ("control.pause", QUEUE),
        ("template.register", {"template": {"name": "t", "steps": [{"name": "only"}]}}),
    ):
        told = await pair.ask(verb, command | {"dry_run": True})
        assert (told["ok"], told["dry_run"], told.get("would", [])) == (True, True, []), verb


@pytest.mark.parametrize(
    ("verb", "command", "code"),
    [
        ("schedule.create", {"name": "s", "schedule": YEARLY | {"cron": "x"}}, "schedule_invalid"),
        ("schedule.create", {"name": "taken", "schedule": YEARLY | {"fires_max": 1}}, "schedule_conflict"),
        ("schedule.pause", {"name": "none"}, "schedule_unknown"),
        ("schedule.trigger", {"name": "none"}, "schedule_unknown"),
        ("schedule.stop_backfill", {"name": "taken"}, "schedule_forbids"),
        ("schedule.backfill", TWO_YEARS | {"name": "taken", "end": "2999-01-01T00:00:00Z"}, "body_invalid"),
        ("template.use", {"name": "t", "version": "9"}, "template_unknown"),
        (
            "template.register",
            {"template": {"name": "fixed", "version": "1.0.0", "steps": [{"name": "b"}]}},
            "template_conflict",
        ),
        ("control.pause", QUEUE | {"reason": None}, "body_invalid"),
        ("control.resume", QUEUE, "state_forbids"),
        ("limit.remove", QUEUE, "state_forbids"),
        ("circuit.close", CHARGE, "state_forbids"),
        ("dlq.resolve", {"step": "only"} | WHO, "dead_letter_unknown"),
        ("dlq.retry", {"step": "none"} | WHO, "step_unknown"),
    ],
)
async def test_a_dry_run_is_refused_as_the_command_is(
    pair: Pair, verb: str, command: dict[str, Any], code: str
) -> None:
    fixed = {"template": {"name": "fixed", "version": "1.0.0", "steps": [{"name": "a"}]}}
    assert (await pair.ask("template.register", fixed))["ok"]
    assert (await pair.ask("schedule.create", {"name": "taken", "schedule": YEARLY}))["ok"]
    if verb.startswith("dlq."):
        command |= {"task_id": (await pair.ask("task.create", {"template": "t"}))["task_id"]}
    before = await pair.events()
    told = [await pair.ask(verb, command | {"dry_run": dry_run}) for dry_run in (True, False) * TIMES]
    assert [one["error"]["code"] for one in told] == [code] * len(told)
    assert {one["error"]["detail"] for one in told} == {told[0]["error"]["detail"]}
    assert await pair.events() == before


async def test_a_template_that_was_only_tried_is_not_in_the_log(pair: Pair) -> None:
    tried = {"name": "tried", "version": "1.0.0", "steps": [{"name": "only"}]}
    contents = dict(pair.log._blobs)
    for _ in range(TIMES):
        assert (await pair.ask("template.register", {"template": tried, "dry_run": True}))["ok"]
    assert (await pair.ask("task.create", {"template": "tried"}))["error"]["code"] == "template_unknown"
    assert pair.log._blobs == contents
    assert (await pair.ask("template.register", {"template": tried}))["ok"]
    assert (await pair.ask("task.create", {"template": "tried"}))["ok"]


async def _blocked(pair: Pair) -> str:
    """Return a task whose only step has failed for good."""
    made = await pair.ask("task.create", {"template": "t"})
    report = (
        b'{"kind":"failed","task_id":"%s","step":"only","attempt":1,"worker":"w",'
        b'"error":{"type":"Declined","message":"no","retryable":false}}' % made["task_id"].encode()
    )
    assert (await pair.report(int(made["position"].partition(":")[0]), report))["recorded"]
    task_id: str = made["task_id"]
    return task_id


async def _settled(pair: Pair) -> None:
    """Return once the log has what follows from a trigger by itself."""
    async with asyncio.timeout(25):
        while all(kind != "schedule_task_started" for *_, kind in await pair.events()):  # noqa: ASYNC110 - tells nobody
            await asyncio.sleep(0.01)
