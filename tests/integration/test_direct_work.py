"""Work that a node sends straight to the worker, on a real nats-server: the node is played by the test."""

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from tasker.bus.bus import Message
from tasker.bus.nats_bus import NatsBus
from tasker.events.messages import HEADER_RELEASED, HEADER_RELEASED_PARTS, NodeTime, Report, Work, WorkerSlots
from tasker.handlers import handler
from tasker.handlers.equipment import Equipment
from tasker.handlers.handler import plain_handlers_of
from tasker.handlers.registry import Registry
from tasker.handlers.worker import Worker
from tasker.settings import DirectSettings, StreamSettings
from tests.integration.scripted_owner import RECORDED, RUN, ScriptedOwner, owning
from tests.integration.serving import as_handler

NODE = "node-test"
NOW_US = 1_700_000_000_000_000
STREAMS = StreamSettings(ack_wait_s=2.0)


class Node(ScriptedOwner):
    """An owner that also is a node: it hears slots, sends arrays, and takes reports itself."""

    def __init__(self, bus: NatsBus, prefix: str) -> None:
        super().__init__(bus, prefix)
        self.said: list[WorkerSlots] = []
        self.direct: list[Report] = []
        self.released: list[int] = []
        self.released_parts: list[str] = []

    async def start(self) -> None:
        await super().start()
        self.bus.subscribe(self.subjects.slots_all, self._on_slots)
        self.bus.subscribe(self.subjects.reports_of_node(NODE), self._on_direct)
        await self.bus.flush()

    def give(
        self,
        worker: str,
        *steps: str,
        age_s: float = 0.0,
        queue: str = "flow",
        name: str = NODE,
        part: str = "",
        task_id: str | None = None,
        **fields: Any,
    ) -> list[Work]:
        """Send work as the node `name` would."""
        works = [
            Work(
                task_id=task_id or str(uuid.uuid4()),
                step=step,
                attempt=1,
                handler=step,
                namespace="default",
                queue=queue,
                template="flow",
                input=msgspec.Raw(b"1"),
                idempotency_key=f"key:{step}",
                report_to=self.subjects.report("default", 0),
                start_to_close_s=30.0,
                heartbeat_s=10.0,
                **fields,
            )
            for step in steps
        ]
        body = msgspec.json.encode({"sent_at_us": NOW_US - round(age_s * 1e6), "part": part, "work": works})
        self.bus.publish(self.subjects.worker_work("default", worker, name), body)
        return works

    def _on_slots(self, message: Message) -> None:
        self.said.append(msgspec.json.decode(message.data, type=WorkerSlots))
        self.bus.publish(message.reply, msgspec.json.encode(NodeTime(node=NODE, now_us=NOW_US)))
        self.changed()

    def _on_direct(self, message: Message) -> None:
        reports = msgspec.json.decode(message.data, type=list[Report])
        self.direct += reports
        headers = message.headers or {}  # without: of a worker that got nothing from us straight
        if HEADER_RELEASED in headers:
            self.released.append(int(headers[HEADER_RELEASED]))
        self.released_parts.append(headers.get(HEADER_RELEASED_PARTS, ""))
        self.bus.publish(message.reply, msgspec.json.encode([self.answer(report) for report in reports]))
        self.changed()


@pytest.fixture
async def node(nats_url: str, nats_prefix: str) -> AsyncIterator[Node]:
    async with owning(Node, nats_url, nats_prefix) as node:
        yield node


Serve = Callable[..., Any]


@pytest.fixture
async def serve(nats_url: str, node: Node) -> AsyncIterator[Serve]:
    workers: list[Worker] = []
    buses: list[NatsBus] = []

    async def start(*functions: Callable, limits: dict[Callable, int] | None = None, **options: Any) -> Worker:
        bus = await NatsBus.connect(nats_url, name="worker")
        buses.append(bus)
        specs = [spec for function in functions for spec in plain_handlers_of(as_handler(function, "flow"))]
        for function, places in (limits or {}).items():
            specs += plain_handlers_of(handler(function.__name__, queue="flow", concurrency=places)(function))
        equipment = Equipment(Registry(handlers=specs))
        worker = Worker(
            bus, equipment, subjects=node.subjects, streams=STREAMS, limits=equipment.limits, life=equipment, **options
        )
        workers.append(worker)
        await worker.start()
        await worker.ready()
        # It says its slots again with the sum of what it received once it has heard our time.
        await node.until(lambda: node.said)
        await bus.flush()
        await node.bus.flush()
        return worker

    yield start
    for worker in workers:
        await worker.stop(settle_s=0.2)
    for bus in buses:
        await bus.close()


def one() -> int:
    return 1


def kinds(reports: list[Report]) -> list[str]:
    return [report.kind for report in reports]


async def test_a_worker_says_its_slots_and_runs_what_it_is_given(node: Node, serve: Serve) -> None:
    worker = await serve(one, slots=7)
    assert (node.said[0].worker, node.said[0].slots, node.said[0].queues) == (worker.id, 7, [("default", "flow")])
    node.give(worker.id, "one", "one", "one")
    await node.until(lambda: kinds(node.direct).count("completed") == 3)
    assert "claim" not in kinds(node.direct)
    assert node.reports == [], "the node itself is told, not the shard"
    assert node.acks == [], "there is no message to acknowledge"
    assert node.released[-1] == 3
    await node.until(lambda: node.said[-1].nodes.get(NODE) == (3, 3))


async def test_a_worker_that_is_told_so_takes_work_from_the_stream_alone(node: Node, nats_url: str) -> None:
    bus = await NatsBus.connect(nats_url, name="worker")
    registry = Registry(handlers=plain_handlers_of(as_handler(one, "flow")))
    off = DirectSettings(enabled=False)
    worker = Worker(bus, registry, subjects=node.subjects, streams=STREAMS, direct=off)
    await worker.start()
    await worker.ready()
    await node.until_ended(await node.offer("one"))
    await worker.drain()
    assert node.said == []
    await bus.close()


async def test_quick_handlers_are_sent_ahead(node: Node, serve: Serve) -> None:
    worker = await serve(one, slots=2, direct=DirectSettings(quick_s=20.0))
    node.give(worker.id, "one")
    await node.until(lambda: node.said[-1].slots == 2 * (1 + DirectSettings().ahead_per_slot))
    node.give(worker.id, *["one"] * 10)
    await node.until(lambda: kinds(node.direct).count("completed") == 11)


@pytest.mark.parametrize(("age_s", "offer"), [(3.0, 0), (0.0, 1)])
async def test_what_is_old_or_offered_again_is_claimed_first(
    node: Node, serve: Serve, age_s: float, offer: int
) -> None:
    worker = await serve(one)
    node.give(worker.id, "one", age_s=age_s, offer=offer)
    await node.until(lambda: "completed" in kinds(node.direct))
    assert kinds(node.direct)[0] == "claim"


async def test_what_finds_no_slot_is_given_back(node: Node, serve: Serve) -> None:
    go_on = threading.Event()

    def slow() -> None:
        go_on.wait(20)

    worker = await serve(slow, slots=1, direct=DirectSettings(hold_s=0.05))
    first, second = node.give(worker.id, "slow", "slow")
    await node.until(lambda: "returned" in kinds(node.reports))
    assert node.reports[0].task_id == second.task_id
    go_on.set()
    await node.until(lambda: "completed" in kinds(node.direct))
    assert {report.task_id for report in node.direct} == {first.task_id}
    await node.until(lambda: node.said[-1].nodes.get(NODE) == (2, 2))


async def test_what_waits_for_a_slot_runs_when_one_is_free(node: Node, serve: Serve) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(20)

    worker = await serve(slow, one, slots=1, direct=DirectSettings(hold_s=20.0))
    node.give(worker.id, "slow", "one")
    await asyncio.to_thread(begun.wait, 20)
    assert "completed" not in kinds(node.direct)
    go_on.set()
    await node.until(lambda: kinds(node.direct).count("completed") == 2)


async def test_of_two_copies_that_wait_for_a_slot_one_runs(node: Node, serve: Serve) -> None:
    """The owner lets the same worker begin an attempt that it has begun: a claim may be repeated."""
    begun, go_on = threading.Event(), threading.Event()
    runs: list[int] = []

    def slow() -> None:
        begun.set()
        go_on.wait(20)

    async def counted() -> None:
        runs.append(1)
        await asyncio.sleep(0.05)

    worker = await serve(slow, counted, slots=1, direct=DirectSettings(hold_s=20.0))
    node.answer = lambda report: RUN if report.kind == "claim" else RECORDED
    node.give(worker.id, "slow")
    await asyncio.to_thread(begun.wait, 20)
    (first,) = node.give(worker.id, "counted")
    node.give(worker.id, "counted", task_id=first.task_id, offer=1)
    await node.until(lambda: node.said[-1].nodes.get(NODE) == (3, 0))
    worker._slots.total = 2  # a slot for either
    go_on.set()
    await node.until(lambda: node.said[-1].nodes.get(NODE) == (3, 3))
    assert runs == [1]


@pytest.mark.parametrize("offer", [0, 1])
async def test_a_copy_of_the_stream_waits_for_the_answer_on_what_a_node_sent(
    node: Node, serve: Serve, offer: int
) -> None:
    """A worker that dies before the owner has heard of it takes what the node sent with it, but not the message."""
    go_on = threading.Event()

    def slow() -> None:
        go_on.wait(20)

    worker = await serve(slow)
    node.answer = lambda _: None
    (work,) = node.give(worker.id, "slow", offer=offer)
    await node.until(lambda: {"started", "claim"} & set(kinds(node.direct)))
    await node.offer("slow", task_id=work.task_id, offer=1)
    await node.until(lambda: worker.counts.delivered == 2)
    # It is delivered again while it waits, and kept.
    await node.until(lambda: worker.counts.delivered == 3)
    assert not node.acks
    node.answer = lambda report: RUN if report.kind == "claim" else RECORDED
    await node.until(lambda: node.acks == ["+ACK"])
    go_on.set()
    await node.until(lambda: "completed" in kinds([*node.reports, *node.direct]))
    assert node.acks == ["+ACK"]


async def test_a_limited_handler_has_slots_of_its_own_and_its_limit_is_held(node: Node, serve: Serve) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()
    running, most = 0, 0
    counting = threading.Lock()

    def limited() -> None:
        nonlocal running, most
        with counting:
            running += 1
            most = max(most, running)
        begun.release()
        go_on.wait(20)
        with counting:
            running -= 1

    worker = await serve(one, limits={limited: 2}, slots=10)
    (part,) = node.said[0].parts
    assert (node.said[0].slots, node.said[0].queues) == (8, [("default", "flow")])
    assert (part.handlers, part.slots, part.elsewhere) == ([("default", "flow", "limited")], 2, 0)
    node.give(worker.id, "limited", part=part.name)
    await node.offer("limited")
    for _ in range(2):
        await asyncio.to_thread(begun.acquire, timeout=20)
    await node.until(lambda: node.said[-1].parts[0].elsewhere == 1)
    assert node.said[-1].parts[0].nodes == {NODE: (1, 0)}

    # One more than was told, as when the stream takes a place at the same moment; and one of another handler.
    (beyond,) = node.give(worker.id, "limited", part=part.name)
    (other,) = node.give(worker.id, "one")
    await node.until(lambda: "returned" in kinds(node.reports) and "completed" in kinds(node.direct))
    assert [report.task_id for report in node.reports if report.kind == "returned"] == [beyond.task_id]
    assert [report.task_id for report in node.direct if report.kind == "completed"] == [other.task_id]
    go_on.set()
    await node.until(lambda: kinds(node.direct).count("completed") == 2)
    assert (node.released[-1], node.released_parts[-1], most) == (1, f"{part.name}=2", 2)


@pytest.mark.parametrize("fields", [{"queue": "elsewhere"}, {"steps": "unknown"}])
async def test_what_is_not_for_this_worker_is_given_back(node: Node, serve: Serve, fields: dict[str, str]) -> None:
    worker = await serve(one)
    node.give(worker.id, fields.get("steps", "one"), queue=fields.get("queue", "flow"))
    await node.until(lambda: "returned" in kinds(node.reports))
    assert node.direct == []


async def test_a_draining_worker_says_so_and_gives_back_what_still_comes(node: Node, serve: Serve) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(20)

    worker = await serve(slow, slots=5)
    node.give(worker.id, "slow")
    await asyncio.to_thread(begun.wait, 20)
    draining = asyncio.create_task(worker.drain())
    await node.until(lambda: node.said[-1].slots == 0)
    node.give(worker.id, "slow")
    await node.until(lambda: "returned" in kinds(node.reports))
    go_on.set()
    await draining
    assert kinds(node.direct).count("completed") == 1


async def test_a_queue_with_a_backlog_in_the_stream_is_not_named(node: Node, serve: Serve) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(20)

    for _ in range(3):
        await node.offer("slow")
    await serve(slow, slots=1)
    await node.until(lambda: node.said[-1].queues == [])
    await node.until(lambda: node.said[-1].elsewhere == 1)
    go_on.set()
    await node.until(lambda: kinds(node.reports).count("completed") == 3)
    await node.until(lambda: node.said[-1].queues == [("default", "flow")])


async def test_urgent_work_gets_the_next_free_slot_before_a_backlog(node: Node, serve: Serve) -> None:
    """It is held for longer than what finds no slot otherwise; nothing else of such a queue is sent straight."""
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)
    order: list[Any] = []

    def slow(input: Any) -> None:
        order.append(input)
        begun.release()
        go_on.acquire(timeout=20)

    for _ in range(3):
        await node.offer("slow", input="backlog")
    worker = await serve(slow, slots=1, direct=DirectSettings(hold_s=0.01))
    await asyncio.to_thread(begun.acquire, timeout=20)
    await node.until(lambda: node.said[-1].backlogged == [("default", "flow")])
    (urgent,) = node.give(worker.id, "slow")
    await node.until(lambda: node.said[-1].nodes.get(NODE) == (1, 0))
    go_on.release()
    await node.until(lambda: urgent.task_id in {report.task_id for report in node.direct})
    go_on.release(3)
    await node.until(lambda: kinds(node.reports).count("completed") == 3 and "completed" in kinds(node.direct))
    assert order == ["backlog", 1, "backlog", "backlog"]
    await node.until(lambda: node.said[-1].backlogged == [])


async def test_when_the_node_is_gone_the_owner_is_told(node: Node, serve: Serve) -> None:
    worker = await serve(one)
    node.answer = lambda report: RUN if report.kind == "claim" else RECORDED
    node.give(worker.id, "one", name="node-gone")
    await node.until(lambda: "completed" in kinds(node.reports))
    assert kinds(node.reports)[0] == "claim", "without its time nothing of it counts as young"


async def test_work_of_the_stream_is_reported_to_the_node_that_published_it_and_acked_by_its_answer(
    node, serve
) -> None:
    async def step() -> int:
        return 1

    worker = await serve(step, direct=DirectSettings(ahead_per_slot=0))
    first, second = await node.offer("step", node=NODE), await node.offer("step", node=NODE, offer=1)
    await node.until(lambda: node.acks.count("+ACK") == 2)
    await node.until(
        lambda: {one.task_id for one in node.direct if one.kind == "completed"} == {first.task_id, second.task_id}
    )
    assert node.reports == []
    assert [one.kind for one in node.direct if one.task_id == second.task_id] == ["claim", "completed"]
    assert worker.counts.completed == 2
    assert set(node.released) <= {0}


@pytest.mark.parametrize("name", ["node-gone", "no.token", ""])
async def test_work_of_the_stream_whose_node_is_gone_is_reported_home(node, serve, name: str) -> None:
    async def step() -> int:
        return 1

    await serve(step)
    work = await node.offer("step", node=name)
    await node.until_ended(work)
    await node.until(lambda: "+ACK" in node.acks)
    assert node.direct == []
