"""How a worker is, and whether it counts as live and as ready."""

from __future__ import annotations

from typing import Final

import msgspec

SILENT_S_MAX: Final = 5.0
"""How long the handlers' loop may owe a sign of life."""


class Vitals(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a worker is.

    Attributes:
        connected: to NATS. claiming: it takes new work.
        slots, busy: attempts at a time, and now. waiting: in hand, for a place of their handler. ahead: in hand, for a
            free slot, or for the word of their owner before it.
        unanswered: outcomes on their way to their owners. stuck: attempts that do not end.
        handlers_silent_s: how long the handlers' loop owes a sign of life.
    """

    worker: str
    connected: bool
    claiming: bool
    slots: int
    busy: int
    waiting: int
    ahead: int
    unanswered: int
    stuck: int
    handlers_silent_s: float
    lost_why: str | None = None


class WorkerCounts(msgspec.Struct):
    """What a worker did since its start."""

    delivered: int = 0
    run: int = 0
    gone: int = 0
    completed: int = 0
    failed: int = 0
    refused: int = 0
    unknown_handler: int = 0
    undecodable: int = 0
    returned: int = 0


class WorkerHealth(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the endpoints answer.

    Attributes:
        ok: the answer is 200. reasons: why not.
        loop_lag_s: the longest delay of the I/O loop in the last ten seconds.
    """

    ok: bool
    reasons: list[str]
    loop_lag_s: float
    vitals: Vitals | None = None


def judge(vitals: Vitals | None, *, draining: bool, loop_lag_s: float) -> tuple[WorkerHealth, WorkerHealth]:
    """Return whether a worker is live, and whether it is ready."""
    dead: list[str] = []
    if vitals is not None and vitals.lost_why is not None:
        dead.append(vitals.lost_why)
    elif vitals is not None and vitals.handlers_silent_s > SILENT_S_MAX:
        dead.append(f"the handlers' loop gave no sign of life for {vitals.handlers_silent_s:.1f} s")
    unready = list(dead)
    if draining:
        unready.append("it drains")
    elif vitals is None:
        unready.append("it starts: it waits for NATS, or for the service to take its templates")
    else:
        if not vitals.connected:
            unready.append("no connection to NATS")
        if not vitals.claiming:
            unready.append("it takes no work: too many outcomes wait for their answer")
    return (
        WorkerHealth(ok=not dead, reasons=dead, loop_lag_s=loop_lag_s, vitals=vitals),
        WorkerHealth(ok=not unready, reasons=unready, loop_lag_s=loop_lag_s, vitals=vitals),
    )
