"""The loop on which a test's time passes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tasker.testing.virtual_loop import START_S, VirtualLoop


def on_loop(main: Callable[[VirtualLoop], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return await main(loop)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


def test_what_is_passed_takes_no_real_time() -> None:
    async def main(loop: VirtualLoop) -> float:
        began_s = time.monotonic()
        await loop.pass_until(loop.time() + 365 * 86_400)
        assert loop.time() == START_S + 365 * 86_400
        return time.monotonic() - began_s

    assert on_loop(main) < 1.0


def test_time_stands_still_while_nobody_passes_it() -> None:
    async def main(loop: VirtualLoop) -> None:
        slept = asyncio.create_task(asyncio.sleep(1))
        await loop.settled()
        assert not slept.done()
        assert loop.time() == START_S
        await loop.pass_until(loop.time() + 0.5)
        await loop.settled()
        assert not slept.done()
        await loop.pass_until(loop.time() + 0.5)
        await loop.settled()
        assert slept.done()

    on_loop(main)


def test_timers_of_one_moment_fire_in_the_order_in_which_they_were_set() -> None:
    async def main(loop: VirtualLoop) -> list[int]:
        fired: list[int] = []
        for number in range(100):
            loop.call_later(1, fired.append, number)
        await loop.pass_until(loop.time() + 1)
        await loop.settled()
        return fired

    assert on_loop(main) == list(range(100))


def test_a_duty_in_the_background_does_not_cut_a_jump_into_pieces() -> None:
    async def main(loop: VirtualLoop) -> None:
        rounds = 0

        async def duty() -> None:
            nonlocal rounds
            while True:
                await asyncio.sleep(0.02)
                rounds += 1

        loop.background = frozenset({"duty"})
        running = asyncio.create_task(duty(), name="duty")
        await loop.settled()
        await loop.pass_until(loop.time() + 3_600)
        await loop.settled()
        assert rounds == 1
        found = loop.time() + 1
        loop.wakes.append(lambda: found if loop.time() < found else None)
        await loop.pass_until(loop.time() + 10)
        await loop.settled()
        assert rounds == 3, "once at what it would have found, once at the end"
        running.cancel()

    on_loop(main)


def test_time_waits_for_a_thread() -> None:
    async def main(loop: VirtualLoop) -> None:
        timer = asyncio.create_task(asyncio.sleep(10))
        at_work, done = threading.Event(), threading.Event()

        def work() -> float:
            at_work.set()
            done.wait()
            return loop.time()

        working = asyncio.create_task(asyncio.to_thread(work))
        passing = asyncio.create_task(loop.pass_until(loop.time() + 60))
        while not at_work.is_set():  # noqa: ASYNC110 - the thread's event is no asyncio one
            await asyncio.sleep(0)
        loop.call_soon(done.set)
        assert await working == START_S
        await passing
        assert timer.done()

    on_loop(main)


def test_a_thread_sleeps_in_virtual_time() -> None:
    async def main(loop: VirtualLoop) -> None:
        woken: list[float] = []

        def work() -> None:
            loop.sleep_in_thread(3_600)
            woken.append(loop.time())

        working = asyncio.create_task(asyncio.to_thread(work))
        await loop.pass_until(loop.time() + 3_599)
        assert woken == []
        await loop.pass_until(loop.time() + 10)
        await working
        assert woken == [START_S + 3_600]

    on_loop(main)


def test_an_event_that_another_thread_sets_is_seen_when_the_loop_is_woken() -> None:
    async def main(loop: VirtualLoop) -> None:
        gates = [asyncio.Event() for _ in range(3)]
        waiting = [asyncio.create_task(gate.wait()) for gate in gates for _ in range(50)]
        await loop.settled()

        def test() -> None:
            for gate in gates:
                gate.set()
            loop.call_soon_threadsafe(lambda: None)

        threading.Thread(target=test).start()
        assert all(await asyncio.gather(*waiting))

    on_loop(main)


def test_an_open_socket_is_given_time_to_answer() -> None:
    async def main(loop: VirtualLoop) -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"hello\n")
            await writer.drain()
            writer.close()

        loop.io_patience_s = 10.0
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            with loop.passing(loop.time() + 60):
                async with asyncio.timeout(30):
                    writer.write(b"who\n")
                    line = await reader.readline()
            writer.close()
            await writer.wait_closed()
        return line

    assert on_loop(main) == b"hello\n"
