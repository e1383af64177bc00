"""`tasker up` as a person uses it: real servers, a real worker, real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasker.settings.running import find_stack

APP = """
from tasker.handlers import PermanentError, Template

hello = Template("hello")

@hello.step
async def greet(input: dict) -> str:
    print("a handler may print")
    if "name" not in input:
        raise PermanentError("nobody to greet")
    return f"Hello {input['name']}"
"""
WAIT_S = 60.0

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


class Up:
    """A running `tasker up` on data of its own, in a folder with a space."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        (folder / "app.py").write_text(APP)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TASKER_")}
        self.environ = environ | {"TASKER_DATA": str(self.data)}
        self.err = folder / "up.err"
        with self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tasker", "up", "app.py"],
                cwd=folder,
                env=self.environ,
                stdout=subprocess.PIPE,
                stderr=err,
                start_new_session=True,
            )

    def exports(self) -> dict[str, str]:
        """Wait until it says that it is up; returns what clients need."""
        assert self.process.stdout is not None
        found = {}
        for _ in range(3):
            line = self.process.stdout.readline().decode()
            assert line, self.err.read_text()
            name, _, value = line.removeprefix("export ").strip().partition("=")
            found[name] = value.strip("'")
        return found

    def tasker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tasker", *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    folder = tmp_path / "a b"
    folder.mkdir()
    running = Up(folder)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        assert running.process.stdout is not None
        running.process.stdout.close()


def ended(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=WAIT_S)
    for process in alive:
        process.kill()
    return not alive


def test_a_task_runs_and_every_read_shows_it(up: Up) -> None:
    exports = up.exports()
    assert set(exports) == {"TASKER_DATABASE_URL", "TASKER_NATS_URL", "TASKER_HTTP_URL"}

    done = up.tasker("task", "create", "hello", "--input", '{"name": "Ada"}', "--idempotency-key", "k", "--wait", "30")
    assert (done.returncode, done.stdout) == (0, '"Hello Ada"\n'), done.stderr

    blocked = up.tasker("task", "create", "hello", "--input", "{}", "--wait", "30")
    assert (blocked.returncode, blocked.stdout) == (8, "")
    assert "nobody to greet" in blocked.stderr
    assert "next: `tasker task retry" in blocked.stderr

    conflict = up.tasker("task", "create", "hello", "--input", "{}", "--idempotency-key", "k", "-o", "json")
    assert (conflict.returncode, json.loads(conflict.stderr)["code"]) == (6, "key_conflict")

    listed = [json.loads(line) for line in up.tasker("task", "list", "-o", "jsonl").stdout.splitlines()]
    assert {task["state"] for task in listed} == {"completed", "blocked"}
    task_id = next(task["task_id"] for task in listed if task["state"] == "completed")
    events = json.loads(up.tasker("task", "events", task_id, "-o", "json").stdout)
    assert [event["type"] for event in events][::4] == ["task_created", "task_completed"]
    tail = ("log", "tail", "--task", task_id)
    first = up.tasker(*tail, "--from", "start", "--limit", "2", "-o", "json")
    assert [event["seq"] for event in json.loads(first.stdout)] == [1, 2], first.stderr
    rest = up.tasker(*tail, "--from", first.stderr.rpartition("--from ")[2].strip(), "-o", "jsonl")
    assert [json.loads(line)["seq"] for line in rest.stdout.splitlines()] == [3, 4, 5], rest.stderr
    some = up.tasker(*tail, "--type", "task_created", "--type", "task_completed", "-o", "json")
    assert [event["type"] for event in json.loads(some.stdout)] == ["task_created", "task_completed"], some.stderr
    unknown = up.tasker(*tail, "--type", "task_complted")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "is it task_completed?" in unknown.stderr
    then = json.loads(up.tasker("task", "show", task_id, "--at", "1", "-o", "json").stdout)
    assert (then["state"]["state"], then["state"]["seq"]) == ("running", 1)
    assert up.tasker("task", "show", task_id, "--at", "99").returncode == 2
    verified = up.tasker("log", "verify", "-o", "json")
    assert (verified.returncode, json.loads(verified.stdout)["findings"]) == (0, [])
    rebuilt = up.tasker("projection", "rebuild", "task", "-o", "json")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert (json.loads(rebuilt.stdout)["name"], json.loads(rebuilt.stdout)["version"]) == ("task", 2)
    migrated = up.tasker("migrate", "-o", "json")
    assert (migrated.returncode, json.loads(migrated.stdout)) == (0, {"applied": []})
    assert up.tasker("health").returncode == 0
    assert up.tasker("task", "get", "nope").returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_everything_and_leaves_nothing(up: Up, number: signal.Signals) -> None:
    up.exports()
    family = up.family()
    up.process.send_signal(number)
    assert up.process.wait(WAIT_S) == 0
    assert ended(family)
    assert find_stack(up.data) is None
    assert "Traceback" not in up.err.read_text()


def test_ctrl_c_while_the_database_is_made_is_no_failure(tmp_path: Path) -> None:
    """A terminal sends it to the whole group, so to whatever the start has under way."""
    with (tmp_path / "err").open("w+") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasker", "up", "--data", str(tmp_path / "data")],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=err,
            start_new_session=True,
        )
        one = psutil.Process(process.pid)
        until_s = time.monotonic() + WAIT_S
        while not any("initdb" in child.name() for child in one.children(recursive=True)):
            assert process.poll() is None
            assert time.monotonic() < until_s
            time.sleep(0.001)
        family = one.children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(WAIT_S) == 0
        err.seek(0)
        said = err.read()
    assert "error" not in said
    assert "Traceback" not in said
    assert ended(family)


@pytest.mark.linux
def test_nothing_outlives_a_kill(up: Up) -> None:
    up.exports()
    family = up.family()
    assert len(family) > 5
    up.process.kill()
    assert ended(family)


def test_a_killed_service_and_a_killed_worker_come_back(up: Up) -> None:
    up.exports()
    for role in ("serve", "worker"):
        victim = next(one for one in up.family() if one.cmdline()[-1:] == ["--owned"] and role in one.cmdline())
        victim.kill()
        done = up.tasker("task", "create", "hello", "--input", f'{{"name": "{role}"}}', "--wait", "40")
        assert done.stdout == f'"Hello {role}"\n', done.stderr


def test_an_app_that_cannot_be_loaded_is_not_started_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import no_such_module\n")
    ended = subprocess.run(
        [sys.executable, "-m", "tasker", "up", "app.py", "--data", str(tmp_path / "data")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("No module named 'no_such_module'") == 1
    assert "tasker is up" not in ended.stderr


def test_a_second_one_on_the_same_data_is_refused(up: Up) -> None:
    up.exports()
    second = up.tasker("up")
    assert second.returncode == 2
    assert second.stderr.startswith("error: ")
    assert "already running" in second.stderr
