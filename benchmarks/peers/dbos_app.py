"""A DBOS application: it starts workflows as lines on its stdin say, and tells their ends on stdout.

Run by the peers' own environment, which has `dbos` and nothing of the project. DBOS is a library, so the application
that starts workflows runs them as well: the path that its makers measure as the fastest, without a queue.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from dbos import DBOS, DBOSConfig, SetWorkflowID

POOL = int(os.environ.get("PEER_POOL", "20"))
OPEN = POOL
"""Workflows that run at a time: with many more than connections, the pool runs out and its callers time out."""

config: DBOSConfig = {
    "name": "bench",
    "system_database_url": os.environ["PEER_DATABASE_URL"],
    "sys_db_pool_size": POOL,
    "log_level": "WARNING",
    "application_version": "1",
}
DBOS(config=config)


@DBOS.step()
async def square(n: int) -> int:
    return n**2


@DBOS.step()
async def only(n: int) -> dict[str, Any]:
    return {"ok": True, "n": n}


@DBOS.step()
async def joined(b: int, c: int) -> int:
    return (b * c) ** 2


@DBOS.step()
async def number(item: int) -> int:
    return item


@DBOS.step()
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@DBOS.workflow()
async def one(n: int) -> dict[str, Any]:
    return await only(n)


@DBOS.workflow()
async def linear4(n: int) -> int:
    return await square(await square(await square(await square(n))))


@DBOS.workflow()
async def diamond4(n: int) -> int:
    start = await square(n)
    b, c = await asyncio.gather(square(start), square(start))
    return await joined(b, c)


@DBOS.workflow()
async def fanout100(_n: int) -> int:
    return await total(list(await asyncio.gather(*[number(item) for item in range(100)])))


WORKFLOWS = {"one": one, "linear4": linear4, "diamond4": diamond4, "fanout100": fanout100}


async def serve() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running: set[asyncio.Task[None]] = set()
    failed: list[BaseException] = []

    def note(done: asyncio.Task[None]) -> None:
        if error := done.exception():
            failed.append(error)

    places = asyncio.Semaphore(OPEN)

    async def run(shape: str, id: str, n: int) -> None:
        async with places:
            with SetWorkflowID(id):
                handle = await DBOS.start_workflow_async(WORKFLOWS[shape], n)
            await handle.get_result()
        print(json.dumps({"ended": [id]}), flush=True)

    print(json.dumps({"ready": True}), flush=True)
    while line := await lines.readline():
        order = json.loads(line)
        for id in order["ids"]:
            task = asyncio.create_task(run(order["shape"], id, order["n"]))
            running.add(task)
            task.add_done_callback(running.discard)
            task.add_done_callback(note)
        if failed:
            raise failed[0]


if __name__ == "__main__":
    DBOS.launch()
    asyncio.run(serve())
    os._exit(0)
