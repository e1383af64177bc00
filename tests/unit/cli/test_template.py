"""`tasker template validate` asks no service."""

import io
import json
from pathlib import Path

import pytest

from tasker.cli import main

GOOD = """
name: hello
namespace: shop
steps:
  - name: greet
"""


def test_validate_shows_what_would_be_registered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "hello.yaml"
    file.write_text(GOOD)
    assert main(["template", "validate", str(file), "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["namespace"], shown["name"], shown["steps"]) == ("shop", "hello", ["greet"])


def test_every_fault_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(GOOD + "    afterr: [nobody]\n  - name: Greet\n")
    assert main(["template", "validate", str(file)]) == 2
    assert len(capsys.readouterr().err.splitlines()) >= 3


def test_a_template_comes_through_a_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
    assert main(["template", "validate", "-", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "hello"


def test_what_is_no_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(b"name: \xff")
    assert main(["template", "validate", str(file)]) == 2
    assert "not UTF-8 at byte 6" in capsys.readouterr().err
