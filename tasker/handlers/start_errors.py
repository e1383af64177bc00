"""Why a worker does not start, told to who started it."""

from __future__ import annotations

import sys

from tasker.errors import TaskerError


def tell(error: TaskerError) -> None:
    """Write `error` to stderr, its faults one by one."""
    print(f"tasker worker: {error.detail}", file=sys.stderr, flush=True)  # noqa: T201 - a line for its user
    for fault in error.errors:
        print(f"  {fault.pointer}: {fault.detail}", file=sys.stderr, flush=True)  # noqa: T201 - as above
