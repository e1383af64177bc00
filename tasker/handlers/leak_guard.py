"""Has a worker's process replaced before what it leaks does harm: after so many attempts, or above so much memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Final

import structlog

LOOK_S: Final = 1.0
ASK_AGAIN_S: Final = 60.0
MIB: Final = 1024 * 1024

_log = structlog.get_logger(__name__)


def reason_to_replace(*, ran: int, rss_bytes: int | None, steps_max: int | None, rss_mib_max: int | None) -> str | None:
    """Return why the process should be replaced; None: it need not.

    Args:
        ran: attempts so far.
        rss_bytes: resident memory of the process and its children; None: unknown.
        steps_max: how many attempts are enough; None: no number.
        rss_mib_max: how much memory is too much; None: none is.
    """
    if steps_max is not None and ran >= steps_max:
        return f"it ran {ran} attempts (--steps-max {steps_max})"
    if rss_mib_max is not None and rss_bytes is not None and rss_bytes > rss_mib_max * MIB:
        return f"it holds {rss_bytes // MIB} MiB (--rss-mib-max {rss_mib_max})"
    return None


def own_and_children_bytes(process_ids: Iterable[int]) -> int | None:
    """Return the resident memory of this process and of `process_ids`, in bytes; None: this system does not say."""
    total = 0
    for pid in ("self", *process_ids):
        try:
            with open(f"/proc/{pid}/statm", "rb") as statm:  # noqa: PTH123 - a file of the kernel's
                total += int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            if pid == "self":
                return None
    return total


async def guard(look: Callable[[], str | None], ask: Callable[[str], None]) -> None:
    """Call `ask` with the reason once `look` gives one, and again each minute while it does; for ever."""
    while True:
        why = look()
        if why is not None:
            _log.warning("worker_asks_for_a_successor", error=why)
            ask(why)
        await asyncio.sleep(LOOK_S if why is None else ASK_AGAIN_S)
