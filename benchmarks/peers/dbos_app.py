"""A DBOS application: it starts workflows as it is told, and runs them.

DBOS is a library, so the application that starts a workflow runs it as well: the way of its quickstart. A queue would
add a commit and a poll to each workflow.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from dbos import DBOS, DBOSConfig, SetWorkflowID

from benchmarks.peers.lines import orders, tell

CONNECTIONS = int(os.environ["PEER_CONNECTIONS"])
OPEN = CONNECTIONS
"""Workflows that run at a time: with many more than connections the pool runs out, and what waits for it times out."""

config: DBOSConfig = {
    "name": "bench",
    "system_database_url": os.environ["PEER_DATABASE_URL"],
    "sys_db_pool_size": CONNECTIONS,
    "log_level": "WARNING",
    "application_version": "1",
    "executor_id": os.environ["PEER_NUMBER"],
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


async def main() -> None:
    places = asyncio.Semaphore(OPEN)

    async def run(shape: str, id: str, n: int) -> None:
        async with places:
            with SetWorkflowID(id):
                handle = await DBOS.start_workflow_async(WORKFLOWS[shape], n)
            await handle.get_result()
        tell([id])

    async with asyncio.TaskGroup() as group:
        async for order in orders():
            for id in order.ids:
                group.create_task(run(order.shape, id, order.n))


if __name__ == "__main__":
    DBOS.launch()
    asyncio.run(main())
    os._exit(0)  # threads of the library that look for work would go on
