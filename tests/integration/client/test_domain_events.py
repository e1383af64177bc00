"""Subscriptions to domain events, on a real nats-server: live and durable."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import pytest

from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import delete_stream, ensure_streams
from tasker.client import TaskerClient, TaskerSyncClient, live_buffer
from tasker.client.domain_events import NEW, DomainSubscription
from tasker.errors import ConfigurationError, NameInvalid, Unavailable
from tasker.events.messages import HEADER_MESSAGE_ID, DomainEventMessage
from tasker.events.subjects import Subjects
from tasker.settings import StreamSettings

SETTINGS = StreamSettings(work_bytes_max=16 * 1024**2, events_bytes_max=64 * 1024**2)


class World(NamedTuple):
    bus: NatsBus
    subjects: Subjects
    nats_url: str

    def client(self) -> TaskerClient:
        return TaskerClient(self.nats_url, "", nats_prefix=self.subjects.prefix, environ={}, timeout_s=5)

    async def raise_(self, *numbers: int, name: str = "order.paid", message_id: str = "") -> None:
        for number in numbers:
            event = DomainEventMessage(
                id=f"k3xw9q:0:{number}:domain",
                source="/tasker/k3xw9q",
                type=name,
                subject="task",
                time="2026-11-21T10:00:00.000000Z",
                tenant="default",
                namespace="shop",
                template="orders",
                step="charge",
                attempt=1,
                outcome="success",
                shard=0,
                position=str(number),
                seq=number,
                data=msgspec.Raw(b"%d" % number),
            )
            headers = {HEADER_MESSAGE_ID: message_id or event.id}
            subject = self.subjects.domain_event("default", name)
            await self.bus.request(subject, msgspec.json.encode(event), timeout_s=5, headers=headers)


@pytest.fixture
async def world(nats_url: str, nats_prefix: str) -> AsyncIterator[World]:
    bus = await NatsBus.connect(nats_url, name="scripted")
    subjects = Subjects(nats_prefix)
    await ensure_streams(bus, subjects, SETTINGS)
    yield World(bus, subjects, nats_url)
    for stream in subjects.streams:
        await delete_stream(bus, stream)
    await bus.close()


async def take(events: DomainSubscription, count: int) -> list[int]:
    async with asyncio.timeout(60):
        return [int((await anext(events)).position) for _ in range(count)]


# ---------------------------------------------------------------- live


async def test_live_events_come_from_now_on_in_order_and_once_as_far_as_asked_for(world: World) -> None:
    await world.raise_(1)
    async with world.client() as client, client.subscribe_domain("order.*") as events:
        await world.raise_(2, 3)
        await world.raise_(4, name="stock.low")
        await world.raise_(3, message_id="again")
        await world.raise_(5)
        assert await take(events, 3) == [2, 3, 5]
        assert events.deliveries == 1


async def test_who_reads_live_events_too_slowly_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_buffer, "LIVE_EVENTS_MAX", 2)
    async with world.client() as client, client.subscribe_domain() as events:
        await world.raise_(1, 2, 3)
        with pytest.raises(Unavailable, match="some are lost"):
            await take(events, 3)


# ---------------------------------------------------------------- durable


async def test_what_is_raised_while_nobody_listens_comes_later(world: World) -> None:
    await world.raise_(1)
    async with world.client() as client:
        async with client.subscribe_domain(durable="billing") as events:
            assert await take(events, 1) == [1]
        await world.raise_(2, 3)
        async with client.subscribe_domain(durable="billing") as events:
            assert await take(events, 2) == [2, 3]


async def test_a_new_durable_name_may_begin_now(world: World) -> None:
    await world.raise_(1)
    async with world.client() as client, client.subscribe_domain(durable="billing", start=NEW) as events:
        await world.raise_(2)
        assert await take(events, 1) == [2]


async def test_an_event_whose_handling_raised_comes_again_and_those_behind_it_too(world: World) -> None:
    await world.raise_(1, 2, 3)
    async with world.client() as client:

        async def book() -> None:
            async with client.subscribe_domain(durable="billing") as events:
                async for event in events:
                    if event.position == "2":
                        raise ValueError("not booked")

        with pytest.raises(ValueError, match="not booked"):
            await book()
        async with client.subscribe_domain(durable="billing") as events:
            seen: dict[int, int] = {}
            while len(seen) < 2:
                async with asyncio.timeout(60):
                    event = await anext(events)
                seen[int(event.position)] = events.deliveries
        assert set(seen) == {2, 3}
        assert seen[2] == 2


async def test_subscribers_of_one_name_share_the_events(world: World) -> None:
    async with world.client() as client:
        one, two = (client.subscribe_domain(durable="billing") for _ in range(2))
        async with one, two:
            seen: list[int] = []
            done = asyncio.Event()

            async def read(events: DomainSubscription) -> None:
                async for event in events:
                    seen.append(int(event.position))
                    if len(seen) == 40:
                        done.set()

            readers = [asyncio.create_task(read(events)) for events in (one, two)]
            await world.raise_(*range(1, 41))
            async with asyncio.timeout(60):
                await done.wait()
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        assert sorted(seen) == list(range(1, 41))


async def test_a_durable_name_is_made_anew_with_its_stream_and_gets_what_that_is_filled_with(world: World) -> None:
    await world.raise_(1, 2)
    async with world.client() as client, client.subscribe_domain(durable="billing") as events:
        assert await take(events, 2) == [1, 2]
        await delete_stream(world.bus, world.subjects.event_stream)
        await ensure_streams(world.bus, world.subjects, SETTINGS)
        await world.raise_(1, 2, 3)
        assert await take(events, 1) == [3]


async def test_a_durable_name_can_change_what_it_wants_and_be_forgotten(world: World) -> None:
    async with world.client() as client:
        async with client.subscribe_domain("order.paid", durable="billing"):
            await world.raise_(1, name="stock.low")
        async with client.subscribe_domain("order.paid", "stock.>", durable="billing") as events:
            await world.raise_(2, name="stock.low")
            await world.raise_(3)
            seen = set(await take(events, 2))
            if 3 not in seen:  # what it did not want before is still before it
                seen |= set(await take(events, 1))
            assert {2, 3} <= seen
        assert await client.forget_domain_subscriber("billing")
        assert not await client.forget_domain_subscriber("billing")


async def test_what_cannot_be_read_is_left_out_for_good(world: World) -> None:
    async with world.client() as client, client.subscribe_domain(durable="billing") as events:
        await world.bus.request(world.subjects.domain_event("default", "order.paid"), b"{}", timeout_s=5)
        await world.raise_(1)
        assert await take(events, 1) == [1]


@pytest.mark.parametrize("name", ["", "Order", "order..paid", ">.paid", "order.paid."])
async def test_a_pattern_that_names_nothing_is_refused(world: World, name: str) -> None:
    async with world.client() as client:
        with pytest.raises(NameInvalid):
            client.subscribe_domain(name)


async def test_what_cannot_be_subscribed_is_said_at_once(world: World) -> None:
    async with world.client() as client:
        with pytest.raises(NameInvalid):
            client.subscribe_domain(durable="a.b")
        with pytest.raises(ConfigurationError):
            client.subscribe_domain(durable="a", start="0:1")
    async with TaskerClient("", "http://127.0.0.1:9", environ={}) as client:
        with pytest.raises(ConfigurationError):
            client.subscribe_domain()


async def test_without_an_event_loop(world: World) -> None:
    await world.raise_(1, 2)

    def read() -> list[int]:
        with TaskerSyncClient(world.nats_url, "", nats_prefix=world.subjects.prefix, environ={}) as client:
            with client.subscribe_domain(durable="billing") as events:
                first = events.next(10)
                assert first is not None
                events.ack()
            with client.subscribe_domain(durable="billing") as events:
                second = next(events)
                assert events.deliveries >= 1
                return [int(first.position), int(second.position)]

    assert await asyncio.to_thread(read) == [1, 2]
