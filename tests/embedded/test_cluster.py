"""What the fixtures promise to every test."""

import asyncpg
import nats


async def test_a_database_is_fresh_and_our_own(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE TABLE only_here (x int)")
    await connection.close()


async def test_another_database_is_fresh_too(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE TABLE only_here (x int)")
    await connection.close()


async def test_nats_serves_under_a_prefix_of_our_own(nats_url: str, nats_prefix: str) -> None:
    bus = await nats.connect(nats_url)
    info = await bus.jetstream().add_stream(name=f"{nats_prefix}_x", subjects=[f"{nats_prefix}.>"])
    assert info.state.messages == 0
    await bus.jetstream().delete_stream(f"{nats_prefix}_x")
    await bus.close()
