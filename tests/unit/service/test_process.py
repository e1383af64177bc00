"""The supervisor of a service whose servers are gone: it waits for them, less and less loudly."""

import json
import subprocess
import sys

import msgspec
import pytest
import structlog

from tasker.errors import Unavailable
from tasker.service import process
from tasker.service.process import AWAITS_SERVERS, RESTART_PAUSES_S, Side
from tasker.settings import read_settings

AWAY = {
    "TASKER_DATABASE_URL": "postgresql://tasker:hush@127.0.0.1:1/tasker",
    "TASKER_NATS_URL": "nats://tasker:hush@127.0.0.1:2",
}


class Ended:
    """A child that has ended."""

    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int:
        return self.code


def pauses(code: int, times: int) -> list[float]:
    """Return how long a side that ends with `code` each time is left alone before its next start."""
    side = Side("read", read_settings(environ=AWAY).settings, "")
    found = []
    for _ in range(times):
        side._process = Ended(code)  # type: ignore[assignment]
        assert side.tend(1.0) is None
        found.append(side._start_at_s - 1.0)
    return found


def test_a_side_whose_servers_are_away_is_started_less_and_less_often_without_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = structlog.testing.LogCapture()
    monkeypatch.setattr(process, "_log", structlog.wrap_logger(None, processors=[told]))
    assert pauses(AWAITS_SERVERS, 10) == pytest.approx([*RESTART_PAUSES_S, 20.0, 20.0])
    assert told.entries == []
    assert pauses(-9, 2) == pytest.approx([0.0, 0.2])
    assert [entry["event"] for entry in told.entries] == ["process_ended", "process_ended"]


def test_it_says_what_is_awaited_and_where_without_secrets() -> None:
    settings = msgspec.json.encode(read_settings(environ=AWAY).settings)
    argv = [sys.executable, "-m", "tasker.service.process", "read", ""]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as side:
        assert side.stdin is not None
        assert side.stdout is not None
        side.stdin.write(settings + b"\n")
        side.stdin.flush()  # and stays open: its end would drain the side
        (line,) = side.stdout.read().decode().splitlines()
        assert side.wait(60) == AWAITS_SERVERS == Unavailable.exit_code
    told = json.loads(line)
    assert (told["event"], told["level"], told["side"]) == ("awaits_servers", "warning", "read")
    assert (told["database"], told["nats"]) == (
        "postgresql://tasker:***@127.0.0.1:1/tasker",
        "nats://tasker:***@127.0.0.1:2",
    )
    assert told["error"].startswith("PostgreSQL cannot be reached: ")
    assert "hush" not in line
