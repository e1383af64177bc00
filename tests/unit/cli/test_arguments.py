"""How values on the command line are read."""

import io
from pathlib import Path

import pytest

from tasker.cli import main
from tasker.cli.failures import UsageError
from tasker.cli.following import known_types
from tasker.cli.given import read_json, read_tags
from tasker.cli.options import format_asked, spell_out_wait
from tasker.errors import BodyInvalid, ValueInvalid


@pytest.mark.parametrize(
    ("given", "spelt"),
    [
        (["create", "--wait"], ["create", "--wait=true"]),
        (["create", "--wait", "hello"], ["create", "--wait=true", "hello"]),
        (["create", "--wait", "30", "hello"], ["create", "--wait", "30", "hello"]),
        (["create", "--wait=30"], ["create", "--wait=30"]),
        (["create", "--wait", "--idempotency-key", "k"], ["create", "--wait=true", "--idempotency-key", "k"]),
        (["create", "--", "--wait"], ["create", "--", "--wait"]),
    ],
)
def test_wait_takes_a_number_or_nothing(given: list[str], spelt: list[str]) -> None:
    assert spell_out_wait(given) == spelt


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["task", "list"], "table"),
        (["task", "list", "-o", "json"], "json"),
        (["task", "list", "--output=jsonl"], "jsonl"),
        (["task", "list", "-o"], "table"),
        (["task", "get", "--", "-o", "json"], "table"),
    ],
)
def test_the_form_of_an_error_is_known_before_the_arguments_are(arguments: list[str], output: str) -> None:
    assert format_asked(arguments) == output


def test_input_from_the_argument_a_file_or_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"a": 1}')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[2]")))
    assert read_json('"text"') == "text"
    assert read_json(f"@{file}") == {"a": 1}
    assert read_json("-") == [2]


@pytest.mark.parametrize("text", ["{", "", "{'a': 1}", "NaN"])
def test_input_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(BodyInvalid):
        read_json(text)


def test_input_that_could_not_be_kept_is_refused() -> None:
    with pytest.raises(ValueInvalid):
        read_json('{"a": 1, "a": 2}')


def test_a_missing_input_file_is_named() -> None:
    with pytest.raises(UsageError, match="no-such-file"):
        read_json("@no-such-file")


def test_tags() -> None:
    assert read_tags(["team=core", "note=a=b"]) == {"team": "core", "note": "a=b"}
    assert read_tags(None) == {}
    with pytest.raises(UsageError, match="KEY=VALUE"):
        read_tags(["team"])
    with pytest.raises(UsageError, match="the tag with the value 'core' has no key"):
        read_tags(["=core"])


def test_a_type_of_event_that_does_not_exist_is_named_with_the_nearest() -> None:
    assert known_types(["task_blocked", "schedule_fired"]) == ("task_blocked", "schedule_fired")
    with pytest.raises(UsageError, match=r"there is no event 'task_bloked'; is it task_blocked\?"):
        known_types(["task_bloked"])


@pytest.mark.parametrize("given", [[], ["--metadata", "{}"], ["--reason", "none"]])
def test_an_update_that_changes_nothing_is_told_what_it_could_change(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["task", "update", "016edfe9-8e3a-819c-918d-70443cb40fea", *given]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: say what to change: ")
    assert told.endswith("next: `tasker task update --help` shows the forms\n")
    assert all(option in told for option in ("--tag", "--untag", "--metadata", "--priority"))
