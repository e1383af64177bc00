"""Options that many commands share, and how their values are read."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

if TYPE_CHECKING:
    from tasker.client.requests import OperatorOptions

Format = Literal["table", "json", "jsonl"]
Output = Annotated[Format, Parameter(name=["--output", "-o"])]
"""Of every command that prints data. Its default is the setting `output`: `app.py` fills it in."""

File = Annotated[Path, Parameter(allow_leading_hyphen=True)]
"""A file that is read whole; `-` is stdin."""


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command that asks a service.

    Attributes:
        output: the form of what is printed on stdout.
        tenant: whose tasks; else the setting `tenant`, "default" at first.
        data: data directory of a running `tasker up`, instead of TASKER_NATS_URL and TASKER_HTTP_URL.
        timeout_s: how long the service may take to answer, repetitions included; else `client.timeout_s`, 30 at first.
    """

    output: Output = "table"
    tenant: str | None = None
    data: Annotated[Path | None, Parameter(name="--data")] = None
    timeout_s: Annotated[float | None, Parameter(name="--call-timeout-s")] = None

    def next(self, command: str | None) -> str | None:
        """Return a command that the service names with what this one was given to find its task: tenant, directory."""
        if command is None or not command.startswith("tasker "):
            return command
        tenant = [] if self.tenant is None else ["--tenant", self.tenant]
        data = [] if self.data is None else ["--data", shlex.quote(str(self.data))]
        return " ".join([command, *tenant, *data])


COMMON = Common()


@Parameter(name="*")
@dataclass(frozen=True)
class By:
    """Options of every command to a task, a step, a schedule or a template.

    Attributes:
        reason: why, kept in the event.
        requested_by: who asks, kept in the event; your user name unless given.
        command_id: names this command, so that a repetition is the same one.
        dry_run: only show what would happen.
    """

    reason: str | None = None
    requested_by: str | None = None
    command_id: str | None = None
    dry_run: Annotated[bool, Parameter(negative="")] = False

    def options(self) -> OperatorOptions:
        """Return them as the client takes them.

        Raises:
            UsageError: nobody is named, and the system names no user.
        """
        from tasker.cli.given import asked_by

        return {
            "reason": self.reason,
            "requested_by": asked_by(self.requested_by),
            "command_id": self.command_id,
            "dry_run": self.dry_run,
        }


BY = By()

Tags = Annotated[list[str] | None, Parameter(name="--tag", negative="", metavar="KEY=VALUE")]
Limit = Annotated[int, Parameter(validator=Number(gte=0))]
"""At most so many; 0 for all."""

DryRun = Annotated[bool, Parameter(negative="")]
Wait = Annotated[bool | float, Parameter(negative="", metavar="[S]", show_default=False, validator=Number(gte=0))]
"""`--wait` for as long as it takes, `--wait 30` for so many seconds."""

_WAIT = "--wait"


def spell_out_wait(arguments: list[str]) -> list[str]:
    """Return `arguments` with a `--wait` that no number follows written `--wait=true`, so that it takes no name."""
    spelt: list[str] = []
    for index, argument in enumerate(arguments):
        if argument == "--":
            return spelt + arguments[index:]
        bare = argument == _WAIT and not (index + 1 < len(arguments) and _is_number(arguments[index + 1]))
        spelt.append(f"{_WAIT}=true" if bare else argument)
    return spelt


def format_asked(arguments: list[str], default: str = "table") -> str:
    """Return the output format that `arguments` ask for, before they are understood: a usage error has a form too."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in ("-o", "--output"):
            return value if equals else (arguments[index + 1] if index + 1 < len(arguments) else default)
        if argument == "--":
            break
    return default


def take_config(arguments: list[str]) -> tuple[list[str], str | None]:
    """Return `arguments` without `--config FILE`, which every command takes, and the file; None: not given."""
    kept: list[str] = []
    file: str | None = None
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return [*kept, argument, *rest], file
        if argument == "--config":
            file = next(rest, "")
        elif argument.startswith("--config="):
            file = argument.partition("=")[2]
        else:
            kept.append(argument)
    return kept, file


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
