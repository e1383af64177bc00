"""The gate: what operators hold back is not offered.

    step dispatched -> dispatcher -> gate -> a worker, or the work stream
                                      |
                                      `- held: its `offer` obligation is put off; it stays in the log's rows

What is held is owed as before, so a crash or another owner loses nothing and lets nothing slip: whoever owns the task
asks its own gate. The gate only remembers what it holds, to wake it when a control changes. It remembers so many; when
there are more, every open offer is looked at again after a change.

What finds no token of a rate limit is held until a moment of its own; its line says whose turn that is (`turns.py`).

It knows the controls from the log: before this node takes a shard, then each second, and at once after a commit here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tasker.controls import Hold, Place, Target, chance_of
from tasker.controls.watch import ControlsWatch
from tasker.errors import Unavailable
from tasker.events.envelope import US_PER_S
from tasker.events.log import EventLog
from tasker.events.reads import TurnFacts
from tasker.labels import plain_queue
from tasker.outages import Outage
from tasker.service.actors.dispatch.breakers import Breakers, Standing, Tell
from tasker.service.actors.dispatch.lines import Queue
from tasker.service.actors.dispatch.outcomes import Outcome
from tasker.service.actors.dispatch.pacing import Pacing
from tasker.service.actors.dispatch.turns import Buckets, Key, Turns, key_of
from tasker.service.actors.dispatch.waiting_set import Waiting
from tasker.service.actors.task_actor import TaskActor
from tasker.service.domain.limits.ranks import priority_of, rank_of
from tasker.service.domain.obligations import Kind, obligation_of
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.shards import Shards
from tasker.templates import RateLimit
from tasker.templates.instances import name_of
from tasker.times import to_rfc3339

LOOK_S: Final = 1.0
"""How long a node may not know of what was recorded on another one."""

RECHECK_S: Final = 900.0
"""What is held is looked at again after this, whatever happens."""

LET_GO_S: Final = 60.0
"""How long an owner may take to offer what nothing holds any more."""

HELD_MAX: Final = 100_000
"""Held attempts that a node remembers."""

GIVEN_S: Final = 900.0
"""What had its tokens and is offered again takes no others for so long."""

WAKES_AT_ONCE: Final = 1_000
_FORGET_US: Final = 60 * US_PER_S
"""What was woken and did not come by so long after: it is not on offer any more."""

_log = structlog.get_logger(__name__)


class _Held:
    """An attempt that is held back.

    Attributes:
        is_first: it was never offered, so it may run without a question once it may go.
        is_paced: a rate limit gave it a moment to come back.
        circuit: the handler whose circuit holds it.
        asks: its template has rate limits: it asks the gate, whether or not that is shut.
        tokens: of these buckets it was given tokens at another one's turn, and has not come by with them.
        woken_us: when it was told to come by again.
    """

    __slots__ = ("asks", "chance", "circuit", "is_first", "is_paced", "place", "tokens", "woken_us")

    def __init__(self, place: Place, chance: float, *, is_first: bool, asks: bool) -> None:
        self.asks = asks
        self.place = place
        self.chance = chance
        self.is_first = is_first
        self.is_paced = False
        self.circuit: Target | None = None
        self.tokens: Buckets = ()
        self.woken_us: int | None = None


class Gate:
    """Holds back what a control keeps from beginning. A `ShardService`, and the `Wakes` of the lines under limits.

    Attributes:
        shut: something may be held: only then is the gate asked, but for templates with rate limits.
        watches: a circuit is open: how attempts of all templates end is looked at.
    """

    def __init__(self, log: EventLog, shards: Shards, clock: NodeClock, tell: Tell, *, shard_count: int = 1) -> None:
        self.shut = False
        self.watches = False
        self._watch = ControlsWatch(log, clock.monotonic_s)
        self._outage = Outage(_log, "controls_not_read", clock.monotonic_s)
        self._shards = shards
        self._clock = clock
        self._pacing = Pacing(lambda: self._watch.controls.limits)
        self._turns = Turns(self)
        self._shard_count = shard_count
        self._open: dict[int, int] = {}
        """The shards that are owned here, and since when."""

        self._unknown = False
        """What is held of a shard that was taken over is not known here: it comes by in time, or is asked to."""

        self._let_go = False
        """Something that is not known here may be put off though nothing holds it."""

        self._breakers = Breakers(
            lambda: self._watch.controls.circuits,
            lambda: len(self._open) / self._shard_count,
            clock.monotonic_s,
            tell,
            self._standing,
        )
        self._of_circuit: dict[Target, dict[Key, int]] = {}
        """What each circuit holds -> its shard, in order."""

        self._repaced = False
        """What waits for its turn may have another one now."""

        self._held: dict[int, dict[Key, _Held]] = {}
        self._given: OrderedDict[Key, int] = OrderedDict()
        """Attempts that had their tokens, and when."""

        self._count = 0
        self._of_queue: Counter[Queue] = Counter()
        self._need_asking = 0
        """Those of them that do not ask by themselves."""

        self._overflowed = False
        self._recorded = asyncio.Event()

    # ---------------------------------------------------------------- attempts

    def asks(self, actor: TaskActor) -> bool:
        """Return whether attempts of the task have to ask before they begin."""
        return self.shut or _is_paced(actor)

    def admit(self, actor: TaskActor, step: str, attempt: int, offer: int) -> int | None:
        """Return the number of the offer that may go out, 0 for a first one; None: it is held.

        What was held before its first offer is a first one still.
        """
        key = (actor.stream_id, step, attempt)
        place, declared = _place_and_limit(actor, step)
        controls, now_us = self._watch.controls, self._clock.now_us()
        hold = None if controls.holds_nothing else self._hold_of(actor, place, key, now_us)
        kept = self._held.setdefault(actor.shard, {})
        held = kept.get(key)
        turn_us = None
        if hold is None and key not in self._given and (controls.limits or declared is not None):
            waited = offer > 0 or (held is not None and held.is_paced)
            turn_us = self._turn_us(actor, place, declared, key, now_us, waited=waited)
            if turn_us is None:
                self._give(key, now_us)
        if hold is None and turn_us is None:
            if self.watches:
                self._probe(actor, place, step, key)
            if held is None:
                return offer
            self._drop(kept, key)
            self._wait_anew(actor, step, attempt, now_us)
            return 0 if held.is_first else offer
        held = self._keep(actor.shard, key, _held_of(actor, place, step, is_first=offer == 0), hold)
        if held is None:
            self._turns.forget(key)
        until_us = now_us + round(RECHECK_S * US_PER_S)
        if hold is None or hold.until_us is not None:
            until_us = turn_us or (hold.until_us if hold is not None else None) or until_us
        self._later(actor, step, obligation_of(Kind.OFFER, step, attempt), until_us)
        return None

    def holds_back(self, actor: TaskActor, step: str, attempt: int) -> bool:
        """Return whether an attempt that was offered, or waits for its turn, may not begin now.

        It has had its tokens, or gets them at its turn: none are taken here.
        """
        key = (actor.stream_id, step, attempt)
        kept = self._held.setdefault(actor.shard, {})
        held = kept.get(key)
        if held is None and self._watch.controls.holds_nothing:
            return False
        (place, _), now_us = _place_and_limit(actor, step), self._clock.now_us()
        hold = self._hold_of(actor, place, key, now_us, held)
        if hold is None:
            if held is not None and held.is_paced:
                return True
            if self.watches:
                self._probe(actor, place, step, key)
            if held is not None:
                self._drop(kept, key)
            return False
        self._keep(actor.shard, key, _held_of(actor, place, step, is_first=False), hold)
        until_us = now_us + round(RECHECK_S * US_PER_S) if hold.until_us is None else hold.until_us
        self._later(actor, step, obligation_of(Kind.OFFER, step, attempt), until_us)
        return True

    def keeps(self, actor: TaskActor, step: str, attempt: int) -> bool:
        """Return whether an attempt is held, or may go and has not come by yet: of many at once each has its turn."""
        key = (actor.stream_id, step, attempt)
        return key in self._held.get(actor.shard, ()) or self.holds_back(actor, step, attempt)

    def freed_us(self, actor: TaskActor, step: str) -> int:
        """Return by when attempts of a step might begin again, after a pause or a circuit; 0: nothing held them.

        Who waited for a turn under a rate limit is not told by the log: with a new owner it waits anew.
        """
        place, declared = _place_and_limit(actor, step)
        controls = self._watch.controls
        is_paced = bool(controls.limits_of(place, declared=declared))
        return max(controls.freed_us(place), self._open.get(actor.shard, 0) if is_paced else 0)

    def take_back(self, actor: TaskActor, step: str, attempt: int) -> None:
        """Hold an attempt that has ended no more: what holds it may last."""
        key, kept = (actor.stream_id, step, attempt), self._held.get(actor.shard, {})
        held = kept.get(key)
        if held is not None:
            self._leave_line(key, held)
            self._drop(kept, key)

    def reprioritized(self, actor: TaskActor, step: str, attempt: int) -> None:
        """Give an attempt that waits for its turn the place of its task's new priority."""
        assert actor.template is not None  # noqa: S101 - a task with steps has one
        self._turns.move((actor.stream_id, step, attempt), priority_of(actor.state, actor.template, step))

    def turn_of(self, key: Key) -> TurnFacts | None:
        """Return when an attempt that waits for its turn has it; None: it waits for none, as far as is known here."""
        found = self._turns.look(key, self._clock.now_us())
        return None if found is None else TurnFacts(ahead=found[0], at=to_rfc3339(found[1]))

    def _turn_us(
        self, actor: TaskActor, place: Place, declared: RateLimit | None, key: Key, now_us: int, *, waited: bool
    ) -> int | None:
        """Return when an attempt that nothing else holds is to come back; None: it may begin, and has its tokens.

        `waited`: it was told to come back, so it overtakes nobody.
        """
        buckets = self._pacing.find(place, actor.state.input, now_us, declared, name_of(key[1]))
        if buckets is None:
            return now_us + US_PER_S
        if not buckets:
            return None
        return self._turns.ask(key, buckets, now_us, lambda: _waiting(actor, key), waited=waited)

    def is_on_offer(self, one: Waiting) -> bool:
        """See `Wakes`; what has no actor in memory is on offer, as far as that is known."""
        key = key_of(one)
        if self._standing(one.shard, key) in {"waits", None}:
            return True
        held = self._held.get(one.shard, {}).get(key)
        if held is not None:
            held.woken_us = self._clock.now_us()
        return False

    def got_tokens(self, one: Waiting, buckets: Buckets, now_us: int) -> None:
        """See `Wakes`."""
        key = key_of(one)
        self._give(key, now_us)
        held = self._held.get(one.shard, {}).get(key)
        if held is not None:
            held.tokens, held.woken_us = buckets, now_us
        self.comes_at(one, now_us, now_us)

    def comes_at(self, one: Waiting, at_us: int, now_us: int) -> None:
        """See `Wakes`."""
        book = self._shards.book_of(one.shard)
        if book is not None:
            book.retry(one.stream_id, obligation_of(Kind.OFFER, one.step, one.attempt), at_us, keep=at_us > now_us)

    def _leave_line(self, key: Key, held: _Held) -> None:
        """Let an attempt wait for no turn; tokens with which it has not come by are others'."""
        now_us = self._clock.now_us()
        self._turns.leave(key, now_us)
        if held.tokens:
            self._given.pop(key, None)
            buckets, held.tokens = held.tokens, ()
            self._turns.put_back(buckets, now_us)

    def _give(self, key: Key, now_us: int) -> None:
        """Remember that an attempt has its tokens: it is offered again while it waits for a worker, and given back."""
        self._given[key] = now_us
        if len(self._given) > HELD_MAX:
            self._given.popitem(last=False)

    def _keep(self, shard: int, key: Key, new: _Held, hold: Hold | None) -> _Held | None:
        kept = self._held.setdefault(shard, {})
        held = kept.get(key)
        if held is not None:
            held.woken_us = None
            self._leave_circuit(key, held)
        elif self._count < HELD_MAX:
            held = kept[key] = new
            self._count += 1
            self._of_queue[_queue_of(new.place)] += 1
            self._need_asking += not held.asks
        else:
            self._overflowed = True
            return None
        if hold is None:
            held.is_paced = True
        else:
            self._held_by(hold, shard, key, held)
        return held

    def _held_by(self, hold: Hold, shard: int, key: Key, held: _Held) -> None:
        """Let an attempt wait for the end of what holds it, and for no turn: it asks for one then."""
        held.is_paced = False
        self._leave_line(key, held)
        if hold.circuit is not None and held.circuit is None:
            held.circuit = hold.target
            self._of_circuit.setdefault(hold.target, {})[key] = shard

    def _drop(self, kept: dict[Key, _Held], key: Key) -> None:
        held = kept.pop(key)
        self._count -= 1
        queue = _queue_of(held.place)
        self._of_queue[queue] -= 1
        if not self._of_queue[queue]:
            del self._of_queue[queue]
        self._need_asking -= not held.asks
        self._leave_circuit(key, held)
        self._turns.forget(key)

    def _leave_circuit(self, key: Key, held: _Held) -> None:
        if held.circuit is not None:
            others = self._of_circuit[held.circuit]
            del others[key]
            if not others:
                del self._of_circuit[held.circuit]
            held.circuit = None

    # ---------------------------------------------------------------- circuits

    def ended(self, actor: TaskActor, step: str, attempt: int, outcome: Outcome) -> None:
        """Take up how an attempt ended, for the circuit of its handler."""
        assert actor.template is not None  # noqa: S101 - a task with steps has one
        spec = actor.template.step(step)
        target = Target("handler", actor.tenant, actor.template.spec.namespace, spec.handler)
        self._breakers.ended(target, spec.circuit_breaker, (actor.stream_id, step, attempt), outcome)

    def _hold_of(
        self, actor: TaskActor, place: Place, key: Key, now_us: int, waits: _Held | None = None
    ) -> Hold | None:
        """Return what keeps an attempt from beginning; nothing does where it is a part of a circuit's trial.

        `waits`: how it is held already, when it is only asked after: then it does not become one now.
        """
        hold = self._watch.controls.hold_of(place, chance_of(actor.task_id, key[1]), now_us)
        if hold is not None and hold.circuit is None and self.watches:
            self._breakers.held_up(place.handled(), key)
        if hold is None or hold.circuit is None or (waits is not None and waits.circuit is not None):
            return hold
        return None if self._breakers.lets(hold.target, key) else hold

    def _probe(self, actor: TaskActor, place: Place, step: str, key: Key) -> None:
        if actor.template is not None:
            limit_s = actor.template.step(step).start_to_close_s
            self._breakers.begins(place.handled(), actor.shard, key, start_to_close_s=limit_s)

    def _standing(self, shard: int, key: Key) -> Standing | None:
        stream_id, step, attempt = key
        actor = self._shards.actor_of(shard, stream_id)
        if not isinstance(actor, TaskActor):
            return None
        if actor.is_offered(step, attempt):
            return "waits"
        return "begun" if actor.has_begun(step, attempt) else "over"

    def _by_circuit(self) -> dict[Target, int]:
        """Return how many attempts each circuit holds here; 0 for one of which that is not known."""
        found = dict.fromkeys(self._watch.controls.circuits.all_holding() if self._unknown else (), 0)
        return found | {target: len(keys) for target, keys in self._of_circuit.items()}

    def _try_circuits(self) -> None:
        """Let attempts that circuits hold come by, as many as their trials have room for."""
        now_us = self._clock.now_us()
        for target, room in self._breakers.look(self._by_circuit(), now_us):
            left = room
            for key, shard in self._of_circuit[target].items():
                held, book = self._held[shard][key], self._shards.book_of(shard)
                if left <= 0 or book is None:
                    break
                if held.woken_us is None:
                    left -= 1
                    held.woken_us = now_us
                    stream_id, step, attempt = key
                    book.retry(stream_id, obligation_of(Kind.OFFER, step, attempt), now_us)

    def _wait_anew(self, actor: TaskActor, step: str, attempt: int, now_us: int) -> None:
        """Let the time that the attempt may wait for a worker begin now."""
        entry = actor.state.steps.get(step)
        if entry is not None and entry.start_by_us is not None:
            allowed_us = entry.start_by_us - entry.dispatched_us
            self._later(actor, step, obligation_of(Kind.START_BY, step, attempt), now_us + allowed_us)

    def _later(self, actor: TaskActor, step: str, obligation: str, at_us: int) -> None:
        book = self._shards.book_of(actor.shard)
        if book is not None:
            book.reschedule(actor.stream_id, step, obligation, at_us, keep=True)

    # ---------------------------------------------------------------- shards

    async def open_shard(self, shard: int, epoch: int) -> None:  # noqa: ARG002 - the protocol's
        """Give out the shard's share of what is limited; attempts come by as they are due."""
        now_us = self._open[shard] = self._clock.now_us()
        self._unknown |= self._watch.controls.hold_something(now_us)
        # What was held until lately may have been put off by an owner that did not hear of the end, or died then.
        self._let_go |= now_us < self._watch.changed_us + round((RECHECK_S + LET_GO_S) * US_PER_S)
        self._pacing.own(len(self._open) / self._shard_count, now_us)
        self._repaced = True

    def close_shard(self, shard: int) -> None:
        """Forget what another node holds from now on; what it offers first is a first offer no more."""
        kept = self._held.pop(shard, {})
        for key in list(kept):
            self._drop(kept, key)
        self._open.pop(shard, None)
        self._breakers.close_shard(shard)
        self._pacing.own(len(self._open) / self._shard_count, self._clock.now_us())

    # ---------------------------------------------------------------- controls

    async def begin(self) -> None:
        """Learn what is held back, before anything may be offered.

        Raises:
            Unavailable: the log cannot be read.
        """
        await self._watch.look()
        self._pacing.changed(self._clock.now_us())
        self._set_shut()

    def on_recorded(self) -> None:
        """Look at once: a control was recorded on this node."""
        self._recorded.set()

    async def run(self, offer_all: Callable[[], Awaitable[None]]) -> None:
        """Follow the controls for ever, and wake what may go; `offer_all` wakes every open offer."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._recorded.wait()
            self._recorded.clear()
            try:
                changed = await self._watch.look()
                if changed:
                    self.shut = True
                    self.watches = self._watch.controls.circuits.hold_something
                    if self._pacing.changed(self._clock.now_us()):
                        # Those in the lines may need tokens of other buckets now: all ask again.
                        self._turns = Turns(self)
                        self._repaced = True
                    _log.info("controls_changed", seq=self._watch.controls.seq)
                if changed or self._repaced:
                    repaced, self._repaced = self._repaced, False
                    await self._wake(repaced=repaced)
                if (
                    self._let_go
                    or (changed and self._overflowed)
                    or (self._unknown and (changed or self._breakers.trial_runs()))
                ):
                    await self._look_at_all(offer_all)
                self._try_circuits()
                self._forget()
                self._outage.is_over()
            except Unavailable as error:
                self._outage.goes_on(error.detail)
                continue
            self._set_shut()

    async def _look_at_all(self, offer_all: Callable[[], Awaitable[None]]) -> None:
        """Have every open offer come by; what is put off, or comes with a shard, meanwhile is looked at next time."""
        self._unknown = self._let_go = self._overflowed = False
        try:
            await offer_all()
        except Unavailable:
            self._let_go = True
            raise

    async def _wake(self, *, repaced: bool) -> None:
        """Have every attempt that may go now, or at another moment, come by then; `repaced`: limits changed, too."""
        controls, done = self._watch.controls, 0
        if repaced:
            self._pacing.forget_moments()
        for shard, kept in list(self._held.items()):
            for key, held in list(kept.items()):
                done += 1
                if done % WAKES_AT_ONCE == 0:
                    await asyncio.sleep(0)
                if held.is_paced and not repaced:
                    continue  # it comes at its moment, or is woken with its tokens
                book = self._shards.book_of(shard)
                if book is None:
                    break
                now_us = self._clock.now_us()
                self._turns.is_due(key, now_us)
                hold = controls.hold_of(held.place, held.chance, now_us)
                if hold is not None:
                    self._held_by(hold, shard, key, held)
                at_us = now_us if hold is None else hold.until_us
                if at_us is not None:
                    stream_id, step, attempt = key
                    held.woken_us = at_us
                    book.retry(stream_id, obligation_of(Kind.OFFER, step, attempt), at_us, keep=at_us > now_us)

    def _forget(self) -> None:
        given_us = self._clock.now_us() - round(GIVEN_S * US_PER_S)
        while self._given and next(iter(self._given.values())) < given_us:
            self._given.popitem(last=False)
        before_us = self._clock.now_us() - _FORGET_US
        for shard, kept in self._held.items():
            gone = [key for key, held in kept.items() if held.woken_us is not None and held.woken_us < before_us]
            for key in gone:
                self._leave_line(key, kept[key])
                self._drop(kept, key)
            if gone:
                _log.debug("held_attempts_gone", shard=shard, count=len(gone))

    def _set_shut(self) -> None:
        self.watches = self._watch.controls.circuits.hold_something
        self.shut = self._need_asking > 0 or self._watch.controls.hold_something(self._clock.now_us())

    def next_due_us(self) -> int | None:
        """Return when something is to be done for attempts that circuits hold here; None: nothing."""
        if not self.watches:
            return None
        circuits, soon_us = self._watch.controls.circuits, self._clock.now_us() + round(LOOK_S * US_PER_S)
        found = (circuits.of(target) for target in self._by_circuit())
        return min((max(one.until_us, soon_us) if one is not None else soon_us for one in found), default=None)

    @property
    def held(self) -> int:
        """Return how many attempts are held."""
        return self._count

    def held_in(self, queue: Queue) -> int:
        """Return how many attempts of a queue are held, with all labels together."""
        tenant, namespace, name = queue
        return self._of_queue[tenant, namespace, plain_queue(name)]

    @property
    def circuits(self) -> int:
        """Return how many circuits are not closed."""
        return self._watch.controls.circuits.holding

    @property
    def probes(self) -> int:
        """Return how many attempts this node let begin as trials of circuits."""
        return self._breakers.probes

    @property
    def pauses(self) -> int:
        """Return how many pauses there are."""
        return len(self._watch.controls.pauses)


def _is_paced(actor: TaskActor) -> bool:
    """Return whether a step of the task's template has a rate limit."""
    return actor.template is not None and actor.template.is_paced


def _queue_of(place: Place) -> Queue:
    return place.tenant, place.namespace, place.queue


def _waiting(actor: TaskActor, key: Key) -> Waiting:
    """Return an attempt as it stands in a line."""
    assert actor.template is not None  # noqa: S101 - a task with steps has one
    stream_id, step, attempt = key
    priority, share, weight = rank_of(actor.state, actor.template, step)
    return Waiting(
        actor.shard, stream_id, step, attempt, 0, priority, actor.state.steps[step].dispatched_us, share, weight
    )


def _held_of(actor: TaskActor, place: Place, step: str, *, is_first: bool) -> _Held:
    return _Held(place, chance_of(actor.task_id, step), is_first=is_first, asks=_is_paced(actor))


def _place_and_limit(actor: TaskActor, step: str) -> tuple[Place, RateLimit | None]:
    """Return where attempts of a step belong, and the limit that the template gives them."""
    assert actor.template is not None  # noqa: S101 - a task with steps has one
    template, spec = actor.template.spec, actor.template.step(step)
    place = Place(actor.tenant, template.namespace, template.name, template.queue_of(spec), spec.handler)
    return place, spec.rate_limit
