"""The fold of controls, and whether they hold an attempt back.

An attempt has a place: its tenant, template and queue. A pause of anything that the place is in holds it. After a
pause with a ramp each attempt has its own moment within the ramp, drawn from its task and step alone: what was held
back comes evenly spread, what is new is let through in a share that grows from none to all, and every node, also one
that was started meanwhile, finds the same moment without asking anybody.

Pure: the time is handed in.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Final, NamedTuple, Protocol, assert_never

import msgspec

from tasker.controls.circuits import Circuit, Circuits, KeptCircuits
from tasker.controls.target import Target
from tasker.errors import Undecodable
from tasker.events.command_memory import CommandMemory
from tasker.events.control_events import (
    AnyControlEvent,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    ControlEvent,
    RateLimitRemoved,
    RateLimitSet,
    WorkPaused,
    WorkResumed,
)
from tasker.events.envelope import US_PER_S, RecordedEvent, StreamKind
from tasker.events.state_form import StateForm
from tasker.events.stored import from_recorded, meta_of
from tasker.ids import RESERVED_NAMESPACE

FREED_MAX: Final = 1_000
"""Of so many pauses and circuits that ended last it is remembered when that was."""

_CHANCES: Final = 2**32


class Place(NamedTuple):
    """Where an attempt belongs."""

    tenant: str
    namespace: str
    template: str
    queue: str
    handler: str = ""

    def handled(self) -> Target:
        """Return the handler that runs it, which may have a circuit."""
        return _limited(self)[1]

    def limited(self) -> tuple[Target, Target]:
        """Return what of it may have a rate limit."""
        return _limited(self)

    def targets(self) -> tuple[Target, ...]:
        """Return everything that it is in, the widest first.

        The service's own work is an operator's, who may need it while everything else stands: only its name holds it.
        """
        named = (
            Target("template", self.tenant, self.namespace, self.template),
            Target("queue", self.tenant, self.namespace, self.queue),
        )
        if self.namespace == RESERVED_NAMESPACE:
            return named
        return (_EVERYTHING, Target("tenant", self.tenant, "", ""), *named)


@lru_cache(maxsize=4096)
def _limited(place: Place) -> tuple[Target, Target]:
    return (
        Target("queue", place.tenant, place.namespace, place.queue),
        Target("handler", place.tenant, place.namespace, place.handler),
    )


class Pause(msgspec.Struct, frozen=True):
    """Since when something is paused, by whom and why."""

    since_us: int
    by: str
    reason: str


class Ramp(msgspec.Struct, frozen=True):
    """Over which time something comes back after a pause; by whom and why it was resumed."""

    from_us: int
    until_us: int
    by: str
    reason: str


class Limit(msgspec.Struct, frozen=True):
    """How many attempts may begin: see `RateLimitSet`; since when, by whom and why."""

    per_s: float
    burst: int
    key: str | None
    since_us: int
    by: str
    reason: str


class Paced(Protocol):
    """What is told of a limit, whoever set it."""

    @property
    def per_s(self) -> float:
        """Return how many begin in a second."""
        ...

    @property
    def key(self) -> str | None:
        """Return the expression whose values have it for themselves."""
        ...


class Hold(NamedTuple):
    """An attempt may not begin: until a moment, or (None) until somebody says so.

    Attributes:
        target, since_us, by, reason: of the pause, of the slow return that ends at `ramp_until_us`, or of the circuit.
        circuit: of the handler, which holds it, and nothing else does.
    """

    until_us: int | None
    target: Target
    since_us: int
    by: str
    reason: str
    ramp_until_us: int | None = None
    circuit: Circuit | None = None


_EVERYTHING: Final = Target("everything", "", "", "")


def target_of(tenant: str, event: ControlEvent) -> Target:
    """Return what an event of a tenant holds for."""
    if event.scope == "everything":
        return _EVERYTHING
    return Target(event.scope, tenant, event.namespace, event.name)


def chance_of(task_id: str, step: str) -> float:
    """Return a step's place within a ramp, in [0, 1)."""
    return zlib.crc32(f"{task_id}:{step}".encode()) / _CHANCES


class Controls:
    """What is held back now.

    Attributes:
        seq: the last event that was taken.
        commands: the last commands that changed it.
        freed: by when all that was held by a pause or a circuit might begin again, of those that ended last.
    """

    __slots__ = ("circuits", "commands", "freed", "limits", "pauses", "ramps", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self.circuits = Circuits()
        self.commands = CommandMemory()
        self.freed: dict[Target, int] = {}
        self.pauses: dict[Target, Pause] = {}
        self.ramps: dict[Target, Ramp] = {}
        self.limits: dict[Target, Limit] = {}

    def take_recorded(self, recorded: RecordedEvent) -> None:
        """Move on by a recorded event.

        Raises:
            Undecodable: this build cannot read it; it counts as taken.
        """
        self.seq = recorded.seq - 1
        try:
            event = from_recorded(recorded)
            meta = meta_of(recorded)
        except Undecodable:
            self.seq = recorded.seq
            raise
        assert isinstance(event, ControlEvent)  # noqa: S101 - the stream holds only these
        by, reason = meta.requested_by or "", meta.reason or ""
        self.take(event, tenant=recorded.tenant, at_us=recorded.at_us, by=by, reason=reason)  # type: ignore[arg-type]
        self.commands.remember(meta.command_id, meta.request, self.seq)

    def take(self, event: AnyControlEvent, *, tenant: str, at_us: int, by: str, reason: str) -> None:
        """Move on by `event`. Total."""
        self.seq += 1
        target = target_of(tenant, event)
        for old in [one for one, ramp in self.ramps.items() if ramp.until_us <= at_us]:
            del self.ramps[old]
        match event:
            case WorkPaused():
                self.ramps.pop(target, None)
                self.pauses[target] = Pause(at_us, by, reason)
            case WorkResumed(ramp_s=ramp_s):
                self.pauses.pop(target, None)
                self._come_back(target, ramp_s, at_us, by, reason)
            case CircuitOpened() | CircuitHalfOpened():
                self.ramps.pop(target, None)
                self.circuits.take(target, event, seq=self.seq, at_us=at_us, by=by, reason=reason)
            case CircuitClosed(ramp_s=ramp_s):
                self._come_back(target, ramp_s, at_us, by, reason)
                self.circuits.take(target, event, seq=self.seq, at_us=at_us, by=by, reason=reason)
            case RateLimitSet(per_s=per_s, burst=burst, key=key):
                self.limits[target] = Limit(per_s, burst, key, at_us, by, reason)
            case RateLimitRemoved():
                self.limits.pop(target, None)
            case _:
                assert_never(event)

    def _come_back(self, target: Target, ramp_s: float, at_us: int, by: str, reason: str) -> None:
        until_us = at_us + round(ramp_s * US_PER_S)
        if ramp_s > 0:
            self.ramps[target] = Ramp(at_us, until_us, by, reason)
        self.freed.pop(target, None)
        self.freed[target] = until_us
        if len(self.freed) > FREED_MAX:
            del self.freed[next(iter(self.freed))]

    def freed_us(self, place: Place) -> int:
        """Return by when work of a place might begin again, after what held it last; 0: nothing did, or long ago."""
        return max(self.freed.get(target, 0) for target in (*place.targets(), place.handled()))

    def hold_something(self, now_us: int) -> bool:
        """Return whether anything is held back or limited at all."""
        if self.pauses or self.limits or self.circuits.hold_something:
            return True
        return any(ramp.until_us > now_us for ramp in self.ramps.values())

    def limits_of(self, place: Place, step: str = "", declared: Paced | None = None) -> list[tuple[Target, Paced]]:
        """Return which limits an attempt that waits for a worker is under, and whose they are.

        `declared`: the one that the template gives the step; an operator's of the handler takes its place.
        """
        found: list[tuple[Target, Paced]] = []
        for target in place.limited():
            limit = self.limits.get(target)
            if limit is not None:
                found.append((target, limit))
            elif target.scope == "handler" and declared is not None:
                found.append((Target("step", place.tenant, "", f"{place.template}/{step}"), declared))
        return found

    @property
    def holds_nothing(self) -> bool:
        """Return whether nothing is paused, comes back slowly, or is held by a circuit."""
        return not (self.pauses or self.ramps or self.circuits.hold_something)

    def hold_of(self, place: Place, chance: float, now_us: int) -> Hold | None:
        """Return what keeps an attempt from beginning; None: nothing does."""
        if self.holds_nothing:
            return None
        found: Hold | None = None
        handled = place.handled()
        for target in (*place.targets(), handled):
            pause = self.pauses.get(target)
            if pause is not None:
                return Hold(None, target, pause.since_us, pause.by, pause.reason)
            ramp = self.ramps.get(target)
            if ramp is not None:
                due_us = ramp.from_us + round(chance * (ramp.until_us - ramp.from_us))
                if due_us > now_us and (found is None or due_us > (found.until_us or 0)):
                    found = Hold(due_us, target, ramp.from_us, ramp.by, ramp.reason, ramp.until_us)
        if found is None and (circuit := self.circuits.of(handled)) is not None:
            return Hold(None, handled, circuit.since_us, circuit.by, circuit.reason, circuit=circuit)
        return found


class KeptControls(msgspec.Struct):
    """`Controls` as a snapshot keeps them: pairs, in the order of the state."""

    seq: int
    pauses: list[tuple[Target, Pause]]
    ramps: list[tuple[Target, Ramp]]
    limits: list[tuple[Target, Limit]]
    commands: CommandMemory
    circuits: KeptCircuits
    freed: list[tuple[Target, int]]


def _keep(controls: Controls) -> KeptControls:
    return KeptControls(
        seq=controls.seq,
        pauses=list(controls.pauses.items()),
        ramps=list(controls.ramps.items()),
        limits=list(controls.limits.items()),
        commands=controls.commands,
        circuits=controls.circuits.keep(),
        freed=list(controls.freed.items()),
    )


def _restore(kept: KeptControls) -> Controls:
    controls = Controls()
    controls.seq, controls.commands = kept.seq, kept.commands
    controls.circuits = Circuits.restored(kept.circuits)
    controls.freed = dict(kept.freed)
    controls.pauses, controls.ramps, controls.limits = dict(kept.pauses), dict(kept.ramps), dict(kept.limits)
    return controls


CONTROL_FORM: Final = StateForm[Controls](
    kind=StreamKind.CONTROL,
    number=4,
    new=Controls,
    fold=Controls.take_recorded,
    kept=KeptControls,
    keep=_keep,
    restore=_restore,
)
