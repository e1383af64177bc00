"""deploy/nats.conf, read by the real nats-server."""

import subprocess
from pathlib import Path

from tasker.embedded._binaries import find_nats
from tests.architecture.tree import ROOT


def checked(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(find_nats(None)), "-t", "-c", str(ROOT / "deploy" / "nats.conf")],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_server_takes_it(tmp_path: Path) -> None:
    done = checked({"NATS_PASSWORD": "changeMe", "NATS_STORE": str(tmp_path)})
    assert done.returncode == 0, done.stderr


def test_a_variable_that_is_missing_is_found(tmp_path: Path) -> None:
    done = checked({"NATS_STORE": str(tmp_path)})
    assert done.returncode != 0
    assert "NATS_PASSWORD" in done.stderr
