"""What may begin begins soon, whatever became of those who held it before."""

from __future__ import annotations

import asyncio

import pytest

from tasker.ids import control_stream_id, shard_of
from tasker.service.domain.limits.ranks import OLD_S
from tests.simulation.offers import DEAD_S, SHARDS, SOON_S, Stage, staged
from tests.simulation.scripted import ScriptedWorker

QUEUE = {"scope": "queue", "name": "t"}


async def with_direct_work(stage: Stage) -> ScriptedWorker:
    """Return a worker that a node has sent an attempt, which it has not begun."""
    worker = await stage.work("w", takes_stream=False)
    await asyncio.sleep(2)
    await stage.create()
    await asyncio.sleep(0.1)
    assert worker.hands
    return worker


async def begins_soon(stage: Stage, *, hears_nodes: bool = True) -> None:
    """Hold the system to its promise, with a healthy worker."""
    await stage.healthy(hears_nodes=hears_nodes)
    await stage.until_begun(SOON_S)


def test_a_message_that_died_with_its_worker() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.create()
        worker = await stage.work("w", hears_nodes=False)
        await asyncio.sleep(1)
        assert worker.hands
        await worker.die()
        await stage.healthy()
        await stage.until_begun(DEAD_S)

    staged(scenario)


def test_direct_work_that_died_with_its_worker() -> None:
    async def scenario(stage: Stage) -> None:
        worker = await with_direct_work(stage)
        await worker.die()
        await begins_soon(stage)

    staged(scenario)


def test_direct_work_of_a_worker_that_said_farewell_and_died() -> None:
    async def scenario(stage: Stage) -> None:
        worker = await with_direct_work(stage)
        worker.farewell()
        await asyncio.sleep(0.1)
        await worker.die()
        await begins_soon(stage)

    staged(scenario)


def test_direct_work_of_a_worker_that_died_while_its_node_had_no_connection() -> None:
    async def scenario(stage: Stage) -> None:
        worker = await with_direct_work(stage)
        await asyncio.sleep(1.5)
        ((_, bus, _),) = stage.nodes.values()
        bus.cut()
        await worker.die()
        await asyncio.sleep(0.5)
        bus.mend()
        await begins_soon(stage)

    staged(scenario)


def test_a_copy_whose_worker_asked_in_vain_before_the_task_left_memory() -> None:
    """The owner has forgotten what it offered when the pause ends; the stream still knows the first message's id."""

    async def scenario(stage: Stage) -> None:
        await stage.create()
        worker = await stage.work("w", hears_nodes=False)
        await asyncio.sleep(1)
        await stage.command("control.pause", **QUEUE)
        await asyncio.sleep(1.5)
        (item,) = worker.hands.values()
        assert not (await worker.ask(item, "claim")).get("run")
        worker.ack(item)
        await worker.die()
        await asyncio.sleep(15)
        await stage.command("control.resume", **QUEUE)
        await begins_soon(stage, hears_nodes=False)

    staged(scenario)


def test_a_copy_whose_worker_asked_the_owner_before_this_one_in_vain() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.create()
        worker = await stage.work("w", hears_nodes=False)
        await asyncio.sleep(1)
        (item,) = worker.hands.values()
        dead = await stage.work("dead", hears_nodes=False)
        await dead.ask(item, "reserve")
        assert not (await worker.ask(item, "claim")).get("run")
        worker.ack(item)
        await worker.die()
        await dead.die()
        (node,) = stage.nodes
        await stage.kill_node(node)
        await stage.start_node()
        await begins_soon(stage, hears_nodes=False)

    staged(scenario)


def test_what_was_resumed_while_nobody_owned_its_shard() -> None:
    async def scenario(stage: Stage) -> None:
        one, two = stage.nodes
        await stage.hand_over(shard_of(control_stream_id(), SHARDS), one, two)
        await stage.command("control.pause", **QUEUE)
        await asyncio.sleep(1.5)
        for _ in range(8):
            await stage.create()
        await asyncio.sleep(20)
        await stage.kill_node(one)
        await asyncio.sleep(1)
        await stage.command("control.resume", ramp_s=0, **QUEUE)
        await begins_soon(stage)

    staged(scenario, nodes=2)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_what_waited_long_in_an_ordered_queue_of_a_node_that_went(how: str) -> None:
    async def scenario(stage: Stage) -> None:
        worker = await stage.work("w", slots=1, takes_stream=False)
        await asyncio.sleep(2)
        await stage.create(template="two", priority=5)
        await asyncio.sleep(0.1)
        (item,) = worker.hands.values()
        await worker.ask(item, "started")
        await asyncio.sleep(95)
        (node,) = stage.nodes
        await (stage.kill_node(node) if how == "kill" else stage.stop_node(node))
        await worker.die()
        await stage.start_node()
        await begins_soon(stage)

    staged(scenario)


def test_direct_work_whose_question_was_heard_and_never_recorded() -> None:
    async def scenario(stage: Stage) -> None:
        worker = await with_direct_work(stage)
        (item,) = worker.hands.values()
        stage.log.unavailable = True
        asking = asyncio.create_task(worker.ask(item, "claim"))
        await asyncio.sleep(1)
        asking.cancel()
        await worker.die()
        stage.log.unavailable = False
        await begins_soon(stage)

    staged(scenario)


def test_a_task_that_was_paused_and_resumed_in_the_very_moment_of_its_dispatch() -> None:
    """As where the clock of a shard's owner is behind the shard's last event: its time stands still until then."""

    async def scenario(stage: Stage) -> None:
        task_id = await stage.create(priority=5)
        await stage.command("task.pause", task_id=task_id)
        await stage.command("task.resume", task_id=task_id)
        await begins_soon(stage)

    staged(scenario)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_work_stream_that_was_lost_while_nobody_owned_what_it_held(nodes: int) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.create()
        # By then the row says that the stream has it.
        await asyncio.sleep(600)
        await stage.kill_node(next(iter(stage.nodes)))
        stage.drop_stream()
        if nodes == 1:
            await stage.start_node()
        # Whoever else there is makes the stream anew before it owns anything.
        await asyncio.sleep(8)
        await begins_soon(stage)

    staged(scenario, nodes=nodes)


def test_a_limit_that_was_removed_while_a_pause_held_what_waited_for_its_turn() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.command("limit.set", scope="queue", name="t", per_s=0.05, burst=1)
        for _ in range(3):
            await stage.create()
        await stage.command("control.pause", scope="template", name="t")
        await stage.command("limit.remove", scope="queue", name="t")
        await stage.command("control.resume", scope="template", name="t", ramp_s=0)
        await begins_soon(stage)

    staged(scenario)


def test_a_limit_that_was_removed_after_its_node_came_anew() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.command("limit.set", scope="queue", name="t", per_s=0.05, burst=1)
        (node,) = stage.nodes
        await stage.stop_node(node)
        await stage.start_node()
        for _ in range(3):
            await stage.create()
        await asyncio.sleep(2)
        await stage.command("limit.remove", scope="queue", name="t")
        await begins_soon(stage)

    staged(scenario)


def test_a_pause_that_ends_while_a_circuit_holds_what_it_held() -> None:
    async def scenario(stage: Stage) -> None:
        worker = await stage.work("w")
        await asyncio.sleep(2)
        await stage.create(template="fragile")
        await asyncio.sleep(0.1)
        (item,) = worker.hands.values()
        await worker.ask(item, "failed")
        worker.ack(item)
        await stage.command("control.pause", **QUEUE)
        await asyncio.sleep(30)
        await stage.command("control.resume", ramp_s=0, **QUEUE)
        await begins_soon(stage)

    staged(scenario)


async def with_a_full_worker(stage: Stage, *, slots: int = 5, places: int | None = None) -> None:
    """Have a worker that runs work from a node in all the slots that it has for it, and never ends that."""
    worker = await stage.work("full", slots=slots, places=places, takes_stream=False)
    await asyncio.sleep(2)
    await stage.create(template="limited")
    await asyncio.sleep(0.1)
    assert worker.hands
    await worker.begin_all()


@pytest.mark.parametrize("priority", [0, 5])
def test_a_handler_with_a_limit_at_a_worker_that_is_full_and_without_one_at_another(priority: int) -> None:
    async def scenario(stage: Stage) -> None:
        await with_a_full_worker(stage, places=1)
        await stage.healthy()
        await asyncio.sleep(2)
        for _ in range(3):
            await stage.create(template="limited", priority=priority)
        assert await stage.until_begun() < 1

    staged(scenario)


def test_urgent_work_beside_full_workers_goes_to_one_that_knows_the_stream_alone() -> None:
    """The last one comes to the stream, too: its task has left memory by then, and nothing else is in the line."""

    async def scenario(stage: Stage) -> None:
        await with_a_full_worker(stage, slots=1)
        await stage.healthy(hears_nodes=False)
        for _ in range(2):
            await stage.create(template="limited", priority=5)
        await stage.until_begun(OLD_S + SOON_S)

    staged(scenario)
