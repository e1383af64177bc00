"""Tables for people, JSON for programs; data on stdout alone."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from tasker.cli.options import Common
from tasker.cli.output import fields, json_value, note, one_by_one, rows, status, time_text
from tasker.cli.showing import show_explanation, show_first, show_found, show_task, trial_text
from tasker.events.reads import Cause, CircuitFacts, Explanation, StepView, TaskView
from tasker.events.task_events import ErrorInfo
from tasker.times import from_rfc3339


class Row(msgspec.Struct):
    name: str
    count: int | None
    value: msgspec.Raw = msgspec.Raw(b"1")


ROWS = [Row("a", 1), Row("long-name", None, msgspec.Raw(b'{"x":100000000000000000000}'))]
COLUMNS = [
    ("name", lambda row: row.name),
    ("count", lambda row: row.count),
    ("value", lambda row: row.value),
]


def test_a_table_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    rows(ROWS, COLUMNS, "table")
    assert capsys.readouterr().out.splitlines() == [
        "NAME       COUNT  VALUE",
        "a          1      1",
        'long-name  -      {"x":100000000000000000000}',
    ]


def test_on_a_narrow_terminal_an_id_stays_in_one_piece(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a person copies is not broken over lines; the words of the last column are folded."""
    task = "44de2c0b-4878-817a-b9c3-28fd226f8cdf"
    words = "a person: step total failed, and a person has to look at it"
    columns = [("task", lambda row: row[0]), ("state", lambda row: row[1]), ("waiting on", lambda row: row[2])]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    rows([(task, "blocked", words)], columns, "table")
    title, *lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert title.split() == ["TASK", "STATE", "WAITING", "ON"]
    assert lines[0].startswith(f"{task}  blocked  a person: step")
    assert len(lines) > 1
    assert {line[: len(task) + 11].strip() for line in lines[1:]} == {""}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_array_is_written_as_it_comes(capsys: pytest.CaptureFixture[str], count: int) -> None:
    with one_by_one("json") as write:
        for number in range(count):
            write({"n": number, "text": "a,b]"})
    assert json.loads(capsys.readouterr().out) == [{"n": number, "text": "a,b]"} for number in range(count)]


def test_an_array_that_was_cut_off_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    def cut_off() -> None:
        with one_by_one("json") as write:
            write(1)
            write(1 / 0)

    with pytest.raises(ZeroDivisionError):
        cut_off()
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("limit", "shown"), [(0, ["a", "b", "c"]), (2, ["a", "b"]), (3, ["a", "b", "c"])])
async def test_a_list_of_any_length_is_written_as_it_comes_a_line_each(
    capsys: pytest.CaptureFixture[str], limit: int, shown: list[str]
) -> None:
    """Planted bug: a million tasks are gathered first."""
    written: list[str] = []

    def out() -> list[str]:
        written.extend(json.loads(line)["name"] for line in capsys.readouterr().out.splitlines())
        return written

    async def items() -> AsyncIterator[Row]:
        for number, name in enumerate("abc"):
            assert out() == list("abc"[:number])
            yield Row(name, number)

    await show_first(items(), limit, COLUMNS, "jsonl", empty="nothing")
    said = capsys.readouterr()
    written.extend(json.loads(line)["name"] for line in said.out.splitlines())
    assert written == shown
    assert ("--limit 0 shows all" in said.err) == (limit == 2)


@pytest.mark.parametrize(("limit", "shown"), [(0, 3), (2, 2), (3, 3)])
def test_a_list_that_is_whole_is_cut_at_its_limit_and_says_so(
    capsys: pytest.CaptureFixture[str], limit: int, shown: int
) -> None:
    show_found([Row(name, 1) for name in "abc"], limit, COLUMNS, "jsonl", empty="nothing")
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == shown
    assert ("--limit 0 shows all" in said.err) == (limit == 2)


def test_json_is_one_array_and_jsonl_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    rows(ROWS, COLUMNS, "json")
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["a", "long-name"]
    rows(ROWS, COLUMNS, "jsonl")
    assert [json.loads(line)["count"] for line in capsys.readouterr().out.splitlines()] == [1, None]


@pytest.mark.parametrize(("output", "out"), [("table", ""), ("json", "[]\n"), ("jsonl", "")])
def test_nothing_to_show(output: str, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows([], COLUMNS, output, empty="no row")  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert shown.out == out
    assert shown.err == ("no row\n" if output == "table" else "")


def test_fields_leave_out_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    fields(ROWS[0], [("name", "a"), ("waiting on", None), ("tags", {"k": "v"})], "table")
    assert capsys.readouterr().out.splitlines() == ["name  a", "tags  k=v"]


def test_a_result_keeps_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    json_value(msgspec.Raw(b'{"big":123456789012345678901234567890,"f":1.10}'))
    out = capsys.readouterr().out
    assert "123456789012345678901234567890" in out
    assert "1.10" in out


def test_notes_and_progress_stay_away_from_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    note("hello")
    with status("working") as change:
        change("still")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "hello\n")


def test_times_to_the_second() -> None:
    assert time_text("2026-11-21T10:00:00.123456Z") == "2026-11-21 10:00:00Z"
    assert time_text(None) is None


@pytest.mark.parametrize(
    ("state", "now", "words"),
    [
        ("open", "2026-11-26T20:00:00Z", "at 2026-11-26 20:01:00Z"),
        ("open", "2026-11-26T20:01:00Z", "with the next attempt"),
        ("half_open", "2026-11-26T20:02:00Z", "runs"),
    ],
)
def test_a_trial_that_nobody_came_for_waits_for_the_next_attempt(
    state: Literal["open", "half_open"], now: str, words: str
) -> None:
    opened_at, trial_at = "2026-11-26T20:00:00.000000Z", "2026-11-26T20:01:00.000000Z"
    circuit = CircuitFacts(state=state, opened_at=opened_at, trial_at=trial_at, open_s=60)
    assert trial_text(circuit, from_rfc3339(now)) == words


def test_what_would_steer_a_terminal_is_shown_as_an_escape(capsys: pytest.CaptureFixture[str]) -> None:
    rows([Row("\x1b[2Jgone\nü", 1)], COLUMNS, "table")
    assert capsys.readouterr().out.splitlines()[1].startswith("\\x1b[2Jgone ü")


def failed_steps(count: int) -> list[StepView]:
    error = ErrorInfo(
        type="ValueError", message="no", stack='Traceback:\n  File "shop.py", line 7\n\x1b]0;mine\x07no\n'
    )
    return [StepView(task_id="t", step=f"s{n}", state="failed", attempt=2, error=error) for n in range(count)]


def test_a_task_shows_where_its_first_failed_steps_raised(capsys: pytest.CaptureFixture[str]) -> None:
    task = TaskView(
        task_id="t",
        tenant="default",
        namespace="default",
        template="shop",
        version="1",
        template_hash="h",
        state="blocked",
        input=msgspec.Raw(b"1"),
        created_at="2026-11-21T10:00:00.000000Z",
        updated_at="2026-11-21T10:00:00.000000Z",
        seq=1,
        position="0:1",
    )
    show_task(task, failed_steps(5), Common())
    shown = capsys.readouterr().out
    assert '\nstep s0, attempt 2:\nTraceback:\n  File "shop.py", line 7\n\\x1b]0;mine\\x07no\n' in shown
    assert "step s2, attempt 2:" in shown
    assert "step s3, attempt 2:" not in shown
    assert shown.endswith("\n2 more steps failed; `-o json` has the stack of each\n")


def test_the_next_command_finds_the_task_as_this_one_did() -> None:
    there = Common(tenant="acme", data=Path("my data"))
    assert there.next("tasker task retry t") == "tasker task retry t --tenant acme --data 'my data'"
    assert Common().next("tasker task retry t") == "tasker task retry t"
    assert there.next(None) is None


def test_an_explanation_names_commands_for_the_tenant_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    cause = Cause(kind="resume", text="a person", remedy="tasker task resume t")
    why = Explanation(task_id="t", state="paused", sentence="It waits.", position="0:1", causes=(cause,))
    show_explanation(why, Common(tenant="acme"))
    assert "tasker task resume t --tenant acme\n" in capsys.readouterr().out
