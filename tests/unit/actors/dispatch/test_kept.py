"""Work that waits for one worker alone, as a node sees it: that worker gets it while it lives, else anybody."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from tasker.service.actors.dispatch import direct as direct_module
from tasker.service.actors.dispatch.lines import ITEM_BYTES_MAX
from tests.unit.actors.dispatch.test_direct import OTHER, QUEUE, Node


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    node.direct._hearing_s -= node.settings.silent_s  # it has run for a while
    yield node
    await node.bus.close()
    await node.workers.close()


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def two_workers(node: Node, slots: int = 1) -> None:
    for worker in ("v", "w"):
        node.join(worker)
        await node.said(worker, slots)


async def released(node: Node, worker: str) -> None:
    received, before = node.counts[worker]
    node.counts[worker] = (received, before + 1)
    node.direct.released("default", worker, before + 1)
    await asyncio.sleep(0)


async def test_it_waits_for_its_worker_though_others_are_free(node: Node) -> None:
    await two_workers(node)
    assert node.keep("s1", "s2", "s3") == [True] * 3
    await node.until(lambda: node.arrived.get("w") == ["s1"])
    assert node.direct.waiting == node.direct.waiting_in(QUEUE) == 2
    node.direct._sweep(now_s() + node.settings.wait_s)
    for count in (2, 3):
        await released(node, "w")
        await node.until(lambda count=count: len(node.arrived["w"]) == count)
    assert node.arrived == {"w": ["s1", "s2", "s3"]}
    assert (node.streamed, node.anybodys) == ([], [])
    node.direct._sweep(now_s())
    assert (len(node.direct._kept), len(node.direct._lines), node.direct._ordered) == (0, 1, 0)


async def test_other_work_of_the_queue_and_work_that_is_kept_get_the_slots_in_turn(node: Node) -> None:
    node.join("w")
    await node.said("w", 1)
    node.offer("first", "p1", "p2")
    node.keep("k1", "k2")
    for count in range(1, 5):
        await node.until(lambda count=count: len(node.arrived.get("w", ())) == count)
        await released(node, "w")
    await node.until(lambda: len(node.arrived["w"]) == 5)
    kinds = [step[0] for step in node.arrived["w"][1:]]
    assert kinds in (["k", "p", "k", "p"], ["p", "k", "p", "k"])


async def test_it_has_an_order_of_its_own(node: Node) -> None:
    node.join("w")
    await node.said("w", 1)
    node.keep("first")
    await node.until(lambda: node.arrived)
    node.keep("plain")
    node.keep("high", priority=5)
    for count in (2, 3):
        await released(node, "w")
        await node.until(lambda count=count: len(node.arrived["w"]) == count)
    assert node.arrived["w"] == ["first", "high", "plain"]


async def test_an_offer_that_is_repeated_waits_once(node: Node) -> None:
    node.join("w")
    await node.said("w", 1)
    node.keep("first")
    actor = node.actor()
    for offer in range(3):
        assert node.direct.keep("w", QUEUE, actor, "s", 1, offer, None)  # type: ignore[arg-type]
    assert node.direct.waiting_in(QUEUE) <= 2
    await node.until(lambda: node.arrived)
    assert node.direct.waiting_in(QUEUE) == 1


async def test_what_ends_while_it_waits_for_its_worker_waits_no_more(node: Node) -> None:
    """It counted as waiting (`max_ready`) until that worker had a free slot."""
    node.join("w")
    await node.said("w", 1)
    node.keep("first")
    await node.until(lambda: node.arrived)
    actor = node.actor()
    actor.state.steps = {"s": SimpleNamespace(kept_for="w", dispatched_us=0)}
    assert node.direct.keep("w", QUEUE, actor, "s", 1, 0, None)  # type: ignore[arg-type]
    assert (node.direct.waiting, node.direct.waiting_in(QUEUE)) == (1, 1)
    for _ in range(2):
        node.direct.take_back(QUEUE, actor, "s", 1)  # type: ignore[arg-type]
    assert (node.direct.waiting, node.direct.waiting_in(QUEUE), node.direct._ordered) == (0, 0, 0)


async def test_a_worker_that_is_not_known_is_gone(node: Node) -> None:
    await two_workers(node)
    assert node.keep("s1", worker="x") == [False]
    assert not node.direct._kept


async def test_a_worker_that_does_not_serve_the_queue_does_not_get_it(node: Node) -> None:
    node.join("w")
    await node.said("w", 1, queues=(OTHER,))
    assert node.keep("s1") == [False]
    await node.said("w", 1)
    node.keep("s2", "s3")
    await node.until(lambda: node.arrived.get("w") == ["s2"])
    await node.said("w", 1, queues=(OTHER,))
    assert node.anybodys == ["s3"]


async def test_a_node_that_stops_keeps_nothing_for_anybody(node: Node) -> None:
    node.join("w")
    await node.said("w", 1)
    node.keep("s1", "s2")
    await node.until(lambda: node.arrived.get("w") == ["s1"])
    node.direct.close()
    assert (len(node.direct._kept), node.direct.waiting) == (0, 0)
    await node.said("w", 1, queues=(OTHER,))
    node.direct._sweep(now_s() + node.settings.silent_s)
    assert node.keep("s3") == [False]
    assert node.anybodys == [], "the next owner offers it"


async def test_what_waits_for_a_worker_that_stops_is_anybodys_at_once(node: Node) -> None:
    await two_workers(node)
    node.keep("s1", "s2", "s3")
    await node.until(lambda: node.arrived)
    await node.said("w", 0)
    assert node.anybodys == ["s2", "s3"]
    assert (len(node.direct._kept), node.direct._ordered, node.direct.waiting) == (0, 0, 0)
    assert node.keep("s4") == [False]


async def test_what_waits_for_a_worker_that_is_silent_is_anybodys(node: Node) -> None:
    await two_workers(node)
    node.keep("s1", "s2")
    await node.until(lambda: node.arrived)
    heard_s = node.direct._workers["default", "w"].heard_s
    node.direct._sweep(heard_s + node.settings.silent_s)
    assert node.anybodys == []
    node.direct._sweep(heard_s + node.settings.silent_s + 0.1)
    assert node.anybodys == ["s2"]
    assert node.offered_again == ["s1"], "what it had not begun is offered again, and finds it gone"


async def test_a_worker_whose_word_was_lost_has_time_to_speak_up(node: Node) -> None:
    """A message to it got lost, so it is not known for a moment: that is no death."""
    await two_workers(node)
    node.keep("s1", "s2")
    await node.until(lambda: node.arrived)
    node.direct._drop({node.direct._workers["default", "w"]})
    node.direct._sweep(now_s())
    assert node.anybodys == []
    await node.said("w", 1)
    await released(node, "w")
    await node.until(lambda: node.arrived["w"] == ["s1", "s2"])


async def test_a_node_that_has_just_begun_to_hear_gives_workers_time_to_speak_up() -> None:
    """The owner before it died, and the task came here: its worker lives all the same."""
    node = Node()
    assert node.keep("s1", "s2") == [True, True]
    assert node.keep("s3", worker="x") == [True]
    await two_workers(node, slots=10)
    await node.until(lambda: node.arrived.get("w") == ["s1", "s2"])
    node.direct._sweep(node.direct._hearing_s + node.settings.silent_s - 0.1)
    assert node.anybodys == []
    node.direct._sweep(node.direct._hearing_s + node.settings.silent_s)
    assert node.anybodys == ["s3"]
    await node.bus.close()
    node.direct._sweep(now_s() + 100)
    assert node.direct._hearing_s == pytest.approx(now_s() + 100, abs=1), "without a connection nobody is heard"
    await node.workers.close()


async def test_an_attempt_waits_for_a_busy_worker_as_long_as_its_step_says(node: Node) -> None:
    await two_workers(node)
    node.keep("s1")
    node.keep("short", wait_s=20)
    node.keep("long")
    await node.until(lambda: node.arrived)
    worker = node.direct._workers["default", "w"]
    for after_s, expected in ((19.0, []), (20.1, ["short"]), (3600.0, ["short"])):
        worker.heard_s = node.direct._workers["default", "v"].heard_s = now_s() + after_s
        node.direct._sweep(now_s() + after_s)
        assert node.anybodys == expected


async def test_a_backlog_in_the_stream_is_overtaken(node: Node) -> None:
    """From there any worker would get it; and it needs no more slots than the worker has."""
    node.join("w")
    await node.said("w", 2, queues=(), elsewhere=2, backlogged=(QUEUE,))
    assert node.keep("s1", "s2", "s3") == [True] * 3
    await node.until(lambda: node.arrived.get("w") == ["s1", "s2"])
    await released(node, "w")
    await node.until(lambda: node.arrived["w"] == ["s1", "s2", "s3"])


async def test_a_handler_with_a_limit_is_kept_for_a_slot_of_its_part(node: Node) -> None:
    node.join("w")
    await node.said("w", 10, parts=(node.part("w", 1),))
    assert node.keep("l1", "l2", "s1") == [True] * 3
    await node.until(lambda: node.arrived == {"w/p0": ["l1"], "w": ["s1"]})
    node.direct.released("default", "w", 1, "p0")
    await node.until(lambda: node.arrived["w/p0"] == ["l1", "l2"])


async def test_large_items_go_to_their_worker_too(node: Node) -> None:
    node.join("w")
    await node.said("w")
    node.size = 4 * ITEM_BYTES_MAX
    node.keep("s1", "s2")
    await node.until(lambda: node.arrived.get("w") == ["s1", "s2"])
    assert node.arrays == [1, 1]


async def test_a_shard_that_is_given_up_takes_what_waits_along(node: Node) -> None:
    node.join("w")
    await node.said("w", 1)
    node.keep("first")
    await node.until(lambda: node.arrived)
    node.direct.keep("w", QUEUE, node.actor(shard=1), "s1", 1, 0, 5.0)  # type: ignore[arg-type]
    node.direct.close_shard(1)
    assert node.direct.waiting_in(QUEUE) == 0
    node.direct.close()
    assert node.keep("s2") == [False]


async def test_what_is_kept_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_module, "ORDERED_MAX", 1)
    node.join("w")
    await node.said("w")
    assert node.keep("s1", "s2") == [True, False]
    await node.until(lambda: node.arrived)
    node.direct._sweep(now_s())
    monkeypatch.setattr(direct_module, "LINES_MAX", 1)
    assert node.keep("s3") == [False], "the queue's own line is one already"
