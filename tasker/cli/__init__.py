"""The command line. Its modules import what they run only when they run it, so that it starts fast.

Data goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 failure, 2 usage, 3 not found,
4 authentication, 5 forbidden, 6 conflict, 7 unavailable, 8 task failed or blocked, 9 a check found problems.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["-V"]):
        from tasker.version import __version__

        print(f"tasker {__version__}")  # noqa: T201 the answer
        return 0
    from tasker.cli.ready_help import ready_help

    try:
        text = ready_help(arguments)
        if text is not None:
            print(text, flush=True)  # noqa: T201 the answer
            return 0
        from tasker.cli.app import run

        return run(arguments)
    except BrokenPipeError:
        # The reader of our output has seen enough; the flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
