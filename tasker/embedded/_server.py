"""One embedded server on one data directory: when it runs, where, and how it ends. What it is says each kind itself."""

import abc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from tasker.embedded._process import DataLock, ServerProcess, last_lines
from tasker.errors import ConfigurationError
from tasker.settings import EmbeddedSettings


class EmbeddedServer(abc.ABC):
    """What both servers share."""

    what: ClassVar[str]
    """Its name in messages."""

    log_name: ClassVar[str]
    """The file of its log, in its directory."""

    def __init__(self, data_dir: Path, settings: EmbeddedSettings | None) -> None:
        self.data_dir = data_dir.absolute()
        self._settings = settings or EmbeddedSettings()
        self._lock = DataLock(self.data_dir / "lock", what=self.what)
        self._process: ServerProcess | None = None
        self._address: str | None = None

    @property
    def address(self) -> str:
        """Where clients reach it, as long as it runs."""
        if self._address is None:
            raise ConfigurationError(f"the embedded {self.what} is not running")
        return self._address

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._started.pid

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and not self._process.ended

    def start(self) -> str:
        """Start the server on its data, wait until it serves, and return its address.

        Raises:
            ConfigurationError: no program, data in use, or the server did not start.
        """
        if self.running:
            return self.address
        launch = self._prepare()
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._release()
            self._lock.acquire()
            self._address = launch()
        except OSError as error:
            self.stop()
            raise ConfigurationError(f"{self.what} cannot be started in {self.data_dir}: {error}") from error
        except BaseException:
            self.stop()
            raise
        return self._address

    def last_words(self) -> str:
        """Return where the server's log is, and its end."""
        log = self.data_dir / self.log_name
        return f"the end of {log}:\n{last_lines(log)}"

    def stop(self) -> None:
        """Stop the server and wait for its end. Data stays. Twice, or before the start, is fine."""
        if self._process is not None:
            self._process.stop()
        self._release()

    def kill(self) -> None:
        """End the server with SIGKILL, as a fault. `start` starts it again on the same data."""
        if self._process is not None:
            self._process.kill()
        self._release()

    def remove(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    @abc.abstractmethod
    def _prepare(self) -> Callable[[], str]:
        """Find the programs; return what starts `_process` under the lock, and says the address once it serves.

        Raises:
            ConfigurationError: there are none.
        """

    @property
    def _started(self) -> ServerProcess:
        if self._process is None:
            raise ConfigurationError(f"the embedded {self.what} is not running")
        return self._process

    def _release(self) -> None:
        self._process = None
        self._address = None
        self._lock.release()
