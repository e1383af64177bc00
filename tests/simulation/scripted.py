"""Workers that follow a script, by the wire protocol alone.

So they can do what a worker may do at any moment, and a well-made one hardly ever does: die with work in hand, ask for
it first, ask and die, give it back, say farewell and die, tell of a backlog or of fewer places than a moment before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tasker.bus.bus import Message
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import ensure_work_consumer
from tasker.errors import TaskerError, Unavailable
from tasker.events.messages import ReportKind, Work, WorkArray
from tasker.settings import StreamSettings

if TYPE_CHECKING:
    from tests.simulation.offers import Stage

TENANT: Final = "default"
QUEUE: Final = "t"
STREAMS: Final = StreamSettings()
PLAIN: Final = ("default", QUEUE)
LIMITED: Final = (*PLAIN, "limited")
"""The handler that may have places of its own."""

PART: Final = "p0"

Key = tuple[str, str, int]


class Item:
    """Work that a worker has in hand.

    Attributes:
        delivery, pull: of the stream, and what took it from there; None: a node sent it.
        node, part: which one, and for whose slots.
    """

    def __init__(
        self,
        work: Work,
        age_us: int,
        *,
        delivery: Delivery | None = None,
        pull: PullLoop | None = None,
        node: str = "",
        part: str = "",
    ) -> None:
        self.work = work
        self.age_us = age_us
        self.delivery = delivery
        self.pull = pull
        self.node = node
        self.part = part
        self.key: Key = (work.task_id, work.step, work.attempt)

    @property
    def may_run(self) -> bool:
        """Whether it runs without a question."""
        is_first = self.work.offer == 0 and (self.delivery is None or self.delivery.num_delivered == 1)
        return is_first and self.age_us <= 2_000_000

    @property
    def is_limited(self) -> bool:
        """Whether its handler may have places of its own."""
        return (self.work.namespace, self.work.queue, self.work.handler) == LIMITED


class ScriptedWorker:
    """A worker, that does by itself what `on_item` does with what it gets.

    Args:
        slots: what nodes may send it. places: how many of them are for the limited handler alone; None: no such part.
        queues: namespace and name of those that it serves.

    Attributes:
        hands: what it holds: from the stream, or from a node.
        ran: what it began.
        is_backlogged: it says that its queues have a backlog in the stream.
    """

    def __init__(
        self,
        stage: Stage,
        name: str,
        *,
        slots: int = 100,
        places: int | None = None,
        hears_nodes: bool = True,
        queues: Sequence[tuple[str, str]] = (PLAIN,),
    ) -> None:
        self.stage = stage
        self.name = name
        self.slots = slots
        self.places = places
        self.bus = stage.broker.connect()
        self.hands: dict[Key, Item] = {}
        self.ran: list[Key] = []
        self.on_item: Callable[[Item], Awaitable[None]] = _hold
        self.is_dead = False
        self.is_backlogged = False
        self._hears_nodes = hears_nodes
        self._queues = queues
        self._takes = True
        self._sums: dict[tuple[str, str], list[int]] = {}
        """Part and node -> how many items came, and how many were released."""

        self._running: set[asyncio.Task[Any]] = set()
        self._pulls: list[PullLoop] = []

    async def start(self, *, takes_stream: bool = True) -> None:
        """Take work from now on."""
        stage, subjects = self.stage, self.stage.subjects
        for queue in self._queues:
            await self._make_consumer(queue)
        if self._hears_nodes:
            self.bus.subscribe(f"{subjects.worker_work(TENANT, self.name, '*')}", self._on_array)
            self.do(self._tell_always())
        for queue in self._queues if takes_stream else ():
            pulls: list[PullLoop] = []
            pull = PullLoop(
                self.bus,
                subjects.work_stream,
                subjects.work_consumer(TENANT, *queue),
                partial(self._on_delivery, pulls),
                self._credit,
                on_missing=partial(self._miss_consumer, queue),
                draw=stage.draw.random,
            )
            pulls.append(pull)
            self._pulls.append(pull)

    def _miss_consumer(self, queue: tuple[str, str]) -> None:
        self.do(self._make_consumer(queue))

    async def _make_consumer(self, queue: tuple[str, str]) -> None:
        place = {"tenant": TENANT, "namespace": queue[0], "queue": queue[1]}
        while True:
            try:
                await ensure_work_consumer(self.bus, self.stage.subjects, STREAMS, **place)
            except TaskerError:
                await asyncio.sleep(0.2)
            else:
                return

    async def die(self) -> None:
        """End as by SIGKILL."""
        self.is_dead = True
        if self.bus.connected:
            self.bus.cut()
            self.stage.broker.forget(self.bus)
        for one in self._running:
            one.cancel()
        if self.stage.in_hands:
            self.stage.died_s = self.stage.loop.time()
        for pull in self._pulls:
            with contextlib.suppress(TaskerError):
                await pull.stop()

    def farewell(self) -> None:
        """Say that it takes nothing more."""
        self._takes = False
        self._tell()

    def change(self, *, places: int | None, is_backlogged: bool) -> None:
        """Say at once what it takes from now on."""
        self.places = places
        self.is_backlogged = is_backlogged
        self._tell()

    # ---------------------------------------------------------------- what it does with what it has

    async def ask(self, item: Item, kind: ReportKind, *, retryable: bool = True) -> Any:
        """Return the owner's answer to a report, however long that takes."""
        report: dict[str, Any] = {"kind": kind, "task_id": item.key[0], "step": item.key[1], "attempt": item.key[2]}
        if kind == "failed":
            report["error"] = {"type": "Broken", "message": "the other side is down", "retryable": retryable}
        body = json.dumps(report | {"worker": self.name}).encode()
        while True:
            try:
                reply = await self.bus.request(item.work.report_to, body, timeout_s=2.0)
                told = json.loads(reply.data)
            except Unavailable:
                told = {}
            if told.get("ok") or told.get("error", {}).get("status", 503) != 503:
                if told.get("run") and kind == "claim":
                    self.stage.told.setdefault(item.key, set()).add(self.name)
                return told
            await asyncio.sleep(0.2)

    def ack(self, item: Item) -> None:
        """Be done with it."""
        self.hands.pop(item.key, None)
        if item.delivery is not None and item.pull is not None:
            item.pull.ack(item.delivery)
        else:
            self._released(item)

    async def give_back(self, item: Item) -> None:
        """Let others have it."""
        self.hands.pop(item.key, None)
        if item.delivery is not None and item.pull is not None:
            item.pull.nak(item.delivery)
        else:
            self._released(item)
            await self.ask(item, "returned")

    async def run(self, item: Item, takes_s: float = 0.5) -> None:
        """Run it as a worker does: at once, or after a question; then report how it ended."""
        if item.may_run:
            self.ran.append(item.key)
            await self.ask(item, "started")
        else:
            told = await self.ask(item, "claim")
            if not told.get("run"):
                self.ack(item)
                return
            self.ran.append(item.key)
        if item.delivery is not None and item.pull is not None:
            item.pull.ack(item.delivery)
        await asyncio.sleep(takes_s)
        await self.ask(item, "completed")
        self.hands.pop(item.key, None)
        if item.delivery is None:
            self._released(item)
        for pull in self._pulls:
            pull.wake()

    async def begin_all(self) -> None:
        """Begin what it has in hand, as far as it may, and never end that; run what comes from now on."""
        self.on_item = self.run
        for item in list(self.hands.values()):
            told = await self.ask(item, "claim")
            if not told.get("run"):
                self.ack(item)
            elif item.delivery is not None and item.pull is not None:
                item.pull.ack(item.delivery)

    # ---------------------------------------------------------------- what comes

    def _credit(self) -> int:
        return max(0, self.slots - len(self.hands)) if self._takes else 0

    def _on_delivery(self, pulls: list[PullLoop], delivery: Delivery) -> None:
        work = msgspec.json.decode(delivery.data, type=Work)
        self._take(Item(work, self.stage.clock.now_us() - delivery.at_us, delivery=delivery, pull=pulls[0]))

    def _on_array(self, message: Message) -> None:
        node = message.subject.rpartition(".")[2]
        array = msgspec.json.decode(message.data, type=WorkArray)
        self._sums.setdefault((array.part, node), [0, 0])[0] += len(array.work)
        for work in array.work:
            self._take(Item(work, self.stage.clock.now_us() - array.sent_at_us, node=node, part=array.part))

    def _take(self, item: Item) -> None:
        known = self.hands.get(item.key)
        if known is not None:
            if item.delivery is None:
                self._released(item)
            elif item.pull is not None:
                item.pull.nak(item.delivery, delay_s=1.0)
            return
        self.hands[item.key] = item
        self.do(self.on_item(item))

    def do(self, what: Awaitable[None]) -> None:
        """Do something beside the rest."""
        task = asyncio.ensure_future(what)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # ---------------------------------------------------------------- what it says

    def _released(self, item: Item) -> None:
        self._sums[item.part, item.node][1] += 1
        self._tell()

    async def _tell_always(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(1.0)

    def _sums_of(self, part: str) -> dict[str, list[int]]:
        return {node: sums for (name, node), sums in self._sums.items() if name == part}

    def _tell(self) -> None:
        if self.is_dead or not self._hears_nodes:
            return
        of_stream = Counter(item.is_limited for item in self.hands.values() if item.delivery is not None)
        said: dict[str, Any] = {"worker": self.name, "slots": self.slots if self._takes else 0}
        said |= {"nodes": self._sums_of(""), "elsewhere": of_stream[False] + of_stream[True] * (self.places is None)}
        said |= {"backlogged" if self.is_backlogged else "queues": self._queues}
        if self.places is not None and self._takes:
            handlers = [] if self.is_backlogged else [LIMITED]
            part = {"name": PART, "handlers": handlers, "slots": self.places, "nodes": self._sums_of(PART)}
            said["parts"] = [part | {"elsewhere": min(self.places, of_stream[True])}]
        with contextlib.suppress(Unavailable):
            self.bus.publish(self.stage.subjects.slots(TENANT), json.dumps(said).encode())


async def _hold(_item: Item) -> None:
    """Keep it in hand."""
