"""What every bus promises: `tasker/bus/bus.py`, over NATS and its twin in memory."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tasker.bus.bus import Bus, Disconnected, Message, NoResponders
from tasker.errors import BodyTooLarge, DeadlineExceeded, TaskerError

Connect = Callable[[], Awaitable[Bus]]


class Collector:
    """A callback that keeps what comes, and can be waited for."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._grown = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self._grown.set()

    async def wait(self, count: int) -> list[Message]:
        async with asyncio.timeout(25):
            while len(self.messages) < count:
                self._grown.clear()
                await self._grown.wait()
        return self.messages


async def test_messages_arrive_whole_and_in_order(connect: Connect, nats_prefix: str) -> None:
    sender, receiver = await connect(), await connect()
    got = Collector()
    receiver.subscribe(f"{nats_prefix}.*.x", got)
    await receiver.flush()
    sender.publish(f"{nats_prefix}.a.x", b"first", headers={"A": "one two", "B": "ü:x"}, reply="somewhere.else")
    for number in range(1000):
        sender.publish(f"{nats_prefix}.b.x", b"%d" % number)
    messages = await got.wait(1001)
    assert messages[0] == Message(f"{nats_prefix}.a.x", b"first", {"A": "one two", "B": "ü:x"}, "somewhere.else")
    assert [int(each.data) for each in messages[1:]] == list(range(1000))
    assert messages[1].headers is None
    assert messages[1].reply == ""


async def test_a_message_goes_once_to_a_queue_whatever_its_members_listen_to(bus: Bus, nats_prefix: str) -> None:
    got = Collector()
    for pattern in (f"{nats_prefix}.*", f"{nats_prefix}.a", f"{nats_prefix}.>"):
        bus.subscribe(pattern, got, queue="q")
    for number in range(30):
        bus.publish(f"{nats_prefix}.a", b"%d" % number)
    await bus.flush()
    await bus.flush()
    assert sorted(int(each.data) for each in got.messages) == list(range(30))


async def test_any_bytes_pass(bus: Bus, nats_prefix: str) -> None:
    got = Collector()
    bus.subscribe(nats_prefix, got)
    data = [b"", bytes(range(256)), b"\r\nPING\r\n", b"x" * 700_000]
    for each in data:
        bus.publish(nats_prefix, each)
    assert [each.data for each in await got.wait(len(data))] == data


@pytest.mark.parametrize(
    ("pattern", "subject", "heard"),
    [
        ("a.b", "a.b", 1),
        ("a.*", "a.b", 1),
        ("a.*", "a.b.c", 0),
        ("a.*", "a", 0),
        ("a.>", "a.b.c", 1),
        ("a.>", "a", 0),
        ("*.b.>", "a.b.c", 1),
    ],
)
async def test_wildcards(bus: Bus, nats_prefix: str, pattern: str, subject: str, heard: int) -> None:
    got = Collector()
    bus.subscribe(f"{nats_prefix}.{pattern}", got)
    bus.publish(f"{nats_prefix}.{subject}", b"")
    await bus.flush()
    assert len(got.messages) == heard


async def test_a_queue_group_gets_each_message_once(connect: Connect, nats_prefix: str) -> None:
    sender, everyone = await connect(), Collector()
    members = [Collector() for _ in range(3)]
    sender.subscribe(nats_prefix, everyone)
    await sender.flush()
    for member in members:
        receiver = await connect()
        receiver.subscribe(nats_prefix, member, queue="group")
        await receiver.flush()
    for number in range(300):
        sender.publish(nats_prefix, b"%d" % number)
    await everyone.wait(300)
    async with asyncio.timeout(25):
        while sum(len(each.messages) for each in members) < 300:
            await sender.flush()
    got = sorted(int(message.data) for member in members for message in member.messages)
    assert got == list(range(300))
    assert all(member.messages for member in members)


async def test_a_failing_callback_disturbs_nobody(bus: Bus, nats_prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    got = Collector()

    def fail(_: Message) -> None:
        raise RuntimeError("on purpose")

    bus.subscribe(nats_prefix, fail)
    bus.subscribe(nats_prefix, got)
    bus.publish(nats_prefix, b"1")
    bus.publish(nats_prefix, b"2")
    await got.wait(2)
    assert caplog.text.count("RuntimeError: on purpose") == 2


async def test_unsubscribe_ends_at_once(bus: Bus, nats_prefix: str) -> None:
    got = Collector()
    subscription = bus.subscribe(nats_prefix, got)
    bus.publish(nats_prefix, b"")
    subscription.unsubscribe()
    subscription.unsubscribe()
    await bus.flush()
    assert got.messages == []


async def test_a_drained_subscription_gets_what_was_on_its_way(bus: Bus, nats_prefix: str) -> None:
    got = Collector()
    subscription = bus.subscribe(nats_prefix, got)
    bus.publish(nats_prefix, b"before")
    await bus.flush()
    await subscription.drain()
    bus.publish(nats_prefix, b"after")
    await bus.flush()
    assert [each.data for each in got.messages] == [b"before"]


async def test_request_and_answer(connect: Connect, nats_prefix: str) -> None:
    asker, answerer = await connect(), await connect()
    answerer.subscribe(nats_prefix, lambda message: answerer.publish(message.reply, b"re: " + message.data))
    await answerer.flush()
    answers = await asyncio.gather(*(asker.request(nats_prefix, b"%d" % number, timeout_s=10) for number in range(200)))
    assert [each.data for each in answers] == [b"re: %d" % number for number in range(200)]


async def test_nobody_listens(bus: Bus, nats_prefix: str) -> None:
    with pytest.raises(NoResponders):
        await bus.request(nats_prefix, b"", timeout_s=10)


async def test_nobody_answers_in_time(bus: Bus, nats_prefix: str) -> None:
    got = Collector()
    bus.subscribe(nats_prefix, got)
    with pytest.raises(DeadlineExceeded):
        await bus.request(nats_prefix, b"", timeout_s=0.05)
    [message] = got.messages
    # An answer that comes too late meets nobody.
    bus.publish(message.reply, b"late")
    await bus.flush()


async def test_an_ask_is_answered_once_or_taken_back(bus: Bus, nats_prefix: str) -> None:
    answers: list[Message | TaskerError] = []
    asked = Collector()
    bus.subscribe(nats_prefix, asked)
    bus.ask(nats_prefix, b"1", answers.append, timeout_s=10)
    taken_back = bus.ask(nats_prefix, b"2", answers.append, timeout_s=10)
    bus.forget(taken_back)
    for message in await asked.wait(2):
        bus.publish(message.reply, b"a")
        bus.publish(message.reply, b"b")
    await bus.flush()
    assert [each.data for each in answers if isinstance(each, Message)] == [b"a"]


async def test_closing_fails_what_waits(bus: Bus, nats_prefix: str) -> None:
    bus.subscribe(nats_prefix, Collector())
    waiting = asyncio.create_task(bus.request(nats_prefix, b"", timeout_s=60))
    await bus.flush()
    await bus.close()
    with pytest.raises(Disconnected):
        await waiting
    assert bus.closed
    assert not bus.connected
    await bus.close()
    with pytest.raises(Disconnected):
        bus.publish(nats_prefix, b"")
    with pytest.raises(Disconnected):
        await bus.request(nats_prefix, b"", timeout_s=1)


async def test_draining_sends_what_waits(connect: Connect, nats_prefix: str) -> None:
    sender, receiver = await connect(), await connect()
    got = Collector()
    receiver.subscribe(nats_prefix, got)
    await receiver.flush()
    for number in range(500):
        sender.publish(nats_prefix, b"%d" % number)
    await sender.drain()
    await got.wait(500)
    assert sender.closed


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0\r\n\r\n", "a\tb"])
async def test_a_subject_cannot_hold_a_command(bus: Bus, subject: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is the subject
        bus.publish(subject, b"")


@pytest.mark.parametrize("headers", [{"A": "x\r\nB: y"}, {"A\n": "x"}, {"A:B": "x"}, {"": "x"}])
async def test_a_header_cannot_end_its_line(bus: Bus, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is the header
        bus.publish("a", b"", headers=headers)


@pytest.mark.parametrize("pattern", ["", "a..b", "a.>.b", "a.b*", "a b", ".a", "a."])
async def test_a_pattern_has_a_form(bus: Bus, pattern: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is the pattern
        bus.subscribe(pattern, Collector())


async def test_what_the_server_would_not_take_is_refused_here(bus: Bus, nats_prefix: str) -> None:
    with pytest.raises(BodyTooLarge):
        bus.publish(nats_prefix, b"x" * (bus.payload_bytes_max + 1))
    with pytest.raises(BodyTooLarge):
        await bus.request(nats_prefix, b"x" * bus.payload_bytes_max, timeout_s=1, headers={"A": "b"})
    assert bus.connected


async def test_inboxes_are_private(connect: Connect) -> None:
    one, other = await connect(), await connect()
    inboxes = {one.new_inbox(), one.new_inbox(), other.new_inbox()}
    assert len(inboxes) == 3
    assert not any(each.startswith("_INBOX.") for each in inboxes)
