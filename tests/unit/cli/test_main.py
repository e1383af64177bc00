"""What a person sees of errors, and the exit codes that programs see."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.generate_reference import HELP
from scripts.reference_cli import help_file
from tasker import __version__
from tasker.cli import main
from tasker.cli.failures import CheckFailed, NotReady, TaskBlocked, report
from tasker.errors import (
    ApprovalForbidden,
    AuthenticationFailed,
    FieldError,
    InputInvalid,
    KeyConflict,
    TaskerError,
    TaskUnknown,
    Unavailable,
)

COMMANDS = [
    "up",
    "serve",
    "migrate",
    "worker",
    "pause",
    "resume",
    "controls",
    *(f"limits {verb}" for verb in ("list", "set", "remove")),
    "stats",
    "health",
    "doctor",
    *(f"task {verb}" for verb in ("create", "get", "list", "wait", "cancel", "retry", "events", "show")),
    "step list",
    "step retry",
    *(f"dlq {verb}" for verb in ("list", "groups", "show", "add", "investigate", "retry", "resolve", "reopen")),
    *(f"template {verb}" for verb in ("register", "validate", "use", "list", "show", "schema")),
    *(f"schema {name}" for name in ("openapi", "asyncapi", "template")),
    "log tail",
    "log verify",
    "projection rebuild",
    *(f"config {verb}" for verb in ("show", "explain", "validate")),
]


RUNNING = {"up", "serve", "worker"}
"""They run until they are stopped; all others print something, in the form that is asked for."""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tasker {__version__}\n"


LIBRARIES = {"cyclopts", "rich", "msgspec", "aiohttp", "nats", "asyncpg", "asyncio"}


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["task", "list", "-h"], []])
def test_what_is_printed_at_once_loads_no_library(arguments: list[str]) -> None:
    """What a command loads is what it takes to start."""
    assert LIBRARIES.isdisjoint(loaded_by(f"from tasker.cli import main; main({arguments})"))


def test_the_parser_loads_neither_drivers_nor_service() -> None:
    loaded = loaded_by("from tasker.cli.app import build, load; load(build())")
    assert loaded.isdisjoint(LIBRARIES - {"cyclopts", "rich"})
    assert not [name for name in loaded if name.startswith("tasker.service")]


def loaded_by(code: str) -> set[str]:
    """Return the names of the modules that are there after `code` has run in a new process."""
    code += "; import sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stderr.split())


def test_the_help_that_is_printed_is_what_the_commands_say() -> None:
    assert HELP.read_bytes() == help_file(), "run: make generate"


@pytest.mark.parametrize("arguments", [["--help"], ["task", "--help"], ["task", "wait", "-h"]])
def test_help_for_a_stdout_without_frames_has_none(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tasker", *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert " ".join(["Usage: tasker", *arguments[:-1]]) in done.stdout.decode("ascii")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command.split()[0] in shown for command in COMMANDS)
    assert "--owned" not in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: tasker {command}" in shown
    assert "--owned" not in shown
    assert ("--output" in shown) == (command not in RUNNING)


@pytest.mark.parametrize(
    ("arguments", "member"),
    [
        (["schema", "openapi"], "paths"),
        (["schema", "asyncapi"], "channels"),
        (["schema", "template"], "$defs"),
        (["template", "schema"], "$defs"),
    ],
)
def test_contracts_are_printed_as_json(arguments: list[str], member: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert member in json.loads(shown.out)
    assert shown.err == ""


def test_a_contract_in_one_line_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "template"]) == main(["schema", "template", "-o", "jsonl"]) == 0
    *indented, line = capsys.readouterr().out.splitlines()
    assert json.loads("".join(indented)) == json.loads(line)


def test_asyncapi_is_printed_for_the_prefix_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TASKER_NATS_PREFIX", "blue")
    assert main(["schema", "asyncapi"]) == 0
    assert json.loads(capsys.readouterr().out)["x-nats-streams"]["work"]["config"]["name"] == "BLUE_WORK"


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["task", "frobnicate"],
        ["task", "get"],
        ["task", "get", "a", "b"],
        ["task", "list", "--frob"],
        ["task", "list", "-o", "xml"],
        ["task", "create", "hello", "--wait", "soon", "later"],
        ["task", "create", "hello", "--input", "{"],
        ["task", "create", "hello", "--tag", "x"],
        ["task", "list", "--limit", "-1"],
        ["task", "create", "hello", "--wait", "-5"],
        ["task", "wait", "t", "--timeout-s", "-1"],
        ["task", "show", "t", "--at", "0"],
        ["log", "tail", "--limit", "-3"],
        ["schedule", "next", "--every-s", "5", "--count", "-3"],
        ["task", "deadline", "t"],
        ["task", "deadline", "t", "--within-s", "60", "--remove"],
        ["up", "no-such-app.py"],
        ["worker", "no-such-app.py"],
        ["template", "validate", "no-such-file.yaml"],
    ],
)
def test_usage_errors_end_with_2_and_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    first, *_ = shown.err.splitlines()
    assert first.startswith("error: ")
    assert first.endswith(")")


@pytest.mark.parametrize(
    ("command", "wrong", "meant"),
    [
        (["task", "create", "t"], "--key", "--idempotency-key"),
        (["task", "deadline", "t"], "--at", "--deadline"),
        (["task", "bulk", "cancel"], "--all", "--everything"),
        (["approval", "approve", "t", "s"], "--by", "--requested-by"),
        (["dlq", "list"], "--why", "--of-reason"),
        (["dlq", "list"], "--step", "--of-step"),
        (["resume", "queue", "q", "--reason", "x"], "--ramp", "--ramp-s"),
        (["circuits", "open", "h", "--reason", "x"], "--for", "--open-s"),
        (["schedule", "create", "s"], "--template-version", "--version"),
        (["worker", "app.py"], "--max-tasks", "--steps-max"),
        (["worker", "app.py"], "--max-rss-mib", "--rss-mib-max"),
        (["task", "list"], "--frobnicate", None),
    ],
)
def test_an_option_that_there_is_not_is_refused_with_the_one_that_was_meant(
    command: list[str], wrong: str, meant: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, wrong, "1"]) == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert first.endswith(f"{wrong}. Did you mean {meant}? (usage)" if meant else f"{wrong} (usage)")


@pytest.mark.parametrize("option", ["--wait", "--submit"])
def test_a_dry_run_waits_for_nothing(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "create", "hello", "--dry-run", option]) == 2
    assert "leave out --wait and --submit" in capsys.readouterr().err


def test_what_a_command_has_no_place_for_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "pause", "nightly", "extra", "more"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: it takes no more arguments: 'extra' 'more' (usage)",
        "next: `tasker schedule pause --help` shows the forms",
    ]


def test_no_processes_cannot_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "verify", "--workers", "0"]) == 2
    assert "--workers" in capsys.readouterr().err


def test_an_unknown_command_is_told_with_all_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """The verbs of a bulk among them."""
    assert main(["task", "bulk", "cancell"]) == 2
    error, after = capsys.readouterr().err.splitlines()
    start = 'error: Unknown command "cancell". Did you mean "cancel"? There are '
    assert error.startswith(start)
    assert error.removeprefix(start) == "cancel, retry, pause, resume, tag, restart (usage)"
    assert after == "next: `tasker task bulk --help` shows the forms"
    assert main(["task", "explode"]) == 2
    error = capsys.readouterr().err.splitlines()[0]
    assert error.startswith('error: Unknown command "explode"; there are ')
    assert {"bulk", "create", "wait"} <= set(error.partition("; there are ")[2].removesuffix(" (usage)").split(", "))


def test_a_data_directory_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a file"
    file.touch()
    assert main(["up", "--data", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: the data directory {file} cannot be made: ")
    assert "--data" in said


@pytest.mark.parametrize("arguments", [["task", "list"], ["stats"], ["log", "verify"], ["migrate"], ["worker", "app"]])
def test_without_a_service_it_says_what_to_set(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "TASKER_" in said
    assert "tasker up" in said


def test_a_service_that_does_not_answer_ends_with_7(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    monkeypatch.setenv("TASKER_HTTP_URL", f"http://127.0.0.1:{unused_tcp_port}")
    assert main(["task", "list", "--call-timeout-s", "0.2"]) == 7
    assert "nobody answers" in capsys.readouterr().err


def test_whoever_waits_for_a_service_is_told_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    monkeypatch.setenv("TASKER_HTTP_URL", f"http://127.0.0.1:{unused_tcp_port}")
    assert main(["stats", "--call-timeout-s", "1.5"]) == 7
    waiting, *rest = capsys.readouterr().err.splitlines()
    assert waiting.startswith(f"nobody answers at http://127.0.0.1:{unused_tcp_port}: ")
    assert waiting.endswith("; asking again for up to 1.5 s")
    assert [line.split(":")[0] for line in rest] == ["error", "next"]
    assert main(["stats", "--call-timeout-s", "1.5", "-o", "json"]) == 7
    assert json.loads(capsys.readouterr().err)["code"] == "unavailable"


def test_another_bind_than_loopback_is_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--http-host", "0.0.0.0"]) == 2  # noqa: S104 - that is the point
    assert "--insecure-bind" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TaskerError("bug"), 1),
        (InputInvalid("no"), 2),
        (TaskUnknown("no"), 3),
        (AuthenticationFailed("no"), 4),
        (ApprovalForbidden("no"), 5),
        (KeyConflict("no"), 6),
        (Unavailable("no"), 7),
        (NotReady("no"), 7),
        (TaskBlocked("no"), 8),
        (CheckFailed("no"), 9),
    ],
)
def test_exit_codes(error: TaskerError, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(error, "table") == code
    assert f"({error.code})" in capsys.readouterr().err


def test_an_error_for_people_names_each_fault_and_the_next_thing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    faults = (FieldError("/qty", "must be\nat least 1"), FieldError("", "is odd"))
    report(InputInvalid("the input has 2 faults", errors=faults), "table")
    report(TaskUnknown("no task x"), "table")
    assert capsys.readouterr().err.splitlines() == [
        "error: the input has 2 faults (input_invalid)",
        "  /qty: must be at least 1",
        "  /: is odd",
        "next: `tasker template show NAME` has the schema of the input",
        "error: no task x (task_unknown)",
        "next: `tasker task list` shows the tasks",
    ]


def test_a_fault_that_the_error_tells_is_not_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    report(InputInvalid("/qty: must be at least 1", errors=(FieldError("/qty", "must be at least 1"),)), "table")
    assert capsys.readouterr().err.splitlines()[:-1] == ["error: /qty: must be at least 1 (input_invalid)"]


@pytest.mark.parametrize("output", ["json", "jsonl"])
def test_an_error_for_programs_is_the_problem(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    report(KeyConflict("taken", task_id="t"), output)
    shown = capsys.readouterr()
    problem = json.loads(shown.err)
    assert shown.out == ""
    assert (problem["code"], problem["status"], problem["context"]) == ("key_conflict", 409, {"task_id": "t"})


def test_usage_errors_have_the_form_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "list", "--frob", "-o", "json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "usage"
