"""The gateway and the watcher over a real bus."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tasker.bus.bus import Bus, Message
from tasker.bus.memory_bus import MemoryBroker
from tasker.bus.nats_bus import NatsBus
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import ensure_streams, ensure_work_consumer
from tasker.errors import DeadlineExceeded, Unavailable
from tasker.events.codec import encode_message
from tasker.events.messages import LifecycleEvent
from tasker.events.reads import QueueFacts
from tasker.events.subjects import Subjects
from tasker.service.http.gateway import BusGateway
from tasker.service.http.queue_facts import BusQueues
from tasker.service.http.watcher import BusWatcher
from tasker.settings import StreamSettings
from tasker.times import to_rfc3339
from tests.histories import T0_US, raw
from tests.servers import SharedCluster

TASK = "6e6a1c3e-0000-7000-8000-000000000000"


@pytest.fixture(params=["memory", "nats"])
async def bus(request: pytest.FixtureRequest, cluster: SharedCluster) -> AsyncIterator[Bus]:
    bus: Bus
    if request.param == "memory":
        bus = MemoryBroker().connect()
    else:
        bus = await NatsBus.connect(cluster.addresses().nats_url, name="test")
    yield bus
    await bus.close()


@pytest.fixture
def subjects(nats_prefix: str) -> Subjects:
    return Subjects(nats_prefix)


def event(kind: str, position: int) -> bytes:
    return encode_message(
        LifecycleEvent(
            id=f"log:3:{position}",
            source="/tasker/log",
            type=f"tasker.{kind}.v1",
            subject=TASK,
            time=to_rfc3339(T0_US),
            tenant="acme",
            shard=3,
            position=str(position),
            seq=position,
            data=raw({}),
        )
    )


async def test_a_command_reaches_its_subject_with_its_headers(bus: Bus, subjects: Subjects) -> None:
    came: list[Message] = []

    def answer(message: Message) -> None:
        came.append(message)
        bus.publish(message.reply, b'{"ok":true}')

    bus.subscribe(subjects.commands_all, answer)
    await bus.flush()
    gateway = BusGateway(bus, subjects)
    said = await gateway.send("acme", "step.retry", b"{}", {"Idempotency-Key": "k"}, timeout_s=5.0)
    assert said == b'{"ok":true}'
    assert came[0].subject == subjects.command("acme", "step", "retry")
    assert (came[0].headers or {})["Idempotency-Key"] == "k"


async def test_nobody_there_is_unavailable_and_silence_is_a_deadline(bus: Bus, subjects: Subjects) -> None:
    gateway = BusGateway(bus, subjects)
    with pytest.raises(Unavailable) as raised:
        await gateway.send("acme", "task.create", b"{}", {}, timeout_s=5.0)
    assert raised.value.code == "unavailable"
    bus.subscribe(subjects.commands_all, lambda _: None)
    await bus.flush()
    with pytest.raises(DeadlineExceeded):
        await gateway.send("acme", "task.create", b"{}", {}, timeout_s=0.05)
    await bus.close()
    with pytest.raises(Unavailable):
        await gateway.send("acme", "task.create", b"{}", {}, timeout_s=5.0)


async def test_all_who_watch_a_task_hear_of_its_end(bus: Bus, subjects: Subjects) -> None:
    publish: Callable[[str, int], None] = lambda kind, at: bus.publish(  # noqa: E731
        subjects.event("acme", "shop", "orders", TASK, kind), event(kind, at)
    )
    watcher = BusWatcher(bus, subjects)
    with watcher.task("acme", TASK) as one, watcher.task("acme", TASK) as two, watcher.task("other", TASK) as stranger:
        await bus.flush()
        publish("step_completed", 4)
        assert await one.news(5.0)
        assert not one.ended_at
        publish("task_blocked", 5)
        assert await one.news(5.0)
        assert one.ended_at == {3: 5}
        assert await two.news(5.0)
        assert two.ended_at == {3: 5}
        assert not await stranger.news(0.01)
    assert watcher._shared == {}


async def test_damaged_news_is_news_all_the_same(bus: Bus, subjects: Subjects) -> None:
    with BusWatcher(bus, subjects).task("acme", TASK) as watch:
        await bus.flush()
        bus.publish(subjects.event("acme", "shop", "orders", TASK, "task_completed"), b"\xff")
        assert await watch.news(5.0)
        assert watch.ended_at is None


async def test_the_growth_of_the_log_is_news(bus: Bus, subjects: Subjects) -> None:
    with BusWatcher(bus, subjects).log() as watch:
        await bus.flush()
        bus.publish(subjects.log_head, b"{}")
        assert await watch.news(5.0)


async def test_without_a_bus_nobody_hears_and_nobody_fails(bus: Bus, subjects: Subjects) -> None:
    await bus.close()
    with BusWatcher(bus, subjects).task("acme", TASK) as watch:
        assert not await watch.news(0.01)
    await asyncio.sleep(0)


async def test_a_queue_tells_what_was_given_back_and_not_begun(bus: Bus, subjects: Subjects) -> None:
    queues, streams = BusQueues(bus, subjects), StreamSettings()
    await ensure_streams(bus, subjects, streams)
    name = await ensure_work_consumer(bus, subjects, streams, tenant="acme", namespace="shop", queue="orders")
    for which in (b"first", b"second"):
        await bus.request(subjects.work("acme", "shop", "orders"), which, timeout_s=5)
    again = asyncio.Event()

    def take(delivery: Delivery) -> None:
        """Begin the second; as of a handler that is not here, the first is given back each time."""
        if delivery.data == b"second":
            pull.ack(delivery)
        else:
            pull.nak(delivery, delay_s=0.02 if delivery.num_delivered == 1 else 60.0)
            if delivery.num_delivered == 2:
                again.set()

    pull = PullLoop(bus, subjects.work_stream, name, take, lambda: 2)
    await asyncio.wait_for(again.wait(), 5)
    told = await queues("acme", "shop", "orders")
    await pull.stop()
    assert told is not None
    assert (told.asking > 0, told.offered, told.given_back) == (True, 0, 1)


async def test_a_queue_tells_what_is_offered_and_who_asks(bus: Bus, subjects: Subjects) -> None:
    queues, streams = BusQueues(bus, subjects), StreamSettings()
    await ensure_streams(bus, subjects, streams)
    assert await queues("acme", "shop", "orders") == QueueFacts(namespace="shop", queue="orders", known=False)
    name = await ensure_work_consumer(bus, subjects, streams, tenant="acme", namespace="shop", queue="orders")
    for _ in range(2):
        await bus.request(subjects.work("acme", "shop", "orders"), b"{}", timeout_s=5)
    told = await queues("acme", "shop", "orders")
    assert told is not None
    assert (told.known, told.asking, told.offered) == (True, 0, 2)
    came = asyncio.Event()
    taken: list[object] = []

    def take(delivery: object) -> None:
        taken.append(delivery)
        if len(taken) == 2:
            came.set()

    pull = PullLoop(bus, subjects.work_stream, name, take, lambda: 3 - len(taken))
    await asyncio.wait_for(came.wait(), 5)
    told = await queues("acme", "shop", "orders")
    await pull.stop()
    assert told is not None
    assert (told.asking, told.offered) == (1, 0)
    assert await queues("acme", "shop", "other") == QueueFacts(namespace="shop", queue="other", known=False)
