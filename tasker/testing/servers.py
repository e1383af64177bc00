"""The real servers that the tests of one session share: started by the first who asks, gone with the last."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from tasker.embedded.stack import Stack


class Servers(msgspec.Struct, frozen=True):
    """Where PostgreSQL and nats-server are."""

    database_url: str
    nats_url: str


class OwnServers:
    """PostgreSQL and nats-server from the wheels, in a temporary directory."""

    def __init__(self) -> None:
        self._stack = Stack(Path(tempfile.mkdtemp(prefix="tasker-test-")), durable=False)

    def start(self) -> Servers:
        """Start them.

        Raises:
            ConfigurationError: there are none; it says what to install or to set.
        """
        info = self._stack.start()
        return Servers(info.database_url, info.nats_url)

    def stop(self) -> None:
        """Stop them, and delete what they held."""
        self._stack.remove()
