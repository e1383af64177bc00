"""Starts that go to a task which waits for more of them (`debounce`): words to its owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from tasker.bus.bus import Message
from tasker.errors import KeyConflict, TaskerError, TaskPoisoned, TaskUnknown, Undecodable
from tasker.events.codec import decode_message, encode_message
from tasker.events.envelope import Meta, StreamKind
from tasker.events.places import parse_request
from tasker.failpoints import failpoint
from tasker.service.domain.commands import PostponeTask
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards

POSTPONE: Final = "postpone"
"""How the word is called between nodes."""


class _PostponeWords(msgspec.Struct, kw_only=True):
    """Node to node: the task of this request begins later, as another start says."""

    tenant: str
    request: str
    command: PostponeTask
    meta: Meta


class Postponed(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a waiting task says to another start.

    Attributes:
        position: where it took the start; None: it did not.
        over: it waits no more, and has not taken it.
        conflict: it took another start of this name.
    """

    position: str | None = None
    over: bool = False
    conflict: bool = False


OnPostponed = Callable[[Postponed], None]
"""Takes what it says; one that says nothing: nobody could tell."""


class PostponeMessage:
    """Begin later, as another start says.

    Attributes:
        at_us: when the task asked for the place by which the start found it.
        answered: gets the position at which the task took the start; None: it waits no more.
    """

    __slots__ = ("answered", "at_us", "command", "fail", "meta", "tenant")

    def __init__(  # noqa: PLR0917 - the facts of a start
        self,
        tenant: str,
        at_us: int,
        command: PostponeTask,
        meta: Meta,
        answered: Callable[[int | None], None],
        fail: Callable[[TaskerError], None],
    ) -> None:
        self.tenant = tenant
        self.at_us = at_us
        self.command = command
        self.meta = meta
        self.answered = answered
        self.fail = fail


class Postponing:
    """Gives starts to the tasks that wait for them, here or on the node that owns them."""

    def __init__(self, shards: Shards, routes: Routes) -> None:
        self._shards = shards
        self._routes = routes

    def ask(self, tenant: str, request: str, command: PostponeTask, meta: Meta, done: OnPostponed) -> None:
        """Give a start to the task of a request; the time of `command` is its owner's."""
        failpoint("before_postpone")
        words = _PostponeWords(tenant=tenant, request=request, command=command, meta=meta)
        _, shard = self._routes.locate(parse_request(request)[0])
        if self._shards.owns(shard):
            self._ask_here(words, done)
            return

        def on_reply(reply: Postponed | TaskerError) -> None:
            done(Postponed() if isinstance(reply, TaskerError) else reply)

        self._routes.ask(shard, POSTPONE, words, Postponed, on_reply)

    def on_asked(self, message: Message) -> None:
        """Take another node's start for a task of ours."""

        def done(told: Postponed) -> None:
            self._routes.respond(message, encode_message(told))

        try:
            words = decode_message(message.data, _PostponeWords)
            self._routes.locate(parse_request(words.request)[0])
        except (Undecodable, ValueError):
            done(Postponed())
            return
        self._ask_here(words, done)

    def _ask_here(self, words: _PostponeWords, done: OnPostponed) -> None:
        task_id, _, at_us = parse_request(words.request)
        stream_id, shard = self._routes.locate(task_id)

        def answered(position: int | None) -> None:
            done(Postponed(over=True) if position is None else Postponed(position=f"{shard}:{position}"))

        def failed(error: TaskerError) -> None:
            # One that cannot be folded cannot be told, either: it is left alone, and another one waits.
            over = isinstance(error, (TaskUnknown, TaskPoisoned))
            done(Postponed(over=over, conflict=isinstance(error, KeyConflict)))

        message = PostponeMessage(words.tenant, at_us, words.command, words.meta, answered, failed)
        self._shards.send(shard, stream_id, StreamKind.TASK, message)
