"""The bus under each of its adapters."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tasker.bus.bus import Bus
from tasker.bus.memory_bus import MemoryBroker
from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import delete_stream
from tasker.events.memory_log import MemoryLog
from tasker.events.subjects import Subjects
from tests.contracts.pair import SHARDS, Pair

Connect = Callable[[], Awaitable[Bus]]


@pytest.fixture(params=["memory", "nats"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Return what opens one more connection to the same server; all are closed at the end."""
    opened: list[Bus] = []
    broker = MemoryBroker() if request.param == "memory" else None
    url = "" if broker is not None else request.getfixturevalue("nats_url")

    async def open_one() -> Bus:
        bus: Bus = broker.connect() if broker is not None else await NatsBus.connect(url, name="test")
        opened.append(bus)
        return bus

    yield open_one
    for bus in opened:
        await bus.close()


@pytest.fixture
async def bus(connect: Connect) -> Bus:
    """One connection."""
    return await connect()


@pytest.fixture
async def pair(connect: Connect, nats_prefix: str) -> AsyncIterator[Pair]:
    """Two nodes with the template `t`, whose one step nobody works on."""
    bus = await connect()
    subjects = Subjects(nats_prefix)
    pair = Pair(MemoryLog(shards=SHARDS), bus, subjects)
    await pair.start(await connect())
    await pair.start(await connect())
    await pair.registered()
    yield pair
    await pair.stop()
    for name in subjects.streams:
        await delete_stream(bus, name)
