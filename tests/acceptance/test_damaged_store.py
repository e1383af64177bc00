"""nats-server comes back with a damaged store, under load: nothing is lost, and the event stream is whole again."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasker.client import NewTask, TaskHandle
from tasker.client.subscription import START
from tasker.embedded.stack import Stack
from tasker.events.codec import decode_message
from tasker.events.messages import LifecycleEvent
from tests.acceptance.faults import Rig, until

pytestmark = [pytest.mark.faults, pytest.mark.linux, pytest.mark.timeout(300), pytest.mark.usefixtures("fault_round")]

EVENTS_BYTES = 16 * 1024 * 1024
"""So small that the server cuts the stream into files of 4 MiB: a hole is in the middle when more than one is there."""

LARGE = [NewTask("chain", {"n": 1, "pad": "x" * 60_000}, idempotency_key=f"large-{number}") for number in range(75)]
"""They fill the first file."""


class Store:
    """The files of a nats-server that is not running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stream(self, name: str) -> Path:
        """Return the folder of a stream."""
        [found] = self._folder.glob(f"**/streams/{name}")
        return found

    def blocks(self, name: str) -> list[Path]:
        """Return the files of a stream's messages, the oldest first."""
        return sorted(self.stream(name).glob("msgs/*.blk"), key=lambda path: int(path.stem))

    @staticmethod
    def flip(block: Path, count: int = 64) -> None:
        """Turn some bytes in the middle of a file around."""
        data = bytearray(block.read_bytes())
        middle = len(data) // 2
        data[middle : middle + count] = bytes(byte ^ 0xFF for byte in data[middle : middle + count])
        block.write_bytes(data)

    @staticmethod
    def halve(block: Path) -> None:
        """Cut the second half of a file off."""
        data = block.read_bytes()
        block.write_bytes(data[: len(data) // 2])


async def test_a_damaged_store_loses_nothing(own_rig: Rig, servers: Stack) -> None:
    """A hole in the middle of the event stream, its end, the work, the description of the streams."""
    rig, store = own_rig, Store(servers.nats.data_dir / "jetstream")
    events, work = rig.subjects.event_stream, rig.subjects.work_stream
    rig.service.environ["TASKER_STREAMS_EVENTS_BYTES_MAX"] = str(EVENTS_BYTES)

    async def back_with(damage: Callable[[], None]) -> None:
        await load.acked(rig.random.randint(10, 20))
        await asyncio.to_thread(servers.nats.kill)
        damage()
        await asyncio.to_thread(servers.nats.start)
        await load.acked(5)

    def middle() -> None:
        first, *rest = store.blocks(events)
        assert rest
        store.flip(first)

    def end() -> None:
        store.halve(store.blocks(events)[-1])

    def waiting_work() -> None:
        for block in store.blocks(work):
            store.flip(block)

    def descriptions() -> None:
        (store.stream(events) / "meta.inf").unlink()
        description_of_work()

    def description_of_work() -> None:
        (store.stream(work) / "meta.inf").unlink()
        shutil.rmtree(store.stream(work) / "obs")

    await rig.start()
    async with rig.service.client() as client:
        shown: list[str] = []
        following = asyncio.create_task(follow(rig, shown))
        async with rig.load() as load:
            await back_with(descriptions)
            made = await client.create_many(LARGE)
            assert all(isinstance(one, TaskHandle) for one in made), made
            await until(lambda: len(store.blocks(events)) > 1)
            await back_with(middle)
            await back_with(end)
            # What nobody takes lies in the stream.
            rig.kill_tree(rig.worker)
            await back_with(waiting_work)
            rig.worker.start()
            await back_with(description_of_work)

        async def lost() -> int:
            stored = {decode_message(body, LifecycleEvent).id for body in await rig.published()}
            return int(await rig.fetchval("SELECT count(*) FROM event")) - len(stored)

        await rig.until(lost, wanted=0)
        await rig.check(load)
        told = rig.service.process.log.read_text(errors="replace")
        assert {"event_stream_has_holes", "event_stream_behind", "event_stream_is_new", "work_stream_is_new"} <= set(
            re.findall(r"\w+_stream_\w+", told)
        )
        ended = await rig.fetchval("SELECT count(*) FROM event WHERE type = 'task_completed'")

        async def missed() -> int:
            return int(ended) - len(shown)

        await rig.until(missed, wanted=0)
        assert len(set(shown)) == len(shown)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def follow(rig: Rig, shown: list[str]) -> None:
    """Note the tasks that are completed, as a reader sees them that takes only these events."""
    async with (
        rig.service.client() as client,
        client.subscribe(types=["task_completed"], start=START) as completed,
    ):
        async for event in completed:
            shown.append(event.subject)  # noqa: PERF401 - there is no end to wait for
