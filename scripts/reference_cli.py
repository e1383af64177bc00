"""The reference of the command line, from the commands themselves."""  # noqa: INP001 - a folder of scripts

from __future__ import annotations

import re

from tasker.cli.app import build

_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_EXAMPLES = re.compile(r"(?:^\$ .*\n?)+", re.MULTILINE)
_USAGE = re.compile(
    r"^(?P<head>#+ (?P<chain>tasker.*)\n\n```console\n).*?(?P<rest>(?: (?:\[|COMMAND)| [A-Z]+).*)?$", re.MULTILINE
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
