"""Commands about work as a whole, checked at the door and turned into what the actor of controls takes."""

from __future__ import annotations

from typing import assert_never

from tasker.errors import BodyInvalid
from tasker.events.messages import (
    DEFAULT_TENANT,
    CircuitClose,
    CircuitCommand,
    CircuitOpen,
    ControlCommand,
    ControlPause,
    ControlResume,
    LimitCommand,
    LimitRemove,
    LimitSet,
)
from tasker.ids import check_name
from tasker.service.actors.dispatch.pacing import INPUT
from tasker.service.domain.circuits import OPEN_S_MAX, CloseCircuit, OpenCircuit
from tasker.service.domain.controls import (
    RAMP_S_MAX,
    AnyControlCommand,
    LimitWork,
    PauseWork,
    ResumeWork,
    UnlimitWork,
    Within,
)
from tasker.templates.expressions import compile_expression
from tasker.templates.model import BREAKER_S_MIN, BURST_MAX, PER_S_MAX, PER_S_MIN

NAMED = ("template", "queue")
"""Scopes that have a name."""


def control_of(
    tenant: str, command: ControlCommand | LimitCommand | CircuitCommand
) -> AnyControlCommand | OpenCircuit | CloseCircuit:
    """Return what `command` of a tenant asks for.

    Raises:
        BodyInvalid: it does not say who asks, why, or for what. NameInvalid: a name is none.
        ExpressionInvalid: the key of a limit is none.
    """
    if not command.requested_by:
        raise BodyInvalid.at("/requested_by", "say who asks: whoever meets the pause is told")
    if not command.reason:
        raise BodyInvalid.at("/reason", "say why: whoever meets the pause is told")
    if isinstance(command, LimitCommand):
        return _limit_of(command)
    if isinstance(command, CircuitCommand):
        return _circuit_of(command)
    within = _within(tenant, command)
    match command:
        case ControlPause():
            return PauseWork(within)
        case ControlResume(ramp_s=ramp_s):
            if not 0 <= ramp_s <= RAMP_S_MAX:
                raise BodyInvalid.at("/ramp_s", f"a ramp takes 0 to {RAMP_S_MAX:g} seconds")
            return ResumeWork(within, ramp_s)
        case _:
            assert_never(command)  # type: ignore[arg-type] # there are no others


def _limit_of(command: LimitCommand) -> AnyControlCommand:
    within = Within(command.scope, check_name(command.namespace, "namespace"), check_name(command.name, command.scope))
    match command:
        case LimitSet(per_s=per_s, burst=burst, key=key):
            if not PER_S_MIN <= per_s <= PER_S_MAX:
                raise BodyInvalid.at("/per_s", f"a limit is from {PER_S_MIN:.5f} to {PER_S_MAX:.0f} attempts a second")
            if not 1 <= burst <= BURST_MAX:
                raise BodyInvalid.at("/burst", f"a burst is from 1 to {BURST_MAX} attempts")
            if key is not None:
                compile_expression(key, variables=INPUT)
            return LimitWork(within, per_s, burst, key)
        case LimitRemove():
            return UnlimitWork(within)
        case _:
            raise BodyInvalid.at("/scope", f"{type(command).__name__} is no command to a limit")


def _circuit_of(command: CircuitCommand) -> OpenCircuit | CloseCircuit:
    namespace, name = check_name(command.namespace, "namespace"), check_name(command.name, "handler")
    match command:
        case CircuitOpen(open_s=open_s):
            if not BREAKER_S_MIN <= open_s <= OPEN_S_MAX:
                raise BodyInvalid.at("/open_s", f"a circuit is open for {BREAKER_S_MIN:g} to {OPEN_S_MAX:g} seconds")
            return OpenCircuit(namespace, name, open_s)
        case CircuitClose(ramp_s=ramp_s):
            if not 0 <= ramp_s <= RAMP_S_MAX:
                raise BodyInvalid.at("/ramp_s", f"a ramp takes 0 to {RAMP_S_MAX:g} seconds")
            return CloseCircuit(namespace, name, ramp_s)
        case _:
            raise BodyInvalid.at("", f"{type(command).__name__} is no command to a circuit")


def _within(tenant: str, command: ControlCommand) -> Within:
    scope, name = command.scope, command.name
    if scope in NAMED:
        if name is None:
            raise BodyInvalid.at("/name", f"say which {scope}")
        return Within(scope, check_name(command.namespace or "default", "namespace"), check_name(name, scope))
    if name is not None or command.namespace is not None:
        pointer = "/namespace" if name is None else "/name"
        raise BodyInvalid.at(
            pointer, f"only {' and '.join(NAMED)} have a name and a namespace, the scope {scope} has none"
        )
    if scope == "everything" and tenant != DEFAULT_TENANT:
        raise BodyInvalid.at(
            "/scope", f"everything is paused by callers of the tenant {DEFAULT_TENANT!r}; pause your tenant"
        )
    return Within(scope)
