"""The worker as its processes: replaced, drained, orphaned, refused."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil
import pytest

from tasker.bus.nats_bus import NatsBus
from tasker.embedded.nats import EmbeddedNats
from tasker.errors import TemplateConflict
from tasker.events.messages import ReportReply, Work
from tasker.handlers.options import SETTLE_S
from tests.integration.scripted_owner import Answer, ScriptedOwner, friendly, seen

pytestmark = [pytest.mark.faults, pytest.mark.linux]
ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).with_name("worker_app.py")

Start = Callable[..., subprocess.Popen]


class Mortal(NamedTuple):
    """A nats-server to be killed, and the owner on it."""

    server: EmbeddedNats
    url: str
    bus: NatsBus
    owner: ScriptedOwner


@pytest.fixture
def start(nats_url: str, nats_prefix: str, tmp_path: Path) -> Iterator[Start]:
    """Start a worker process."""
    started: list[subprocess.Popen] = []

    def start_one(*arguments: str, app: Path = APP, url: str = nats_url) -> subprocess.Popen:
        environment = os.environ | {
            "TASKER_NATS_URL": url,
            "TASKER_NATS_PREFIX": nats_prefix,
            "WORKER_APP_FOLDER": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        }
        with (tmp_path / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tasker.handlers.process", str(app), *arguments],
                env=environment,
                cwd=tmp_path,
                stdout=log,
                stderr=log,
            )
        started.append(process)
        return process

    yield start_one
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


async def ended(process: subprocess.Popen) -> int:
    return await asyncio.to_thread(process.wait, 30)


def not_again(work: Work) -> Answer:
    """Record everything, but let nobody run `work` once more."""
    gone = ReportReply(ok=True, recorded=False, reason="gone")
    return lambda report: gone if (report.kind, report.task_id) == ("claim", work.task_id) else friendly(report)


async def child_pid(owner: ScriptedOwner) -> int:
    """Return the process in which handlers run."""
    work = await owner.offer("pid")
    await owner.until_ended(work)
    return int(bytes(owner.outcome(work).result))


async def test_it_registers_its_templates_then_works_and_drains_on_sigterm(owner, start, tmp_path) -> None:
    process = start()
    work = await owner.offer("waits_for_file", input="go")
    await owner.until_begun(work)
    assert [template["name"] for template in owner.registered] == ["flow"]
    process.send_signal(signal.SIGTERM)
    process_ends = asyncio.create_task(ended(process))
    (tmp_path / "go").touch()
    assert await process_ends == 0
    assert bytes(owner.outcome(work).result) == b'"go"'
    assert owner.acks.count("+ACK") == 1


async def test_the_cyclic_collector_waits_until_more_is_new_than_attempts_have(owner, start) -> None:
    start()
    work = await owner.offer("young_objects")
    await owner.until_ended(work)
    assert bytes(owner.outcome(work).result) == b"10000"


async def test_a_thread_that_a_handler_left_behind_does_not_keep_a_drained_process(owner, start, tmp_path) -> None:
    app = tmp_path / "leaves_threads.py"
    app.write_text(
        "import asyncio, time\n"
        "from tasker import Template\n"
        "t = Template('flow')\n"
        "@t.step\n"
        "async def leaves() -> int:\n"
        "    asyncio.ensure_future(asyncio.to_thread(time.sleep, 600))\n"
        "    await asyncio.sleep(0)\n"
        "    return 1\n"
    )
    process = start(app=app)
    work = await owner.offer("leaves")
    await owner.until_ended(work)
    process.send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    assert await asyncio.to_thread(process.wait, 60) == 0
    assert time.monotonic() - began_s < 4 * SETTLE_S


async def test_the_drain_is_bounded_and_what_is_left_is_told_as_lost(owner, start) -> None:
    process = start("--drain-s", "0.2")
    work = await owner.offer("sleeps")
    await owner.until_begun(work)
    process.send_signal(signal.SIGINT)
    assert await ended(process) == 0
    assert owner.outcome(work).error.type == "worker_lost"


async def test_a_blocked_loop_has_the_process_replaced_and_other_steps_reported(owner, start) -> None:
    process = start()
    first = await child_pid(owner)
    other = await owner.offer("sleeps")
    await owner.until_begun(other)
    work = await owner.offer("blocks", start_to_close_s=1.0)
    await owner.until_ended(work, other)
    error = owner.outcome(work).error
    assert error.type == "timeout"
    assert "the blocking line" in error.stack
    assert owner.outcome(other).error.type == "worker_lost"
    assert await child_pid(owner) != first
    assert not psutil.pid_exists(first)
    assert process.poll() is None


async def test_sys_exit_in_a_handler_fails_its_step_and_the_worker_lives(owner, start) -> None:
    start()
    first = await child_pid(owner)
    works = [await owner.offer("exits"), await owner.offer("leaves_a_bomb")]
    await owner.until_ended(*works)
    assert owner.outcome(works[0]).error.type == "SystemExit"
    assert "sys.exit(3)" in owner.outcome(works[0]).error.message
    assert owner.outcome(works[1]).kind == "completed"
    work = await owner.offer("quick", input=1)
    await owner.until_ended(work)
    assert await child_pid(owner) == first


async def test_a_handler_that_ends_the_process_has_it_replaced(owner, start) -> None:
    process = start()
    first = psutil.Process(await child_pid(owner))
    work = await owner.offer("dies")
    await asyncio.to_thread(first.wait, 20)
    owner.answer = not_again(work)
    assert await child_pid(owner) != first.pid
    assert process.poll() is None


async def test_a_killed_child_is_replaced_and_its_unanswered_work_claimed(owner, start) -> None:
    start()
    first = await child_pid(owner)
    owner.answer = lambda report: None
    work = await owner.offer("quick", input=1)
    await owner.until(lambda: owner.kinds(work))
    os.kill(first, signal.SIGKILL)
    owner.answer = friendly
    await owner.until(lambda: "claim" in owner.kinds(work))
    await owner.until(lambda: owner.kinds(work)[-1] == "completed")
    assert len({report.worker for report in owner.reports}) == 2


async def test_a_killed_parent_leaves_no_orphan(owner, start) -> None:
    process = start()
    child = psutil.Process(await child_pid(owner))
    work = await owner.offer("sleeps")
    await owner.until_begun(work)
    process.kill()
    await asyncio.to_thread(child.wait, 20)
    assert owner.outcome(work).error.type == "worker_lost"


@pytest.mark.slow
async def test_a_held_interpreter_lock_is_noticed_from_outside(owner, start) -> None:
    start()
    first = await child_pid(owner)
    work = await owner.offer("holds_the_lock")
    await asyncio.to_thread(psutil.Process(first).wait, 40)
    owner.answer = not_again(work)
    assert await child_pid(owner) != first


async def test_a_conflict_of_templates_ends_it_with_6_and_a_line(owner, start, tmp_path) -> None:
    problem = TemplateConflict("flow 1.0.0 is registered with other content").problem()
    owner.on_register = lambda _: {"ok": False, "error": msgspec.to_builtins(problem)}
    assert await ended(start()) == 6
    assert "registered with other content" in (tmp_path / "worker.log").read_text()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1/0\n", "ZeroDivisionError"),
        ("def f(:\n", "SyntaxError"),
        ("x = 1\n", "has no Template"),
        ("import sys\nsys.exit(0)\n", "SystemExit"),
        ("import nowhere.at_all\n", "No module named 'nowhere'"),
    ],
)
async def test_an_app_that_cannot_be_loaded_ends_it_with_2_and_a_line(start, tmp_path, text, line) -> None:
    app = tmp_path / "broken.py"
    app.write_text(text)
    assert await ended(start(app=app)) == 2
    said, following = told(tmp_path)
    assert line in said
    assert said.startswith("error: ")
    assert said.endswith(" (configuration)")
    assert following.startswith("next: ")


@pytest.mark.parametrize(
    ("app", "said", "following"),
    [
        ("bad.yaml", "bad.yaml is no Python file (configuration)", "`tasker template register`"),
        ("nowhere.py", "there is no file nowhere.py (configuration)", "`tasker template register`"),
        ("nowhere.at_all", "there is no module nowhere.at_all (configuration)", "name a Python file"),
        ("app.py:nix", "module 'app' has no 'nix' (configuration)", "it has kind"),
    ],
)
async def test_an_app_that_is_none_is_told_as_every_command_tells_its_errors(start, tmp_path, app, said, following):
    (tmp_path / "bad.yaml").write_text("name: x\n")
    (tmp_path / "app.py").write_text("import tasker\n@tasker.handler('kind')\ndef kind(): ...\n")
    assert await ended(start(app=Path(app))) == 2
    found = told(tmp_path)
    assert found[0].startswith("error: ")
    assert found[0].endswith(said)
    assert following in found[1]


def told(folder: Path) -> list[str]:
    """Return the lines that the worker wrote."""
    return (folder / "worker.log").read_text().splitlines()


def test_the_lifeline_is_there_for_as_long_as_a_thread_reads_it(tmp_path) -> None:
    """Planted bug: closed under a thread that had not begun to read, where the app was at fault: a traceback."""
    script = (
        "import os, msgspec\n"
        "from tasker.handlers.child import run_child\n"
        "from tasker.handlers.options import WorkerOptions\n"
        "lifeline_in, lifeline_out = os.pipe()\n"
        "_, beats = os.pipe()\n"
        "os.write(lifeline_out, msgspec.json.encode(WorkerOptions(app='nowhere.py', nats_url='')) + b'\\n')\n"
        "code = run_child(lifeline_in, beats)\n"
        "os.fstat(lifeline_in)\n"
        "print(code)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (found.stdout, found.stderr.count("Traceback")) == ("2\n", 0), found.stderr


def test_reload_needs_something_to_watch(start, tmp_path) -> None:
    """Planted bug: a traceback of the thread that watches, and a worker that waited for a change for ever."""
    process = start("--reload", app=tmp_path / "nowhere" / "app.py")
    assert process.wait(30) == 2
    assert told(tmp_path)[0].startswith("error: --reload has nothing to watch: there is no folder ")


async def test_sigterm_before_nats_answers_ends_it(start, tmp_path) -> None:
    process = start(url="nats://127.0.0.1:1")

    def waiting() -> None:
        while b"waiting_for_nats" not in (tmp_path / "worker.log").read_bytes():
            if process.poll() is not None:
                raise AssertionError((tmp_path / "worker.log").read_text())

    await asyncio.to_thread(waiting)
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0


@pytest.fixture
async def mortal(nats_prefix: str, tmp_path: Path) -> AsyncIterator[Mortal]:
    """A nats-server of this test alone, to be killed, and the owner on it."""
    server = EmbeddedNats(tmp_path / "nats")
    url = await asyncio.to_thread(server.start)
    bus = await NatsBus.connect(url, name="owner")
    try:
        owner = ScriptedOwner(bus, nats_prefix)
        await owner.start()
        yield Mortal(server, url, bus, owner)
    finally:
        await bus.close()
        await asyncio.to_thread(server.remove)


async def test_nats_killed_under_a_worker_loses_no_report(start, mortal, tmp_path) -> None:
    owner, back = mortal.owner, asyncio.Event()
    mortal.bus.on_reconnect(back.set)
    start(url=mortal.url)
    work = await owner.offer("waits_for_file", input="go")
    await owner.until(lambda: "+ACK" in owner.acks)
    await asyncio.to_thread(mortal.server.kill)
    (tmp_path / "go").touch()
    await asyncio.to_thread(mortal.server.start)
    async with asyncio.timeout(60):
        await back.wait()
    await owner.until_ended(work)
    again = await owner.offer("quick", input=1)
    await owner.until_ended(again)
    assert bytes(owner.outcome(work).result) == b'"go"'


async def test_sigterm_while_nats_is_gone_ends_it_soon_and_cleanly(start, mortal, tmp_path) -> None:
    process = start("--drain-s", "0.1", url=mortal.url)
    work = await mortal.owner.offer("sleeps")
    await mortal.owner.until_begun(work)
    await asyncio.to_thread(mortal.server.kill)
    await seen(log_has(tmp_path, "nats_connection_lost"))
    process.send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    assert await ended(process) == 0
    # What cannot be told is waited for, in case NATS comes back.
    assert time.monotonic() - began_s < 0.1 + 3 * SETTLE_S
    assert "Traceback" not in (tmp_path / "worker.log").read_text()


async def test_a_killed_worker_leaves_no_child_that_burns_on(owner, start, tmp_path) -> None:
    start(app=Path(__file__).with_name("sdk_app.py"))
    work = await owner.offer("burns")
    burner = psutil.Process(int((await seen(lambda: notes(tmp_path, "burns in"))).split()[-1]))
    worker = next(one for one in burner.parents() if "--child" in one.cmdline())
    owner.answer = not_again(work)
    worker.kill()
    await asyncio.to_thread(burner.wait, 20)


def notes(tmp_path: Path, beginning: str) -> str:
    path = tmp_path / "notes"
    found = path.read_text().splitlines() if path.exists() else []
    return next((note for note in found if note.startswith(beginning)), "")


def log_has(tmp_path: Path, text: str) -> Callable[[], bool]:
    return lambda: text in (tmp_path / "worker.log").read_text()


class Replaced(NamedTuple):
    """A worker whose child was replaced while that had `work`, which ends once the file `go` is there."""

    process: subprocess.Popen
    first_pid: int
    work: Work


@pytest.fixture
async def replaced(owner: ScriptedOwner, start: Start, tmp_path: Path) -> Replaced:
    process = start()
    first = await child_pid(owner)
    work = await owner.offer("waits_for_file", input="go")
    await owner.until_begun(work)
    process.send_signal(signal.SIGHUP)
    await seen(log_has(tmp_path, "worker_replaced"))
    return Replaced(process, first, work)


async def test_sighup_replaces_the_process_while_the_old_one_ends_its_work(owner, replaced, tmp_path) -> None:
    process, first, work = replaced
    assert await child_pid(owner) != first
    assert psutil.pid_exists(first)
    (tmp_path / "go").touch()
    await owner.until_ended(work)
    await asyncio.to_thread(psutil.Process(first).wait, 20)
    assert bytes(owner.outcome(work).result) == b'"go"'
    assert process.poll() is None


async def test_the_first_sigterm_cuts_off_nothing_that_already_drains_for_its_successor(
    owner, replaced, tmp_path
) -> None:
    process, first, work = replaced
    successor = await child_pid(owner)
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(psutil.Process(successor).wait, 20)
    assert psutil.pid_exists(first)
    (tmp_path / "go").touch()
    await owner.until_ended(work)
    assert await ended(process) == 0
    assert bytes(owner.outcome(work).result) == b'"go"'


async def test_a_successor_that_cannot_start_leaves_the_old_process_at_work(owner, start, tmp_path) -> None:
    app = tmp_path / "changing.py"
    app.write_text(APP.read_text())
    process = start("--health-port", str(free_port()), app=app)
    first = await child_pid(owner)
    app.write_text("1/0\n")
    process.send_signal(signal.SIGHUP)
    await seen(log_has(tmp_path, "worker_not_replaced"))
    assert await child_pid(owner) == first


async def test_a_changed_file_replaces_the_process(owner, start, tmp_path) -> None:
    app = tmp_path / "changing.py"
    text = APP.read_text()
    app.write_text("1/0\n")
    start("--reload", app=app)
    await seen(log_has(tmp_path, "worker_waits_for_a_change"))
    app.write_text(text)
    work = await owner.offer("quick", input=1)
    await owner.until_ended(work)
    first = await child_pid(owner)
    app.write_text(text.replace("input + 1", "input + 100"))
    await seen(log_has(tmp_path, "worker_replaced"))
    await asyncio.to_thread(psutil.Process(first).wait, 20)  # until then it may still take what is offered
    again = await owner.offer("quick", input=1)
    await owner.until_ended(again)
    assert [bytes(owner.outcome(one).result) for one in (work, again)] == [b"2", b"101"]


async def test_it_replaces_its_process_after_so_many_tasks_and_is_healthy_all_along(owner, start, tmp_path) -> None:
    port = free_port()
    start("--steps-max", "3", "--health-port", str(port), app=Path(f"{APP}:flow"))
    first = await child_pid(owner)
    status, health = await asyncio.to_thread(health_of, port, "ready")
    assert (status, health["ok"], health["vitals"]["connected"]) == (200, True, True)
    for _ in range(2):
        await owner.until_ended(await owner.offer("quick", input=1))
    await seen(log_has(tmp_path, "worker_replaced"))
    assert "it ran 3 attempts (--steps-max 3)" in (tmp_path / "worker.log").read_text()
    await asyncio.to_thread(psutil.Process(first).wait, 20)
    assert await child_pid(owner) != first
    assert (await asyncio.to_thread(health_of, port, "live"))[0] == 200


async def test_a_process_that_leaks_is_replaced_and_nothing_is_lost_or_done_twice(owner, start, tmp_path) -> None:
    start("--rss-mib-max", "250")
    first = await child_pid(owner)
    held = await owner.offer("waits_for_file", input="go")
    await owner.until_begun(held)
    works = [await owner.offer("leaks", input=25) for _ in range(10)]
    await owner.until_ended(*works)
    is_replaced = log_has(tmp_path, "worker_replaced")
    while not is_replaced():
        works.append(await owner.offer("leaks", input=0))
        await owner.until_ended(works[-1])
    (tmp_path / "go").touch()
    await owner.until_ended(held)
    await asyncio.to_thread(psutil.Process(first).wait, 20)
    assert await child_pid(owner) != first
    assert "(--rss-mib-max 250)" in (tmp_path / "worker.log").read_text()
    assert sorted((tmp_path / "runs").read_text().split()) == sorted(work.task_id for work in works)
    assert [owner.kinds(work).count("completed") for work in (held, *works)] == [1] * (1 + len(works))
    assert "failed" not in owner.kinds()
    assert len({report.worker for report in owner.reports}) == 2


def health_of(port: int, what: str) -> tuple[int, dict]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/{what}", timeout=10) as answer:
        return answer.status, msgspec.json.decode(answer.read())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
