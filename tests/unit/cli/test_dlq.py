"""`tasker dlq`: what cannot be meant is said before anything is asked."""

import pytest

from tasker.cli import main


@pytest.mark.parametrize("verb", ["retry", "resolve"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reason", "x"], "name a task, or give --all"),
        (["t", "--all", "--reason", "x"], "name a task, or give --all"),
        (["t", "--dry-run"], "say why with --reason"),
        (["t", "--template", "orders", "--reason", "x"], "go with --all"),
        (["--all"], "say why with --reason"),
        (["t"], "say why with --reason"),
    ],
)
def test_one_or_all_and_why(verb: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dlq", verb, *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["retry", "--all", "--dry-run"], ["retry", "t", "--dry-run", "--reason", "x"], ["show", "t"]],
)
def test_what_can_be_meant_asks_the_service(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dlq", *arguments]) == 2
    assert "no service is known" in capsys.readouterr().err


def test_a_bad_tag_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_HTTP_URL", "http://127.0.0.1:9")
    assert main(["dlq", "list", "--tag", "x"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err
