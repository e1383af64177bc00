"""What holds work of a tenant back: pauses, rate limits and circuits."""

from __future__ import annotations

from typing import Literal

import msgspec

from tasker.events.control_events import ControlScope, LimitScope
from tasker.events.reads.waits import CircuitFacts


class PauseView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A pause of many tasks' work: since when, by whom and why. `namespace`, `name`: of a template or a queue."""

    scope: ControlScope
    namespace: str = ""
    name: str = ""
    since: str
    requested_by: str
    reason: str


class RampView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What comes back slowly after a pause or an open circuit, `since` it was resumed, and is back whole `until` then.

    A circuit is that of a `handler`.
    """

    scope: ControlScope | LimitScope
    namespace: str = ""
    name: str = ""
    since: str
    until: str
    requested_by: str
    reason: str


class LimitView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A rate limit: `per_s` attempts a second, `burst` at once; each value of `key` has it for itself."""

    scope: LimitScope
    namespace: str
    name: str
    per_s: float
    burst: int
    key: str | None = None
    since: str
    requested_by: str
    reason: str


class DeclaredLimitView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A rate limit that the version in use of a template gives a step.

    Attributes:
        name: of template and step, with a slash between them.
        handler: whose limit, where an operator set one, holds in place of this.
        overridden: there is such a limit.
    """

    scope: Literal["step"] = "step"
    namespace: str
    name: str
    handler: str
    version: str
    per_s: float
    burst: int
    key: str | None = None
    overridden: bool = False


class LimitsView(msgspec.Struct, kw_only=True):
    """The rate limits of a tenant: those that operators set, the newest first, and those of templates."""

    limits: list[LimitView]
    declared: list[DeclaredLimitView]


class CircuitView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The circuit of a handler (`name`) that is not closed: its attempts wait.

    `since`, `requested_by`, `reason`: of its last change; `tasker` is the service itself.
    """

    scope: Literal["handler"] = "handler"
    namespace: str
    name: str
    circuit: CircuitFacts
    since: str
    requested_by: str
    reason: str


class DeclaredBreakerView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A circuit breaker that the version in use of a template gives a step.

    Attributes:
        name: of template and step, with a slash between them.
        handler: whose circuit it opens.
    """

    scope: Literal["step"] = "step"
    namespace: str
    name: str
    handler: str
    version: str
    failure_rate: float
    min_attempts: int
    window_s: float
    open_s: float
    open_s_max: float
    probes: int


class CircuitsView(msgspec.Struct, kw_only=True):
    """The circuits of a tenant's handlers that are not closed, the newest first, and the breakers of its templates."""

    circuits: list[CircuitView]
    declared: list[DeclaredBreakerView]


class ControlsView(msgspec.Struct, kw_only=True):
    """What holds work of a tenant back: pauses, what comes back slowly, rate limits, circuits; the newest first."""

    pauses: list[PauseView]
    ramps: list[RampView]
    limits: list[LimitView]
    circuits: list[CircuitView] = []
