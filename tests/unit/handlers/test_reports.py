"""Reports are batched, bounded in flight, and repeated until they are answered."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from tasker.bus.bus import Bus, Message
from tasker.bus.memory_bus import MemoryBroker
from tasker.errors import BodyInvalid, Busy, Problem, Unavailable
from tasker.events.messages import ReportReply
from tasker.handlers.reports import REPORTS_MAX, Outgoing, Reporter

RECORDED = ReportReply(ok=True, recorded=True)


class Lane:
    """A reporter, and what its owner saw."""

    def __init__(self, bus: Bus, owner: Bus) -> None:
        self.reporter = Reporter(bus, answer_timeout_s=0.05)
        self.bodies: list[list[int]] = []
        self.waiting: list[Message] = []
        self.seen = asyncio.Event()
        self.answered: dict[int, ReportReply] = {}
        self.answers = asyncio.Event()
        self.owner = owner
        owner.subscribe("report", self._take)

    def send(self, number: int, *, size: int = 0, lasting: bool = True) -> Outgoing:
        body = msgspec.json.encode([number, "x" * size])

        def on_answer(reply: ReportReply) -> None:
            self.answered[number] = reply
            self.answers.set()

        report = Outgoing(body, on_answer, lasting=lasting)
        self.reporter.send("report", report)
        return report

    def reply(self, answer: object) -> None:
        self.owner.publish(self.waiting.pop(0).reply, msgspec.json.encode(answer))

    async def until(self, bodies: int) -> None:
        async with asyncio.timeout(10):
            while len(self.bodies) < bodies:
                self.seen.clear()
                await self.seen.wait()

    async def until_answered(self, *numbers: int) -> None:
        async with asyncio.timeout(10):
            while not set(numbers) <= set(self.answered):
                self.answers.clear()
                await self.answers.wait()

    def _take(self, message: Message) -> None:
        self.bodies.append([item[0] for item in msgspec.json.decode(message.data)])
        self.waiting.append(message)
        self.seen.set()


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    broker = MemoryBroker()
    bus, owner = broker.connect(), broker.connect()
    lane = Lane(bus, owner)
    await owner.flush()
    yield lane
    lane.reporter.stop()
    await bus.close()
    await owner.close()


def refused(error: Problem) -> ReportReply:
    return ReportReply(ok=False, recorded=False, error=error)


async def test_what_comes_in_one_turn_leaves_together(lane: Lane) -> None:
    for number in range(5):
        lane.send(number)
    await lane.until(1)
    assert lane.bodies == [[0, 1, 2, 3, 4]]
    lane.reply([RECORDED] * 5)
    await lane.until_answered(0, 1, 2, 3, 4)


async def test_two_requests_are_in_flight_and_the_rest_gathers(lane: Lane) -> None:
    lane.reporter._answer_timeout_s = 30
    for number in range(4):
        lane.send(number)
        await lane.until(min(number + 1, 2))
    lane.reply([RECORDED])
    await lane.until(3)
    assert lane.bodies == [[0], [1], [2, 3]]


async def test_a_batch_has_a_bounded_number_of_items_and_bytes(lane: Lane) -> None:
    for number in range(REPORTS_MAX + 1):
        lane.send(number)
    await lane.until(2)
    assert [len(body) for body in lane.bodies] == [REPORTS_MAX, 1]
    lane.reply([RECORDED] * REPORTS_MAX)
    lane.reply([RECORDED])
    await lane.until_answered(REPORTS_MAX)
    for number in (1000, 1001, 1002):
        lane.send(number, size=200_000)
    await lane.until(4)
    assert lane.bodies[2:] == [[1000, 1001], [1002]]


async def test_without_an_answer_it_is_sent_again(lane: Lane) -> None:
    lane.send(1)
    await lane.until(3)
    lane.waiting[:2] = []
    lane.reply([RECORDED])
    await lane.until_answered(1)


async def test_a_heartbeat_is_not_repeated(lane: Lane) -> None:
    lane.send(1, lasting=False)
    lane.send(2)
    await lane.until(2)
    assert lane.bodies == [[1, 2], [2]]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("error", [Unavailable("x").problem(), Busy("x", retry_after_s=0.01).problem()])
async def test_busy_is_sent_again(lane: Lane, error: Problem, whole: bool) -> None:  # noqa: FBT001 - a parameter
    lane.send(1)
    lane.send(2)
    await lane.until(1)
    lane.reply(refused(error) if whole else [refused(error)] * 2)
    await lane.until(2)
    assert lane.bodies[1] == [1, 2]


async def test_a_single_busy_task_does_not_hold_up_the_lane(lane: Lane) -> None:
    lane.send(1)
    lane.send(2)
    await lane.until(1)
    lane.reply([refused(Unavailable("x").problem()), RECORDED])
    await lane.until_answered(2)
    lane.send(3)
    await lane.until(2)
    assert lane.bodies[1] == [3]
    lane.reply([RECORDED])
    await lane.until(3)
    assert lane.bodies[2] == [1]


async def test_one_bad_report_does_not_drag_others_down(lane: Lane) -> None:
    for number in (1, 2, 3):
        lane.send(number)
    await lane.until(1)
    refusal = refused(BodyInvalid("x").problem())
    lane.reply(refusal)
    await lane.until(3)
    assert lane.bodies[1:3] == [[1], [2]]
    lane.reply([RECORDED])
    lane.reply(refusal)
    await lane.until(4)
    lane.reply([RECORDED])
    await lane.until_answered(1, 2, 3)
    assert [lane.answered[number].ok for number in (1, 2, 3)] == [True, False, True]


async def test_a_report_larger_than_the_server_takes_is_refused_and_holds_up_no_other(lane: Lane, monkeypatch) -> None:
    monkeypatch.setattr(lane.reporter._bus, "payload_bytes_max", 1_000)
    lane.send(1, size=2_000)
    lane.send(2)
    await lane.until(1)
    lane.reply([RECORDED])
    await lane.until_answered(1, 2)
    assert lane.bodies == [[2]]
    assert lane.answered[1].error is not None
    assert lane.answered[1].error.code == "body_too_large"


async def test_a_void_report_is_neither_sent_nor_answered(lane: Lane) -> None:
    lane.send(1).void = True
    sent = lane.send(2)
    lane.send(3)
    await lane.until(1)
    assert lane.bodies == [[2, 3]]
    sent.void = True
    lane.reply([RECORDED, RECORDED])
    await lane.until_answered(3)
    assert 2 not in lane.answered


@pytest.mark.parametrize("answer", [b"not json", b"[]", b'"x"'])
async def test_an_answer_that_is_none_is_no_answer(lane: Lane, answer: bytes) -> None:
    lane.send(1)
    await lane.until(1)
    lane.owner.publish(lane.waiting.pop(0).reply, answer)
    await lane.until(2)
    lane.reply([RECORDED])
    await lane.until_answered(1)


async def test_without_an_owner_it_waits_for_one() -> None:
    broker = MemoryBroker()
    bus, owner = broker.connect(), broker.connect()
    reporter = Reporter(bus)
    answered = asyncio.Event()
    reporter.send("report", Outgoing(b"1", lambda _: answered.set()))
    await bus.flush()
    owner.subscribe("report", lambda message: owner.publish(message.reply, msgspec.json.encode([RECORDED])))
    reporter.hurry()
    async with asyncio.timeout(10):
        await answered.wait()
    reporter.stop()
    await bus.close()
    await owner.close()


class Short:
    """A lane to a node, beside the home of its reports."""

    def __init__(self, bus: Bus, owner: Bus) -> None:
        self.reporter = Reporter(bus, answer_timeout_s=0.05)
        self.at_node: list[Message] = []
        self.at_home: list[Message] = []
        self.seen = asyncio.Event()
        self.answered: list[ReportReply] = []
        self.owner = owner
        self.node = owner.subscribe("node", self._on_node)
        owner.subscribe("home", self._on_home)

    def send(self, number: int, *, lasting: bool = True) -> None:
        report = Outgoing(msgspec.json.encode([number]), self.answered.append, lasting=lasting, home="home")
        self.reporter.send_by("node", lambda: {"Tasker-Released": "7"}, report)

    async def until(self, messages: list[Message], count: int = 1) -> None:
        async with asyncio.timeout(10):
            while len(messages) < count:
                self.seen.clear()
                await self.seen.wait()

    def _on_node(self, message: Message) -> None:
        self.at_node.append(message)
        self.seen.set()

    def _on_home(self, message: Message) -> None:
        self.at_home.append(message)
        self.owner.publish(message.reply, msgspec.json.encode([RECORDED] * len(msgspec.json.decode(message.data))))
        self.seen.set()


@pytest.fixture
async def short() -> AsyncIterator[Short]:
    broker = MemoryBroker()
    bus, owner = broker.connect(), broker.connect()
    short = Short(bus, owner)
    yield short
    short.reporter.stop()
    await bus.close()
    await owner.close()


async def test_nodes_that_are_gone_leave_no_lane_behind(short: Short) -> None:
    for number in range(3):
        short.reporter.send_by(f"node-{number}", dict, Outgoing(b"1", short.answered.append, home="home"))
        await short.until(short.at_home, number + 1)
    assert len(short.reporter._lanes) == 4, "home, and detours that are avoided for a while"
    short.reporter.hurry()
    short.send(4)
    await short.until(short.at_node)
    assert set(short.reporter._lanes) == {"home", "node"}
    short.reporter.send_by("node-5", dict, Outgoing(b"1", short.answered.append, home="home"))
    assert "node" in short.reporter._lanes, "it has a request under way"


async def test_a_report_goes_by_its_node_with_the_lanes_headers(short: Short) -> None:
    short.send(1)
    await short.until(short.at_node)
    assert short.at_node[0].headers == {"Tasker-Released": "7"}
    assert short.at_home == []


async def test_what_a_node_does_not_answer_goes_home(short: Short) -> None:
    short.send(1)
    await short.until(short.at_node)
    await short.until(short.at_home)
    assert [msgspec.json.decode(one.data) for one in short.at_home] == [[[1]]]
    short.send(2)
    await short.until(short.at_home, 2)
    assert len(short.at_node) == 1, "a node that failed is left alone for a while"


async def test_what_nobody_takes_at_a_node_goes_home_at_once(short: Short) -> None:
    short.node.unsubscribe()
    short.send(1)
    await short.until(short.at_home)


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_heartbeat_that_a_node_does_not_take_goes_home(short: Short, *, is_there: bool) -> None:
    """Planted bug: it is lost, and the next one comes when the node is tried again; so all of them are."""
    if not is_there:
        short.node.unsubscribe()
    short.send(1, lasting=False)
    await short.until(short.at_home)
    assert [msgspec.json.decode(one.data) for one in short.at_home] == [[[1]]]


@pytest.mark.parametrize("lasting", [True, False])
async def test_what_a_node_does_not_own_any_more_goes_home_alone(short: Short, *, lasting: bool) -> None:
    short.send(1, lasting=lasting)
    short.send(2)
    await short.until(short.at_node)
    fenced = ReportReply(ok=False, recorded=False, error=Unavailable("not ours").problem())
    short.owner.publish(short.at_node[0].reply, msgspec.json.encode([fenced, RECORDED]))
    await short.until(short.at_home)
    assert [msgspec.json.decode(one.data) for one in short.at_home] == [[[1]]]
