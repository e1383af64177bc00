"""The watch over the log: nothing is missed, whoever was away and whenever the wait is heard of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tasker import Emits, StepContext, Template
from tasker.events.envelope import RecordedEvent
from tasker.events.memory_log import MemoryLog
from tasker.service.actors.waits.event_watch import EventWatch, event_document
from tasker.testing import TaskerTest
from tests.runs import T0_US, Run, Shelf, append_all, template

BY: Any = {"requested_by": "ada", "reason": "a test"}

orders = Template("orders")


@orders.step(emits=[Emits("payment.captured")])
def charge(ctx: StepContext, input: dict[str, Any]) -> int:
    ctx.emit("payment.captured", {"order": input["order"]})
    return 1


parcels = Template("parcels")
parcels.wait_event("paid", "payment.captured", event_when="event.data.order == input.order")
parcels.transform("what", "[results.paid.type, results.paid.step]", after="paid")

priced = Template("priced")
priced.transform("order", "input.order")
priced.wait_event("paid", "payment.captured", event_when="event.data.order == results.order", after="order")

tagged = Template("tagged")
tagged.wait_event("paid", "payment.captured", event_when="has(task.tags.ready)")

patient = Template("patient")
patient.transform("now", "1")
patient.delay("later", 60)
patient.wait_event("paid", "payment.captured", event_when="has(results.later)", after=["now", "later"], join="any")
patient.transform("end", "1", after="later")

slow = Template("slow")
slow.delay("pause", 600)
slow.transform("order", "input.order", after="pause")

last = Template("last")
last.wait_event("over", "task_completed", event_when="event.task_id == input.task", wait_deadline_s=3600)
last.transform("result", "results.over.data.result", after="over")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture
def tasker_templates() -> list[object]:
    return [orders, parcels, priced, tagged, patient, slow, last]


async def test_a_domain_event_of_another_task_is_found(tasker: TaskerTest) -> None:
    early = await tasker.run({"order": 1}, template="orders")
    parcel = await tasker.start({"order": 1}, template="parcels")
    other = await tasker.run({"order": 2}, template="orders")
    assert (early.state, other.state, parcel.state) == ("completed", "completed", "running")
    await tasker.run({"order": 1}, template="orders")
    assert parcel.result == ["payment.captured", "charge"]


async def test_the_end_of_another_task_is_found(tasker: TaskerTest) -> None:
    other = await tasker.start({"order": 7}, template="slow")
    behind = await tasker.start({"task": other.task_id}, template="last")
    await tasker.run({"order": 1}, template="orders")
    await tasker.advance(minutes=9)
    assert behind.state == "running"
    await behind.wait()
    assert (behind.state, behind.result) == ("completed", 7)


@pytest.mark.parametrize("recorded", ["before", "after"])
async def test_a_wait_sees_a_result_as_it_was_edited(tasker: TaskerTest, recorded: str) -> None:
    parcel = await tasker.start({"order": 1}, template="priced")
    if recorded == "before":
        await tasker.run({"order": 2}, template="orders")
    await tasker._do(tasker._command(tasker._world.client.step_edit(parcel.task_id, "order", 2, **BY)))
    if recorded == "after":
        await tasker.run({"order": 2}, template="orders")
    await tasker.advance(1)
    assert parcel.state == "completed"
    assert len(parcel.events_of("event_matched")) == 1


async def test_a_wait_sees_the_tags_as_they_are(tasker: TaskerTest) -> None:
    parcel = await tasker.start({"order": 1}, template="tagged")
    await tasker.run({"order": 1}, template="orders")
    assert parcel.state == "running"
    await tasker._do(tasker._command(tasker._world.client.update(parcel.task_id, tags={"ready": "1"}, **BY)))
    await tasker.advance(1)
    assert parcel.state == "completed"


async def test_a_wait_sees_the_result_of_a_parent_that_it_did_not_wait_for(tasker: TaskerTest) -> None:
    parcel = await tasker.start({"order": 1}, template="patient")
    await tasker.run({"order": 1}, template="orders")
    await tasker.advance(30)
    assert parcel.state == "running"
    await tasker.advance(31)
    assert parcel.state == "completed"


@pytest.mark.parametrize("dies", ["before the event", "without having seen it"])
async def test_a_new_owner_finds_what_came_while_nobody_watched(
    tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    parcel = await tasker.start({"order": 1}, template="parcels")
    if dies == "without having seen it":

        async def nothing(_: EventWatch, _event: RecordedEvent) -> None:
            """See nothing."""

        with monkeypatch.context() as patched:
            patched.setattr(EventWatch, "_offer", nothing)
            await tasker.run({"order": 1}, template="orders")
        assert parcel.state == "running"
        await tasker.crash_service(down_s=3600)
    else:
        await tasker.crash_service(down_s=3600)
        await tasker.run({"order": 1}, template="orders")
    await tasker.advance(1)
    assert parcel.state == "completed"
    assert len(parcel.events_of("event_matched")) == 1


async def test_a_place_in_the_log_is_found_by_its_time() -> None:
    log = MemoryLog(shards=1)
    made = template({"a": []})
    units = []
    for number in range(50):
        run = Run(made)
        run.now_us = T0_US + number * 1000
        run.create()
        units += run.units
    await append_all(log, units)
    watch = EventWatch(log, None, range(1), lambda: 0)  # type: ignore[arg-type] # only the log is asked
    [head] = await log.heads([0])
    for number in (0, 1, 7, 49):
        for since_us in (T0_US + number * 1000, T0_US + number * 1000 - 1):
            assert await watch._position_before(0, head.position, since_us) == 2 * number
    assert await watch._position_before(0, head.position, T0_US + 10**9) == head.position
    assert await watch._position_before(0, 0, T0_US) == 0


@pytest.mark.parametrize("result", ["x" * 70_000, *([nested(depth)] for depth in (60, 61, 62, 63))])
def test_an_event_that_is_too_large_or_too_deep_comes_without_data(result: Any) -> None:
    run = Run(template({"a": []}))
    run.create()
    run.complete("a", result=result)
    shelf = Shelf()
    shelf.put(run.units)
    found = msgspec.json.decode(event_document(shelf.events[0][-1], None))
    assert (found["type"], found["seq"]) == ("task_completed", len(run.events))
    assert found["data"] in (None, {"result": result})
    if isinstance(result, str):
        assert found["data"] is None
