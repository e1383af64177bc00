"""What operators may do to work as a whole: `decide_control(controls, command) -> events`.

A pause of what is paused, and a resumption of what is not, change nothing or are refused: the person who comes second
learns who was first.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

import msgspec

from tasker.controls import Controls, target_of
from tasker.errors import StateForbids
from tasker.events.control_events import (
    AnyControlEvent,
    ControlEvent,
    ControlScope,
    LimitScope,
    RateLimitRemoved,
    RateLimitSet,
    WorkPaused,
    WorkResumed,
)

PAUSES_MAX: Final = 10_000
RAMPS_MAX: Final = 10_000
LIMITS_MAX: Final = 10_000
RAMP_S_MAX: Final = 7 * 24 * 3600.0


class Within(msgspec.Struct, frozen=True):
    """What a command is about; names are "" where the scope has none."""

    scope: ControlScope | LimitScope
    namespace: str = ""
    name: str = ""


class PauseWork(msgspec.Struct, frozen=True):
    """Let nothing within begin."""

    within: Within


class ResumeWork(msgspec.Struct, frozen=True):
    """Let it begin again, spread over `ramp_s`."""

    within: Within
    ramp_s: float = 0.0


class LimitWork(msgspec.Struct, frozen=True):
    """Let so many attempts within begin in a time; see `RateLimitSet`."""

    within: Within
    per_s: float
    burst: int
    key: str | None


class UnlimitWork(msgspec.Struct, frozen=True):
    """Let them begin as they come."""

    within: Within


AnyControlCommand = PauseWork | ResumeWork | LimitWork | UnlimitWork


def decide_control(controls: Controls, tenant: str, command: AnyControlCommand) -> tuple[AnyControlEvent, ...]:
    """Return the events that `command` of a tenant causes; () when it changes nothing.

    Raises:
        StateForbids: there is nothing to resume or no limit to remove, or as much is paused or limited as is kept.
    """
    within = command.within
    target = target_of(tenant, ControlEvent(scope=within.scope, namespace=within.namespace, name=within.name))
    pause, limit = controls.pauses.get(target), controls.limits.get(target)
    match command:
        case PauseWork():
            if pause is not None:
                return ()
            if len(controls.pauses) >= PAUSES_MAX:
                raise StateForbids(f"{PAUSES_MAX} things are paused already; pause a tenant or everything instead")
            return (WorkPaused(scope=within.scope, namespace=within.namespace, name=within.name),)
        case ResumeWork(ramp_s=ramp_s):
            if pause is None:
                raise StateForbids(f"{target.words()} is not paused", remedy="`tasker controls` lists what is")
            if ramp_s > 0 and len(controls.ramps) >= RAMPS_MAX:
                raise StateForbids(f"{RAMPS_MAX} things come back slowly already; resume it at once")
            return (WorkResumed(scope=within.scope, namespace=within.namespace, name=within.name, ramp_s=ramp_s),)
        case LimitWork(per_s=per_s, burst=burst, key=key):
            if limit is not None and (limit.per_s, limit.burst, limit.key) == (per_s, burst, key):
                return ()
            if limit is None and len(controls.limits) >= LIMITS_MAX:
                raise StateForbids(f"{LIMITS_MAX} limits are set already; that is all that is kept")
            at: dict[str, Any] = {"scope": within.scope, "namespace": within.namespace, "name": within.name}
            return (RateLimitSet(**at, per_s=per_s, burst=burst, key=key),)
        case UnlimitWork():
            if limit is None:
                raise StateForbids(f"{target.words()} has no limit", remedy="`tasker limits list` shows what has")
            return (RateLimitRemoved(scope=within.scope, namespace=within.namespace, name=within.name),)
        case _:
            assert_never(command)
