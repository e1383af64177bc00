"""What `[logging]` does to what a process writes."""

import json
import subprocess
import sys

import pytest

SAY = """
import structlog
from tasker.telemetry import configure_logging
configure_logging({level!r}, {form!r})
structlog.get_logger("x").info("happened", shard=3)
structlog.get_logger("x").error("failed", shard=4)
"""


def said(level: str, form: str) -> list[str]:
    code = SAY.format(level=level, form=form)
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stderr.splitlines()


@pytest.mark.parametrize(("level", "events"), [("info", ["happened", "failed"]), ("error", ["failed"])])
def test_level(level: str, events: list[str]) -> None:
    assert [json.loads(line)["event"] for line in said(level, "auto")] == events


def test_form() -> None:
    [line] = said("error", "console")
    assert "failed" in line
    with pytest.raises(json.JSONDecodeError):
        json.loads(line)
