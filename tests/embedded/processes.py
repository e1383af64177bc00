"""What the tests of the embedded servers share: looking at processes, and owners that get killed."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.architecture.tree import ROOT

OWNER = """
import sys
from pathlib import Path
from tasker.embedded.stack import Stack
stack = Stack(Path(sys.argv[1]), durable=False)
stack.start()
print(stack.postgres.pid, stack.nats.pid, flush=True)
sys.stdin.read()
"""


def eventually(condition: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def family(pids: list[int]) -> list[psutil.Process]:
    """Return the supervisors of these servers, the servers, and all that descends from them."""
    found = []
    for pid in pids:
        server = psutil.Process(pid)
        found += [server.parent(), server, *server.children(recursive=True)]
    return [one for one in found if one is not None]


def gone(processes: list[psutil.Process]) -> bool:
    """Return whether none of them runs (a zombie does not run)."""
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes if _is_there(one))


def _is_there(one: psutil.Process) -> bool:
    try:
        one.status()
    except psutil.NoSuchProcess:
        return False
    return True


def owner_of_stack(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Yield a process that owns a running stack, and the pids of its servers; clean up after it."""
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), str(data_dir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout is not None
        yield owner, [int(pid) for pid in owner.stdout.readline().split()]
    finally:
        owner.kill()
        owner.communicate()
