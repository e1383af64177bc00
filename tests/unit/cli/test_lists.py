"""Every list has a `--limit`, and asks for no more than it shows."""

import pytest

from tasker.cli import main
from tests.unit.cli.empty_lists import service_of_empty_lists


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (["dlq", "list"], "/v1/dlq"),
        (["dlq", "groups"], "/v1/dlq/groups"),
        (["schedule", "list"], "/v1/schedules"),
        (["template", "list"], "/v1/templates"),
        (["usage"], "/v1/usage"),
        (["task", "refusals"], "/v1/refusals"),
    ],
)
def test_no_more_is_asked_for_than_is_shown(command: list[str], path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with service_of_empty_lists() as (url, asked):
        monkeypatch.setenv("TASKER_HTTP_URL", url)
        assert main([*command, "--limit", "3"]) == 0
    (one,) = asked
    found, _, query = one.partition("?")
    assert found == path
    assert "limit=4" in query.split("&"), "one more tells whether there are more"


@pytest.mark.parametrize("command", [["schedule", "list"], ["template", "list"]])
def test_what_is_not_there_is_told_from_what_does_not_match(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with service_of_empty_lists() as (url, _):
        monkeypatch.setenv("TASKER_HTTP_URL", url)
        assert main(command) == 0
        assert main([*command, "--namespace", "lab"]) == 0
    nothing, no_match = capsys.readouterr().err.splitlines()
    assert "matches" not in nothing
    assert no_match == f"no {command[0]} matches"
