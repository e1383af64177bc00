"""A queue in which some work has a priority, as a node sees it: what gets a slot, and what the stream gets."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from tasker import Fairness
from tasker.service.actors.dispatch import direct as direct_module
from tasker.service.actors.dispatch.stream_demand import WINDOW_MAX, Demand, Window
from tests.runs import raw
from tests.unit.actors.dispatch.test_direct import QUEUE, Node, names


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    yield node
    await node.bus.close()
    await node.workers.close()


async def full(node: Node) -> None:
    """Let a worker with one slot be busy with a step of this node."""
    node.join("w")
    await node.said("w", 1)
    node.offer("first")
    await node.until(lambda: node.arrived)


async def free_one(node: Node, count: int) -> None:
    """Free the worker's slot for the `count`-th time, and see something come."""
    node.direct.released("default", "w", count)
    await node.until(lambda: len(node.arrived["w"]) == count + 1)


async def test_work_of_higher_priority_gets_the_next_slot(node: Node) -> None:
    await full(node)
    node.offer("plain")
    node.offer("low", priority=-5)
    node.offer("high", priority=5)
    node.offer("higher", priority=50)
    for count in range(1, 5):
        await free_one(node, count)
    assert node.arrived["w"] == ["first", "higher", "high", "plain", "low"]


async def test_what_waits_in_order_does_not_go_by_the_stream(node: Node) -> None:
    """There it could not be overtaken; all slots hold work of this node, so the next one is its own."""
    await full(node)
    node.offer("s1", priority=1)
    node.direct._sweep(asyncio.get_running_loop().time() + 10 * node.settings.wait_s)
    assert node.streamed == []
    assert node.direct.waiting == 1


async def test_a_new_priority_moves_what_waits(node: Node) -> None:
    await full(node)
    late = node.actor(-1)
    node.offer("a", priority=1)
    assert node.direct.take(QUEUE, late, "b", 1)  # type: ignore[arg-type]
    late.state.priority = 2
    assert node.direct.take(QUEUE, late, "b", 1, 1)  # type: ignore[arg-type]
    await free_one(node, 1)
    await free_one(node, 2)
    assert node.arrived["w"] == ["first", "b", "a"], "and it is sent once"


async def test_an_offer_that_is_repeated_waits_once(node: Node) -> None:
    await full(node)
    actor = node.actor(1)
    for offer in range(3):
        assert node.direct.take(QUEUE, actor, "s", 1, offer)  # type: ignore[arg-type]
    assert node.direct.waiting == 1


async def test_a_task_that_is_not_in_memory_is_woken_and_others_go_on(node: Node) -> None:
    await full(node)
    node.offer("gone", priority=9)
    node.actors.popitem()
    node.offer("here", priority=1)
    await free_one(node, 1)
    assert node.woken == ["gone"]
    assert node.arrived["w"] == ["first", "here"]


async def test_urgent_work_overtakes_a_backlog_in_the_stream_and_other_work_does_not(node: Node) -> None:
    node.join("w")
    await node.said("w", 2, queues=(), elsewhere=2, backlogged=(QUEUE,))
    assert node.offer("plain") == [False], "it goes where the others are"
    assert node.offer("u1", "u2", "u3", priority=1) == [True] * 3
    node.offer("low", priority=-1)
    await node.until(lambda: len(node.arrived.get("w", ())) == 2)
    node.direct.released("default", "w", 1)
    await node.until(lambda: len(node.arrived["w"]) == 3)
    assert node.arrived["w"] == ["u1", "u2", "u3"], "no more at a time than it has slots"
    node.counts["w"] = (3, 3)
    await node.said("w", 2, queues=(), elsewhere=2, backlogged=(QUEUE,))
    assert len(node.arrived["w"]) == 3
    await node.said("w", 2)
    await node.until(lambda: len(node.arrived["w"]) == 4)
    assert node.arrived["w"][3] == "low"


async def test_work_with_a_priority_waits_for_a_worker_in_its_order(node: Node) -> None:
    """Without any worker, too: what the stream keeps is in order of arrival for good."""
    assert node.offer("a", priority=1) == [True]
    node.offer("b", priority=2)
    assert node.offer("plain") == [True], "the queue is ordered now"
    node.join("w")
    await node.said("w", 3)
    await node.until(lambda: node.arrived)
    assert node.arrived["w"] == ["b", "a", "plain"]


async def test_the_stream_gets_the_best_of_what_waits_when_it_asks(node: Node) -> None:
    """Workers in other languages know nothing else."""
    node.offer("a", priority=1)
    node.offer("b", priority=2)
    node.offer("c", priority=3)
    order = node.direct._lines[QUEUE].order
    assert order is not None
    node.direct._feed(order, Demand(asking=0, pending=0))
    assert node.streamed == []
    node.direct._feed(order, Demand(asking=1, pending=0))
    assert node.streamed == ["c"]
    node.direct._feed(order, Demand(asking=1, pending=1))
    assert node.streamed == ["c"]


async def test_what_is_old_goes_to_a_stream_that_others_keep_full(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.offer("a", priority=1)
    order = node.direct._lines[QUEUE].order
    assert order is not None
    before_us = node.direct._clock.now_us()
    node.direct._feed(order, Demand(asking=1, pending=9))
    monkeypatch.setattr(node.direct._clock, "now_us", lambda: before_us + 61_000_000)
    assert node.streamed == []
    node.direct._feed(order, Demand(asking=1, pending=9))
    assert node.streamed == ["a"]


async def test_the_stream_is_fed_while_others_hold_the_slots_or_nobody_has_one(node: Node) -> None:
    node.offer("a", priority=1)
    line = node.direct._lines[QUEUE]
    assert line.order is not None
    assert not node.direct._finds_none(QUEUE, line, line.order), "not at once"
    line.order.handed_s -= node.settings.wait_s
    assert node.direct._finds_none(QUEUE, line, line.order)
    node.join("w")
    await node.said("w", 1, elsewhere=1)
    assert node.direct._finds_none(QUEUE, line, line.order)
    await node.said("w", 0, elsewhere=1)
    await node.said("w", 1)
    await node.until(lambda: node.arrived)
    node.offer("b")
    line.order.handed_s -= node.settings.wait_s
    assert not node.direct._finds_none(QUEUE, line, line.order), "the next free slot is our own"


def test_the_window_grows_while_all_of_it_is_taken() -> None:
    window, asked = Window(), Demand(asking=1, pending=0)
    sizes = [window.open(asked) for _ in range(10)]
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, WINDOW_MAX, WINDOW_MAX]
    assert window.open(Demand(asking=1, pending=3)) == 0
    assert window.open(asked) == 1


async def test_a_shard_that_is_given_up_takes_what_waits_along(node: Node) -> None:
    for shard in (1, 2):
        actor = node.actor(1, shard=shard)
        node.direct.take(QUEUE, actor, f"s{shard}", 1)  # type: ignore[arg-type]
    node.direct.close_shard(1)
    node.join("w")
    await node.said("w")
    await node.until(lambda: node.arrived)
    assert node.arrived["w"] == ["s2"]


async def test_what_waits_in_order_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_module, "ORDERED_MAX", 2)
    assert node.offer(*names(3), priority=1) == [True, True, False]


async def test_a_queue_is_ordered_no_more_once_it_has_had_no_priorities_for_long(node: Node) -> None:
    await full(node)
    node.offer("s1", priority=1)
    now_s = asyncio.get_running_loop().time()
    await free_one(node, 1)
    node.direct._workers["default", "w"].heard_s = now_s + direct_module.ORDERED_S
    node.direct._sweep(now_s + direct_module.ORDERED_S - 1)
    assert node.direct._lines[QUEUE].order is not None
    node.direct._sweep(now_s + direct_module.ORDERED_S + 1)
    assert node.direct._lines[QUEUE].order is None
    assert node.direct._ordered == 0


async def test_keys_share_the_slots_whoever_came_first(node: Node) -> None:
    await full(node)
    for number, customer in enumerate(["a", "a", "a", "b"]):
        actor = node.actor()
        actor.template.is_shared = actor.template.is_ordered = True
        actor.template.fairness_of = lambda _: Fairness(key="input.customer")
        actor.state.input = raw({"customer": customer})
        assert node.direct.take(QUEUE, actor, f"{customer}{number}", 1)  # type: ignore[arg-type]
    for count in range(1, 5):
        await free_one(node, count)
    assert sorted(node.arrived["w"][1:3]) == ["a0", "b3"]
    assert node.arrived["w"][3:] == ["a1", "a2"]


async def test_a_steps_priority_is_added_to_its_tasks(node: Node) -> None:
    """A queue of such a template is ordered, whatever step comes first; and a task's new priority moves its steps."""
    await full(node)
    ranks = {"a": 0, "f": 30, "l": -99}
    actors = {}
    for name, priority in (("l1", -50), ("a1", 0), ("f1", 0), ("f2", 90), ("a2", 95)):
        actor = actors[name] = node.actor(priority)
        actor.template.is_ordered = True
        actor.template.step = lambda step: SimpleNamespace(handler=step[0], priority=ranks[step[0]])
        assert node.direct.take(QUEUE, actor, name, 1)  # type: ignore[arg-type]
    actors["f1"].state.priority = 60
    assert node.direct.take(QUEUE, actors["f1"], "f1", 1, 1)  # type: ignore[arg-type]
    node.offer("plain")
    for count in range(1, 7):
        await free_one(node, count)
    assert node.arrived["w"] == ["first", "f2", "a2", "f1", "a1", "plain", "l1"]
