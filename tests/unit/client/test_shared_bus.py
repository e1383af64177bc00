"""A client's connection to NATS: made once, waited for by each call for its own time."""

import asyncio
import socket
import time

import pytest

from tasker.bus.bus import Bus
from tasker.bus.memory_bus import MemoryBroker
from tasker.client import TaskerClient
from tasker.client.shared_bus import SharedBus
from tasker.errors import TaskerError, Unavailable


class Server:
    """Answers, or refuses, when a test says so."""

    def __init__(self) -> None:
        self.tries: list[asyncio.Future[Bus]] = []
        self.shared = SharedBus(self.connect)

    async def connect(self) -> Bus:
        self.tries.append(asyncio.get_running_loop().create_future())
        return await self.tries[-1]

    async def waiting(self, within_s: float = 10.0) -> "asyncio.Task[Bus]":
        """Return a call that waits for the connection."""
        call = asyncio.create_task(self.shared.get(within_s=within_s))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return call


async def test_calls_wait_for_one_connection_together() -> None:
    server, bus = Server(), MemoryBroker().connect()
    calls = [await server.waiting() for _ in range(3)]
    server.tries[0].set_result(bus)
    assert await asyncio.gather(*calls) == [bus] * 3
    assert await server.shared.get(within_s=0) is bus
    assert len(server.tries) == 1
    await server.shared.close()
    assert bus.closed
    await server.shared.close()


async def test_each_call_waits_for_its_own_time() -> None:
    server = Server()
    patient = await server.waiting()
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"within 0\.01 s"):
            await server.shared.get(within_s=0.01)
    assert (len(server.tries), patient.done()) == (1, False)
    await server.shared.close()
    with pytest.raises(Unavailable, match="the client was closed"):
        await patient


async def test_a_call_that_joined_a_try_which_failed_has_one_of_its_own() -> None:
    server, bus = Server(), MemoryBroker().connect()
    first, second = await server.waiting(), await server.waiting()
    server.tries[0].set_exception(Unavailable("no connection to NATS: refused"))
    with pytest.raises(Unavailable, match="refused"):
        await first
    await asyncio.sleep(0)
    server.tries[1].set_result(bus)
    assert await second is bus
    await server.shared.close()


async def test_a_call_that_is_cancelled_takes_nothing_from_the_others() -> None:
    server, bus = Server(), MemoryBroker().connect()
    first, second = await server.waiting(), await server.waiting()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.tries[0].set_result(bus)
    assert await second is bus
    await server.shared.close()


async def test_calls_of_a_client_whose_server_is_away_end_in_time_together() -> None:
    """They tried one after the other, each for as long as one call may take."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"nats://127.0.0.1:{nobody.getsockname()[1]}"
        async with TaskerClient(address, "", timeout_s=0.2) as client:
            begun_s = time.monotonic()
            found = await asyncio.gather(*(client.create("t") for _ in range(5)), return_exceptions=True)
            assert time.monotonic() - begun_s < 3
            assert [type(one) for one in found] == [Unavailable] * 5
            assert all(isinstance(one, TaskerError) and "NATS" in one.detail for one in found)
