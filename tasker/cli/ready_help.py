"""What `--help` says, made ahead: the parser and all commands take five times as long to load as Python itself.

`help.json` holds the text of every command, 80 columns wide. `make generate` writes it; a test holds it against what
the commands say.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

COLUMNS: Final = 80
HELP_FLAGS: Final = ("--help", "-h")


def ready_help(arguments: Sequence[str]) -> str | None:
    """Return the help that `arguments` ask for; None where they ask for something else, or it has to be made here."""
    if arguments and arguments[-1] not in HELP_FLAGS:
        return None
    if not _shows_boxes():
        return None
    import json

    with open(os.path.join(os.path.dirname(__file__), "help.json"), encoding="utf-8") as file:  # noqa: PTH118, PTH120, PTH123 - pathlib costs the start 10 ms
        texts: dict[str, str] = json.load(file)
    return texts.get(" ".join(arguments[:-1]))


def _shows_boxes() -> bool:
    """Say whether stdout takes lines of `COLUMNS` with the characters that frames are made of."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding != "utf8":
        return False
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return True  # no terminal
    return columns == 0 or columns >= COLUMNS
