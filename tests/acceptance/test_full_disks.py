"""Disks that are full: of PostgreSQL's data, of its write-ahead log, of the store of nats-server.

Each is a small tmpfs that a ballast fills. Where nothing may be mounted these tests are skipped, and say so.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from tasker.embedded.stack import Stack
from tasker.events.postgres_log import migrate
from tests.acceptance.faults import Rig, until

pytestmark = [pytest.mark.faults, pytest.mark.linux, pytest.mark.timeout(300), pytest.mark.usefixtures("fault_round")]

MIB = 1024**2
SPARE_BYTES = 256 * 1024
"""What a full disk has left: less than a page of anything that grows."""


class Disk:
    """A small disk and what fills it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ballast = place / "ballast"

    def fill(self) -> None:
        """Leave next to nothing; less, when others write meanwhile."""
        with self._ballast.open("wb", buffering=0) as ballast:
            left = shutil.disk_usage(self.place).free - SPARE_BYTES
            try:
                while left > 0:
                    left -= ballast.write(b"\0" * min(left, MIB))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def empty(self) -> None:
        """Have space again."""
        self._ballast.unlink()


@contextmanager
def disk(place: Path, *, mib: int) -> Iterator[Disk]:
    """Mount a disk of its own on a folder."""
    place.mkdir(mode=0o711, parents=True, exist_ok=True)
    mount, umount = shutil.which("mount"), shutil.which("umount")
    argv = [mount or "mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0711", "tmpfs", str(place)]
    mounted = subprocess.run(argv, capture_output=True, text=True, check=False) if mount and umount else None
    if mounted is None or mounted.returncode:
        why = "there is no program for it" if mounted is None else mounted.stderr.strip()
        pytest.skip(f"NO FULL DISK WAS TESTED: it takes a mount, and {why}")
    try:
        yield Disk(place)
    finally:
        subprocess.run([str(umount), "-l", str(place)], check=True)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the user of PostgreSQL reaches."""
    folder = Path(tempfile.mkdtemp(prefix="tasker-full-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def running(stack: Stack, folder: Path) -> Iterator[Rig]:
    """Service and worker on servers that are started here."""
    stack.start()
    try:
        asyncio.run(migrate(stack.postgres.dsn))
        rig = Rig(database_url=stack.postgres.dsn, nats_url=stack.nats.url, folder=folder)
        try:
            yield rig
        finally:
            rig.stop()
    finally:
        stack.remove()


@contextmanager
def wal_elsewhere(stack: Stack, place: Path) -> Iterator[None]:
    """Make the cluster of a stack, with its write-ahead log in another place than its data."""
    stack.postgres.start()
    stack.postgres.stop()
    place.mkdir(mode=0o711, exist_ok=True)
    inside = stack.postgres.data_dir / "data" / "pg_wal"
    owner = inside.stat()
    shutil.copytree(inside, place / "pg_wal")
    for one in (place / "pg_wal", *(place / "pg_wal").rglob("*")):
        os.chown(one, owner.st_uid, owner.st_gid)
    shutil.rmtree(inside)
    inside.symlink_to(place / "pg_wal")
    yield


def test_the_disk_of_the_data_is_full(place: Path, tmp_path: Path) -> None:
    """Appends fail, and are done once there is space: nobody was told that they had been done before."""

    async def live(rig: Rig) -> None:
        await rig.start()
        async with rig.load() as load:
            await load.acked(10)
            await asyncio.to_thread(data.fill)
            await until(lambda: "No space left on device" in rig.service.process.said())
            await asyncio.sleep(rig.random.uniform(0.5, 2.0))
            data.empty()
            await load.acked(10)
        assert rig.service.process.ended() is None
        await rig.check(load)

    stack = Stack(place / "servers", durable=False)
    with (
        disk(place / "servers" / "postgres", mib=160) as data,
        wal_elsewhere(stack, place / "wal"),
        running(stack, tmp_path) as rig,
    ):
        asyncio.run(live(rig))


def test_the_disk_of_the_write_ahead_log_is_full(place: Path, tmp_path: Path) -> None:
    """PostgreSQL panics at that; its operator makes space and starts it again."""

    async def live(rig: Rig) -> None:
        await rig.start()
        async with rig.load() as load:
            await load.acked(10)
            await asyncio.to_thread(wal.fill)
            await use_up(stack.postgres.dsn)
            await until(lambda: "PostgreSQL cannot be reached" in rig.service.process.said())
            await asyncio.to_thread(stack.postgres.kill)
            wal.empty()
            await asyncio.to_thread(stack.postgres.start)
            await load.acked(10)
        assert rig.service.process.ended() is None
        await rig.check(load)

    stack = Stack(place / "servers", durable=False)
    with (
        disk(place / "wal", mib=64) as wal,
        wal_elsewhere(stack, place / "wal"),
        running(stack, tmp_path) as rig,
    ):
        asyncio.run(live(rig))


async def use_up(dsn: str) -> None:
    """Write to the write-ahead log until there is no room."""
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection = await asyncpg.connect(dsn)
        try:
            for _ in range(100):
                await connection.execute("SELECT pg_logical_emit_message(true, 't', repeat('x', 1000000))")
        finally:
            connection.terminate()


@pytest.mark.whole
def test_the_store_of_nats_is_full(place: Path, tmp_path: Path) -> None:
    """Commands, work and reports go on without it; what it could not take it gets when it is back."""

    async def live(rig: Rig) -> None:
        await rig.start()
        async with rig.load() as load:
            await load.acked(10)
            await asyncio.to_thread(store.fill)
            await until(lambda: "publishing_interrupted" in rig.service.process.said())
            await load.acked(20)
            store.empty()
            # It may have given up its store for good.
            await asyncio.to_thread(stack.nats.kill)
            await asyncio.to_thread(stack.nats.start)
            await load.acked(10)
        assert rig.service.process.ended() is None
        await rig.check(load)

    stack = Stack(place / "servers", durable=False)
    with disk(place / "servers" / "nats", mib=48) as store, running(stack, tmp_path) as rig:
        asyncio.run(live(rig))
