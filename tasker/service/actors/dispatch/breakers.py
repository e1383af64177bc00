"""Circuits as a node sees them: it counts how attempts of its tasks end, and lets a trial begin.

    attempt ends -> counted -> too many failed -> told -> recorded as open -> every node holds back
    open, its wait over, attempts held here -> told -> half open -> this node's share of the trial begins -> told

Whatever was recorded is known from the log, as all controls are. What is kept here is memory alone: counts, and which
attempts are the trial. A node that takes a shard over counts from nothing, and lets a trial of its own begin.

Two steps with one handler and different numbers: each counts its own attempts; whichever opens the circuit opens it for
all attempts of the handler, with its own waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple
from uuid import UUID

from tasker.controls import Circuits, Target
from tasker.controls.outcomes import Window
from tasker.service.actors.dispatch.outcomes import Outcome
from tasker.service.domain.circuits import CircuitWord, SettleCircuit, TripCircuit, TryCircuit
from tasker.templates.model import CircuitBreaker

WINDOWS_MAX: Final = 10_000
"""Handlers, each with its numbers, whose attempts are counted; beyond, those counted the longest ago are forgotten."""

SAY_AGAIN_S: Final = 1.0
PROBE_S: Final = 60.0
"""What of a trial has not ended so long after it had to is lost, and others are let begin; so are they for what has not
begun by then."""

Key = tuple[UUID, str, int]
"""An attempt: the task's stream, step and number."""

Tell = Callable[[str, CircuitWord], None]

Standing = Literal["waits", "begun", "over"]
"""How an attempt stands: a worker may yet begin it, has begun it, or never will or has ended it."""


class _Counted(NamedTuple):
    """What is counted since an event of the circuit."""

    seq: int
    window: Window


class _Probe(NamedTuple):
    """An attempt of a trial: its shard, until when it has to have begun, and when it is lost."""

    shard: int
    begun_by_s: float
    until_s: float


class _Trial:
    """What of a half-open circuit's trial is this node's.

    Attributes:
        seq: of the event that began it.
        running: its attempts, those that a worker is to begin among them.
        successes: how many succeeded. told: what is to be said of it, until that is known to be recorded.
    """

    __slots__ = ("running", "seq", "successes", "told")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.running: dict[Key, _Probe] = {}
        self.successes = 0
        self.told: SettleCircuit | None = None


class Breakers:
    """The circuits that this node counts for, and its trials.

    Args:
        circuits: what is recorded, as far as this node knows.
        share: of all shards, those that are owned here.
        tell: says it to the owner of the controls.
        standing: how an attempt of a shard stands; None: nobody knows.
    """

    def __init__(
        self,
        circuits: Callable[[], Circuits],
        share: Callable[[], float],
        monotonic_s: Callable[[], float],
        tell: Tell,
        standing: Callable[[int, Key], Standing | None],
    ) -> None:
        self._circuits = circuits
        self._share = share
        self._monotonic_s = monotonic_s
        self._tell = tell
        self._standing = standing
        self._counts: dict[tuple[Target, CircuitBreaker], _Counted] = {}
        self._trials: dict[Target, _Trial] = {}
        self._tripped_s: dict[Target, float] = {}
        self.probes = 0
        """How many attempts were let begin as a trial."""

    # ---------------------------------------------------------------- what has ended

    def ended(self, target: Target, breaker: CircuitBreaker | None, key: Key, outcome: Outcome) -> None:
        """Take up how an attempt of a handler ended; `breaker`: that of its step."""
        circuits = self._circuits()
        circuit = circuits.of(target)
        if circuit is not None:
            self._probed(target, key, outcome)
        elif breaker is not None and outcome.failed is not None:
            self._count(target, breaker, circuits.seq_of(target), outcome.error, failed=outcome.failed)

    def _count(self, target: Target, breaker: CircuitBreaker, seq: int, error: str, *, failed: bool) -> None:
        of, now_s = (target, breaker), self._monotonic_s()
        counted = self._counts.pop(of, None)
        if counted is None or counted.seq != seq:
            counted = _Counted(seq, Window(breaker))
            if len(self._counts) >= WINDOWS_MAX:
                del self._counts[next(iter(self._counts))]
        self._counts[of] = counted
        window = counted.window
        window.add(now_s, failed=failed)
        if not failed or not window.is_too_bad(now_s) or now_s - self._tripped_s.get(target, -math.inf) < SAY_AGAIN_S:
            return
        if len(self._tripped_s) >= WINDOWS_MAX:
            self._tripped_s.clear()
        self._tripped_s[target] = now_s
        word = TripCircuit(
            target.namespace, target.name, seq, breaker, failures=window.failures, attempts=window.attempts, error=error
        )
        self._tell(target.tenant, word)

    def _probed(self, target: Target, key: Key, outcome: Outcome) -> None:
        trial = self._trial(target)
        if trial is None or trial.running.pop(key, None) is None or trial.told is not None or outcome.failed is None:
            return
        if outcome.failed:
            trial.told = SettleCircuit(target.namespace, target.name, trial.seq, outcome.error)
        else:
            trial.successes += 1
            circuit = self._circuits().of(target)
            if circuit is None or trial.successes < self._probes(circuit.opened.probes):
                return
            trial.told = SettleCircuit(target.namespace, target.name, trial.seq)
        self._tell(target.tenant, trial.told)

    # ---------------------------------------------------------------- trials

    def lets(self, target: Target, key: Key) -> bool:
        """Return whether an attempt that the circuit of its handler holds may begin, as a part of its trial."""
        trial = self._trial(target)
        return trial is not None and (key in trial.running or self._room(target, trial) > 0)

    def begins(self, target: Target, shard: int, key: Key, *, start_to_close_s: float) -> None:
        """Take note that an attempt begins that `lets` let."""
        trial = self._trial(target)
        if trial is not None and key not in trial.running:
            now_s = self._monotonic_s()
            trial.running[key] = _Probe(shard, now_s + PROBE_S, now_s + start_to_close_s + PROBE_S)
            self.probes += 1

    def held_up(self, target: Target, key: Key) -> None:
        """Take note that something else keeps an attempt of a trial from beginning: another one may be tried."""
        trial = self._trial(target)
        if trial is not None:
            trial.running.pop(key, None)

    def trial_runs(self) -> bool:
        """Return whether any circuit is half open."""
        circuits = self._circuits()
        return circuits.hold_something and any(one.state == "half_open" for one in circuits.by_target.values())

    def close_shard(self, shard: int) -> None:
        """Forget what another node lets begin from now on."""
        for trial in self._trials.values():
            trial.running = {key: probe for key, probe in trial.running.items() if probe.shard != shard}

    def _trial(self, target: Target) -> _Trial | None:
        circuit = self._circuits().of(target)
        if circuit is None or circuit.state != "half_open":
            self._trials.pop(target, None)
            return None
        trial = self._trials.get(target)
        if trial is None or trial.seq != circuit.seq:
            trial = self._trials[target] = _Trial(circuit.seq)
        return trial

    def _room(self, target: Target, trial: _Trial) -> int:
        circuit = self._circuits().of(target)
        if circuit is None or trial.told is not None:
            return 0
        return self._probes(circuit.opened.probes) - trial.successes - len(trial.running)

    def _probes(self, probes: int) -> int:
        """Return this node's share of a trial, at least one attempt."""
        return max(1, math.ceil(probes * self._share()))

    # ---------------------------------------------------------------- as time goes by

    def look(self, held: dict[Target, int], now_us: int) -> Iterator[tuple[Target, int]]:
        """Say what is to be said now; yield handlers of which so many held attempts may come by for a trial.

        `held`: how many attempts each circuit holds here; 0: nobody knows.
        """
        circuits, now_s = self._circuits(), self._monotonic_s()
        for target in [one for one in self._trials if circuits.of(one) is None]:
            del self._trials[target]
        for target in list(dict.fromkeys((*held, *self._trials))):
            circuit = circuits.of(target)
            if circuit is None:
                continue
            if circuit.state == "open":
                if target in held and circuit.until_us <= now_us:
                    self._tell(target.tenant, TryCircuit(target.namespace, target.name, circuit.seq))
                continue
            trial = self._trial(target)
            if trial is None:
                continue
            if trial.told is not None:
                self._tell(target.tenant, trial.told)
                continue
            trial.running = {key: probe for key, probe in trial.running.items() if self._is_tried(key, probe, now_s)}
            room = min(self._room(target, trial), held.get(target, 0))
            if room > 0:
                yield target, room

    def _is_tried(self, key: Key, probe: _Probe, now_s: float) -> bool:
        """Return whether an attempt of a trial may yet tell how the target is."""
        standing = self._standing(probe.shard, key)
        return standing != "over" and now_s < (probe.begun_by_s if standing == "waits" else probe.until_s)
