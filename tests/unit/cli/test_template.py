"""`tasker template validate` asks no service."""

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
