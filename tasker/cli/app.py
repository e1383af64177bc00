"""The commands by name, and what becomes of their errors. Groups are imported with their first use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, get_args

from cyclopts import App, CycloptsError, Token

from tasker.cli.options import Format, format_asked, spell_out_wait, take_config

if TYPE_CHECKING:
    from cyclopts import ArgumentCollection

    from tasker.errors import TaskerError

_HELP = """Durable workflows: every step is recorded in Postgres, work travels over NATS.

$ tasker up app.py                        # everything, with your workflow
$ tasker task create hello --input '{"name": "Ada"}' --wait
$ tasker task list --state blocked        # what waits for a person
$ tasker task create --help               # every command explains itself

Commands find the service by TASKER_NATS_URL and TASKER_HTTP_URL, or the `tasker up` that runs here.
Settings come from tasker.toml (another with --config FILE), the environment and options:
`tasker config show` tells what holds and why, `tasker doctor` what is wrong.
"""

_EPILOGUE = """Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 authentication,
5 forbidden, 6 conflict, 7 unavailable, 8 task failed or blocked,
9 a check found problems.
"""

_COMMANDS = {
    "up": "tasker.cli.up:up",
    "serve": "tasker.cli.serve:serve",
    "migrate": "tasker.cli.serve:migrate",
    "worker": "tasker.cli.worker:worker",
    "pause": "tasker.cli.controls:pause",
    "resume": "tasker.cli.controls:resume",
    "controls": "tasker.cli.controls:controls",
    "stats": "tasker.cli.state:stats",
    "health": "tasker.cli.state:health",
    "usage": "tasker.cli.usage:usage",
    "doctor": "tasker.cli.doctor:doctor",
}
_GROUPS = {
    "task": "tasker.cli.task:app",
    "step": "tasker.cli.step:app",
    "approval": "tasker.cli.approval:app",
    "dlq": "tasker.cli.dlq:app",
    "template": "tasker.cli.template:app",
    "schedule": "tasker.cli.schedule:app",
    "limits": "tasker.cli.limits:app",
    "circuits": "tasker.cli.circuits:app",
    "log": "tasker.cli.log:app",
    "schema": "tasker.cli.schema:app",
    "projection": "tasker.cli.projection:app",
    "config": "tasker.cli.config:app",
}


def build(output: str = "table") -> App:
    """Return the app; nothing of a group is imported yet. `output` is the form where none is asked for."""
    from tasker.version import __version__

    app = App(
        name="tasker",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        version=f"tasker {__version__}",
        version_flags=["--version", "-V"],
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
        config=lambda _app, _commands, arguments: _fill_output(arguments, output),
    )
    for name, target in {**_COMMANDS, **_GROUPS}.items():
        app.command(target, name=name)
    return app


def run(arguments: list[str]) -> int:
    """Run the command that `arguments` spell; returns the exit code."""
    arguments, file = take_config(arguments)
    if file is not None:
        # So that the processes that a command starts read the same file.
        os.environ["TASKER_CONFIG"] = os.path.abspath(file)  # noqa: PTH100 - pathlib costs the start 10 ms
    usual = "table" if not arguments or _asks_help(arguments) else _usual_output()
    output = format_asked(arguments, usual)
    if output not in get_args(Format):
        output = "table"
    app = build(usual)
    if not arguments or arguments[0] in ("--help", "-h"):
        load(app)
    try:
        code = app(spell_out_wait(arguments))
    except CycloptsError as error:
        from tasker.cli.failures import report_usage

        return report_usage(error, output)
    except KeyboardInterrupt:
        return 130
    except _tasker_error() as error:
        from tasker.cli.failures import UsageError, report

        if isinstance(error, UsageError):
            error.context.setdefault("remedy", f"`{_spelt(app, arguments)} --help` shows the forms")
        return report(error, output)
    return code if isinstance(code, int) else 0


def _spelt(app: App, arguments: list[str]) -> str:
    """Return the command that `arguments` begin with."""
    return " ".join(["tasker", *app.parse_commands(arguments)[0]])


def load(app: App) -> None:
    """Import every command, so that the list of all can say what each does."""
    for name in (*_COMMANDS, *_GROUPS):
        _ = app[name]


def _asks_help(arguments: list[str]) -> bool:
    return not {"--help", "-h", "--version", "-V"}.isdisjoint(arguments)


def _usual_output() -> str:
    """Return the form that the settings ask for. Settings with faults ask for none: the command tells of them."""
    from tasker.settings import SettingsInvalid, read_settings

    try:
        return read_settings().settings.output
    except SettingsInvalid:
        return "table"


def _fill_output(arguments: ArgumentCollection, usual: str) -> None:
    """Give a command the usual form where none was asked for."""
    for argument in arguments:
        if argument.name == "--output" and not argument.tokens:
            argument.append(Token(keyword="output", value=usual, source="settings"))


def _tasker_error() -> type[TaskerError]:
    """Return the root of our errors; looked up only once something was raised."""
    from tasker.errors import TaskerError

    return TaskerError
