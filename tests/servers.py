"""The one cluster that all tests of a run share: a PostgreSQL and a nats-server in a temporary directory.

Under pytest-xdist the controller starts it and hands the addresses to its workers; else the first test that
asks does. Each test gets a database of its own, copied from a template that has the migrations applied.
"""

import tempfile
from pathlib import Path

import msgspec

from tasker.embedded.stack import Stack
from tasker.settings import read_settings
from tasker.settings.running import StackInfo
from tasker.testing.postgres_databases import create_database, create_empty_database, drop_database


class SharedCluster:
    """The servers of this run: started by the first who asks, or somewhere else already."""

    def __init__(self, addresses: StackInfo | None = None) -> None:
        self._addresses = addresses
        self._stack: Stack | None = None

    def addresses(self) -> StackInfo:
        """Return where the servers are; start them when nobody has."""
        if self._addresses is None:
            folder = Path(tempfile.mkdtemp(prefix="tasker-tests-"))
            self._stack = Stack(folder, read_settings().settings.embedded, durable=False)
            self._addresses = self._stack.start()
        return self._addresses

    def stop(self) -> None:
        """Stop what we started, and delete it."""
        if self._stack is not None:
            self._stack.remove()
            self._stack = None
            self._addresses = None

    async def create_database(self) -> str:
        """Return the DSN of a new database with the schema of the log and the projections."""
        return await create_database(self.addresses().database_url)

    async def create_empty_database(self) -> str:
        """Return the DSN of a new database that has nothing in it."""
        return await create_empty_database(self.addresses().database_url)

    async def drop_database(self, dsn: str) -> None:
        """Drop a database that `create_database` returned, whoever is still connected."""
        await drop_database(dsn)


def as_text(addresses: StackInfo) -> str:
    """Return addresses in a form that an xdist worker can be given."""
    return msgspec.json.encode(addresses).decode()


def from_text(text: str) -> StackInfo:
    """Return what `as_text` was given."""
    return msgspec.json.decode(text, type=StackInfo)
