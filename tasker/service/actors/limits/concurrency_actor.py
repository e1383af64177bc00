"""The actor of a concurrency key: it joins the pure core with the runtime.

Requests and returns are gathered while the last batch is on its way to the log, and decided together: a busy key costs
a few events a batch, not a few a request. A grant is told at its commit. Whoever holds a place, or is to end, is asked
how it stands, again and again: that tells a grant that got lost, and finds the end of a holder that nobody told of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Literal, Protocol
from uuid import UUID

from tasker.errors import TaskerError
from tasker.events.concurrency_events import (
    AnyConcurrencyEvent,
    ConcurrencyKeyOpened,
    PlacesEvicted,
    PlacesGranted,
)
from tasker.events.envelope import US_PER_S
from tasker.events.places import KeyName
from tasker.events.reads import PlaceFacts
from tasker.events.state_form import StateForm
from tasker.events.stored import to_new_event
from tasker.service.actors.lost_message import LostObligations
from tasker.service.domain.limits.admission import is_admission_key
from tasker.service.domain.limits.concurrency import (
    CONCURRENCY_FORM,
    LOOK,
    LOOK_S,
    Ask,
    ConcurrencyState,
    advance_concurrency,
    concurrency_obligations,
    reconcile_concurrency,
)
from tasker.service.domain.limits.place_look import place_facts
from tasker.service.runtime.actor import Kept, Owed, Turn
from tasker.service.runtime.due import NEWER_BUILD_S
from tasker.service.runtime.node import Wake

LOOK_S_MAX: Final = 60.0
"""A holder is asked after `LOOK_S`, then after twice as long, and so on up to this."""

ADMITTED_LOOK_S_MAX: Final = 300.0
"""The same of those that `max_running` let in, of which there are many; each tells when it ends."""

BATCH_REQUESTS_MAX: Final = 1_000
_NO_META: Final = b"{}"

Verdict = Literal["waits", "full", "met"]
"""What a key says to a request: it is recorded and its turn comes (or came), or there is no place; `met`: its start met
who is told with it."""


class ConcurrencyPorts(Protocol):
    """What a key's actor needs of the world."""

    def offer(self, actor: ConcurrencyActor, request: str, *, evicted: bool) -> None:
        """Tell the owner of a request that it has its place, or is to end; what is over comes back as `PlacesLeft`."""
        ...

    def flush(self, actor: ConcurrencyActor) -> None:
        """Send the actor a `Flush`."""
        ...

    def later(self, actor: ConcurrencyActor, obligation: str, at_us: int) -> None:
        """Wake the actor for an open obligation at `at_us`."""
        ...

    def now_us(self) -> int:
        """Return the time."""
        ...


class PlaceAsked:
    """Somebody wants a place; `answered` gets the verdict, and who has one already."""

    __slots__ = ("answered", "ask", "fail", "name")

    def __init__(
        self,
        name: KeyName,
        ask: Ask,
        answered: Callable[[Verdict, str | None], None],
        fail: Callable[[TaskerError], None],
    ) -> None:
        self.name = name
        self.ask = ask
        self.answered = answered
        self.fail = fail


class PlacesLeft:
    """Requests are over."""

    __slots__ = ("requests",)

    def __init__(self, requests: Sequence[str]) -> None:
        self.requests = requests

    def fail(self, error: TaskerError) -> None:
        """Do nothing: the key asks by itself, later."""


class PlaceAskedAfter:
    """Somebody wants to know how the key stands for a request."""

    __slots__ = ("answered", "fail", "request")

    def __init__(
        self, request: str, answered: Callable[[PlaceFacts | None], None], fail: Callable[[TaskerError], None]
    ) -> None:
        self.request = request
        self.answered = answered
        self.fail = fail


class Flush:
    """Decide on what was gathered."""

    def fail(self, error: TaskerError) -> None:
        """Do nothing: the actor that gathered is gone, and who asked asks again."""


ConcurrencyMessage = PlaceAsked | PlacesLeft | PlaceAskedAfter | Flush | LostObligations | Wake


class ConcurrencyActor(Kept[ConcurrencyState]):
    """One concurrency key."""

    form: ClassVar[StateForm[ConcurrencyState]] = CONCURRENCY_FORM

    __slots__ = (
        "_asks",
        "_deciding",
        "_left",
        "_look_us",
        "_looks",
        "_ports",
        "correlation_id",
        "shard",
        "state",
        "stream_id",
        "tenant",
    )

    def __init__(
        self, stream_id: UUID, shard: int, ports: ConcurrencyPorts, state: ConcurrencyState, *, tenant: str
    ) -> None:
        self.stream_id = stream_id
        self.shard = shard
        self.tenant = tenant
        self.state = state
        self.correlation_id: str | None = None
        self._ports = ports
        self._asks: list[PlaceAsked] = []
        self._left: list[str] = []
        self._deciding = False
        self._looks: dict[str, tuple[int, float]] = {}
        self._look_us = 0
        """When it looks next; 0: within `LOOK_S`, as its obligation says."""

    # ---------------------------------------------------------------- turns

    def receive(self, message: ConcurrencyMessage, now_us: int) -> Turn | None:
        """Decide on `message`; see `Actor`."""
        match message:
            case PlaceAsked():
                self._asks.append(message)
            case PlacesLeft():
                self._left += message.requests
            case Wake():
                return self._wake(message, now_us)
            case LostObligations():
                return self._reconcile(message, now_us)
            case PlaceAskedAfter():
                facts = place_facts(self.state, message.request)
                return Turn.answer(lambda _: message.answered(facts), message.fail)
            case Flush():
                pass
        return None if self._deciding else self._decide(now_us)

    def _decide(self, now_us: int) -> Turn | None:
        asks, self._asks = self._asks[:BATCH_REQUESTS_MAX], self._asks[BATCH_REQUESTS_MAX:]
        left, self._left = self._left, []
        if not asks and not left:
            return None
        name = asks[0].name if asks else None
        if name is not None:
            self.tenant = name.tenant
        before = concurrency_obligations(self.state)
        events, refused = advance_concurrency(self.state, name, [one.ask for one in asks], left, at_us=now_us)
        for request in (*left, *(one.ask.past for one in asks)):
            self._looks.pop(request or "", None)
        seq = self.state.seq - len(events)
        new = [
            to_new_event(
                event, stream_id=self.stream_id, seq=seq + number, tenant=self.tenant, at_us=now_us, meta=_NO_META
            )
            for number, event in enumerate(events, 1)
        ]
        self._deciding = True

        def committed(_position: int) -> None:
            self._deciding = False
            self._tell(events, asks)
            turned_away = set(refused)
            for one in asks:
                if one.ask.request in turned_away:
                    one.answered(self._refusal(one.ask), self.state.held_by(one.ask.request))
                else:
                    one.answered("waits", None)
            if self._asks or self._left:
                self._ports.flush(self)

        def failed(error: TaskerError) -> None:
            for one in (*asks, *self._asks):
                one.fail(error)

        after = concurrency_obligations(self.state)
        return Turn(new, committed, failed, {} if before == after else {LOOK: after})

    def _refusal(self, ask: Ask) -> Verdict:
        if ask.strategy in ("single", "meet") and self.state.met_by(ask.request) is not None:
            return "met"
        return "full"

    def _tell(self, events: Sequence[AnyConcurrencyEvent], asks: Sequence[PlaceAsked]) -> None:
        """Tell who has a place now, or is to end; and again who asked for what was told before."""
        if self._admits:
            return  # who asked is answered, and begins by that
        requests: dict[str, None] = {}
        for event in events:
            if isinstance(event, (PlacesGranted, PlacesEvicted)):
                requests.update(dict.fromkeys(event.requests))
        requests.update((one.ask.request, None) for one in asks)
        now_us = self._ports.now_us()
        for request in requests:
            if request in self.state.holders or request in self.state.evicted:
                self._look(request, now_us, LOOK_S)
                self._look_by(self._looks[request][0])

    @property
    def _admits(self) -> bool:
        """Return whether the key is a cap of a template."""
        return self.state.name is not None and is_admission_key(self.state.name.key)

    def _look(self, request: str, now_us: int, again_s: float) -> None:
        self._looks[request] = (now_us + round(again_s * US_PER_S), again_s)
        self._ports.offer(self, request, evicted=request in self.state.evicted)

    def _look_by(self, at_us: int) -> None:
        """Look at `at_us`, if that is before the next look, which may be as far off as they allow who hold places."""
        if at_us < self._look_us:
            self._look_us = at_us
            self._ports.later(self, LOOK, at_us)

    def _first_look(self, request: str) -> tuple[int, float]:
        """Return when to ask how a request stands that was never told, and how long it was left alone before."""
        if self._admits:
            return self.state.holders.get(request, 0) + round(LOOK_S * US_PER_S), LOOK_S
        return 0, LOOK_S / 2

    def _wake(self, wake: Wake, now_us: int) -> Turn | None:
        if wake.obligation != LOOK:
            # A newer build wrote the row, and one may come back: it is not ours to close.
            wake.postpone(round(NEWER_BUILD_S * US_PER_S))
            return None
        at_us = concurrency_obligations(self.state).get(LOOK)
        if at_us is None:
            return Turn.answer(lambda _: wake.closed(), wake.fail)
        look_s_max = ADMITTED_LOOK_S_MAX if self._admits else LOOK_S_MAX
        self._look_us = now_us + round(look_s_max * US_PER_S)
        for request in self.state.looked_at():
            due_us, waited_s = self._looks.get(request) or self._first_look(request)
            if due_us <= now_us:
                self._look(request, now_us, min(2 * waited_s, look_s_max))
                due_us = self._looks[request][0]
            self._look_us = min(self._look_us, due_us)
        wake.again(LOOK, self._look_us)
        return None

    def _reconcile(self, message: LostObligations, now_us: int) -> Turn | None:
        """Record what was lost and is still open, and be woken for it."""
        event = reconcile_concurrency(self.state, message.lost, message.obligations, at_us=now_us)
        if event is None:
            return None

        def committed(_position: int) -> None:
            at_us = concurrency_obligations(self.state).get(LOOK)
            if at_us is not None:
                self._ports.later(self, LOOK, max(at_us, self._ports.now_us()))
            message.repaired(len(event.obligations))

        new = to_new_event(
            event, stream_id=self.stream_id, seq=self.state.seq, tenant=self.tenant, at_us=now_us, meta=_NO_META
        )
        return Turn([new], committed, message.fail, {LOOK: concurrency_obligations(self.state)})

    # ---------------------------------------------------------------- for the runtime

    def owes(self) -> Owed:
        """Return every open obligation."""
        owed = concurrency_obligations(self.state)
        return {LOOK: owed} if owed else {}

    def idle(self) -> bool:
        """Return whether nobody holds a place, or waits for one: a busy key's history is not read again each time."""
        return not (self.state.holders or self.state.evicted or self.state.waiting or self._deciding)


def key_of(opened: ConcurrencyKeyOpened, tenant: str) -> KeyName:
    """Return the name that the first event of a key's stream tells."""
    return KeyName(
        tenant=tenant, namespace=opened.namespace, template=opened.template, step=opened.step, key=opened.key
    )
