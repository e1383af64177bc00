"""An owner that answers reports as a test tells it, beside the acks that the worker sends to JetStream."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from tasker.bus.bus import Message
from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import delete_stream, ensure_streams, ensure_work_consumer
from tasker.events.messages import Accepted, CancelAttempt, Report, ReportReply, Work
from tasker.events.subjects import Subjects
from tasker.settings import StreamSettings

_Owner = TypeVar("_Owner", bound="ScriptedOwner")

RECORDED = ReportReply(ok=True, recorded=True)
RUN = ReportReply(ok=True, recorded=True, run=True)
UNTIL_S = 20.0
Answer = Callable[[Report], ReportReply | None]


def friendly(report: Report) -> ReportReply:
    """Record everything."""
    return RUN if report.kind in ("claim", "reserve") else RECORDED


class ScriptedOwner:
    """Offers work and answers reports.

    Attributes:
        answer: the verdict on a report; None loses the answer to its whole request.
        reports: as they came, repetitions included. acks: what the worker told JetStream, in order.
        log: reports ("completed"), answers ("answered") and acks ("+ACK") in their order.
        registered: templates as they came, answered by `on_register`.
    """

    def __init__(self, bus: NatsBus, prefix: str, settings: StreamSettings | None = None) -> None:
        self.bus = bus
        self.subjects = Subjects(prefix)
        self.answer: Answer = friendly
        self.on_register: Callable[[dict[str, Any]], Any] = lambda _: Accepted(ok=True, template={"name": "t"})
        self.reports: list[Report] = []
        self.acks: list[str] = []
        self.log: list[str] = []
        self.registered: list[dict[str, Any]] = []
        self._settings = settings or StreamSettings(ack_wait_s=2.0)
        self._changed = asyncio.Event()

    async def start(self) -> None:
        await ensure_streams(self.bus, self.subjects, self._settings)
        self.bus.subscribe(self.subjects.report("default", 0), self._on_reports)
        self.bus.subscribe(self.subjects.command("default", "template", "register"), self._on_register)
        self.bus.subscribe(f"$JS.ACK.{self.subjects.work_stream}.>", self._on_ack)
        await ensure_work_consumer(
            self.bus, self.subjects, self._settings, tenant="default", namespace="default", queue="flow"
        )
        await self.bus.flush()

    async def offer(self, step: str, *, queue: str = "flow", input: Any = None, **fields: Any) -> Work:
        """Publish work as the service would; return when the stream has it."""
        work = Work(
            task_id=fields.pop("task_id", str(uuid.uuid4())),
            step=step,
            attempt=fields.pop("attempt", 1),
            handler=fields.pop("handler", step),
            namespace="default",
            template="flow",
            input=msgspec.Raw(msgspec.json.encode(input)),
            idempotency_key=f"key:{step}",
            report_to=self.subjects.report("default", 0),
            start_to_close_s=fields.pop("start_to_close_s", 30.0),
            heartbeat_s=fields.pop("heartbeat_s", 10.0),
            **fields,
        )
        await self.send(msgspec.json.encode(work), queue=queue)
        return work

    async def send(self, data: bytes, *, queue: str = "flow") -> None:
        await self.bus.request(self.subjects.work("default", "default", queue), data, timeout_s=5)

    def cancel(self, worker: str, work: Work, *, grace_s: float = 5.0) -> None:
        message = CancelAttempt(task_id=work.task_id, step=work.step, attempt=work.attempt, grace_s=grace_s)
        self.bus.publish(self.subjects.worker_cancel("default", worker), msgspec.json.encode(message))

    def kinds(self, work: Work | None = None) -> list[str]:
        return [one.kind for one in self.reports if work is None or one.task_id == work.task_id]

    def outcome(self, work: Work) -> Report:
        return next(one for one in self.reports if one.task_id == work.task_id and one.kind in ("completed", "failed"))

    async def until(self, condition: Callable[[], object], *, timeout_s: float = UNTIL_S) -> None:
        """Return when `condition` holds; it is looked at after each report, ack and call of `changed`."""
        ends_s = time.monotonic() + timeout_s
        while not condition():
            left_s = ends_s - time.monotonic()
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left_s)
            except TimeoutError:
                raise AssertionError(f"not within {timeout_s} s; log: {self.log[-50:]}") from None

    async def until_begun(self, work: Work) -> None:
        """Return when a worker said that it runs `work`, or asked and was told to."""
        await self.until(lambda: {"started", "claim"} & set(self.kinds(work)))

    async def until_ended(self, *works: Work) -> None:
        await self.until(
            lambda: all(any(kind in ("completed", "failed") for kind in self.kinds(work)) for work in works)
        )

    def changed(self) -> None:
        self._changed.set()

    def _on_reports(self, message: Message) -> None:
        reports = msgspec.json.decode(message.data, type=list[Report])
        self.reports += reports
        self.log += [report.kind for report in reports]
        verdicts = [self.answer(report) for report in reports]
        if None not in verdicts:
            self.bus.publish(message.reply, msgspec.json.encode(verdicts))
            self.log.append("answered")
        self._changed.set()

    def _on_register(self, message: Message) -> None:
        template = msgspec.json.decode(message.data)["template"]
        self.registered.append(template)
        self.bus.publish(message.reply, msgspec.json.encode(self.on_register(template)))
        self._changed.set()

    def _on_ack(self, message: Message) -> None:
        text = message.data.decode().split(" ")[0]
        self.acks.append(text)
        self.log.append(text)
        self._changed.set()


@asynccontextmanager
async def owning(kind: type[_Owner], nats_url: str, prefix: str) -> AsyncIterator[_Owner]:
    """A started owner on a connection of its own; on leaving its streams are deleted."""
    bus = await NatsBus.connect(nats_url, name="owner")
    owner = kind(bus, prefix)
    await owner.start()
    yield owner
    for stream in owner.subjects.streams:
        await delete_stream(bus, stream)
    await bus.close()


async def seen(look: Callable[[], Any]) -> Any:
    """Return what `look` finds, once that is something: for what no message tells."""
    async with asyncio.timeout(60):
        while True:
            found = look()
            if found:
                return found
            await asyncio.sleep(0.02)
