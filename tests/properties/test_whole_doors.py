"""Bad bytes through the real entrance: commands over the bus and HTTP, reports and slots of workers, headers.

A node over a log in memory answers each with a typed error, logs no failure, and writes nothing that it did not accept.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
import structlog
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasker.bus.memory_bus import MemoryBroker
from tasker.clock import SystemClock
from tasker.controls.watch import ControlsWatch
from tasker.errors import TaskerError
from tasker.events.memory_log import MemoryLog
from tasker.events.messages import (
    COMMANDS,
    HEADER_IDEMPOTENCY_KEY,
    HEADER_MESSAGE_ID,
    HEADER_RELEASED,
    HEADER_TRACEPARENT,
)
from tasker.events.subjects import HEADER_TENANT, Subjects
from tasker.service.http.app import create_app
from tasker.service.http.gateway import BusGateway
from tasker.service.http.services import Services
from tasker.service.runtime.routes import HEADER_TASK_ID, HEADER_VERB
from tests.contracts.pair import SHARDS, Pair
from tests.properties.bad_bytes import FRAGMENTS, bad_bytes
from tests.properties.doors import DOORS, REPORTS, SLOTS, TRACEPARENT
from tests.raw_http import raw_request

WHOLE = settings(deadline=None, suppress_health_check=list(HealthCheck))
STEP = {"name": "only", "retry": {"max_attempts": 1}, "start_to_close_s": 86400, "heartbeat_s": 80000}
WAIT = {"name": "wait", "signal": "go", "signal_when": "false"}
ASK = {"name": "ask", "approval": {"approvals": 10}}
PLACEHOLDER = b"016edfe9-8e3a-819c-918d-70443cb40fea"

# A header's value ends with its line, and is text: the bus decodes what is none with U+FFFD.
header_texts = (st.sampled_from([text.decode(errors="replace") for text in FRAGMENTS]) | st.text(max_size=20)).map(
    lambda text: text.encode(errors="replace").decode().replace("\r", "").replace("\n", "")
)
header_names = st.sampled_from([HEADER_IDEMPOTENCY_KEY, HEADER_MESSAGE_ID, HEADER_TRACEPARENT, HEADER_RELEASED])
headers = st.dictionaries(header_names, header_texts | st.just(TRACEPARENT.decode()), max_size=3)
tokens = st.text(
    "".join(chr(code) for code in range(33, 127) if chr(code) not in ".*>"), min_size=1, max_size=12
)  # all that a subject takes
verbs = st.sampled_from(list(COMMANDS))


class House:
    """One node with its HTTP endpoints of commands, and one running task."""

    def __init__(self) -> None:
        broker = MemoryBroker()
        self.subjects = Subjects("t")
        self.bus = broker.connect()
        self.log = MemoryLog(shards=SHARDS)
        self.pair = Pair(self.log, self.bus, self.subjects)
        self.task_id = ""
        self.shard = 0
        self.port = 0
        self._node = broker.connect()
        self._server: web.AppRunner | None = None

    async def start(self) -> None:
        await self.pair.start(self._node)
        for document in (
            {"name": "t", "steps": [STEP, WAIT, ASK]},
            {"name": "strict", "steps": [STEP], "identity": "strict"},
        ):
            assert (await self.pair.ask("template.register", {"template": document}))["ok"]
        made = await self.pair.ask("task.create", {"template": "t", "idempotency_key": "first"})
        self.task_id, self.shard = made["task_id"], int(made["position"].partition(":")[0])
        services = Services(
            queries=cast("Any", None),  # no command reads a view
            dead_letters=cast("Any", None),
            positions=cast("Any", None),
            log=self.log,
            info=await self.log.info(),
            tail=cast("Any", None),
            controls=ControlsWatch(self.log, SystemClock().monotonic_s),
            gateway=BusGateway(self.bus, self.subjects),
            watcher=cast("Any", None),
            refusals=cast("Any", None),
            clock=SystemClock(),
        )
        self._server = web.AppRunner(create_app(services), handle_signals=False)
        await self._server.setup()
        await web.TCPSite(self._server, "127.0.0.1", 0).start()
        self.port = self._server.addresses[0][1]

    async def stop(self) -> None:
        assert self._server is not None
        await self._server.cleanup()
        await self.pair.stop()

    async def ask(self, subject: str, data: bytes, told: dict[str, str] | None = None) -> Any:
        return json.loads((await self.bus.request(subject, data, timeout_s=10, headers=told)).data)

    @contextlib.asynccontextmanager
    async def unharmed(self) -> AsyncIterator[list[Any]]:
        """Check the verdicts that the block puts into the list, what was logged meanwhile, and what was written."""
        verdicts: list[Any] = []
        before = await self.positions()
        with structlog.testing.capture_logs() as told, failures() as raised:
            yield verdicts
        assert raised == []
        assert [entry for entry in told if entry["log_level"] in {"error", "critical"}] == []
        if not any(wrote(verdict) for verdict in verdicts):
            assert await self.positions() == before

    async def positions(self) -> list[int]:
        return [head.position for head in await self.log.heads(range(SHARDS))]


@contextlib.contextmanager
def failures() -> Iterator[list[str]]:
    """Collect what callbacks of the bus raise: it is logged there, and nowhere else."""
    found: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage() + str(record.exc_info))

    # A warning is none: the loop stands still between two examples, so that a pull may find the bus silent.
    handler = Kept(logging.ERROR)
    logger = logging.getLogger("tasker.bus")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def wrote(verdict: Any) -> bool:
    """Return whether a verdict says that something was recorded, after checking its error."""
    error = verdict.get("error")
    if error is None:
        return bool(verdict["ok"] and verdict.get("recorded", True) and not verdict.get("duplicate"))
    check(error)
    return False


def check(problem: Any) -> None:
    leaf = TaskerError.leaves[problem["code"]]
    assert problem["code"] != "internal_error"
    assert (problem["status"], problem["title"]) == (leaf.status, leaf.title)
    assert problem["status"] < 500, problem
    assert problem["type"] == f"urn:tasker:error:{problem['code']}"


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def house(runner: asyncio.Runner) -> Iterator[House]:
    async def open_house() -> House:
        house = House()
        await house.start()
        return house

    house = runner.run(open_house())
    yield house
    runner.run(house.stop())


def bodies(verb: str, task_id: str) -> st.SearchStrategy[bytes]:
    seeds = tuple(seed.replace(PLACEHOLDER, task_id.encode()) for seed in DOORS[f"command {verb}"].seeds)
    return bad_bytes((*seeds, *(b"[" + seed + b"," + seed + b"]" for seed in seeds)))


@WHOLE
@given(data=st.data())
def test_commands_over_the_bus(house: House, runner: asyncio.Runner, data: st.DataObject) -> None:
    verb = data.draw(verbs)
    tenant = data.draw(st.just("default") | tokens)
    what = data.draw(st.just(verb) | st.just(verb) | tokens)
    body, told = data.draw(bodies(verb, house.task_id)), data.draw(headers)

    async def ask() -> None:
        async with house.unharmed() as verdicts:
            answer = await house.ask(f"t.{tenant}.cmd.{what}", body, told)
            verdicts.extend(answer if isinstance(answer, list) else [answer])

    runner.run(ask())


@WHOLE
@given(data=st.data())
def test_commands_from_another_node(house: House, runner: asyncio.Runner, data: st.DataObject) -> None:
    """The headers between nodes are checked as well: they carry what a caller sent."""
    verb = data.draw(verbs)
    told = data.draw(headers)
    told |= {
        HEADER_TENANT: data.draw(st.just("default") | header_texts),
        HEADER_VERB: data.draw(st.just(verb) | header_texts),
    }
    if data.draw(st.booleans()):
        told[HEADER_TASK_ID] = data.draw(st.just(house.task_id) | header_texts)
    body = data.draw(bodies(verb, house.task_id))

    async def ask() -> None:
        async with house.unharmed() as verdicts:
            answer = await house.ask(house.subjects.node_shard(house.shard, "cmd"), body, told)
            verdicts.append(answer)

    runner.run(ask())


@WHOLE
@given(data=st.data())
def test_reports(house: House, runner: asyncio.Runner, data: st.DataObject) -> None:
    seeds = tuple(seed.replace(PLACEHOLDER, house.task_id.encode()) for seed in REPORTS)
    seeds = (*seeds, *(seed.replace(b'"step":"a"', b'"step":"only"') for seed in seeds))
    body = data.draw(bad_bytes((*seeds, b"[" + b",".join(seeds) + b"]")))
    told = data.draw(headers)
    place = data.draw(st.integers(0, SHARDS - 1))
    tenant = data.draw(st.just("default") | tokens)

    async def ask() -> None:
        async with house.unharmed() as verdicts:
            answer = await house.ask(f"t.{tenant}.report.{place}", body, told)
            verdicts.extend(answer if isinstance(answer, list) else [answer])

    runner.run(ask())


@WHOLE
@given(data=st.data())
def test_slots(house: House, runner: asyncio.Runner, data: st.DataObject) -> None:
    """What a worker says is heard or left; a good message after it is heard."""
    body = data.draw(bad_bytes((SLOTS,)))
    tenant = data.draw(st.just("default") | tokens)

    async def tell() -> None:
        async with house.unharmed():
            house.bus.publish(f"t.{tenant}.slots", body, reply="nobody.17")
            told = await house.ask(house.subjects.slots("default"), SLOTS)
            assert told["now_us"] > 0

    runner.run(tell())


TARGETS = {
    "task.create": (b"POST", b"/v1/tasks"),
    "task.cancel": (b"POST", b"/v1/tasks/%b/cancel"),
    "task.retry": (b"POST", b"/v1/tasks/%b/retry"),
    "task.complete": (b"POST", b"/v1/tasks/%b/complete"),
    "task.fail": (b"POST", b"/v1/tasks/%b/fail"),
    "task.update": (b"POST", b"/v1/tasks/%b/update"),
    "task.deadline": (b"POST", b"/v1/tasks/%b/deadline"),
    "task.restart": (b"POST", b"/v1/tasks/%b/restart"),
    "task.pause": (b"POST", b"/v1/tasks/%b/pause"),
    "task.resume": (b"POST", b"/v1/tasks/%b/resume"),
    "task.budget": (b"POST", b"/v1/tasks/%b/budget"),
    "task.signal": (b"POST", b"/v1/tasks/%b/signals/go"),
    "step.skip": (b"POST", b"/v1/tasks/%b/steps/only/skip"),
    "step.resolve": (b"POST", b"/v1/tasks/%b/steps/only/resolve"),
    "step.reset": (b"POST", b"/v1/tasks/%b/steps/only/reset"),
    "step.edit": (b"POST", b"/v1/tasks/%b/steps/only/edit"),
    "step.release": (b"POST", b"/v1/tasks/%b/steps/only/release"),
    "step.approve": (b"POST", b"/v1/tasks/%b/steps/ask/approve"),
    "step.reject": (b"POST", b"/v1/tasks/%b/steps/ask/reject"),
    "step.delegate": (b"POST", b"/v1/tasks/%b/steps/ask/delegate"),
    "step.retry": (b"POST", b"/v1/tasks/%b/steps/only/retry"),
    "template.register": (b"PUT", b"/v1/templates"),
    "template.use": (b"POST", b"/v1/templates/default/t/use"),
    "schedule.create": (b"POST", b"/v1/schedules"),
    "schedule.update": (b"PUT", b"/v1/schedules/default/s"),
    "schedule.pause": (b"POST", b"/v1/schedules/default/s/pause"),
    "schedule.resume": (b"POST", b"/v1/schedules/default/s/resume"),
    "schedule.trigger": (b"POST", b"/v1/schedules/default/s/trigger"),
    "schedule.backfill": (b"POST", b"/v1/schedules/default/s/backfill"),
    "schedule.stop_backfill": (b"POST", b"/v1/schedules/default/s/stop_backfill"),
    "schedule.delete": (b"DELETE", b"/v1/schedules/default/s"),
    "dlq.add": (b"POST", b"/v1/dlq/%b/add"),
    "dlq.investigate": (b"POST", b"/v1/dlq/%b/investigate"),
    "dlq.resolve": (b"POST", b"/v1/dlq/%b/resolve"),
    "dlq.reopen": (b"POST", b"/v1/dlq/%b/reopen"),
    "dlq.retry": (b"POST", b"/v1/dlq/%b/retry"),
    "control.pause": (b"POST", b"/v1/controls/pause"),
    "control.resume": (b"POST", b"/v1/controls/resume"),
    "bulk.create": (b"POST", b"/v1/bulk"),
    "limit.set": (b"POST", b"/v1/limits/set"),
    "limit.remove": (b"POST", b"/v1/limits/remove"),
    "circuit.open": (b"POST", b"/v1/circuits/open"),
    "circuit.close": (b"POST", b"/v1/circuits/close"),
}


@WHOLE
@given(data=st.data())
def test_commands_over_http(house: House, runner: asyncio.Runner, data: st.DataObject) -> None:
    """Also with bytes in the path, the query and the headers that are no text."""
    verb = data.draw(verbs)
    method, target = TARGETS[verb]
    odd = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=6), max_size=3).map(b"".join)
    line_bytes = odd.map(lambda text: bytes(byte for byte in text[:500] if byte not in b"\r\n\0 "))
    if b"%b" in target:
        target %= data.draw(st.just(house.task_id.encode()) | line_bytes)
    target += data.draw(st.just(b"") | st.just(b"") | line_bytes.map(lambda text: b"?" + text))
    told = {
        name.encode(): value
        for name, value in data.draw(
            st.dictionaries(header_names | st.just("Tasker-Tenant"), line_bytes, max_size=2)
        ).items()
    }
    body = data.draw(bodies(verb, house.task_id))

    async def ask() -> None:
        async with house.unharmed() as verdicts:
            answer = await raw_request(house.port, method, target, told, body)
            if answer.media_type == "application/problem+json":
                check(answer.body)
                assert answer.status == answer.body["status"]
            elif answer.media_type == "application/json":
                verdicts.extend(answer.body if isinstance(answer.body, list) else [answer.body])
            else:
                assert (answer.status, answer.media_type) == (400, "text/plain")  # no HTTP: the server's own answer

    runner.run(ask())
