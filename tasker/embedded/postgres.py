"""A real PostgreSQL on a private Unix socket: no TCP, no password, only for who may enter its directory.

`<data_dir>` holds `data` (the cluster), `run` (the socket), `postgres.log` and `lock`. PostgreSQL refuses to run as
root; for root it runs as an unprivileged user, and what that user needs lies where it can enter: when `data_dir`
is under a closed directory, the cluster itself goes to `/var/lib/tasker/clusters/<digest of data_dir>`.
"""

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

from tasker.embedded._binaries import account_for_postgres, find_postgres, reachable_postgres, reaches, wheel_postgres
from tasker.embedded._process import Account, ServerProcess, last_lines, rotate_log
from tasker.embedded._server import EmbeddedServer
from tasker.errors import ConfigurationError
from tasker.settings import EmbeddedSettings
from tasker.settings.running import ROOT_DATA_DIR

_USER = "tasker"
_DATABASE = "tasker"
_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.005
_SOCKET_PATH_BYTES_MAX = 100
_PID_LINE, _SOCKET_DIR_LINE, _STATUS_LINE = 0, 4, 7  # of postmaster.pid
_PID_LINES = 8


class EmbeddedPostgres(EmbeddedServer):
    """One PostgreSQL server on one data directory."""

    what = "PostgreSQL"
    log_name = "postgres.log"

    def __init__(self, data_dir: Path, settings: EmbeddedSettings | None = None, *, durable: bool = True) -> None:
        """Name the directory (made when missing); `durable=False` switches fsync off, for tests only."""
        super().__init__(data_dir, settings)
        self._durable = durable

    @property
    def dsn(self) -> str:
        """The address of the database `tasker`, as long as the server runs."""
        return self.address

    def remove(self) -> None:
        """Stop the server and delete its data, also the part that lies elsewhere."""
        self.stop()
        shutil.rmtree(_elsewhere(self.data_dir), ignore_errors=True)
        shutil.rmtree(self._socket_dir_elsewhere(account_for_postgres()), ignore_errors=True)
        super().remove()

    def _prepare(self) -> Callable[[], str]:
        return partial(self._launch, find_postgres(self._settings.postgres_bin), account_for_postgres())

    def _launch(self, programs: Path, account: Account | None) -> str:
        programs = reachable_postgres(programs, account, ROOT_DATA_DIR / "runtime")
        home = self._home(account)
        data = home / "data"
        if not data.exists():
            _make_cluster(programs, data, account)
        _check_version(programs, data, account)
        _heal_pid_file(data)
        sockets = self._socket_dir(home, account)
        (data / "tasker.conf").write_text(self._configuration(sockets))
        log = self.data_dir / self.log_name
        rotate_log(log)
        self._process = ServerProcess.start(
            [str(programs / "postgres"), "-D", str(data)],
            cwd=home,
            log=log,
            stop_signal=signal.SIGINT,
            stop_timeout_s=_STOP_TIMEOUT_S,
            account=account,
            lock=self._lock,
        )
        self._wait_ready(data, log)
        return f"postgresql://{_USER}@/{_DATABASE}?host={quote(str(sockets), safe='/')}"

    def _home(self, account: Account | None) -> Path:
        """Return the directory of cluster and socket, made so that the server's user can enter it."""
        if account is None:
            return self.data_dir
        if reaches(account, self.data_dir.parent):
            # Ours and only ours: others may pass through, to what is closed itself; they may not look.
            self.data_dir.chmod(0o711)
            return self.data_dir
        home = _elsewhere(self.data_dir)
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
        for folder in (home, home.parent, ROOT_DATA_DIR):
            folder.chmod(0o711)
        if not reaches(account, home):
            message = f"PostgreSQL runs as user {account.name}, who may not enter {home}: set TASKER_DATA to one it may"
            raise ConfigurationError(message)
        return home

    def _socket_dir(self, home: Path, account: Account | None) -> Path:
        """Return a private directory for the socket whose path is short and plain enough for one."""
        folder = home / "run"
        if not _fits_socket(folder):
            folder = self._socket_dir_elsewhere(account)
        uid, gid = (account.uid, account.gid) if account else (os.geteuid(), os.getegid())
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if account is not None:
                os.chown(folder, uid, gid)
        found = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or found.st_uid != uid or found.st_mode & 0o077:
            message = f"{folder} should be a directory of ours with mode 0700, for PostgreSQL's socket: remove it"
            raise ConfigurationError(message)
        return folder

    def _socket_dir_elsewhere(self, account: Account | None) -> Path:
        base = Path(os.environ.get("XDG_RUNTIME_DIR", "")) if account is None else ROOT_DATA_DIR
        name = f"tasker-{os.geteuid()}-{_digest(self.data_dir)}"
        if account is None and base.is_absolute() and base.is_dir() and _fits_socket(base / name):
            return base / name
        temporary = Path(tempfile.gettempdir())
        return (temporary if _fits_socket(temporary / name) else Path("/tmp")) / name  # noqa: S108 owner and mode are checked

    def _configuration(self, sockets: Path) -> str:
        durable = "on" if self._durable else "off"
        return f"""# Written anew at each start by tasker. What ALTER SYSTEM sets stands above it.
listen_addresses = ''
unix_socket_directories = '"{sockets}"'
unix_socket_permissions = 0700
max_connections = {self._settings.postgres_connections_max}
shared_buffers = '256MB'
min_wal_size = '128MB'
max_wal_size = '2GB'
checkpoint_timeout = '10min'
fsync = {durable}
full_page_writes = {durable}
synchronous_commit = on
jit = off
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '%m [%p] '
"""

    def _wait_ready(self, data: Path, log: Path) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline and not self._started.ended:
            lines = _read_pid_file(data)
            if (
                len(lines) >= _PID_LINES
                and lines[_PID_LINE].strip() == str(self._started.pid)
                and lines[_STATUS_LINE].strip() == "ready"
            ):
                return
            time.sleep(_POLL_S)
        message = f"PostgreSQL did not start; the end of {log}:\n{last_lines(log)}"
        raise ConfigurationError(message)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]


def _elsewhere(data_dir: Path) -> Path:
    """Return where root keeps the cluster of a directory that the server's user cannot enter."""
    return ROOT_DATA_DIR / "clusters" / _digest(data_dir)


def _fits_socket(folder: Path) -> bool:
    """Return whether a socket fits in `folder`, and whether its name needs no quoting in a list of directories."""
    path = str(folder / ".s.PGSQL.5432")
    return len(os.fsencode(path)) < _SOCKET_PATH_BYTES_MAX and bool(re.fullmatch(r"[\w./ +@=-]+", path, re.ASCII))


def _run(argv: list[str], account: Account | None, cwd: Path, *, text: str = "") -> str:
    """Run a program of PostgreSQL as its user and return what it printed.

    Raises:
        ConfigurationError: it failed; the message ends with what it said.
    """
    done = subprocess.run(
        argv,
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        env={**os.environ, "LC_ALL": "C"},
        start_new_session=True,  # Ctrl-C is for us alone: it would end the making of a cluster halfway, as a failure
    )
    if done.returncode:
        message = f"{shlex.join(argv)} failed: {(done.stderr or done.stdout).strip()[-1000:]}"
        raise ConfigurationError(message)
    return done.stdout


def _make_cluster(programs: Path, data: Path, account: Account | None) -> None:
    """Make a cluster with the database `tasker`, whole or not at all."""
    building = data.with_name("data.new")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(mode=0o700)
    if account is not None:
        os.chown(building, account.uid, account.gid)
    where = ["-D", str(building)]
    _run(
        [
            *(str(programs / "initdb"), *where, "--username", _USER, "--auth", "trust", "--encoding", "UTF8"),
            *("--locale", "C", "--data-checksums", "--no-sync", "--no-instructions"),
        ],
        account,
        building,
    )
    # Single-user mode: no server to start and stop for one statement.
    _run(
        [str(programs / "postgres"), "--single", "-F", *where, "postgres"],
        account,
        building,
        text=f"CREATE DATABASE {_DATABASE} STRATEGY FILE_COPY\n",
    )
    with (building / "postgresql.conf").open("a") as file:
        file.write("\ninclude_if_exists = 'tasker.conf'\n")
    building.rename(data)


def _check_version(programs: Path, data: Path, account: Account | None) -> None:
    """Refuse a cluster of another major version, with the commands that help.

    Raises:
        ConfigurationError: `data` belongs to another major version than `programs`, or is no cluster.
    """
    try:
        of_data = int((data / "PG_VERSION").read_text())
    except (FileNotFoundError, ValueError):
        message = f"{data} is not a PostgreSQL cluster: move it away, and a new one is made"
        raise ConfigurationError(message) from None
    printed = _run([str(programs / "postgres"), "--version"], None, data.parent)
    found = re.search(r"(\d+)", printed)
    of_programs = int(found[1]) if found else 0
    if of_data == of_programs:
        return
    wheel = wheel_postgres(of_data)
    old = str(wheel) if wheel else f"/path/to/postgresql-{of_data}/bin"
    # The commands run them as the account that owns the data, which may not reach this environment.
    old_programs = reachable_postgres(wheel, account, ROOT_DATA_DIR / "runtime") if wheel else Path(old)
    commands = _upgrade_commands(old_programs, programs, data, of_data=of_data, account=account)
    message = (
        f"the data in {data} is of PostgreSQL {of_data}, the programs in {programs} are {of_programs}. "
        f"Stay with {of_data}: export TASKER_POSTGRES_BIN={shlex.quote(old)}. "
        f"Or upgrade, and keep the old data beside the new: {commands}"
    )
    raise ConfigurationError(message)


def _upgrade_commands(old: Path, new: Path, data: Path, *, of_data: int, account: Account | None) -> str:
    """Return one line for a shell that leaves the upgraded cluster in `data` and the old one beside it."""
    building = data.with_name("data.upgraded")
    as_user = f"runuser -u {account.name} -- " if account else ""
    owner = ["-o", account.name] if account else []
    steps = (
        f"{shlex.join(['install', '-d', '-m', '700', *owner, str(building)])}",
        f"cd {shlex.quote(str(building))}",
        as_user
        + shlex.join(
            [
                *(str(new / "initdb"), "-D", ".", "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale", "C"),
                "--data-checksums",
            ],
        ),
        as_user
        + shlex.join(
            [
                *(str(new / "pg_upgrade"), "-b", str(old), "-B", str(new), "-d", str(data), "-D", str(building)),
                *("-U", _USER, "-s", str(data.with_name("run"))),
            ],
        ),
        "echo \"include_if_exists = 'tasker.conf'\" >> postgresql.conf",
        shlex.join(["mv", str(data), str(data.with_name(f"data.{of_data}"))]),
        shlex.join(["mv", str(building), str(data)]),
    )
    return " && ".join(steps)


def _read_pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def _heal_pid_file(data: Path) -> None:
    """Remove a pid file that a killed server left. Call it only under the lock of the data.

    PostgreSQL itself would refuse when the pid lives again as another program. Under our lock no server of ours is
    left; one that somebody started by hand answers on its socket.

    Raises:
        ConfigurationError: a server that is not ours runs on the data.
    """
    lines = _read_pid_file(data)
    if not (data / "postmaster.pid").exists():
        return
    if len(lines) > _SOCKET_DIR_LINE:
        path = Path(lines[_SOCKET_DIR_LINE].strip()) / f".s.PGSQL.{lines[3].strip()}"
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
            message = f"a PostgreSQL that tasker did not start (pid {lines[_PID_LINE]}) runs on {data}: stop it first"
            raise ConfigurationError(message)
    (data / "postmaster.pid").unlink()
