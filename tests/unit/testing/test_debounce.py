"""Debounced starts in the test kit: of a burst one task runs, with the last input, and no accepted start is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tasker import Concurrency, Debounce, Template
from tasker.errors import Busy, InputInvalid, KeyConflict
from tasker.ids import concurrency_stream_id
from tasker.replay.checkers.checker import LogChecker, feed
from tasker.replay.checkers.order import OrderChecker
from tasker.replay.checkers.placed import PlacedChecker
from tasker.replay.checkers.timely import TimelyChecker
from tasker.replay.findings import Findings
from tasker.service.actors.limits.places import Places
from tasker.service.actors.limits.postponing import Postponing
from tasker.service.domain.limits import debounce
from tasker.templates import compile_template
from tasker.testing import TaskerTest
from tasker.testing.world import SHARDS

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
indexing = Template(
    "indexing",
    input_schema=SCHEMA,
    debounce=Debounce(key="input.document", for_s=5, max_s=12),
    concurrency=Concurrency(key="input.n"),
)


@indexing.step
async def index(input: dict[str, Any]) -> str:
    return f"{input['document']} is at {input.get('n')}"


slow = Template("slow", debounce=Debounce(key="input.document", for_s=60), max_running=3)


@slow.step
async def look(input: dict[str, Any]) -> str:
    return f"{input['document']} is at {input['n']}"


crawling = Template.from_yaml("""
name: crawling
steps:
  - {name: first, child: indexing}
""")
TEMPLATES = (indexing, slow, crawling)


@pytest.fixture
async def tasker() -> AsyncIterator[TaskerTest]:
    async with TaskerTest(*TEMPLATES) as kit:
        yield kit
        await kit._do(assert_proved(kit))


async def assert_proved(kit: TaskerTest) -> None:
    log, findings = kit._world.log, Findings()
    templates = {made.hash: made for made in (compile_template(one.spec()) for one in TEMPLATES)}
    for shard in range(SHARDS):
        checkers: list[LogChecker] = [
            PlacedChecker(shard, findings.add),
            OrderChecker(shard, findings.add, templates.get),
            TimelyChecker(shard, findings.add),
        ]
        feed(await log.read(shard, after=0, limit=100_000), checkers)
    assert findings.kept == []


async def start(kit: TaskerTest, n: int, document: Any = "a", template: Template = indexing, **options: Any) -> Any:
    return await kit.start({"document": document, "n": n}, template=template, **options)


async def create(kit: TaskerTest, n: int, **options: Any) -> Any:
    """Start, and get the answer itself."""
    return await kit._do(kit._command(kit._world.client.create(indexing, {"document": "a", "n": n}, **options)))


def of_key(kit: TaskerTest) -> list[str]:
    """What the key of document "a" has recorded."""
    key = debounce.debounce_of(compile_template(indexing.spec()), msgspec.Raw(b'{"document":"a"}'))
    assert key is not None
    stream_id = concurrency_stream_id("default", "default", "indexing", "", key)
    return [recorded.type for recorded in kit._world.log.events_of(stream_id)]


async def test_of_a_burst_one_task_runs_with_the_last_input(tasker: TaskerTest) -> None:
    runs = []
    for n in range(5):
        runs.append(await start(tasker, n))
        await tasker.advance(2)
    other = await start(tasker, 9, "b")
    first = runs[0]
    assert {run.task_id for run in runs} == {first.task_id} != {other.task_id}
    assert (first.state, len(tasker.calls("index"))) == ("pending", 0)
    await first.wait()
    assert first.result == "a is at 4"
    assert len(first.events_of("task_postponed")) == 4


async def test_it_begins_so_long_after_the_last_start(tasker: TaskerTest) -> None:
    first = await start(tasker, 1)
    await tasker.advance(4)
    await start(tasker, 2)
    await tasker.advance(4.5)
    assert first.state == "pending"
    await tasker.advance(1)
    assert (first.state, first.result) == ("completed", "a is at 2")


async def test_it_begins_at_most_so_long_after_the_first(tasker: TaskerTest) -> None:
    first = await start(tasker, 0)
    for n in range(1, 4):
        await tasker.advance(3)
        await start(tasker, n)
    await tasker.advance(2.5)
    assert first.state == "pending"
    await tasker.advance(1)
    assert (first.state, first.result) == ("completed", "a is at 3")


async def test_the_answer_says_so(tasker: TaskerTest) -> None:
    first, second = await create(tasker, 1), await create(tasker, 2)
    assert (first.duplicate, first.debounced) == (False, False)
    assert (second.duplicate, second.debounced, second.task_id) == (True, True, first.task_id)


async def test_a_start_that_finds_it_begun_opens_the_next_window(tasker: TaskerTest) -> None:
    first = await start(tasker, 1)
    await tasker.advance(5.5)
    second = await start(tasker, 2)
    assert second.task_id != first.task_id
    await second.wait()
    assert (first.result, second.result) == ("a is at 1", "a is at 2")


async def test_so_it_does_while_its_key_has_not_heard_of_that(
    tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Places, "leave_key", lambda *_: None)
    first = await start(tasker, 1)
    await tasker.advance(5.5)
    second, third = await start(tasker, 2), await start(tasker, 3)
    assert second.task_id == third.task_id != first.task_id
    await third.wait()
    assert third.result == "a is at 3"


async def test_a_repeat_changes_nothing_ever(tasker: TaskerTest) -> None:
    first = await start(tasker, 1, idempotency_key="one")
    second = await start(tasker, 2, idempotency_key="two")
    third = await start(tasker, 3, idempotency_key="three")
    for _ in range(2):
        for n, key in ((1, "one"), (2, "two"), (3, "three")):
            assert (await start(tasker, n, idempotency_key=key)).task_id == first.task_id
        await tasker.crash_service()
    assert len(first.events_of("task_postponed")) == 2
    with pytest.raises(KeyConflict):
        await start(tasker, 7, idempotency_key="two")
    await first.wait()
    assert (first.result, second.task_id, third.task_id) == ("a is at 3", first.task_id, first.task_id)
    # Also behind its end, and while the next one waits.
    assert (await start(tasker, 2, idempotency_key="two")).task_id == first.task_id
    other = await start(tasker, 4)
    assert (await start(tasker, 3, idempotency_key="three")).task_id == first.task_id != other.task_id
    await other.wait()
    assert (other.result, len(tasker.calls("index"))) == ("a is at 4", 2)


async def test_of_many_at_once_all_are_in_one(tasker: TaskerTest) -> None:
    client = tasker._world.client

    async def all_at_once() -> list[Any]:
        made = asyncio.gather(*(client.create(indexing, {"document": "a", "n": number}) for number in range(8)))
        return list(await tasker._command(made))  # type: ignore[arg-type]

    found = await tasker._do(all_at_once())
    assert len({one.task_id for one in found}) == 1
    assert sum(one.debounced for one in found) == 7


async def test_killed_between_the_key_and_the_task(tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key knows of the start, the task does not, and begins meanwhile; nobody was told that it was taken."""
    first = await start(tasker, 1)
    led_there = asyncio.Event()
    monkeypatch.setattr(Postponing, "ask", lambda *_: led_there.set())

    async def start_and_hear_nothing() -> None:
        client = tasker._world.client
        asked = asyncio.ensure_future(client.create(indexing, {"document": "a", "n": 2}, idempotency_key="k"))
        await led_there.wait()
        asked.cancel()

    await tasker._do(tasker._command(start_and_hear_nothing()))
    assert of_key(tasker)[-1] == "starts_met"
    await tasker.crash_service()
    monkeypatch.undo()
    await first.wait()
    second = await start(tasker, 2, idempotency_key="k")
    await second.wait()
    assert (first.result, second.result, second.task_id == first.task_id) == ("a is at 1", "a is at 2", False)


async def test_it_outlives_the_service_and_the_one_it_met_may_be_cancelled(tasker: TaskerTest) -> None:
    first = await start(tasker, 1, template=slow)
    await start(tasker, 2, template=slow, idempotency_key="two")
    await tasker.crash_service()
    for n, key in ((2, "two"), (3, "three")):
        assert (await start(tasker, n, template=slow, idempotency_key=key)).task_id == first.task_id
    assert len(first.events_of("task_postponed")) == 2
    await first.cancel()
    third = await start(tasker, 3, template=slow)
    assert third.task_id != first.task_id
    await third.wait()
    assert third.result == "a is at 3"


async def test_a_paused_one_takes_starts(tasker: TaskerTest) -> None:
    first = await start(tasker, 1)
    client = tasker._world.client
    await tasker._do(tasker._command(client.pause(first.task_id)))
    assert (await start(tasker, 2)).task_id == first.task_id
    await tasker._do(tasker._command(client.resume(first.task_id)))
    await first.wait()
    assert first.result == "a is at 2"


async def test_a_child_and_a_schedule_have_a_task_of_their_own_at_once(tasker: TaskerTest) -> None:
    first = await start(tasker, 1)
    parent = await tasker.start({"document": "a", "n": 2}, template="crawling")
    nightly = await tasker.schedule("nightly", template="indexing", every_s=86_400, input={"document": "a", "n": 3})
    await nightly.trigger()
    await tasker.advance(1)
    assert (parent.result, first.state, len(tasker.calls("index"))) == ("a is at 2", "pending", 2)


async def test_each_input_is_checked_and_null_is_no_key(tasker: TaskerTest) -> None:
    first = await start(tasker, 1)
    with pytest.raises(InputInvalid):
        await tasker.start({"document": "a", "n": "x"}, template=indexing)
    with pytest.raises(InputInvalid, match="concurrency"):
        await tasker.start({"document": "a"}, template=indexing)
    with pytest.raises(InputInvalid, match="debounce"):
        await tasker.start({"n": 1}, template=indexing)
    assert len(first.events_of("task_postponed")) == 0
    assert (await start(tasker, 1, None)).task_id != (await start(tasker, 1, None)).task_id


async def test_who_is_busy_for_another_cap_holds_no_key(tasker: TaskerTest) -> None:
    runs = [await start(tasker, n, document, slow) for n, document in enumerate("abc")]
    with pytest.raises(Busy, match="max_running"):
        await start(tasker, 1, "d", slow)
    assert (await start(tasker, 4, "a", slow)).task_id == runs[0].task_id
    await runs[1].cancel()
    await tasker.advance(1)
    assert (await start(tasker, 1, "d", slow)).state == "pending"


async def test_so_many_starts_are_enough(tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debounce, "STARTS_MAX", 3)
    first = await start(tasker, 0)
    for n in (1, 2):
        await start(tasker, n)
    await tasker.advance(0.5)
    assert (first.state, first.result) == ("completed", "a is at 2")


async def test_its_key_gives_its_place_back_when_that_word_is_lost(
    tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Places, "leave_key", lambda *_: None)
    await start(tasker, 1)
    await tasker.advance(300)
    assert of_key(tasker).count("places_returned") == 1
