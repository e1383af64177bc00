"""PostgreSQL and nats-server together, and the file by which commands find them (`tasker.settings.running`).

The file is written when both run, and removed when the stack stops.
"""

import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tasker.embedded._process import write_private
from tasker.embedded.nats import EmbeddedNats
from tasker.embedded.postgres import EmbeddedPostgres
from tasker.errors import ConfigurationError
from tasker.settings import EmbeddedSettings
from tasker.settings.running import STACK_FILE, StackInfo, process_mark

_ELSEWHERE = "choose another with --data or TASKER_DATA"


class Stack:
    """Both servers on one data directory; also a context manager."""

    def __init__(self, data_dir: Path, settings: EmbeddedSettings | None = None, *, durable: bool = True) -> None:
        """Name the directory (made when missing); `durable=False`: no fsync, any number of streams; for tests."""
        self.data_dir = data_dir.absolute()
        self.postgres = EmbeddedPostgres(self.data_dir / "postgres", settings, durable=durable)
        self.nats = EmbeddedNats(self.data_dir / "nats", settings, bounded=durable)
        self._info: StackInfo | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> StackInfo:
        """Start both servers side by side, write the stack file, and return what it says.

        Raises:
            ConfigurationError: the directory cannot be used, or one of them cannot start; then neither runs.
        """
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"the data directory {self.data_dir} cannot be made: {error.strerror}; {_ELSEWHERE}"
            ) from error
        if not os.access(self.data_dir, os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"the data directory {self.data_dir} may not be written by this user; {_ELSEWHERE}"
            )
        if os.geteuid() == 0:
            # The server's user passes through to its own part; it may not look.
            self.data_dir.chmod(0o711)
        try:
            with ThreadPoolExecutor(2, thread_name_prefix="tasker-embedded") as pool:
                database, bus = pool.submit(self.postgres.start), pool.submit(self.nats.start)
            return self._write(
                StackInfo(
                    pid=os.getpid(),
                    mark=process_mark(os.getpid()) or "",
                    database_url=database.result(),
                    nats_url=bus.result(),
                )
            )
        except BaseException:
            self.stop()
            raise

    def publish(self, *, http_url: str) -> StackInfo:
        """Add the address of the HTTP service to the stack file, and return what it says now."""
        assert self._info is not None, "the stack is not started"  # noqa: S101 a bug of ours
        return self._write(msgspec.structs.replace(self._info, http_url=http_url))

    def stop(self) -> None:
        """Remove the stack file and stop both servers. Data stays. Twice, or before the start, is fine."""
        if self._info is not None:
            self._info = None
            with contextlib.suppress(FileNotFoundError):
                (self.data_dir / STACK_FILE).unlink()
        try:
            self.nats.stop()
        finally:
            self.postgres.stop()

    def remove(self) -> None:
        """Stop both servers and delete all data."""
        self.stop()
        self.nats.remove()
        self.postgres.remove()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def _write(self, info: StackInfo) -> StackInfo:
        write_private(self.data_dir / STACK_FILE, msgspec.json.encode(info).decode())
        self._info = info
        return info
