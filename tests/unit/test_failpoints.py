"""Failpoints: a process dies at the pass that was asked for, once."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasker.failpoints import NAMES
from tests.architecture.tree import ROOT

SCRIPT = """
from tasker.failpoints import failpoint
for number in range(1, 6):
    failpoint("before_append")
    failpoint("after_append")
    print(number, flush=True)
"""


def run(**environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TASKER_FAILPOINT")}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], env=clean | environ, capture_output=True, text=True, check=False
    )


def test_every_place_has_a_name_and_every_name_a_place() -> None:
    """A place without a name is passed by unnoticed, and no test can ask for it."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tasker").rglob("*.py")]
    places = {place for source in sources for place in re.findall(r'\bfailpoint\("(\w+)"\)', source)}
    assert places == set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


def test_without_the_variable_nothing_happens() -> None:
    assert run().returncode == 0


def test_the_process_dies_at_the_pass() -> None:
    died = run(TASKER_FAILPOINT="after_append:3")
    assert (died.returncode, died.stdout.split()) == (-signal.SIGKILL, ["1", "2"])
    assert run(TASKER_FAILPOINT="after_append").stdout == ""


def test_a_hit_leaves_a_file_and_does_not_happen_again(tmp_path: Path) -> None:
    environ = {"TASKER_FAILPOINT": "before_append:2", "TASKER_FAILPOINT_HIT": str(tmp_path / "hit")}
    assert run(**environ).returncode == -signal.SIGKILL
    assert (tmp_path / "hit").exists()
    assert run(**environ).returncode == 0


@pytest.mark.parametrize("setting", ["nowhere", "nowhere:3", "after_append:x", "after_append:-1"])
def test_a_place_that_is_none_is_refused(setting: str) -> None:
    refused = run(TASKER_FAILPOINT=setting)
    assert refused.returncode == 1
    assert "ConfigurationError: TASKER_FAILPOINT" in refused.stderr
