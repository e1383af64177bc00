"""Every list has a `--limit`, and asks for no more than it shows."""

import json

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


def test_a_task_of_many_steps_shows_the_first_and_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of its events the same; in every form, and of a task with fewer nothing is said."""
    at = "2026-11-21T10:00:00.000000Z"
    task: dict[str, object] = {"task_id": "t", "tenant": "default", "namespace": "default", "template": "shop"}
    task |= {"version": "1", "template_hash": "h", "state": "running", "input": 1, "created_at": at, "updated_at": at}
    steps = [{"task_id": "t", "step": f"m[{index}]", "state": "completed"} for index in range(4)]
    event = {"task_id": "t", "type": "step_started", "version": 1, "at": at, "tenant": "default", "shard": 0}
    events = [event | {"seq": seq, "position": f"0:{seq}", "epoch": 1, "data": {}, "meta": {}} for seq in range(1, 6)]
    answers = {
        "/v1/tasks/t": json.dumps(task | {"seq": 5, "position": "0:5"}).encode(),
        "/v1/tasks/t/steps": json.dumps({"items": steps, "next": None, "position": "0:5"}).encode(),
        "/v1/tasks/t/events": json.dumps({"items": events, "next": None, "position": "0:5", "log_id": "l"}).encode(),
    }
    with service_of_empty_lists(answers) as (url, asked):
        monkeypatch.setenv("TASKER_HTTP_URL", url)
        assert main(["task", "show", "t", "--events", "--limit", "3"]) == 0
        shown = capsys.readouterr()
        assert (shown.out.count("m["), shown.out.count("step_started")) == (3, 3)
        assert shown.err == "the first 3 steps; --limit 0 shows all\nthe first 3 events; --limit 0 shows all\n"
        assert any("/steps" in path and "limit=4" in path for path in asked)
        assert main(["task", "show", "t", "--limit", "3", "-o", "json"]) == 0
        shown = capsys.readouterr()
        assert [one["step"] for one in json.loads(shown.out)["steps"]] == ["m[0]", "m[1]", "m[2]"]
        assert shown.err == "the first 3 steps; --limit 0 shows all\n"
        for limit in ("0", "5"):
            assert main(["task", "show", "t", "--events", "--limit", limit]) == 0
            shown = capsys.readouterr()
            assert (shown.out.count("m["), shown.out.count("step_started"), shown.err) == (4, 5, "")
