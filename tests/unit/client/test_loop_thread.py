"""The loop behind the blocking client: a call of one thread while another closes it ends, with an error."""

import asyncio
import concurrent.futures
import threading

import pytest

from tasker.client.loop_thread import LoopThread
from tasker.errors import ConfigurationError


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_a_call_that_is_handed_over_while_another_thread_stops_it_is_ended(monkeypatch) -> None:
    loop = LoopThread()
    stopping = threading.Thread(target=loop.stop)
    check = loop._check

    def check_then_stop() -> None:
        check()
        stopping.start()
        stopping.join(0.2)

    monkeypatch.setattr(loop, "_check", check_then_stop)
    with pytest.raises(concurrent.futures.CancelledError):
        loop.run(for_ever())
    stopping.join()
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match="closed"):
        loop.run(for_ever())
