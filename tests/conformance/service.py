"""The service as a worker sees it: work, answers and cancels, as a check tells it."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from tasker.bus.bus import Message
from tasker.bus.nats_bus import NatsBus
from tasker.errors import Unavailable
from tasker.events.codec import BATCH_ITEMS_MAX
from tasker.events.messages import HEADER_RELEASED, Report, ReportReply, Work, WorkerSlots
from tasker.settings import StreamSettings
from tests.integration.scripted_owner import ScriptedOwner, friendly

ACK_WAIT_S = 10.0
FLOW = ("default", "flow")
NODE, NODE_GONE = "node-conformance", "node-gone"
"""A node that is there, and one that nobody hears or answers for."""

ASKS = {"claim", "reserve"}
"""Reports that ask whether an attempt may run."""

GONE = ReportReply(ok=True, recorded=False, reason="gone")
BUSY = ReportReply(ok=False, recorded=False, error=Unavailable("not now", retry_after_s=0.05).problem())

Answer = Callable[[Report], ReportReply | None]


class ConformanceService(ScriptedOwner):
    """Takes reports one by one or as arrays, and answers as each task's check wants.

    Attributes:
        faults: what was against the rules in messages of the worker, whoever's check they came in.
        messages: how many work messages were sent; after a failed check: how many of them can be counted on.
        raw: each report as it came, by task.
        early: work that lay there before the worker came.
        said, said_s: what the worker told of its slots, and when; empty when it takes work from the stream alone.
        given: how many items went straight to the worker, by node. released: what it said with reports to the node.
    """

    def __init__(self, bus: NatsBus, prefix: str) -> None:
        super().__init__(bus, prefix, StreamSettings(ack_wait_s=ACK_WAIT_S))
        self.faults: list[str] = []
        self.messages = 0
        self.raw: dict[str, list[dict[str, Any]]] = {}
        self.early: dict[str, Work] = {}
        self.said: list[WorkerSlots] = []
        self.said_s: list[float] = []
        self.given: Counter[str] = Counter()
        self.released: list[int] = []
        self._to_node: set[str] = set()
        self._answers: dict[str, Answer] = {}

    async def start(self) -> None:
        """Be an owner, and a node."""
        self.bus.subscribe(self.subjects.slots_all, self._on_slots)
        self.bus.subscribe(self.subjects.reports_of_node(NODE), self._on_node_reports)
        await super().start()

    def answer_with(self, work: Work, answer: Answer) -> None:
        """Answer reports on `work` so; None: the answer is lost."""
        self._answers[work.task_id] = answer

    def prepare(self, handler: str, *, input: Any = None, **fields: Any) -> Work:
        """Return work that is not offered yet."""
        task_id, step = str(uuid.uuid4()), fields.pop("step", handler)
        return Work(
            task_id=task_id,
            step=step,
            attempt=fields.pop("attempt", 1),
            handler=handler,
            namespace="default",
            template="flow",
            input=msgspec.Raw(msgspec.json.encode(input)),
            idempotency_key=f"{task_id}:{step}",
            report_to=self.subjects.report("default", 0),
            start_to_close_s=fields.pop("start_to_close_s", 60.0),
            heartbeat_s=fields.pop("heartbeat_s", 30.0),
            **fields,
        )

    def give(self, *works: Work, age_s: float = 0.0, queue: str = "flow", node: str = NODE) -> None:
        """Send work straight to the worker, as `node` would; with members that a worker does not know."""
        items = [json.loads(msgspec.json.encode(work)) | {"queue": queue, "priority": 1} for work in works]
        array = {"sent_at_us": _now_us() - round(age_s * 1e6), "work": items, "why": "because"}
        self.given[node] += len(works)
        self.bus.publish(self.subjects.worker_work("default", self.said[-1].worker, node), json.dumps(array).encode())

    def sums(self) -> tuple[int, int]:
        """Return how many items of the node the worker said last that it received, and released."""
        return self.said[-1].nodes.get(NODE, (0, 0))

    def came_to_node(self, work: Work) -> bool:
        """Return whether a report on `work` came to the node itself."""
        return work.task_id in self._to_node

    def seen(self, work: Work) -> list[str]:
        """Return the kinds of reports on `work`, without heartbeats and requests of results."""
        return [kind for kind in self.kinds(work) if kind not in ("heartbeat", "result")]

    async def until_kind(self, work: Work, *kinds: str, count: int = 1) -> None:
        """Return when `count` reports of one of `kinds` on `work` came."""
        await self.until(lambda: sum(kind in kinds for kind in self.kinds(work)) >= count)

    async def until_acked(self, count: int) -> None:
        """Return when the worker has acked `count` messages in all."""
        await self.until(lambda: self.acked >= count)

    async def send(self, data: bytes, *, queue: str = "flow") -> None:
        """Publish a work message, and count it."""
        await super().send(data, queue=queue)
        self.messages += 1

    async def settled(self) -> int:
        """Return how many messages are acked, when that is all of them."""
        await self.until(lambda: self.acked >= self.messages)
        return self.acked

    @property
    def acked(self) -> int:
        """How many messages the worker has acked."""
        return self.acks.count("+ACK") + self.acks.count("")  # an empty answer is an ack as well

    def _on_slots(self, message: Message) -> None:
        try:
            self.said.append(msgspec.json.decode(message.data, type=WorkerSlots))
        except msgspec.ValidationError as error:
            self.faults.append(f"not what tells slots: {error}: {message.data[:300]!r}")
            return
        self.said_s.append(time.monotonic())
        told = {"node": NODE, "now_us": _now_us(), "hint": "a member that a worker does not know"}
        self.bus.publish(message.reply, json.dumps(told).encode())
        self.changed()

    def _on_node_reports(self, message: Message) -> None:
        count = (message.headers or {}).get(HEADER_RELEASED, "")
        if not count.isdecimal():
            self.faults.append(f"a report to a node with {HEADER_RELEASED}: {count!r}")
            return
        self.released.append(int(count))
        body = json.loads(message.data)
        self._to_node.update(item["task_id"] for item in (body if isinstance(body, list) else [body]))
        self._on_reports(message)

    def _on_reports(self, message: Message) -> None:
        body = json.loads(message.data)
        many = body if isinstance(body, list) else [body]
        if len(many) > BATCH_ITEMS_MAX:
            self.faults.append(f"an array of {len(many)} reports")
        verdicts = []
        for item in many:
            try:
                report = msgspec.json.decode(json.dumps(item), type=Report)
            except msgspec.ValidationError as error:
                self.faults.append(f"not a report: {error}: {str(item)[:300]}")
                return
            self.raw.setdefault(report.task_id, []).append(item)
            self.reports.append(report)
            self.log.append(report.kind)
            verdicts.append(self._answers.get(report.task_id, friendly)(report))
        answers = [
            dict(_known(verdict), hint="a member that a worker does not know") for verdict in verdicts if verdict
        ]
        if len(answers) == len(many):
            self.bus.publish(message.reply, json.dumps(answers if isinstance(body, list) else answers[0]).encode())
        self.changed()


def _now_us() -> int:
    return time.monotonic_ns() // 1000


def _known(verdict: ReportReply) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(msgspec.json.encode(verdict))
    return known
