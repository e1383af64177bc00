"""`tasker task bulk`: what cannot be meant is said before anything is asked."""

import pytest

from tasker.cli import main


@pytest.mark.parametrize("verb", ["cancel", "retry", "pause", "resume", "restart"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reason", "x"], "say which tasks"),
        (["--everything", "--template", "orders", "--reason", "x"], "say which tasks"),
        (["--template", "orders"], "say why with --reason"),
        (["--tag", "x", "--reason", "x"], "KEY=VALUE"),
    ],
)
def test_which_and_why(verb: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "bulk", verb, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_label_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "bulk", "tag", "--template", "orders", "--reason", "x"]) == 2
    assert "say what to set" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["cancel", "--everything", "--dry-run"],
        ["retry", "--template", "shop/orders", "--reason", "x"],
        ["tag", "a=b", "--untag", "c", "--tag", "d=e", "--reason", "x", "--detach"],
    ],
)
def test_what_can_be_meant_asks_the_service(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "bulk", *arguments]) == 2
    assert "no service is known" in capsys.readouterr().err
