"""The reference of the command line and the texts of `--help`, from the commands themselves."""  # noqa: INP001 - a folder of scripts

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import msgspec
from cyclopts import App
from rich.console import Console

from tasker.cli.app import build, load
from tasker.cli.ready_help import COLUMNS, HELP_FLAGS

_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_EXAMPLES = re.compile(r"(?:^\$ .*\n?)+", re.MULTILINE)
_USAGE = re.compile(
    r"^(?P<head>#+ (?P<chain>tasker.*)\n\n```console\n).*?(?P<rest>(?: (?:\[|--|COMMAND)| [A-Z]+).*)?$", re.MULTILINE
)
_CONTENTS = re.compile(r"^## Table of Contents\n.*?(?=^\*\*Commands\*\*)", re.DOTALL | re.MULTILINE)


def cli_reference() -> str:
    """Return what `--help` says of every command, a heading a command."""
    text = build().generate_docs(output_format="markdown", recursive=True)
    text = _CONTENTS.sub("", text.partition("\n")[2])
    # The names of the site's anchors are made of the headings, in which `tasker task list` stands for itself.
    text = _EXAMPLES.sub(lambda found: f"```console\n{found[0].rstrip()}\n```\n", text)
    text = _HEADING.sub(lambda found: f"{'#' * max(2, len(found[1]))} {found[2]}", text)
    # A group that is loaded late does not know whose it is, and names the program that runs instead.
    text = _USAGE.sub(lambda found: f"{found['head']}{found['chain']}{found['rest'] or ''}", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def help_file() -> bytes:
    """Return `tasker/cli/help.json`: what `--help` prints, by the words before it."""
    app = build()
    load(app)
    every = list(_paths(app))  # which loads what is loaded on demand, so that each page has its words
    texts = {" ".join(words): _help_of(app, words) for words in every}
    return msgspec.json.format(msgspec.json.encode(texts), indent=1) + b"\n"


def _paths(app: App, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield above
    for name in app:
        if name not in app.help_flags and name not in app.version_flags:
            yield from _paths(app[name], (*above, name))


def _help_of(app: App, words: tuple[str, ...]) -> str:
    page = io.StringIO()
    app([*words, HELP_FLAGS[0]], console=Console(file=page, width=COLUMNS, force_terminal=False, color_system=None))
    return page.getvalue().rstrip("\n")
