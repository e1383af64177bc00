"""Words between tasks and their concurrency keys, which live in shards of their own.

    task -> key   a place is asked for; it was left
    key -> task   the place is there, or wanted back: how does the request stand?

Every one of them may get lost or come twice. Who asks for a place asks again until it was answered; a key asks its
holders again as long as they hold (see `domain.limits.concurrency`). That a task tells when it leaves only saves the
wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final
from uuid import UUID

import msgspec

from tasker.bus.bus import Message
from tasker.errors import TaskerError, TaskUnknown, Undecodable
from tasker.events.codec import decode_message, encode_message
from tasker.events.envelope import US_PER_S, StreamKind
from tasker.events.places import KeyName, LookWords, parse_request, request_of
from tasker.events.reads import PlaceFacts
from tasker.events.task_events import PlaceRequested
from tasker.failpoints import failpoint
from tasker.ids import concurrency_stream_id
from tasker.service.actors.limits.admission_news import AdmissionLook
from tasker.service.actors.limits.concurrency_actor import (
    ConcurrencyActor,
    Flush,
    PlaceAsked,
    PlaceAskedAfter,
    PlacesLeft,
    Verdict,
)
from tasker.service.actors.limits.place_news import PlaceNews
from tasker.service.actors.task_actor import TaskActor
from tasker.service.domain.commands import DenyPlace, TakePlace
from tasker.service.domain.limits.admission import ADMISSION
from tasker.service.domain.limits.concurrency import Ask
from tasker.service.domain.limits.debounce import DEBOUNCE
from tasker.service.domain.limits.ranks import rank_of
from tasker.service.domain.obligations import Kind, obligation_of
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards
from tasker.templates.instances import name_of

ASK: Final = "place_ask"
LEAVE: Final = "place_leave"
OFFER: Final = "place_offer"
"""How these words are called between nodes."""

LOCATED_MAX: Final = 10_000
WAITS_S: Final = 3600.0
"""A request that its key has recorded is asked for again after this, just in case."""


class _AskWords(msgspec.Struct, kw_only=True):
    name: KeyName
    ask: Ask


class _AskReply(msgspec.Struct, kw_only=True):
    """None: ask again. `held_by`: who has a place, where there was none left."""

    verdict: Verdict | None = None
    held_by: str | None = None


class _LeaveWords(msgspec.Struct, kw_only=True):
    name: KeyName
    requests: tuple[str, ...]


class _OfferWords(msgspec.Struct, kw_only=True):
    tenant: str
    request: str
    evicted: bool
    taken_by: str | None = None


class _OfferReply(msgspec.Struct, kw_only=True):
    """Whether the request still stands; None: nobody could say."""

    stands: bool | None = None


class Places:
    """Implements `PlacePorts` of tasks and `ConcurrencyPorts` of keys."""

    def __init__(self, shards: Shards, routes: Routes, clock: NodeClock) -> None:
        self._shards = shards
        self._routes = routes
        self._clock = clock
        self._locate = lru_cache(maxsize=LOCATED_MAX)(self._located)
        """Name of a key -> its stream and shard. Asks and returns under one key come close behind each other."""

    def _located(self, name: KeyName) -> tuple[UUID, int]:
        stream_id = concurrency_stream_id(name.tenant, name.namespace, name.template, name.step, name.key)
        return stream_id, self._routes.shard_of(stream_id)

    # ---------------------------------------------------------------- of a task

    def ask(self, actor: TaskActor, request: PlaceRequested) -> None:
        """Ask for a place; a refusal comes as `PlaceNews`, the place itself from the key."""
        step, attempt = request.step, request.attempt
        name = _name_of(actor, request)
        assert actor.template is not None  # noqa: S101 - it has asked by its template
        priority, share, weight = rank_of(actor.state, actor.template, step)
        ask = Ask(
            request=request_of(actor.task_id, step, attempt),
            limit=request.limit,
            strategy=request.strategy,
            priority=priority,
            share=share,
            weight=weight,
        )

        def answered(verdict: Verdict | None, held_by: str | None) -> None:
            if verdict == "waits":
                book = self._shards.book_of(actor.shard)
                if book is not None:
                    at_us = self._clock.now_us() + round(WAITS_S * US_PER_S)
                    book.reschedule(actor.stream_id, step, obligation_of(Kind.PLACE, step, attempt), at_us, keep=True)
            elif verdict == "full":
                self._deny(actor, step, attempt, held_by)

        self.ask_key(name, ask, answered)

    def ask_key(self, name: KeyName, ask: Ask, answered: Callable[[Verdict | None, str | None], None]) -> None:
        """Ask a key for a place; `answered` gets None when nobody could say, and who has one already."""
        failpoint("before_place_ask")
        stream_id, shard = self._locate(name)
        if self._shards.owns(shard):
            message = PlaceAsked(name, ask, answered, lambda _: answered(None, None))
            self._shards.send(shard, stream_id, StreamKind.CONCURRENCY, message)
            return

        def on_reply(reply: _AskReply | TaskerError) -> None:
            told = _AskReply() if isinstance(reply, TaskerError) else reply
            answered(told.verdict, told.held_by)

        self._routes.ask(shard, ASK, _AskWords(name=name, ask=ask), _AskReply, on_reply)

    def _deny(self, actor: TaskActor, step: str, attempt: int, held_by: str | None) -> None:
        news = PlaceNews(
            actor.tenant,
            step,
            attempt,
            lambda at_us: DenyPlace(at_us=at_us, step=step, attempt=attempt, reason="full", taken_by=held_by),
            lambda _: None,
            lambda _: None,
        )
        self._shards.send(actor.shard, actor.stream_id, StreamKind.TASK, news)

    def leave(self, actor: TaskActor, requests: Sequence[PlaceRequested]) -> None:
        """Tell the keys that requests are over; a word that is lost is no harm."""
        for request in requests:
            self.leave_key(_name_of(actor, request), (request_of(actor.task_id, request.step, request.attempt),))

    def leave_key(self, name: KeyName, over: tuple[str, ...]) -> None:
        """Tell a key that requests are over; a word that is lost is no harm."""
        failpoint("before_place_leave")
        stream_id, shard = self._locate(name)
        if self._shards.owns(shard):
            self._shards.send(shard, stream_id, StreamKind.CONCURRENCY, PlacesLeft(over))
        else:
            self._routes.tell(shard, LEAVE, _LeaveWords(name=name, requests=over))

    # ---------------------------------------------------------------- of a key

    def offer(self, actor: ConcurrencyActor, request: str, *, evicted: bool) -> None:
        """Tell the owner of a request; what is over comes back as `PlacesLeft`."""
        failpoint("before_place_offer")

        def answered(stands: bool | None) -> None:  # noqa: FBT001 - an answer
            if stands is False:
                self._shards.send(actor.shard, actor.stream_id, StreamKind.CONCURRENCY, PlacesLeft((request,)))

        taken_by = actor.state.evicted.get(request)
        words = _OfferWords(tenant=actor.tenant, request=request, evicted=evicted, taken_by=taken_by)
        _, shard = self._routes.locate(parse_request(request)[0])
        if self._shards.owns(shard):
            self._offer_here(words, answered)
            return

        def on_reply(reply: _OfferReply | TaskerError) -> None:
            answered(None if isinstance(reply, TaskerError) else reply.stands)

        self._routes.ask(shard, OFFER, words, _OfferReply, on_reply)

    def _offer_here(self, words: _OfferWords, answered: Callable[[bool | None], None]) -> None:
        task_id, step, attempt = parse_request(words.request)
        stream_id, shard = self._routes.locate(task_id)

        def command(at_us: int) -> TakePlace | DenyPlace:
            if words.evicted:
                return DenyPlace(at_us=at_us, step=step, attempt=attempt, reason="evicted", taken_by=words.taken_by)
            return TakePlace(at_us=at_us, step=step, attempt=attempt)

        def failed(error: TaskerError) -> None:
            # A task that is gone holds nothing; one that could not be asked, or folded, may.
            answered(False if isinstance(error, TaskUnknown) else None)

        if step in (ADMISSION, DEBOUNCE):
            look = AdmissionLook(words.tenant, attempt, answered, failed, until_begun=step == DEBOUNCE)
            self._shards.send(shard, stream_id, StreamKind.TASK, look)
            return
        news = PlaceNews(words.tenant, step, attempt, command, answered, failed)
        self._shards.send(shard, stream_id, StreamKind.TASK, news)

    def flush(self, actor: ConcurrencyActor) -> None:
        """Send the actor a `Flush`."""
        self._shards.send(actor.shard, actor.stream_id, StreamKind.CONCURRENCY, Flush())

    def later(self, actor: ConcurrencyActor, obligation: str, at_us: int) -> None:
        """Wake the actor for an open obligation at `at_us`."""
        book = self._shards.book_of(actor.shard)
        if book is not None:
            book.reschedule(actor.stream_id, obligation, obligation, at_us, keep=True)

    def now_us(self) -> int:
        """Return the node's time."""
        return self._clock.now_us()

    # ---------------------------------------------------------------- of other nodes

    def on_asked(self, message: Message) -> None:
        """Take another node's request for a place under a key of ours."""

        def answered(verdict: Verdict | None, held_by: str | None) -> None:
            self._routes.respond(message, encode_message(_AskReply(verdict=verdict, held_by=held_by)))

        try:
            words = decode_message(message.data, _AskWords)
        except Undecodable:
            answered(None, None)
            return
        stream_id, shard = self._locate(words.name)
        asked = PlaceAsked(words.name, words.ask, answered, lambda _: answered(None, None))
        self._shards.send(shard, stream_id, StreamKind.CONCURRENCY, asked)

    def on_looked(self, message: Message) -> None:
        """Say how a key of ours stands."""

        def answered(facts: PlaceFacts | None) -> None:
            self._routes.respond(message, encode_message(facts))

        try:
            words = decode_message(message.data, LookWords)
        except Undecodable:
            answered(None)
            return
        stream_id, shard = self._locate(words.name)
        look = PlaceAskedAfter(words.request, answered, lambda _: answered(None))
        self._shards.send(shard, stream_id, StreamKind.CONCURRENCY, look)

    def on_left(self, message: Message) -> None:
        """Take another node's word that requests to a key of ours are over."""
        try:
            words = decode_message(message.data, _LeaveWords)
        except Undecodable:
            return
        stream_id, shard = self._locate(words.name)
        self._shards.send(shard, stream_id, StreamKind.CONCURRENCY, PlacesLeft(words.requests))

    def on_offered(self, message: Message) -> None:
        """Take another node's word about a request of a task of ours."""

        def answered(stands: bool | None) -> None:  # noqa: FBT001 - an answer
            self._routes.respond(message, encode_message(_OfferReply(stands=stands)))

        try:
            words = decode_message(message.data, _OfferWords)
            self._routes.locate(parse_request(words.request)[0])
        except (Undecodable, ValueError):
            answered(None)
            return
        self._offer_here(words, answered)


def _name_of(actor: TaskActor, request: PlaceRequested) -> KeyName:
    template = actor.state.template
    step = name_of(request.step) if request.step else ""
    return KeyName(
        tenant=actor.tenant, namespace=template.namespace, template=template.name, step=step, key=request.key
    )
