"""Submitted commands of many tenants, on the real bus and on its twin: each by its share, whoever came first."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from tasker.bus.bus import Bus, Message
from tasker.bus.publish import AckedPublisher
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import (
    SHARED_COMMAND_CONSUMER,
    consumer_config,
    create_consumer,
    delete_consumer,
    ensure_command_consumer,
    stream_info,
)
from tasker.events.messages import HEADER_REPLY_TO
from tasker.service.actors.entrances import submissions, tenant_pulls
from tasker.service.http.refusals import BusRefusals
from tasker.settings import Limits
from tests.contracts.pair import STREAMS, Pair
from tests.unit.runtime.committing import Held

Connect = Callable[[], Awaitable[Bus]]
TEMPLATE: dict[str, Any] = {"template": {"name": "t", "steps": [{"name": "only"}]}}


class Callers:
    """Leave commands for tenants, and hear the verdicts in the order in which they are told."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.publisher = AckedPublisher(pair.bus)
        self.subject = f"verdicts.{pair.subjects.prefix}"
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        pair.bus.subscribe(f"{self.subject}.*", self.heard.put_nowait)

    async def start(self, bus: Bus, limits: Limits | None = None) -> None:
        """Start a node. What it has in hand is not delivered again while it is slow."""
        await self.pair.start(bus, limits, msgspec.structs.replace(STREAMS, ack_wait_s=30.0))

    async def leave(self, tenant: str, count: int = 1, *, items: int = 0) -> None:
        """Leave so many commands, each with a key of its own; `items`: each is an array of so many."""
        subject = self.pair.subjects.submit(tenant, "task", "create")
        body: Any = [{"template": "t"}] * items if items else {"template": "t"}
        for _ in range(count):
            headers = {HEADER_REPLY_TO: f"{self.subject}.{tenant}"}
            await self.publisher.publish(subject, json.dumps(body).encode(), headers=headers)

    async def verdicts(self, count: int) -> list[str]:
        """Return whose the next verdicts are; all of them accept."""
        found = []
        async with asyncio.timeout(60):
            for _ in range(count):
                message = await self.heard.get()
                told = json.loads(message.data)
                many = told if isinstance(told, list) else [told]
                assert all(one["ok"] and not one.get("duplicate") for one in many), told
                found.append(message.subject.rpartition(".")[2])
        return found

    async def created(self) -> Counter[str]:
        return Counter(event.tenant for event in await self.pair.all_recorded() if event.type == "task_created")

    @property
    def lanes(self) -> dict[str, Any]:
        """Those of the node that runs."""
        return self.pair.sides[-1]._submissions._pulls._lanes

    async def until_held(self, count: int) -> None:
        """Return when the node that runs has so many messages in hand."""
        pulls = self.pair.sides[-1]._submissions._pulls
        async with asyncio.timeout(15):
            while pulls.held < count:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)


@pytest.fixture
async def callers(pair: Pair) -> Callers:
    """The nodes are stopped: what is left waits for the next one that starts."""
    callers = Callers(pair)
    for tenant in ("acme", "bolt", "crab"):
        assert (await pair.ask("template.register", TEMPLATE, tenant=tenant))["ok"]
    await pair.stop()
    await pair.bus.flush()
    return callers


async def resume(callers: Callers, bus: Bus, *, held: int, limits: Limits | None = None) -> None:
    """Start a node, which begins with the second command only when it has so many messages in hand."""
    gate = Held()
    callers.pair.log.delay = gate
    await callers.start(bus, limits)
    await gate.arrived()
    await callers.until_held(held)
    callers.pair.log.delay = None
    gate.let(100)


async def test_a_flood_of_one_tenant_does_not_hold_up_anothers_few(
    callers: Callers, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions, "COMMANDS_MAX", 1)
    monkeypatch.setattr(submissions, "MESSAGES_MAX", 20)
    await callers.leave("acme", 200)
    await callers.leave("bolt", 5)
    await resume(callers, await connect(), held=15)
    told = await callers.verdicts(205)
    last = max(index for index, tenant in enumerate(told) if tenant == "bolt")
    assert last <= 2 * 5 + 1, told[:20]
    assert await callers.created() == {"acme": 200, "bolt": 5}


async def test_shares_are_those_of_the_weights_and_arrays_count_by_their_items(
    callers: Callers, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions, "COMMANDS_MAX", 1)
    monkeypatch.setattr(submissions, "MESSAGES_MAX", 50)
    await callers.leave("acme", 90)
    await callers.leave("bolt", 60)
    await callers.leave("crab", 60, items=2)
    await resume(callers, await connect(), held=50, limits=Limits(tenant_weights=("acme=3",)))
    told = Counter((await callers.verdicts(210))[:90])
    for tenant, share in (("acme", 60), ("bolt", 20), ("crab", 10)):
        assert told[tenant] == pytest.approx(share, abs=4), told


async def test_what_a_node_holds_is_shared_by_weight(
    callers: Callers, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing else is short, what is in hand at a time decides who is served how fast."""
    monkeypatch.setattr(submissions, "MESSAGES_MAX", 40)
    await callers.leave("acme", 300)
    await callers.leave("bolt", 300)
    await callers.start(await connect(), Limits(tenant_weights=("acme=3", "bolt=1")))
    told = await callers.verdicts(600)
    assert Counter(told) == {"acme": 300, "bolt": 300}
    both_wait = Counter(told[100:350])
    assert 2 * both_wait["bolt"] < both_wait["acme"] < 6 * both_wait["bolt"], both_wait


async def test_of_one_tenant_the_order_is_that_of_the_stream(callers: Callers, connect: Connect) -> None:
    order: list[int] = []
    take = submissions.Submissions._take

    def watched(self: submissions.Submissions, tenant: str, delivery: Delivery) -> None:
        if tenant == "acme":
            order.append(delivery.stream_seq)
        take(self, tenant, delivery)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submissions.Submissions, "_take", watched)
        await callers.leave("acme", 300)
        await callers.leave("bolt", 100)
        await callers.leave("acme", 300)
        await callers.start(await connect())
        await callers.verdicts(700)
    assert order == sorted(order)
    assert len(order) == 600


async def test_tenants_come_at_any_time_and_idle_ones_hold_nothing_open(
    callers: Callers, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_pulls, "LANES_IDLE_MAX", 2)
    await callers.start(await connect())
    for _ in range(2):
        for tenant in ("acme", "bolt", "crab"):
            await callers.leave(tenant, 2)
            assert await callers.verdicts(2) == [tenant] * 2
        async with asyncio.timeout(15):
            while len(callers.lanes) > 2:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
    assert await callers.created() == {"acme": 4, "bolt": 4, "crab": 4}


async def test_a_consumer_that_goes_takes_nothing_with_it(callers: Callers, connect: Connect) -> None:
    """As the server drops one that nobody asks, or as somebody deletes it."""
    pair = callers.pair
    await callers.start(await connect())
    await callers.leave("acme")
    assert await callers.verdicts(1) == ["acme"]
    gate = pair.log.delay = Held()
    await callers.leave("acme", 20)
    await callers.until_held(20)
    assert await delete_consumer(pair.bus, pair.subjects.command_stream, pair.subjects.command_consumer("acme"))
    pair.log.delay = None
    gate.let(100)
    await callers.leave("acme", 20)
    async with asyncio.timeout(30):
        while (await stream_info(pair.bus, pair.subjects.command_stream)).state.messages:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await callers.created() == {"acme": 41}


async def test_what_an_earlier_version_left_and_held_is_done_once(callers: Callers, connect: Connect) -> None:
    """It had one consumer for all tenants, some of whose messages were under way."""
    pair, bus = callers.pair, await connect()
    stream, subjects = pair.subjects.command_stream, pair.subjects
    await delete_consumer(bus, stream, subjects.command_consumer("default"))
    for tenant in ("acme", "bolt", "crab"):
        await delete_consumer(bus, stream, subjects.command_consumer(tenant))
    shared = {
        "name": SHARED_COMMAND_CONSUMER,
        "durable_name": SHARED_COMMAND_CONSUMER,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "max_deliver": -1,
    }
    await create_consumer(bus, stream, SHARED_COMMAND_CONSUMER, shared)
    for tenant in ("acme", "bolt", "acme"):
        await callers.leave(tenant, 10)
    under_way: list[Delivery] = []
    old = PullLoop(bus, stream, SHARED_COMMAND_CONSUMER, under_way.append, lambda: 7 - len(under_way))
    async with asyncio.timeout(15):
        while len(under_way) < 7:  # noqa: ASYNC110 - a pull loop tells nobody
            await asyncio.sleep(0.005)
    await callers.start(await connect())
    assert Counter(await callers.verdicts(30)) == {"acme": 20, "bolt": 10}
    await old.stop()
    assert await callers.created() == {"acme": 20, "bolt": 10}
    assert await consumer_config(bus, stream, SHARED_COMMAND_CONSUMER) is None


async def test_a_tenant_whose_consumer_the_server_refuses_holds_up_nobody(callers: Callers, connect: Connect) -> None:
    pair = callers.pair
    subjects = pair.subjects
    await delete_consumer(pair.bus, subjects.command_stream, subjects.command_consumer("acme"))
    other = {
        "name": "other",
        "durable_name": "other",
        "ack_policy": "explicit",
        "filter_subject": subjects.submits_of("acme"),
    }
    await create_consumer(pair.bus, subjects.command_stream, "other", other, filter_subject=subjects.submits_of("acme"))
    await callers.leave("acme", 3)
    await callers.leave("bolt", 3)
    await callers.start(await connect())
    assert await callers.verdicts(3) == ["bolt"] * 3
    assert await delete_consumer(pair.bus, subjects.command_stream, "other")
    assert await callers.verdicts(3) == ["acme"] * 3


async def test_who_is_no_tenant_is_refused_and_does_not_lie_there_for_good(callers: Callers, connect: Connect) -> None:
    pair = callers.pair
    await callers.leave("No-Name", 2)
    await callers.start(await connect())
    async with asyncio.timeout(15):
        codes = [json.loads((await callers.heard.get()).data)["error"]["code"] for _ in range(2)]
    assert codes == ["name_invalid"] * 2
    assert len(list(await BusRefusals(pair.bus, pair.subjects).page("_", after=0, limit=10))) == 2


async def test_the_consumer_of_an_idle_tenant_goes_by_itself(callers: Callers) -> None:
    """The server drops it when no node asks; so their number is bounded by who left something lately."""
    pair = callers.pair
    name = await ensure_command_consumer(pair.bus, pair.subjects, STREAMS, "acme")
    config = await consumer_config(pair.bus, pair.subjects.command_stream, name)
    assert config is not None
    assert config["inactive_threshold"] == 60_000_000_000
    assert config["filter_subject"] == pair.subjects.submits_of("acme")
