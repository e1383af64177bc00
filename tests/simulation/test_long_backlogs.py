"""Work that waits long in the work stream: it rests there, and whatever becomes of its copy, it begins."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest

from tasker.bus.publish import AckedPublisher
from tasker.bus.streams import delete_stream, ensure_streams
from tasker.ids import shard_of
from tasker.service.actors.dispatch import backlogs
from tasker.service.actors.dispatch.dispatcher import Dispatcher
from tests.simulation import offers
from tests.simulation.offers import SHARDS, SOON_S, Stage, staged
from tests.simulation.scripted import STREAMS


def stream_of(stage: Stage) -> Any:
    """Return the work stream."""
    return stage.broker.jetstream._streams[stage.subjects.work_stream]


def stored_in(stage: Stage) -> int:
    """Return how many messages the work stream has taken."""
    stream = stream_of(stage)
    return int(stream.last_seq - stream.config["first_seq"] + 1)


async def backlog(stage: Stage, count: int, waited_s: float) -> None:
    """Let tasks wait without a worker, until each has left memory."""
    await asyncio.gather(*(stage.create() for _ in range(count)))
    await asyncio.sleep(waited_s)
    places = [(shard_of(UUID(task_id), SHARDS), UUID(task_id)) for task_id in stage.tasks]
    while any(side._shards.actor_of(*place) for place in places for side in stage.nodes):  # noqa: ASYNC110 - untold
        await asyncio.sleep(1)


def test_another_owner_leaves_a_backlog_of_this_stream_where_it_is() -> None:
    async def scenario(stage: Stage) -> None:
        await asyncio.sleep(100)
        await backlog(stage, 50, 600)
        (node,) = stage.nodes
        await stage.kill_node(node)
        await stage.start_node()
        await asyncio.sleep(20)
        assert stored_in(stage) == 50

    staged(scenario)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_backlog_is_published_once_and_looked_at_less_and_less(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stage: Stage) -> None:
        for _ in range(workers):
            # It makes the queue's consumer, and holds the first one.
            await stage.work("w", slots=1, hears_nodes=False)
        loads = 0
        load = stage.log.load_histories

        async def counted(ids: Any) -> Any:
            nonlocal loads
            loads += sum(str(one) in stage.tasks for one in ids)
            return await load(ids)

        monkeypatch.setattr(stage.log, "load_histories", counted)
        await backlog(stage, 50, 4000)
        assert stored_in(stage) == 50
        # After 30 s, 90 s, and then each time after as long as it has waited.
        assert loads <= 50 * 9

    staged(scenario)


def test_copies_that_vanish_are_missed_after_as_long_as_they_have_waited() -> None:
    """As by an operator who purges the queue: the stream is the same one, so nobody is told."""

    async def scenario(stage: Stage) -> None:
        await backlog(stage, 3, 400)
        for seq in list(stream_of(stage).messages):
            stream_of(stage).remove(seq)
        await stage.healthy(hears_nodes=False)
        await stage.until_begun(400)

    staged(scenario)


def test_a_stream_that_is_dropped_with_a_backlog() -> None:
    """The next one is there, and has other work under the same sequences, before anybody looks."""

    async def scenario(stage: Stage) -> None:
        await backlog(stage, 20, 400)
        assert await delete_stream(stage.bus, stage.subjects.work_stream)
        await ensure_streams(stage.bus, stage.subjects, STREAMS)
        await asyncio.gather(*(stage.create() for _ in range(30)))
        assert stored_in(stage) == 30
        await asyncio.sleep(2)
        await stage.healthy(hears_nodes=False)
        await stage.until_begun(SOON_S)
        assert stored_in(stage) <= 30 + 20 + 30

    staged(scenario)


@pytest.mark.parametrize("kind", ["claim", "reserve"])
def test_a_copy_that_had_rested_when_its_worker_asked_an_owner_that_died(kind: Literal["claim", "reserve"]) -> None:
    """The row had put the offer off, as the stream had it; since the worker asked in vain nobody has."""

    async def scenario(stage: Stage) -> None:
        await backlog(stage, 1, 600)
        worker = await stage.work("w", hears_nodes=False)
        dead = await stage.work("dead", hears_nodes=False, takes_stream=False)
        await asyncio.sleep(1)
        (item,) = worker.hands.values()
        assert (await dead.ask(item, "reserve")).get("run")
        assert not (await worker.ask(item, kind)).get("run")
        worker.ack(item)
        await worker.die()
        await dead.die()
        await asyncio.sleep(1.5)
        (node,) = stage.nodes
        await stage.kill_node(node)
        await stage.start_node()
        await stage.healthy(hears_nodes=False)
        await stage.until_begun(SOON_S)

    staged(scenario)


@pytest.mark.parametrize("waited_s", [0.0, 600.0])
@pytest.mark.parametrize("how", ["task.cancel", "step.skip"])
def test_what_ends_while_it_waits_leaves_nothing_in_the_stream(how: str, waited_s: float) -> None:
    async def scenario(stage: Stage) -> None:
        if waited_s:
            await backlog(stage, 20, waited_s)
        else:
            await asyncio.gather(*(stage.create() for _ in range(20)))
        more = {"step": "only"} if how == "step.skip" else {"grace_s": 0}
        *ended, stays = stage.tasks
        await asyncio.gather(*(stage.command(how, task_id=task_id, **more) for task_id in ended))
        await asyncio.sleep(1)
        assert len(stream_of(stage).messages) == 1
        worker = await stage.healthy(hears_nodes=False)
        await stage.until_begun(SOON_S)
        assert worker.ran == [(stays, "only", 1)]

    staged(scenario)


def test_what_is_paused_keeps_its_place_in_the_stream() -> None:
    async def scenario(stage: Stage) -> None:
        await backlog(stage, 2, 100)
        for verb in ("task.pause", "task.resume"):
            await stage.command(verb, task_id=stage.tasks[0])
            await asyncio.sleep(200)
        assert stored_in(stage) == 2
        worker = await stage.healthy(hears_nodes=False)
        await stage.until_begun(SOON_S)
        assert [key[0] for key in worker.ran] == stage.tasks

    staged(scenario)


def test_what_waits_for_room_on_its_way_to_the_stream_counts_as_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream is slow to ack, so few offers are let out. Those it may have stored count twice, not in neither."""
    monkeypatch.setattr(backlogs, "LOOK_S", 0.0)

    async def scenario(stage: Stage) -> None:
        template = {"name": "capped", "max_ready": 9, "steps": [{"name": "only"}]}
        await stage.ask("template.register", {"template": template})
        stage.broker.transit = lambda message: (20.0 if message.data.startswith(b'{"stream":"') else 0.0,)
        (side,) = stage.nodes
        dispatcher = side._direct._source
        assert isinstance(dispatcher, Dispatcher)
        monkeypatch.setattr(dispatcher._publisher, "_in_flight_max", 2)
        body = json.dumps({"template": "capped"}).encode()
        answers = []
        for _ in range(12):
            reply = await stage.bus.request(stage.subjects.command("default", "task", "create"), body, timeout_s=5)
            answers.append(json.loads(reply.data)["ok"])
        assert answers == [True] * 7 + [False] * 5
        assert len(stream_of(stage).messages) == 2
        assert dispatcher.leaving_in(("default", "default", "capped")) == 7
        stage.broker.transit = None
        await asyncio.sleep(30)
        assert len(stream_of(stage).messages) == 7
        assert dispatcher.leaving_in(("default", "default", "capped")) == 0

    staged(scenario)


@pytest.mark.parametrize("hears_nodes", [False, True])
@pytest.mark.parametrize("is_killed", [False, True])
def test_what_a_full_queue_has_no_room_for_waits_with_its_owner(
    hears_nodes: bool,  # noqa: FBT001 - a case
    is_killed: bool,  # noqa: FBT001 - a case
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was offered anew each second, each attempt of it."""
    monkeypatch.setattr(offers, "STREAMS", msgspec.structs.replace(STREAMS, work_messages_per_queue_max=10))
    published = 0
    publish = AckedPublisher.publish_acked

    def counted(publisher: AckedPublisher, subject: str, *args: Any, **more: Any) -> None:
        nonlocal published
        published += ".work." in subject
        publish(publisher, subject, *args, **more)

    monkeypatch.setattr(AckedPublisher, "publish_acked", counted)

    async def scenario(stage: Stage) -> None:
        await backlog(stage, 40, 200)
        assert len(stream_of(stage).messages) == 10
        assert published <= 10 + 40
        if is_killed:
            (node,) = stage.nodes
            await stage.kill_node(node)
            await stage.start_node()
        await stage.healthy(hears_nodes=hears_nodes)
        await stage.until_begun(3 * SOON_S)
        assert sorted(key[0] for worker in stage.workers for key in worker.ran) == sorted(stage.tasks)

    staged(scenario)
