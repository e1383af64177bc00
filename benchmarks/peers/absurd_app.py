"""An Absurd application: it spawns tasks as it is told, and its workers run them.

Each worker has a connection of its own, as the SDK wants it. An array of tasks is spawned in one transaction, and then
workers of the same process are woken; each claims some tasks at a time until there are none. It also looks by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from absurd_sdk import AsyncAbsurd
from absurdctl import BUNDLED_SCHEMA_SQL
from psycopg import AsyncConnection
from psycopg.errors import Error

from benchmarks.peers.lines import orders, tell

URL = os.environ["PEER_DATABASE_URL"]
WORKERS = int(os.environ["PEER_CONNECTIONS"])
CLAIM = 10
"""Tasks that a worker claims at a time."""

IDLE_S = 1.0
"""How often a worker looks that nobody has woken."""

SCHEMA_LOCK = 17


def as_step(value: Any) -> Any:
    async def step() -> Any:
        return value

    return step


def shapes(app: AsyncAbsurd, ended: list[str]) -> None:
    """Register the shapes; a task that has run is noted in `ended`."""

    @app.register_task("one")
    async def one(params: Any, ctx: Any) -> Any:
        ended.append(params["id"])
        return await ctx.step("only", as_step({"ok": True, "n": params["n"]}))

    @app.register_task("linear4")
    async def linear4(params: Any, ctx: Any) -> Any:
        ended.append(params["id"])
        value = params["n"]
        for name in ("s1", "s2", "s3", "s4"):
            value = await ctx.step(name, as_step(value**2))
        return value

    @app.register_task("diamond4")
    async def diamond4(params: Any, ctx: Any) -> Any:
        ended.append(params["id"])
        start = await ctx.step("start", as_step(params["n"] ** 2))
        b, c = await asyncio.gather(ctx.step("b", as_step(start**2)), ctx.step("c", as_step(start**2)))
        return await ctx.step("end", as_step((b * c) ** 2))

    @app.register_task("fanout100")
    async def fanout100(params: Any, ctx: Any) -> Any:
        ended.append(params["id"])
        numbers = await asyncio.gather(*[ctx.step(f"number-{item}", as_step(item)) for item in range(100)])
        return await ctx.step("total", as_step(sum(numbers)))


async def connect() -> AsyncConnection[Any]:
    return await AsyncConnection.connect(URL, autocommit=True)


async def work(number: int, wake: asyncio.Queue[None]) -> None:
    """Be one worker."""
    ended: list[str] = []
    app = AsyncAbsurd(await connect())
    shapes(app, ended)
    while True:
        await app.work_batch(worker_id=f"{os.getpid()}-{number}", batch_size=CLAIM)
        if ended:
            tell(ended)
            ended.clear()
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await wake.get()


async def main() -> None:
    connection = await connect()
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
        found = await (await connection.execute("SELECT to_regnamespace('absurd')")).fetchone()
        if found == (None,):
            await connection.execute(BUNDLED_SCHEMA_SQL.encode())
            await connection.execute("SELECT absurd.create_queue('default')")
    app = AsyncAbsurd(connection)
    shapes(app, [])
    async with asyncio.TaskGroup() as group:
        wake: asyncio.Queue[None] = asyncio.Queue()
        workers = [group.create_task(work(number, wake)) for number in range(WORKERS)]
        async for order in orders():
            async with connection.transaction():
                for id in order.ids:
                    await app.spawn(order.shape, {"n": order.n, "id": id})
            for _ in range(0, len(order.ids), CLAIM):
                wake.put_nowait(None)
        for worker in workers:
            worker.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except* Error as failed:
        raise SystemExit(f"absurd: {failed.exceptions[0]}") from failed
