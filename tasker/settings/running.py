"""The stack that runs on this machine: the file by which commands and clients find it.

`tasker up` writes `<data directory>/stack.json` (0600, it holds a secret). It names the addresses and the process that
answers for them, and is believed only while that process lives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

STACK_FILE: Final = "stack.json"
ROOT_DATA_DIR: Final = Path("/var/lib/tasker")
"""Where root's data is, and what another user must reach of it."""

_STARTED_FIELD: Final = 19  # of /proc/<pid>/stat, counted behind the command's closing parenthesis


class StackInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running stack is reached; `http_url` is empty until the service has published it."""

    pid: int
    mark: str
    database_url: str
    nats_url: str
    http_url: str = ""

    def environment(self) -> dict[str, str]:
        """Return the variables by which a client or a service is pointed at this stack."""
        named = {
            "TASKER_DATABASE_URL": self.database_url,
            "TASKER_NATS_URL": self.nats_url,
            "TASKER_HTTP_URL": self.http_url,
        }
        return {name: value for name, value in named.items() if value}


def running_stack(data: str | None, environ: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return the `TASKER_*` variables of the stack that runs on `data` (else the default directory); empty: none."""
    if os.name == "nt":
        return {}
    found = find_stack(data_dir_of(data, environ))
    return {} if found is None else found.environment()


def data_dir_of(named: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the named directory, else `/var/lib/tasker` for root, else `tasker` in the user's data (XDG)."""
    if named:
        return Path(named).absolute()
    if os.geteuid() == 0:
        return ROOT_DATA_DIR
    xdg = Path(environ.get("XDG_DATA_HOME", ""))
    # XDG: a relative path is to be ignored.
    base = xdg if xdg.is_absolute() else Path(environ.get("HOME") or Path.home()) / ".local" / "share"
    return base / "tasker"


def find_stack(data_dir: Path) -> StackInfo | None:
    """Return the running stack of a data directory; None when none runs there."""
    try:
        info = msgspec.json.decode((data_dir / STACK_FILE).read_bytes(), type=StackInfo)
    except (OSError, msgspec.DecodeError):
        return None
    return info if process_mark(info.pid) == info.mark else None


def process_mark(pid: int) -> str | None:
    """Return a text that tells this process from a later one with the same pid; None when no such process lives.

    Empty where the system does not tell (no /proc): then the pid alone has to do.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return None if fields[0] == "Z" else fields[_STARTED_FIELD]
