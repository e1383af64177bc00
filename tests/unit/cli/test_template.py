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


APP = """
from tasker import Template

one, two = Template("one", namespace="shop"), Template("two")


@one.step
def reserve(input: int) -> int:
    return input


@two.step(after="{after}")
def pack() -> int:
    return 1


@two.step
def reserve(input: int) -> int:
    return input
"""


def test_every_template_of_an_app_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "app_to_validate.py"
    file.write_text(APP.format(after="reserve"))
    assert main(["template", "validate", str(file), "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(one["namespace"], one["name"], one["steps"]) for one in shown] == [
        ("shop", "one", ["reserve"]),
        ("default", "two", ["pack", "reserve"]),
    ]


def test_a_fault_of_an_app_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "app_with_a_fault.py"
    file.write_text(APP.format(after="reserv"))
    assert main(["template", "validate", str(file)]) == 2
    assert "unknown step 'reserv' (did you mean 'reserve'?)" in capsys.readouterr().err


def test_an_app_is_not_taken_for_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "app.py"
    file.write_text(APP)
    assert main(["template", "register", str(file)]) == 2
    assert f"`tasker worker {file}`" in capsys.readouterr().err
