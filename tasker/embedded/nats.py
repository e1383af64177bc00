"""A real nats-server with JetStream, on a loopback port, behind a random secret.

Port and secret are kept with the data, so that clients find the server again after a restart.
"""

import contextlib
import json
import re
import secrets
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tasker.embedded._binaries import find_nats
from tasker.embedded._process import ServerProcess, free_port, last_lines, rotate_log, write_private
from tasker.embedded._server import EmbeddedServer
from tasker.errors import ConfigurationError
from tasker.settings import EmbeddedSettings

_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.005
_PORT_TRIES = 5
_USER = "tasker"
_PAYLOAD_BYTES_MAX = 1024 * 1024
_UNBOUNDED_BYTES = 1 << 50


class EmbeddedNats(EmbeddedServer):
    """One nats-server on one data directory."""

    what = "nats-server"
    log_name = "nats-server.log"

    def __init__(
        self,
        data_dir: Path,
        settings: EmbeddedSettings | None = None,
        *,
        bounded: bool = True,
    ) -> None:
        """Name the directory (made when missing); a port that is given is used or refused, never exchanged.

        `bounded=False`: streams may reserve more than the disk has; for tests, whose many streams stay nearly empty.
        """
        super().__init__(data_dir, settings)
        self._bounded = bounded
        self._wanted_port = self._settings.nats_port

    @property
    def url(self) -> str:
        """The address with its secret, as long as the server runs."""
        return self.address

    def _prepare(self) -> Callable[[], str]:
        return partial(self._launch, find_nats(self._settings.nats_bin))

    def _launch(self, program: Path) -> str:
        port, secret = self._recall()
        log = self.data_dir / self.log_name
        rotate_log(log)
        for attempt in range(_PORT_TRIES):
            if self._wanted_port is None and (attempt or not port or not _is_free(port)):
                port = free_port()
            self._write_configuration(port, secret)
            self._process = ServerProcess.start(
                [str(program), "--config", str(self.data_dir / "nats.conf")],
                cwd=self.data_dir,
                log=log,
                stop_signal=signal.SIGTERM,
                stop_timeout_s=_STOP_TIMEOUT_S,
                account=None,
                lock=self._lock,
            )
            if self._wait_ready(port):
                return f"nats://{_USER}:{secret}@127.0.0.1:{port}"
            if self._wanted_port is not None or "address already in use" not in last_lines(log):
                break
        message = f"nats-server did not start on port {port}; the end of {log}:\n{last_lines(log)}"
        raise ConfigurationError(message)

    def _recall(self) -> tuple[int, str]:
        """Return the port (0: none yet) and the secret of the last start, or a new secret."""
        port, secret = 0, ""
        with contextlib.suppress(FileNotFoundError):
            text = (self.data_dir / "nats.conf").read_text()
            if found := re.search(r"^listen: 127\.0\.0\.1:(\d+)$", text, re.MULTILINE):
                port = int(found[1])
            if found := re.search(r'^  password: "(\w+)"$', text, re.MULTILINE):
                secret = found[1]
        return self._wanted_port or port, secret or secrets.token_hex(16)

    def _write_configuration(self, port: int, secret: str) -> None:
        store = json.dumps(str(self.data_dir / "jetstream"))
        bound = "" if self._bounded else f"  max_file_store: {_UNBOUNDED_BYTES}\n"
        text = f"""# Written anew at each start by tasker; only port and password are read back.
listen: 127.0.0.1:{port}
server_name: tasker
max_payload: {_PAYLOAD_BYTES_MAX}
write_deadline: "10s"
max_control_line: 4096
authorization {{
  user: {_USER}
  password: "{secret}"
}}
jetstream {{
  store_dir: {store}
{bound}}}
"""
        write_private(self.data_dir / "nats.conf", text)

    def _wait_ready(self, port: int) -> bool:
        """Return True once the server greets on the port, False when it ended; JetStream is up before it listens."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._started.ended:
                return False
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0) as greeting:
                # A server of somebody else may hold the port while ours is about to fail on it.
                if b'"server_name":"tasker"' in greeting.recv(65536) and not self._started.ended:
                    return True
            time.sleep(_POLL_S)
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As nats-server does: a port whose last connections still linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
