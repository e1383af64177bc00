"""`make demo`: the whole of it, on a path with a space, comes through with every number right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import ROOT


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(240)
def test_the_demo_survives_its_kill_and_every_number_is_what_the_file_implies(tmp_path: Path) -> None:
    folder = tmp_path / "a path"
    folder.mkdir()
    tmp_path.chmod(0o711)
    done = subprocess.run(
        [sys.executable, "-m", "examples.orders.demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder), "KEEP": ""},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill -9 of the service: 3 processes" in done.stdout
    assert "checks hold" in done.stdout
