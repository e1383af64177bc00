"""The places under one concurrency key: a fold of the key's own stream, and what is decided on it.

    asked -> granted -> returned
      |         `-> evicted -> returned
      `-> evicted, returned

A place is held from its grant to its return, and granted only while fewer than `limit` are held: to who asked first,
or, once somebody waits who has a priority or takes a share, by their ranks (`ranked_line`). Nothing is counted beside
the fold, so nothing can leak by a crash: who holds is in the log. That every place comes back is the key's own
care: as long as somebody holds one (or is to end) it owes `LOOK`, to ask each of them how it stands.

    queue          a request waits for its turn
    drop           without a free place it is refused
    cancel_oldest  it waits, and of those before it the oldest is to end for it
    cancel_newest  it waits, and of those before it the newest is to end for it

The `max_running` of a template is a key as well. Who asks under it asks before its task exists, and waits for nothing:

    admit          it has its place at once, or is refused
    admit_always   it has its place at once

So is its `singleton`. A start that met the task which has the place is answered with that one for as long as the key
remembers it, so also a repeat behind that task's end:

    single         as admit; who met somebody before is told so
    meet           it is remembered whom it met, if that one still has its place; the task was seen to run

So is the `debounce` of a template. Of the starts under such a key one has the place, while it waits for more of them:

    debounce       it has its place at once, or is told who has; that is remembered, so that a repeat is told the same
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import Final, Literal, assert_never

import msgspec

from tasker.events.concurrency_events import (
    REQUESTS_MAX,
    AnyConcurrencyEvent,
    ConcurrencyEvent,
    ConcurrencyKeyOpened,
    ConcurrencyKeyReconciled,
    PlacesAsked,
    PlacesEvicted,
    PlacesGranted,
    PlacesMoved,
    PlacesReturned,
    StartsMet,
)
from tasker.events.envelope import US_PER_S, RecordedEvent, StreamKind
from tasker.events.places import KeyName, parse_request
from tasker.events.state_form import StateForm
from tasker.events.stored import from_recorded
from tasker.service.domain.limits.ranked_line import KeptLine, RankedLine
from tasker.service.domain.limits.ranks import OLD_S, PLAIN, Rank
from tasker.templates.model import ConcurrencyStrategy

AskStrategy = ConcurrencyStrategy | Literal["admit", "admit_always", "single", "meet", "debounce"]

LOOK: Final = "look"
"""The one obligation of a key: to ask who holds a place how it stands."""

LOOK_S: Final = 6.0
"""How long after its grant a holder is asked first; a word that got lost costs so much."""


STARTS_REMEMBERED_MAX: Final = 10_000
"""Of so many of its newest starts a key knows who took them."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One wants a place.

    Attributes:
        past: of `debounce`: the request of one that has begun without this start; it is over, and so is its place.
        holder: of `meet`: the request of the task that it met.
        priority, share, weight: its rank among those who wait; who asks again with another priority is moved.
    """

    request: str
    limit: int
    strategy: AskStrategy = "queue"
    past: str | None = None
    holder: str | None = None
    priority: int = 0
    share: str | None = None
    weight: float = 1.0


class ConcurrencyState:
    """A key as its events left it.

    Attributes:
        name: None: nobody has asked yet.
        limit: how many places there are, by the newest request.
        holders: requests with a place, in the order in which they asked, and since when they have it.
        waiting: those without one, likewise, and since when they wait.
        line: whose turn it is among them; None: who asked first.
        evicted: those of them that are to end -> for whom, where that is known; of the waiting ones only here.
        met: task of a start -> the request of the one that waited then, of the newest starts.
        since_us: since when somebody holds a place or is to end, without a break.
    """

    __slots__ = ("evicted", "holders", "limit", "line", "met", "name", "seq", "since_us", "waiting")

    def __init__(self) -> None:
        self.name: ConcurrencyKeyOpened | None = None
        self.seq = 0
        self.limit = 1
        # Linked: to take the first of a plain dict passes over all that were taken before.
        self.holders: OrderedDict[str, int] = OrderedDict()
        self.waiting: OrderedDict[str, int] = OrderedDict()
        self.line: RankedLine | None = None
        self.evicted: dict[str, str | None] = {}
        self.met: OrderedDict[str, str] = OrderedDict()
        self.since_us = 0

    def __contains__(self, request: str) -> bool:
        return request in self.holders or request in self.waiting or request in self.evicted

    def wait(self, request: str, rank: Rank, at_us: int) -> None:
        """Let a request wait that does not yet."""
        if request in self.waiting:
            return
        if self.line is None and rank != PLAIN:
            self.line = RankedLine(self.waiting)
        self.waiting[request] = at_us
        if self.line is not None:
            self.line.add(request, rank)

    def move(self, requests: Iterable[str], priority: int) -> None:
        """Give those of the requests that wait another priority."""
        if self.line is None and self.waiting and priority != PLAIN.priority:
            self.line = RankedLine(self.waiting)
        if self.line is not None:
            self.line.move(self.waiting, [one for one in requests if one in self.waiting], priority)

    def wait_no_more(self, request: str, *, has_turn: bool = False) -> None:
        """Let a request wait no more, if it does; `has_turn`: since it has its place."""
        if self.waiting.pop(request, None) is None or self.line is None:
            return
        if has_turn:
            self.line.take(request)
        else:
            self.line.remove(request)
        if not self.waiting:
            self.line = None

    def next(self, at_us: int) -> str | None:
        """Return who gets the next place; None: nobody waits."""
        oldest = next(iter(self.waiting), None)
        if self.line is None or oldest is None:
            return oldest
        return self.line.next(oldest, is_old=self.waiting[oldest] <= at_us - OLD_S * US_PER_S)

    def priority_of(self, request: str) -> int | None:
        """Return the priority of a request that waits; None: it does not."""
        if request not in self.waiting:
            return None
        return PLAIN.priority if self.line is None else self.line.rank_of(request).priority

    def held_by(self, request: str) -> str | None:
        """Return who has the place that the request did not get; of a start: whom it met."""
        return self.met_by(request) or next(iter(self.holders), None)

    def met_by(self, request: str) -> str | None:
        """Return whom the start of this request met; None: nobody, or that is long ago."""
        return self.met.get(parse_request(request)[0])

    def looked_at(self) -> list[str]:
        """Return the requests whose end the key has to hear of."""
        return [*self.holders, *(request for request in self.evicted if request not in self.holders)]


def evolve_concurrency(state: ConcurrencyState, event: AnyConcurrencyEvent, *, at_us: int) -> ConcurrencyState:
    """Return `state` moved on by `event`, which was recorded at `at_us`. Total."""
    state.seq += 1
    _take_up(state, event, at_us)
    return state


def _take_up(state: ConcurrencyState, event: AnyConcurrencyEvent, at_us: int) -> None:
    was_quiet = not (state.holders or state.evicted)
    match event:
        case ConcurrencyKeyOpened():
            state.name = event
        case PlacesAsked(requests=requests, limit=limit, priority=priority, share=share, weight=weight):
            state.limit = limit
            rank = Rank(priority, share, weight)
            for request in requests:
                state.wait(request, rank, at_us)
        case PlacesMoved(requests=requests, priority=priority):
            state.move(requests, priority)
        case PlacesGranted(requests=requests):
            for request in requests:
                state.wait_no_more(request, has_turn=True)
                state.holders[request] = at_us
        case PlacesEvicted(requests=requests, taken_by=taken_by):
            for request in requests:
                state.wait_no_more(request)
                state.evicted[request] = taken_by
        case PlacesReturned(requests=requests):
            for request in requests:
                state.holders.pop(request, None)
                state.wait_no_more(request)
                state.evicted.pop(request, None)
        case StartsMet(requests=requests, holder=holder):
            for request in requests:
                state.met[parse_request(request)[0]] = holder
            while len(state.met) > STARTS_REMEMBERED_MAX:
                state.met.popitem(last=False)
        case ConcurrencyKeyReconciled():
            pass
        case _:
            assert_never(event)
    if was_quiet and (state.holders or state.evicted):
        state.since_us = at_us


def fold_concurrency(state: ConcurrencyState, recorded: RecordedEvent) -> None:
    """Move `state` on by a recorded event.

    Raises:
        Undecodable: this build cannot read it.
    """
    event = from_recorded(recorded)
    assert isinstance(event, ConcurrencyEvent)  # noqa: S101 - a key's stream holds only these
    evolve_concurrency(state, event, at_us=recorded.at_us)  # type: ignore[arg-type]


def concurrency_obligations(state: ConcurrencyState) -> dict[str, int]:
    """Return what the key owes: obligation -> time in microseconds."""
    if not (state.holders or state.evicted):
        return {}
    return {LOOK: state.since_us + round(LOOK_S * US_PER_S)}


def reconcile_concurrency(
    state: ConcurrencyState, lost: Literal["forgotten", "not_woken"], obligations: Iterable[str], *, at_us: int
) -> ConcurrencyKeyReconciled | None:
    """Move `state` on by a repair of what it owes; None: nothing of it is open."""
    found = tuple(one for one in obligations if one in concurrency_obligations(state))
    if not found:
        return None
    event = ConcurrencyKeyReconciled(lost=lost, obligations=found)
    evolve_concurrency(state, event, at_us=at_us)
    return event


def advance_concurrency(
    state: ConcurrencyState, name: KeyName | None, asks: Sequence[Ask], returned: Iterable[str], *, at_us: int
) -> tuple[list[AnyConcurrencyEvent], list[str]]:
    """Move `state` on by requests that are over and by new ones, in this order.

    Returns the events, and the requests that were refused: they are in no event, and may ask again. `name` is the
    key's; None when nobody asks.
    """
    events: list[AnyConcurrencyEvent] = []
    refused: list[str] = []
    admitted: list[str] = []
    asked_again: dict[str, int] = {}

    def take(event: AnyConcurrencyEvent) -> None:
        _take_up(state, event, at_us)
        events.append(event)

    returned = (*returned, *(ask.past for ask in asks if ask.past is not None))
    known = tuple(dict.fromkeys(request for request in returned if request in state))
    if known:
        take(PlacesReturned(requests=known))
    for ask in asks:
        if ask.request in state:
            asked_again[ask.request] = ask.priority
            continue
        if ask.strategy == "debounce" and (met := _met(state, ask)) is not None:
            refused.append(ask.request)
            if met.requests:
                take(met)
            continue
        if ask.strategy == "meet" or (ask.strategy == "single" and state.met_by(ask.request) is not None):
            refused.append(ask.request)
            if ask.holder is not None and ask.holder in state.holders and state.met_by(ask.request) is None:
                take(StartsMet(requests=(ask.request,), holder=ask.holder))
            continue
        if ask.strategy in ("drop", "admit", "single") and len(state.holders) + len(state.waiting) >= ask.limit:
            refused.append(ask.request)
            continue
        if state.name is None:
            assert name is not None  # noqa: S101 - who asks names the key
            take(ConcurrencyKeyOpened(namespace=name.namespace, template=name.template, step=name.step, key=name.key))
        take(
            PlacesAsked(
                requests=(ask.request,), limit=ask.limit, priority=ask.priority, share=ask.share, weight=ask.weight
            )
        )
        if ask.strategy in ("admit", "admit_always", "single", "debounce"):
            admitted.append(ask.request)
        elif ask.strategy in ("cancel_oldest", "cancel_newest"):
            for request in _in_the_way(state, newest=ask.strategy == "cancel_newest"):
                take(PlacesEvicted(requests=(request,), taken_by=ask.request))
    for moved in _moved(state, asked_again):
        take(moved)
    while len(state.holders) < state.limit and (first := state.next(at_us)) is not None:
        take(PlacesGranted(requests=(first,)))
    beyond = [request for request in admitted if request in state.waiting]
    if beyond:
        take(PlacesGranted(requests=tuple(beyond), beyond=True))
    joined = list(_joined(events))
    state.seq += len(joined)
    return joined, refused


def _met(state: ConcurrencyState, ask: Ask) -> StartsMet | None:
    """Return who waits for this start, of no requests when that was told before; None: nobody waits."""
    known = state.met_by(ask.request)
    if known is not None and known != ask.past:
        return StartsMet(requests=(), holder=known)
    holder = next(iter(state.holders), None) or next(iter(state.waiting), None)
    return None if holder is None else StartsMet(requests=(ask.request,), holder=holder)


def _in_the_way(state: ConcurrencyState, *, newest: bool) -> list[str]:
    """Return who is to end so that the newest request finds a place: those that asked first, or last before it."""
    active = [request for request in (*state.holders, *state.waiting) if request not in state.evicted]
    before = active[:-1]
    many = len(active) - state.limit
    if many <= 0:
        return []
    return before[-many:] if newest else before[:many]


def _moved(state: ConcurrencyState, asked_again: Mapping[str, int]) -> Iterator[PlacesMoved]:
    """Tell who waits with another priority than it asks with now; all of one priority at once, which costs a pass."""
    moves: dict[int, list[str]] = {}
    for request, priority in asked_again.items():
        if state.priority_of(request) not in (None, priority):
            moves.setdefault(priority, []).append(request)
    for priority, requests in moves.items():
        yield PlacesMoved(requests=tuple(requests), priority=priority)


def _joined(events: Iterable[AnyConcurrencyEvent]) -> Iterator[AnyConcurrencyEvent]:
    """Tell the same in fewer events: neighbours that say the same of requests become one, of a bounded size."""
    for _, alike in groupby(events, _all_but_requests):
        first, *others = alike
        if isinstance(first, ConcurrencyKeyOpened | ConcurrencyKeyReconciled):
            yield from (first, *others)
            continue
        requests = [*first.requests, *chain.from_iterable(event.requests for event in others)]  # type: ignore[union-attr] # of one kind
        for start in range(0, len(requests), REQUESTS_MAX):
            yield msgspec.structs.replace(first, requests=tuple(requests[start : start + REQUESTS_MAX]))


def _all_but_requests(event: AnyConcurrencyEvent) -> tuple[object, ...]:
    """Return what an event says, without the requests of which it says so."""
    if type(event) is PlacesAsked:
        return PlacesAsked, event.limit, event.priority, event.share, event.weight
    if type(event) is PlacesMoved:
        return PlacesMoved, event.priority
    if type(event) is PlacesGranted:
        return PlacesGranted, event.beyond
    if type(event) is PlacesEvicted:
        return PlacesEvicted, event.taken_by
    if type(event) is StartsMet:
        return StartsMet, event.holder
    return (type(event),)


class KeptConcurrency(msgspec.Struct):
    """A `ConcurrencyState` as a snapshot keeps it: lists and objects in the order of the state."""

    name: ConcurrencyKeyOpened | None
    seq: int
    limit: int
    since_us: int
    holders: dict[str, int]
    waiting: dict[str, int]
    line: KeptLine | None
    evicted: dict[str, str | None]
    met: dict[str, str]


def _keep(state: ConcurrencyState) -> KeptConcurrency:
    return KeptConcurrency(
        name=state.name,
        seq=state.seq,
        limit=state.limit,
        since_us=state.since_us,
        holders=state.holders,
        waiting=state.waiting,
        line=None if state.line is None else state.line.kept(state.waiting),
        evicted=state.evicted,
        met=state.met,
    )


def _restore(kept: KeptConcurrency) -> ConcurrencyState:
    state = ConcurrencyState()
    state.name, state.seq, state.limit, state.since_us = kept.name, kept.seq, kept.limit, kept.since_us
    state.holders.update(kept.holders)
    state.waiting.update(kept.waiting)
    state.line = None if kept.line is None else RankedLine.restored(kept.line, kept.waiting)
    state.evicted.update(kept.evicted)
    state.met.update(kept.met)
    return state


CONCURRENCY_FORM: Final = StateForm[ConcurrencyState](
    kind=StreamKind.CONCURRENCY,
    number=3,
    new=ConcurrencyState,
    fold=fold_concurrency,
    kept=KeptConcurrency,
    keep=_keep,
    restore=_restore,
)
