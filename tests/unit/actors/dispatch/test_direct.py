"""Direct work, as a node sees it: who gets what, and what becomes of it when a worker does not take it."""

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from uuid import UUID, uuid4

import msgspec
import pytest

from tasker.bus.bus import Bus, Message
from tasker.bus.memory_bus import MemoryBroker
from tasker.events.messages import NodeTime, SlotsPart, WorkerSlots
from tasker.events.subjects import Subjects
from tasker.service.actors.dispatch import direct as direct_module
from tasker.service.actors.dispatch import unbegun as unbegun_module
from tasker.service.actors.dispatch.direct import DirectWork
from tasker.service.actors.dispatch.lines import ITEM_BYTES_MAX, Offered
from tasker.service.actors.dispatch.waiting_set import Waiting
from tasker.service.actors.task_actor import TaskActor
from tasker.service.runtime.node_clock import NodeClock
from tasker.settings import DirectSettings
from tests.runs import template

QUEUE = ("default", "shop", "orders")
OTHER = ("default", "shop", "mail")


class Node:
    """A node's direct work, with workers as a test plays them and a note of what went elsewhere."""

    def __init__(self, settings: DirectSettings | None = None) -> None:
        broker = MemoryBroker()
        self.subjects = Subjects("t")
        self.bus = broker.connect()
        self.workers: Bus = broker.connect()
        self.settings = settings or DirectSettings(waiting_max=500)
        self.direct = DirectWork(self.bus, self.subjects, "node-a", NodeClock(), self.settings)
        self.direct.attach(self)
        self.bus.subscribe(self.subjects.slots_all, self.direct.on_slots)
        self.streamed: list[str] = []
        self.offered_again: list[str] = []
        self.over: set[str] = set()
        self.anybodys: list[str] = []
        self.closed: set[str] = set()
        self.size = 10
        self.arrived: dict[str, list[str]] = {}
        self.arrays: list[int] = []
        self.times: list[NodeTime] = []
        self.seen = asyncio.Event()
        self.counts: dict[str, tuple[int, int]] = {}
        self.workers.subscribe("times", self._on_time)
        self.actors: dict[UUID, SimpleNamespace] = {}
        self.woken: list[str] = []

    # `Offers`

    def actor_of(self, waiting: Waiting) -> TaskActor | None:
        actor = self.actors.get(waiting.stream_id)
        if actor is None:
            self.woken.append(waiting.step)
        return actor  # type: ignore[return-value]

    def encoded(self, offered: Offered) -> bytes | None:
        if offered.step in self.closed:
            return None
        return msgspec.json.encode([offered.step, "x" * self.size])

    def to_stream(self, offered: Offered) -> None:
        self.streamed.append(offered.step)
        self.seen.set()

    def to_anybody(self, offered: Offered) -> None:
        self.anybodys.append(offered.step)
        self.seen.set()

    def again(self, offered: Offered) -> None:
        self.offered_again.append(offered.step)
        self.seen.set()

    # workers

    def join(self, worker: str) -> None:
        self.workers.subscribe(self.subjects.worker_work("default", worker, "*"), lambda m: self._on_array(worker, m))

    def say(
        self,
        worker: str,
        slots: int = 10,
        *,
        queues: tuple = (QUEUE,),
        elsewhere: int = 0,
        parts: tuple = (),
        backlogged: tuple = (),
    ) -> None:
        said = WorkerSlots(
            worker=worker,
            slots=slots,
            elsewhere=elsewhere,
            queues=[queue[1:] for queue in queues],
            nodes={"node-a": self.counts.get(worker, (0, 0))},
            parts=list(parts),
            backlogged=[queue[1:] for queue in backlogged],
        )
        self.workers.publish(self.subjects.slots("default"), msgspec.json.encode(said), reply="times")

    async def said(self, worker: str, slots: int = 10, **more: object) -> None:
        before = len(self.times)
        self.say(worker, slots, **more)  # type: ignore[arg-type]
        await self.until(lambda: len(self.times) > before)

    def actor(self, priority: int = 0, *, shard: int = 0) -> SimpleNamespace:
        """Return the actor of a task whose steps have handlers called like their first letters."""
        template = SimpleNamespace(
            step=lambda step: SimpleNamespace(handler=step[0], priority=0), is_shared=False, is_ordered=False
        )
        state = SimpleNamespace(priority=priority, steps={})
        actor = SimpleNamespace(
            task_id="T",
            template=template,
            state=state,
            shard=shard,
            stream_id=uuid4(),
            is_offered=lambda step, _attempt: step not in self.over,
        )
        self.actors[actor.stream_id] = actor
        return actor

    def offer(self, *steps: str, queue: tuple[str, str, str] = QUEUE, priority: int = 0) -> list[bool]:
        """Offer steps of one task."""
        actor = self.actor(priority)
        return [self.direct.take(queue, actor, step, 1) for step in steps]  # type: ignore[arg-type]

    def keep(self, *steps: str, worker: str = "w", priority: int = 0, wait_s: float | None = None) -> list[bool]:
        """Offer sticky steps of one task."""
        actor = self.actor(priority)
        return [self.direct.keep(worker, QUEUE, actor, step, 1, 0, wait_s) for step in steps]  # type: ignore[arg-type]

    def part(self, worker: str, slots: int, *, elsewhere: int = 0, handler: str = "l") -> SlotsPart:
        """Return what a worker tells of a limited handler."""
        sums = self.counts.get(f"{worker}/p0", (0, 0))
        handlers = [(*QUEUE[1:], handler)]
        return SlotsPart(name="p0", handlers=handlers, slots=slots, elsewhere=elsewhere, nodes={"node-a": sums})

    async def until(self, condition) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.seen.clear()
                await self.seen.wait()

    def _on_array(self, worker: str, message: Message) -> None:
        array = msgspec.json.decode(message.data)
        steps = [one[0] for one in array["work"]]
        if "part" in array:
            worker = f"{worker}/{array['part']}"
        self.arrays.append(len(steps))
        self.arrived.setdefault(worker, []).extend(steps)
        received, released = self.counts.get(worker, (0, 0))
        self.counts[worker] = (received + len(steps), released)
        self.seen.set()

    def _on_time(self, message: Message) -> None:
        self.times.append(msgspec.json.decode(message.data, type=NodeTime))
        self.seen.set()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    yield node
    await node.bus.close()
    await node.workers.close()


def names(count: int, prefix: str = "s") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


async def test_what_ends_while_it_waits_for_a_worker_waits_no_more(node: Node) -> None:
    """Planted bug: in a queue without workers, what was cancelled counts for ever as waiting (`max_ready`)."""
    actor, other = node.actor(5), node.actor(5)
    for one in (actor, other):
        assert node.direct.take(QUEUE, one, "s", 1)  # type: ignore[arg-type]
    assert (node.direct.waiting, node.direct.waiting_in(QUEUE)) == (2, 2)
    for _ in range(2):
        node.direct.take_back(QUEUE, actor, "s", 1)  # type: ignore[arg-type]
    assert (node.direct.waiting, node.direct.waiting_in(QUEUE)) == (1, 1)
    node.direct.take_back(QUEUE, other, "s", 2)  # type: ignore[arg-type]
    assert node.direct.waiting == 1
    node.join("w")
    await node.said("w")
    await node.until(lambda: node.arrived.get("w") == ["s"])


async def test_without_a_worker_the_stream_has_to(node: Node) -> None:
    assert node.offer("s1") == [False]


async def test_offers_of_one_turn_leave_in_one_array(node: Node) -> None:
    node.join("w")
    await node.said("w")
    assert node.offer("s1", "s2", "s3") == [True] * 3
    await node.until(lambda: node.arrived)
    assert node.arrived == {"w": ["s1", "s2", "s3"]}
    assert node.arrays == [3]
    assert node.times[0].node == "node-a"


async def test_no_more_is_sent_than_there_are_free_slots(node: Node) -> None:
    node.join("w")
    await node.said("w", 10, elsewhere=7)
    node.offer(*names(5))
    await node.until(lambda: node.arrived)
    assert node.arrived["w"] == ["s0", "s1", "s2"]
    node.direct.released("default", "w", 2)
    await node.until(lambda: len(node.arrived["w"]) == 5)
    node.direct.released("default", "w", 1)  # late, and less than is known
    node.offer("s5")
    await node.said("w", 10, elsewhere=7)
    assert len(node.arrived["w"]) == 5


async def test_queues_share_the_slots_in_turn(node: Node) -> None:
    node.join("w")
    await node.said("w", 32, queues=(QUEUE, OTHER))
    node.offer(*names(40))
    node.offer(*names(40, "m"), queue=OTHER)
    await node.until(lambda: node.arrived)
    assert sum(step.startswith("m") for step in node.arrived["w"]) == 16


async def test_workers_take_turns(node: Node) -> None:
    for worker in ("v", "w"):
        node.join(worker)
        await node.said(worker, 100)
    node.offer(*names(64))
    await node.until(lambda: sum(map(len, node.arrived.values())) == 64)
    assert len(node.arrived["v"]) == len(node.arrived["w"]) == 32


async def test_a_queue_that_a_worker_does_not_name_goes_by_the_stream(node: Node) -> None:
    """It has a backlog there, which must not be overtaken."""
    node.join("w")
    await node.said("w")
    await node.said("w", queues=())
    assert node.offer("s1") == [False]


async def test_a_queue_with_labels_is_a_queue_of_its_own(node: Node) -> None:
    gpu, both = ("default", "shop", "orders~gpu=a100"), ("default", "shop", "orders~gpu=a100~zone=eu")
    node.join("w")
    await node.said("w", queues=(gpu,), parts=(SlotsPart(name="p0", handlers=[(*both[1:], "l")], slots=1),))
    assert node.offer("s1") == [False]
    assert node.offer("s2", queue=gpu) == [True]
    assert node.offer("l1", queue=both) == [True]
    await node.until(lambda: node.arrived == {"w": ["s2"], "w/p0": ["l1"]})


async def test_a_worker_that_stops_gets_nothing_more_and_keeps_what_it_has(node: Node) -> None:
    node.join("w")
    await node.said("w")
    node.offer("s1")
    await node.until(lambda: node.arrived)
    await node.said("w", 0)
    assert node.offer("s2") == [False]
    assert node.offered_again == []


async def test_an_attempt_that_is_no_longer_on_offer_is_not_sent(node: Node) -> None:
    node.join("w")
    await node.said("w")
    node.closed.add("s1")
    node.offer("s1", "s2")
    await node.until(lambda: node.arrived)
    assert node.arrived == {"w": ["s2"]}


async def test_a_large_item_goes_by_the_stream(node: Node) -> None:
    node.join("w")
    await node.said("w")
    node.size = ITEM_BYTES_MAX
    node.offer("s1")
    await node.until(lambda: node.streamed)
    assert node.arrived == {}


async def test_arrays_are_bounded_in_bytes(node: Node) -> None:
    node.join("w")
    await node.said("w", 100)
    node.size = 60_000
    node.offer(*names(10))
    await node.until(lambda: sum(node.arrays) == 10)
    assert max(node.arrays) == 4


async def test_what_nobody_hears_is_offered_again_at_once(node: Node) -> None:
    await node.said("w")
    node.offer("s1", "s2")
    await node.until(lambda: len(node.offered_again) == 2)
    assert node.offer("s3") == [False], "the worker is gone"


async def test_what_got_lost_on_its_way_is_offered_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's sum says that an array never arrived; what it began meanwhile is not offered again."""
    monkeypatch.setattr(direct_module, "ARRIVAL_S", 0.0)
    node.join("w")
    await node.said("w")
    node.offer("s1", "s2")
    await node.until(lambda: node.arrived)
    node.direct.begun("T", "s2", 1)
    await node.said("w")
    assert node.offered_again == []
    node.counts["w"] = (1, 0)
    node.say("w")
    await node.until(lambda: node.offered_again)
    assert node.offered_again == ["s1"]


async def test_a_silent_worker_is_missed(node: Node) -> None:
    node.join("w")
    await node.said("w")
    node.offer("s1", "s2")
    await node.until(lambda: node.arrived)
    node.direct.begun("T", "s1", 1)
    node.direct._sweep(asyncio.get_running_loop().time() + node.settings.silent_s + 1)
    assert node.offered_again == ["s2"]
    assert node.offer("s3") == [False]


async def test_what_waits_too_long_goes_by_the_stream_and_so_does_what_follows(node: Node) -> None:
    node.join("w")
    await node.said("w", 1)
    node.offer("s1", "s2", "s3")
    await node.until(lambda: node.arrived)
    now_s = asyncio.get_running_loop().time()
    node.direct._sweep(now_s)
    assert node.streamed == []
    node.direct._sweep(now_s + node.settings.wait_s + 0.1)
    assert node.streamed == ["s2", "s3"]
    assert node.offer("s4") == [False], "it must not overtake what has just gone by the stream"


async def test_what_waits_in_a_queue_that_moves_quickly_stays_until_it_moves_no_more(node: Node) -> None:
    """A burst is through sooner than by the stream; where nothing moves, another worker may be free."""
    node.join("w")
    await node.said("w", 400)
    node.offer(*(f"s{number}" for number in range(500)))
    await node.until(lambda: node.direct.sent >= 400)
    late_s = asyncio.get_running_loop().time() + node.settings.wait_s + 0.1
    node.direct._sweep(late_s)
    assert node.streamed == []
    for number in range(1, 10):
        node.direct._sweep(late_s + number)
    assert node.streamed == [f"s{number}" for number in range(400, 500)]


async def test_what_waits_is_bounded(node: Node) -> None:
    node.join("w")
    await node.said("w", 1, elsewhere=1)
    most = node.settings.waiting_max
    assert node.offer(*(f"s{number}" for number in range(most + 1))) == [True] * most + [False]


async def test_a_node_that_is_told_so_leaves_all_work_to_the_stream() -> None:
    node = Node(DirectSettings(enabled=False))
    node.join("w")
    await node.said("w")
    assert node.offer("s1") == [False]


async def test_a_limited_handler_has_slots_of_its_own_and_keeps_no_other_waiting(node: Node) -> None:
    node.join("w")
    await node.said("w", 3, parts=(node.part("w", 2),))
    assert node.offer("l1", "l2", "l3", "l4", "s1", "s2") == [True] * 6
    await node.until(lambda: len(node.arrived) == 2)
    assert node.arrived == {"w/p0": ["l1", "l2"], "w": ["s1", "s2"]}
    node.direct.released("default", "w", 2)
    node.direct.released("default", "w", 1, "p0")
    await node.until(lambda: len(node.arrived["w/p0"]) == 3)
    assert node.arrived["w/p0"] == ["l1", "l2", "l3"]
    node.direct._sweep(asyncio.get_running_loop().time() + node.settings.wait_s + 0.1)
    assert node.streamed == ["l4"]
    assert node.offer("l5", "s3") == [False, True], "only what waits in vain goes by the stream"


async def test_every_instance_of_a_limited_step_goes_to_its_slots(node: Node) -> None:
    """Visits, items and compensations have names that no step has."""
    node.join("w")
    await node.said("w", 10, parts=(node.part("w", 4),))
    steps = {"s": {"handler": "l", "compensate": "undo"}}
    actor = node.actor()
    actor.template = template({"s": []}, steps=steps)
    for step in ("s", "s#2", "s[0]", "s~undo"):
        assert node.direct.take(QUEUE, actor, step, 1)  # type: ignore[arg-type]
    await node.until(lambda: len(node.arrived) == 2)
    assert node.arrived == {"w/p0": ["s", "s#2", "s[0]"], "w": ["s~undo"]}


async def test_of_a_limit_no_more_is_used_than_the_worker_says_is_free(node: Node) -> None:
    node.join("w")
    await node.said("w", 10, parts=(node.part("w", 4, elsewhere=3),))
    node.offer("l1", "l2")
    await node.until(lambda: node.arrived)
    await node.said("w", 10, parts=(node.part("w", 4, elsewhere=3),))
    assert node.arrived == {"w/p0": ["l1"]}
    await node.said("w", 10, parts=(node.part("w", 4, elsewhere=2),))
    await node.until(lambda: len(node.arrived["w/p0"]) == 2)


async def test_a_limited_handler_whose_part_is_told_no_more_is_left_to_the_stream(node: Node) -> None:
    node.join("w")
    await node.said("w", 10, parts=(node.part("w", 4),))
    await node.said("w", 10, parts=(node.part("w", 4, handler="other"),))
    assert node.offer("l1", "s1") == [False, True]
    await node.said("w", 10)
    node.direct._sweep(asyncio.get_running_loop().time())
    assert node.offer("l1") == [True], "it has no limit any more"


async def test_with_a_worker_its_parts_are_missed(node: Node) -> None:
    node.join("w")
    await node.said("w", 10, parts=(node.part("w", 4),))
    node.offer("l1", "s1")
    await node.until(lambda: len(node.arrived) == 2)
    node.direct._sweep(asyncio.get_running_loop().time() + node.settings.silent_s + 1)
    assert sorted(node.offered_again) == ["l1", "s1"]
    assert node.offer("l2", "s2") == [False, False]


async def test_a_closing_node_hands_out_nothing(node: Node) -> None:
    node.join("w")
    await node.said("w")
    node.direct.close()
    assert node.offer("s1") == [False]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"worker":"a.b","slots":1}',
        b'{"worker":"w","slots":"x"}',
        b"\xff",
        b'{"worker":"x","slots":%b}' % (b"9" * 20),
        b'{"worker":"x","slots":1,"elsewhere":-1}',
        b'{"worker":"x","slots":1,"queues":[["shop","a.b"]]}',
        b'{"worker":"x","slots":1,"queues":[["shop","orders~gpu"]]}',
        b'{"worker":"x","slots":1,"queues":[["shop~a=1","orders"]]}',
        b'{"worker":"x","slots":1,"parts":[{"name":"p\\"0","handlers":[],"slots":1}]}',
        b'{"worker":"x","slots":1,"parts":[{"name":"p0","handlers":[["shop","orders","a.b"]],"slots":1}]}',
        b'{"worker":"x","slots":1,"parts":[{"name":"p0","handlers":[],"slots":1,"elsewhere":-1}]}',
        b'{"worker":"x","slots":1,"queues":[["",""]]}',
        b'{"worker":"x","slots":1,"backlogged":[["shop","a.b"]]}',
        b'{"worker":"x","slots":1,"nodes":{"n":[0,-1]}}',
        b'{"worker":"x","slots":1,"queues":[%b]}' % b",".join([b'["a","b"]'] * 1001),
        b'{"worker":"x","slots":1,"later":%b' % (b"[" * 5000),
    ],
)
async def test_what_is_no_word_of_a_worker_is_ignored(node: Node, body: bytes) -> None:
    node.workers.publish(node.subjects.slots("default"), body, reply="times")
    await node.said("w")
    assert len(node.times) == 1
    assert [worker for _, worker in node.direct._workers] == ["w"]


async def test_workers_known_at_once_are_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_module, "WORKERS_MAX", 2)
    for worker in ("w1", "w2", "w3"):
        await node.said(worker)
    assert [worker for _, worker in node.direct._workers] == ["w1", "w2"]
    await node.said("w1", 0)
    await node.said("w3")
    assert [worker for _, worker in node.direct._workers] == ["w2", "w3"]


async def test_workers_and_queues_of_one_tenant_leave_room_for_those_of_others(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted bug: the first tenant fills the book, and work of the others goes by the stream alone."""
    monkeypatch.setattr(direct_module, "WORKERS_MAX", 10)
    monkeypatch.setattr(direct_module, "LINES_MAX", 10)
    for number in range(12):
        queues = tuple(("default", "shop", f"q{number}{letter}") for letter in "ab")
        await node.said(f"w{number}", queues=queues)
    assert (len(node.direct._workers), len(node.direct._lines)) == (8, 8)
    said = WorkerSlots(worker="theirs", slots=3, queues=[("shop", "orders")])
    before = len(node.times)
    node.workers.publish(node.subjects.slots("acme"), msgspec.json.encode(said), reply="times")
    await node.until(lambda: len(node.times) > before)
    assert node.offer("s1", queue=("acme", "shop", "orders")) == [True]
    for worker in [worker for tenant, worker in node.direct._workers if tenant == "default"]:
        await node.said(worker, 0)
    await node.said("w11")
    assert ("default", "w11") in node.direct._workers


async def test_queues_known_at_once_are_bounded_and_forgotten(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue beyond the bound is served by the stream; one that nobody serves any more is forgotten."""
    monkeypatch.setattr(direct_module, "LINES_MAX", 1)
    node.join("w")
    await node.said("w", queues=(QUEUE,))
    await node.said("v", queues=(OTHER,))
    assert node.offer("s1", queue=OTHER) == [False]
    assert node.offer("s2") == [True]
    await node.said("w", 0)
    node.direct._sweep(asyncio.get_running_loop().time())
    assert node.direct._lines == {}
    await node.said("v", queues=(OTHER,))
    assert node.offer("s3", queue=OTHER) == [True]


async def test_what_a_worker_does_not_begin_is_offered_again_and_no_longer_missed_with_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task may have ended, or moved to another node, without the worker saying a word of it."""
    monkeypatch.setattr(unbegun_module, "BEGIN_S", 0.0)
    node.join("a")
    await node.said("a")
    node.offer("s1", "s2")
    await node.until(lambda: len(node.arrived.get("a", ())) == 2)
    node.over.add("s1")
    node.direct._sweep(asyncio.get_running_loop().time() + 1.0)
    assert node.direct._unbegun == {}
    assert node.offered_again == ["s2"]


async def many_workers(node: Node, count: int, *, items: int) -> None:
    """Let workers of one queue be known that have so many items each."""
    for number in range(count):
        node.direct._note("default", WorkerSlots(worker=f"w{number}", slots=items, queues=[QUEUE[1:]], nodes={}))
    node.direct._waiting_max = count * items
    assert node.offer(*(f"s{number}" for number in range(count * items)))[-1]
    node.direct._flush()
    assert (node.direct.workers, len(node.direct._unbegun)) == (count, count * items)


async def test_thousands_of_workers_that_fall_silent_hold_nobody_up(node: Node) -> None:
    """Each was looked for among all, and so was what it had: half a minute with ten thousand, and leases ended."""
    await many_workers(node, 5_000, items=3)
    begun_s = time.process_time()
    node.direct._sweep(asyncio.get_running_loop().time() + node.settings.silent_s + 1)
    assert time.process_time() - begun_s < 1.0
    assert node.direct.workers == 0
    assert len(node.offered_again) == 15_000


async def test_a_connection_to_thousands_of_workers_drops_at_once(node: Node) -> None:
    """Everything on its way fails, and all workers are forgotten, in one turn of the loop."""
    for number in range(3_000):
        node.workers.subscribe(node.subjects.worker_work("default", f"w{number}", "node-a"), lambda _: None)
    await node.workers.flush()
    await many_workers(node, 3_000, items=3)
    begun_s = time.process_time()
    node.bus._replies.fail_all("the connection dropped")
    node.direct._drop_unreachable()
    node.direct._forget_workers()
    assert time.process_time() - begun_s < 1.0
    assert node.direct.workers == 0
    assert len(node.offered_again) == 9_000


async def test_what_waits_too_long_goes_by_the_stream_though_nats_does_not_tell_what_that_wants(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted bug: the sweep waits for the answer, some seconds for each ordered queue."""

    async def no_answer(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(direct_module, "demand_of", no_answer)
    node.offer("ordered", queue=OTHER, priority=5)
    node.join("w")
    await node.said("w", 1)
    duties = [asyncio.ensure_future(duty) for duty in (node.direct.run(), node.direct.run_feeding())]
    await asyncio.sleep(node.settings.wait_s + 0.2)
    node.offer("s1", "s2")
    await node.until(lambda: node.streamed == ["s2"])
    for duty in duties:
        duty.cancel()
    await asyncio.gather(*duties, return_exceptions=True)
