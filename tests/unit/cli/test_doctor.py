"""`tasker doctor` with both servers down: findings like any other."""

import json
import os
from pathlib import Path

import pytest

from tasker.cli import main


@pytest.fixture(autouse=True)
def _down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unused_tcp_port: int) -> None:
    for name in [name for name in os.environ if name.startswith("TASKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TASKER_DATA", str(tmp_path))
    tmp_path.chmod(0o700)
    monkeypatch.setenv("TASKER_DOCTOR_DISK_FREE_BYTES_MIN", "1")
    monkeypatch.setenv("TASKER_DATABASE_URL", f"postgresql://u:secret@127.0.0.1:{unused_tcp_port}/d")
    monkeypatch.setenv("TASKER_NATS_URL", f"nats://u:secret@127.0.0.1:{unused_tcp_port}")
    monkeypatch.chdir(tmp_path)


def test_it_names_what_is_down_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 9
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["database_unreachable", "nats_unreachable"]
    assert all(". Remedy: " in line for line in lines)
    assert "secret" not in shown.out + shown.err


@pytest.mark.parametrize("output", ["json", "jsonl"])
def test_it_tells_programs(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-o", output]) == 9
    out = capsys.readouterr().out
    found = json.loads(out)["findings"] if output == "json" else [json.loads(line) for line in out.splitlines()]
    assert [one["code"] for one in found] == ["database_unreachable", "nats_unreachable"]
    assert all(one["remedy"] for one in found)


def test_a_directory_where_nothing_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TASKER_DATABASE_URL")
    monkeypatch.delenv("TASKER_NATS_URL")
    assert main(["doctor", "--data", str(tmp_path)]) == 9
    assert "database_unset" in capsys.readouterr().out
