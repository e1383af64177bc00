"""Commands to work as a whole: pauses, rate limits, circuits."""

from __future__ import annotations

from tasker.events.control_events import ControlScope, LimitScope
from tasker.events.messages.command import OperatorCommand
from tasker.events.messages.fields import Name


class ControlCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """What every command about work as a whole says; `requested_by` and `reason` are asked for.

    Attributes:
        scope: `everything` (only of the tenant `default`, whose callers are the service's operators), `tenant` (the
            caller's own), `template` or `queue`.
        namespace, name: of the template or the queue.
    """

    scope: ControlScope
    namespace: Name | None = None
    name: Name | None = None


class ControlPause(ControlCommand, kw_only=True, omit_defaults=True):
    """`control.pause`: let no attempt in the scope begin, until `control.resume`. Those that run go on."""


class ControlResume(ControlCommand, kw_only=True, omit_defaults=True):
    """`control.resume`: let attempts in the scope begin again.

    Attributes:
        ramp_s: they come back evenly spread over so many seconds; 0: at once.
    """

    ramp_s: float = 0.0


class LimitCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """What every command about a rate limit says; `requested_by` and `reason` are asked for.

    Attributes:
        scope: `queue` or `handler`; namespace, name: its own.
    """

    scope: LimitScope
    name: Name
    namespace: Name = "default"


class LimitSet(LimitCommand, kw_only=True, omit_defaults=True):
    """`limit.set`: let so many attempts of a queue or a handler begin in a time, over all nodes.

    Attributes:
        per_s: attempts a second; below 1 for slower ones.
        burst: so many may begin at once when none did for a while.
        key: an expression over the task's `input`, such as `input.customer`; each of its values has the limit for
            itself. Tasks that have no such value share one.
    """

    per_s: float
    burst: int = 1
    key: str | None = None


class LimitRemove(LimitCommand, kw_only=True, omit_defaults=True):
    """`limit.remove`: let attempts of a queue or a handler begin as they come."""


class CircuitCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """What every command about the circuit of a handler says; `requested_by` and `reason` are asked for.

    Attributes:
        name, namespace: of the handler.
    """

    name: Name
    namespace: Name = "default"


class CircuitOpen(CircuitCommand, kw_only=True, omit_defaults=True):
    """`circuit.open`: let no attempt of a handler begin, as if too many of them had failed.

    Attributes:
        open_s: after so long a trial begins, which closes the circuit or opens it for twice as long.
    """

    open_s: float = 600.0


class CircuitClose(CircuitCommand, kw_only=True, omit_defaults=True):
    """`circuit.close`: let attempts of a handler begin again, as if none of them had failed.

    Attributes:
        ramp_s: they come back evenly spread over so many seconds; 0: at once.
    """

    ramp_s: float = 0.0
