"""`make bench` comes through, checks the work, and writes what it found. No time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import ROOT


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_tiny_run_writes_ratios_and_facts(tmp_path: Path) -> None:
    tiny = ["--quick", "--only", "one", "--scale", "0.1", "--results", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *tiny],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "steps/s" in done.stdout
    (path,) = tmp_path.iterdir()
    found = json.loads(path.read_bytes())
    assert found["machine"]["postgres_settings"]["fsync"] == "on"
    assert found["machine"]["nats_server"].count(".") == 2
    assert found["rounds"][0]["verified"]["findings_total"] == 0
    assert found["rounds"][0]["service"]["one"]["tasks"] > 0
    assert found["summary"]["one"]["steps_ratio"]["median"] > 0
