"""What a log line holds, and what it never holds."""

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from tasker import telemetry
from tasker.bus.guard import log as bus_log
from tasker.named_lines import named
from tasker.telemetry import configure_logging, current_attempt, scrub
from tests.architecture.tree import ROOT

ATTEMPT: Any = SimpleNamespace(task_id="t1", step="charge", attempt=2, correlation_id="order-17")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what reads the lines that were logged."""
    written = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", written)
    configure_logging("debug")
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_is_json_with_the_stable_fields(lines: Any) -> None:
    structlog.get_logger("tasker.x").warning("shard_lost", shard=3)
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "shard_lost", "level": "warning", "logger": "tasker.x", "shard": 3}


def test_a_line_of_the_bus_has_a_fixed_name_and_the_rest_in_fields(lines: Any) -> None:
    """A program that sets up its own logs shows the text."""
    record = {"error": "nats://user:hunter2@host:4222 is gone"}
    bus_log.warning("NATS: connection lost: %s", record["error"], extra=named("nats_connection_lost", **record))
    (line,) = lines()
    assert (line["event"], line["error"]) == ("nats_connection_lost", "nats://user:***@host:4222 is gone")


def test_the_bus_says_nothing_without_a_fixed_name() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tasker" / "bus").glob("*.py"))
    assert len(re.findall(r"\blog\.(?:info|warning|log)\(", source)) == source.count("extra=")


def test_the_standard_library_s_lines_have_the_same_form(lines: Any) -> None:
    logging.getLogger("other").error("cannot reach %s", "nats://user:hunter2@host:4222")
    (line,) = lines()
    assert (line["event"], line["level"], line["logger"]) == (
        "cannot reach nats://user:***@host:4222",
        "error",
        "other",
    )


def test_a_handler_s_lines_name_its_attempt(lines: Any) -> None:
    token = current_attempt.set(ATTEMPT)
    try:
        logging.getLogger("mine").info("charging")
        structlog.get_logger("mine").info("charged", step="another")
    finally:
        current_attempt.reset(token)
    logging.getLogger("mine").info("idle")
    first, second, third = lines()
    assert [first[name] for name in ("task_id", "step", "attempt", "correlation_id")] == ["t1", "charge", 2, "order-17"]
    assert second["step"] == "another"
    assert "task_id" not in third


def test_a_traceback_holds_no_secret(lines: Any) -> None:
    def fail() -> None:
        raise ValueError("postgresql://tasker:hunter2@db/tasker did not answer")

    try:
        fail()
    except ValueError:
        structlog.get_logger("x").exception("failed")
    (line,) = lines()
    assert "postgresql://tasker:***@db/tasker did not answer" in line["exception"]
    assert "hunter2" not in json.dumps(line)


def test_secrets_by_name_and_payloads_are_not_told() -> None:
    fields = {
        "password": "hunter2",
        "nats_token": "abc",
        "settings": {"api_key": "k", "urls": ["nats://u:p@h"]},
        "input": {"card": "4111"},
        "raw": b"4111",
        "shard": 3,
        "error": ValueError("token=abc"),
    }
    assert scrub(None, "info", fields) == {
        "password": "***",
        "nats_token": "***",
        "settings": {"api_key": "***", "urls": ["nats://u:***@h"]},
        "input": "<16 characters>",
        "raw": "<4 bytes>",
        "shard": 3,
        "error": "token=***",
    }


def test_a_driver_that_cannot_connect_tells_no_traceback_at_each_try(lines: Any) -> None:
    """Who needs the connection says that there is none."""
    logging.getLogger("asyncpg.pool").warning("Failed to restore the pool connection floor; retrying")
    assert lines() == []


def test_no_call_in_the_package_logs_a_payload_or_an_unstable_name() -> None:
    """Fields of one meaning have one name; see docs/reference/logs.md."""
    import ast
    from pathlib import Path

    refused = telemetry.PAYLOAD_FIELDS | {"why", "detail", "stream_id"}
    found = []
    for path in Path(telemetry.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("_log."):
                found += [f"{path.name}:{node.lineno} {k.arg}" for k in node.keywords if k.arg in refused]
    assert not found
