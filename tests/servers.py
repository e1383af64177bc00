"""The one cluster that all tests of a run share: a PostgreSQL and a nats-server in a temporary directory.

Under pytest-xdist the controller starts it and hands the addresses to its workers; else the first test that
asks does. Each test gets a database of its own, copied from a template that has the migrations applied.
"""

import itertools
import tempfile
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import msgspec

from tasker.embedded.stack import Stack, StackInfo

_TEMPLATE = "tasker_template"
_LOCK_KEY = 7_233_001
"""Of the advisory lock under which one process makes the template."""

_numbers = itertools.count(1)
_run = uuid.uuid4().hex[:8]


class SharedCluster:
    """The servers of this run: started by the first who asks, or somewhere else already."""

    def __init__(self, addresses: StackInfo | None = None) -> None:
        self._addresses = addresses
        self._stack: Stack | None = None
        self._template_made = False

    def addresses(self) -> StackInfo:
        """Return where the servers are; start them when nobody has."""
        if self._addresses is None:
            folder = Path(tempfile.mkdtemp(prefix="tasker-tests-"))
            self._stack = Stack(folder, durable=False)
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
        connection = await asyncpg.connect(self.addresses().database_url)
        try:
            if not self._template_made:
                await self._make_template(connection)
                self._template_made = True
            name = f"t_{_run}_{next(_numbers)}"
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY")
        finally:
            await connection.close()
        return database_url(self.addresses().database_url, name)

    async def create_empty_database(self) -> str:
        """Return the DSN of a new database that has nothing in it."""
        name = f"t_{_run}_{next(_numbers)}"
        connection = await asyncpg.connect(self.addresses().database_url)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return database_url(self.addresses().database_url, name)

    async def drop_database(self, dsn: str) -> None:
        """Drop a database that `create_database` returned, whoever is still connected."""
        name = urlsplit(dsn).path.removeprefix("/")
        connection = await asyncpg.connect(self.addresses().database_url)
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        finally:
            await connection.close()

    async def _make_template(self, connection: asyncpg.Connection) -> None:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
        try:
            ready = await connection.fetchval("SELECT datistemplate FROM pg_database WHERE datname = $1", _TEMPLATE)
            if ready:
                return
            await connection.execute(f"DROP DATABASE IF EXISTS {_TEMPLATE}")
            await connection.execute(f"CREATE DATABASE {_TEMPLATE}")
            await migrate_all(database_url(self.addresses().database_url, _TEMPLATE))
            await connection.execute(f"ALTER DATABASE {_TEMPLATE} IS_TEMPLATE true")
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK_KEY)


def database_url(dsn: str, name: str) -> str:
    """Return the DSN of another database on the same server."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


async def migrate_all(dsn: str) -> None:
    """Bring a database to the present schema. The one place of the tests that names what applies it."""
    from tasker.events.postgres_log import migrate

    await migrate(dsn)


def as_text(addresses: StackInfo) -> str:
    """Return addresses in a form that an xdist worker can be given."""
    return msgspec.json.encode(addresses).decode()


def from_text(text: str) -> StackInfo:
    """Return what `as_text` was given."""
    return msgspec.json.decode(text, type=StackInfo)
