"""`tasker task bulk`: what cannot be meant is said before anything is asked."""

import pytest

from tasker.cli import main
from tasker.cli.bulk import show_outcome
from tasker.cli.options import Common
from tasker.events.bulk import BulkOutcome, BulkRefusal


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


def test_many_refusals_do_not_hide_how_many_there_are_of_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    refusals = tuple(
        BulkRefusal(task_id=f"t{number}", code="task_ended", detail="it has ended") for number in range(100)
    )
    counts = {"task_ended": 190, "state_forbids": 10}
    found = BulkOutcome(
        verb="task.retry", matched=950, done=750, refused=200, refused_by_code=counts, refusals=refusals
    )
    show_outcome("b", found, Common(tenant="acme"))
    shown = capsys.readouterr()
    assert shown.out == ("matched   950\ndone      750\nrefused   200\nof these  state_forbids 10, task_ended 190\n")
    assert shown.err.count("it has ended (task_ended)\n") == 10
    assert shown.err.endswith("the first 10 of those that refused; `tasker task get b --tenant acme` has 100 of them\n")
    show_outcome("b", BulkOutcome(verb="task.retry", matched=1, done=1), Common())
    assert capsys.readouterr().out == "matched  1\ndone     1\nrefused  0\n"
