"""What `tasker up` holds is told by what each of its processes is."""

import os
import subprocess
import sys

from benchmarks.start import command_ms, python_rss_mib


def test_processes_are_told_by_their_module() -> None:
    waiting = [sys.executable, "-m", "timeit", "-n1", "-r1", "input()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        held = python_rss_mib(os.getpid())
        assert child.stdin is not None
        child.stdin.close()
        child.kill()
    assert 1 < held["timeit -n1"] < 100


def test_a_command_is_timed() -> None:
    assert 1 < command_ms(["timeit", "-n1", "-r1"]) < 60_000
