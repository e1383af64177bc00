"""Rules that meet: a person's command, a limit, a budget, a compensation and a deadline on the same task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tasker import Budget, Concurrency, PermanentError, Retry, StepContext, Template
from tasker.errors import CommandRejected
from tasker.events.stored import from_recorded
from tasker.ids import concurrency_stream_id
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.order import OrderChecker
from tasker.replay.checkers.placed import PlacedChecker
from tasker.replay.findings import Findings
from tasker.service.domain.limits.concurrency import ConcurrencyState, evolve_concurrency
from tasker.templates import compile_template
from tasker.testing import TaskerTest
from tasker.testing.world import SHARDS

BY: dict[str, Any] = {"requested_by": "ada", "reason": "it is three in the morning"}

trips = Template("trips", concurrency=Concurrency(key="input.customer", strategy="cancel_oldest"))


@trips.step
def book(input: dict[str, Any]) -> str:
    return "booked"


@trips.compensation("book", retry=Retry(max_attempts=1))
def unbook(ctx: StepContext) -> str:
    return "unbooked"


@trips.step(start_to_close_s=86_400)
async def travel(book: str) -> str:
    await asyncio.sleep(3_600)
    return "there"


loads = Template("loads", concurrency=Concurrency(key="input.dock"))


@loads.step(start_to_close_s=86_400)
async def load(input: dict[str, Any]) -> str:
    await asyncio.sleep(input.get("s", 600))
    return "loaded"


ships = Template.from_yaml("""
name: ships
steps:
  - {name: first, child: loads}
  - {name: second, child: loads}
""")

drafts = Template("drafts", budget=Budget(tokens_max=100))


@drafts.step(retry=Retry(max_attempts=2, backoff="constant", delay_s=1))
def write(ctx: StepContext, input: dict[str, Any]) -> str:
    ctx.usage(model="opus", tokens_in=input["tokens"])
    if input.get("fails"):
        raise PermanentError("no such subject")
    return "written"


@drafts.step
def send(write: str) -> str:
    return "sent"


slow = Template("slow")


@slow.step(start_to_close_s=86_400)
async def work(ctx: StepContext, input: float) -> str:
    await asyncio.sleep(input)
    return "by itself"


@slow.step
def after(work: str) -> str:
    return work


TEMPLATES = (trips, loads, ships, drafts, slow)


@pytest.fixture
async def tasker() -> AsyncIterator[TaskerTest]:
    async with TaskerTest(*TEMPLATES) as kit:
        yield kit
        await kit._do(assert_proved(kit))


async def assert_proved(kit: TaskerTest) -> None:
    log, findings = kit._world.log, Findings()
    templates = {made.hash: made for made in (compile_template(one.spec()) for one in TEMPLATES)}
    for shard in range(SHARDS):
        events = await log.read(shard, after=0, limit=100_000)
        feed(events, [PlacedChecker(shard, findings.add), OrderChecker(shard, findings.add, templates.get)])
    assert findings.kept == []


def key_of(kit: TaskerTest, template: str, value: str) -> ConcurrencyState:
    state = ConcurrencyState()
    stream_id = concurrency_stream_id("default", "default", template, "", f'"{value}"')
    for recorded in kit._world.log.events_of(stream_id):
        evolve_concurrency(state, from_recorded(recorded), at_us=recorded.at_us)  # type: ignore[arg-type]
    return state


async def told(kit: TaskerTest, command: Any) -> Any:
    return await kit._do(kit._command(command))


async def test_a_victim_whose_compensation_blocks_keeps_its_place_until_a_person_sees_to_it(tasker: TaskerTest) -> None:
    client = tasker._world.client
    tasker.fail("book~undo", error=PermanentError("the hotel is closed"), times=1)
    old = await tasker.start({"customer": "acme"}, template=trips)
    await tasker.advance(5)
    new = await tasker.start({"customer": "acme"}, template=trips)
    await tasker.advance(120)
    assert (old.state, new.state) == ("blocked", "pending")
    assert [one.partition(":")[0] for one in key_of(tasker, "trips", "acme").holders] == [old.task_id]
    await told(tasker, client.step_retry(old.task_id, "book~undo", **BY))
    await tasker.advance(30)
    assert (old.state, new.state) == ("cancelled", "running")
    await new.wait(within_s=4_000)
    assert new.state == "completed"
    await tasker.advance(120)
    assert not key_of(tasker, "trips", "acme").holders


async def test_a_paused_tree_behind_a_key_is_cancelled_as_a_whole(tasker: TaskerTest) -> None:
    client = tasker._world.client
    holder = await tasker.start({"dock": "a", "s": 2_000}, template=loads)
    parent = await tasker.start({"dock": "a"}, template=ships)
    await tasker.advance(10)
    await told(tasker, client.pause(parent.task_id, children=True, **BY))
    await tasker.advance(10)
    state = key_of(tasker, "loads", "a")
    assert (len(state.holders), len(state.waiting)) == (1, 2)
    await told(tasker, client.cancel(parent.task_id, grace_s=0.0))
    await tasker.advance(120)
    assert parent.state == "cancelled"
    await holder.wait(within_s=3_000)
    await tasker.advance(120)
    state = key_of(tasker, "loads", "a")
    assert (len(state.holders), len(state.waiting), len(state.evicted)) == (0, 0, 0)
    last = await tasker.start({"dock": "a", "s": 1}, template=loads)
    await last.wait(within_s=60)
    assert last.state == "completed"


async def test_a_deadline_that_passes_in_the_line_leaves_the_line(tasker: TaskerTest) -> None:
    first = await tasker.start({"dock": "a", "s": 600}, template=loads)
    late = await tasker.start({"dock": "a"}, template=loads, timeout_s=60)
    third = await tasker.start({"dock": "a", "s": 1}, template=loads)
    await tasker.advance(120)
    assert (first.state, late.state, third.state) == ("running", "failed", "pending")
    await third.wait(within_s=700)
    assert third.state == "completed"


async def test_what_goes_over_a_budget_and_fails_for_good_needs_both_seen_to(tasker: TaskerTest) -> None:
    client = tasker._world.client
    run = await tasker.start({"tokens": 500, "fails": True}, template=drafts)
    await tasker.advance(10)
    assert run.state == "blocked"
    await told(tasker, client.retry(run.task_id, **BY))
    await tasker.advance(30)
    assert (run.state, len(tasker.calls("write"))) == ("blocked", 1), "over its budget it begins nothing"
    tasker.stub("write", "written")
    await told(tasker, client.set_budget(run.task_id, tokens_max=2_000, **BY))
    await tasker.advance(30)
    if run.state == "blocked":
        await told(tasker, client.retry(run.task_id, **BY))
    await run.wait(within_s=60)
    assert run.state == "completed"


async def test_a_budget_that_is_raised_leaves_a_failed_step_to_a_person(tasker: TaskerTest) -> None:
    client = tasker._world.client
    run = await tasker.start({"tokens": 500, "fails": True}, template=drafts)
    await tasker.advance(10)
    await told(tasker, client.set_budget(run.task_id, tokens_max=2_000, **BY))
    await tasker.advance(10)
    assert (run.state, run.steps["write"].state) == ("blocked", "failed")
    tasker.stub("write", "written")
    await told(tasker, client.retry(run.task_id, **BY))
    await run.wait(within_s=60)
    assert run.state == "completed"


async def test_a_person_resolves_what_is_about_to_report(tasker: TaskerTest) -> None:
    client = tasker._world.client
    run = await tasker.start(10.0, template=slow)
    await tasker.advance(5)
    tasker.delay("completed", delay_s=20, step="work")
    await tasker.advance(8)
    await told(tasker, client.step_resolve(run.task_id, "work", result="by hand", **BY))
    await run.wait(within_s=60)
    assert run.result == "by hand"
    await tasker.advance(60)
    assert [event.type for event in run.events].count("step_completed") == 1


async def test_a_paused_task_with_work_in_flight_may_be_resolved_and_goes_on_when_resumed(tasker: TaskerTest) -> None:
    client = tasker._world.client
    run = await tasker.start(100.0, template=slow)
    await tasker.advance(5)
    await told(tasker, client.pause(run.task_id, **BY))
    await told(tasker, client.step_resolve(run.task_id, "work", result="by hand", **BY))
    await tasker.advance(200)
    assert (run.state, run.steps["after"].state) == ("paused", "pending")
    await told(tasker, client.resume(run.task_id, **BY))
    await run.wait(within_s=10)
    assert run.result == "by hand"


async def test_a_dead_letter_of_a_cancelled_task_is_refused_in_words(tasker: TaskerTest) -> None:
    client = tasker._world.client
    run = await tasker.start({"tokens": 1, "fails": True}, template=drafts)
    await tasker.advance(10)
    assert run.state == "blocked"
    await told(tasker, client.dlq.investigate(run.task_id, "write", note="whose is it?", requested_by="ada"))
    await run.cancel()
    with pytest.raises(CommandRejected) as refused:
        await told(tasker, client.dlq.retry(run.task_id, "write", **BY))
    assert refused.value.code == "task_ended"
    with pytest.raises(CommandRejected) as refused:
        await told(tasker, client.dlq.resolve(run.task_id, "write", **BY))
    assert "ended" in refused.value.detail or "over" in refused.value.detail


async def test_a_dry_run_of_a_cancel_says_what_it_then_does(tasker: TaskerTest) -> None:
    client = tasker._world.client
    run = await tasker.start({"customer": "acme"}, template=trips)
    await tasker.advance(5)
    would = await told(tasker, client.cancel(run.task_id, dry_run=True, **BY))
    before = len(run.events)
    await told(tasker, client.cancel(run.task_id, **BY))
    assert would.would is not None
    did = [event.type for event in run.events[before:]]
    assert [one.event for one in would.would] == did[: len(would.would)]
