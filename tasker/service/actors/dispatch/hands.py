"""What waits in the hands of nodes: held at their gates, for a worker of theirs with a free slot, or to leave.

The stream tells nothing of it, and an ordered queue keeps everything there. So who wants to know asks the other nodes.
They are found by their shards: of those that nobody has spoken for, the owner of one is asked, and says which others it
speaks for, too. Who was there the last time is asked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from tasker.bus.bus import Message
from tasker.errors import TaskerError, Undecodable
from tasker.events.codec import decode_message, encode_message
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards

HANDS: Final = "hands"
"""How the question is called between nodes."""

Queue = tuple[str, str, str]
"""Tenant, namespace and name."""

Counted = Callable[[int | None], None]
"""Gets a count; None: nobody could say."""

_log = structlog.get_logger(__name__)


class _AskWords(msgspec.Struct, kw_only=True):
    queue: Queue


class _AskReply(msgspec.Struct, kw_only=True):
    """How much of a queue waits with a node; `shards`: those that it owns."""

    node: str
    shards: tuple[int, ...]
    count: int


class _Count:
    """A count over all nodes, under way.

    Attributes:
        covered: shards of others that somebody has spoken for. spoken: who has. open: how many have been asked and not.
    """

    __slots__ = ("counted", "covered", "failed", "open", "spoken", "sum", "words")

    def __init__(self, words: _AskWords, counted: Counted, here: int, node: str) -> None:
        self.words = words
        self.counted = counted
        self.sum = here
        self.spoken = {node}
        self.covered: set[int] = set()
        self.open = 0
        self.failed = False


class Hands:
    """The hand of this node, and the way to those of others.

    Args:
        waits: each says how many steps of a queue wait here in one way.
    """

    def __init__(
        self,
        shards: Shards,
        routes: Routes,
        node: str,
        shard_count: int,
        waits: Sequence[Callable[[Queue], int]],
    ) -> None:
        self._shards = shards
        self._routes = routes
        self._node = node
        self._all = frozenset(range(shard_count))
        self._waits = waits
        self._known: dict[str, int] = {}
        """Other nodes that spoke the last time, and a shard of each."""

    def count(self, queue: Queue, counted: Counted) -> None:
        """Count what waits of a queue in the hands of all nodes."""
        known = {shard for shard in self._known.values() if not self._shards.owns(shard)}
        self._known = {}
        count = _Count(_AskWords(queue=queue), counted, self.here(queue), self._node)
        if known:
            self._ask(count, known)
        else:
            self._go_on(count)

    def _ask(self, count: _Count, shards: set[int]) -> None:
        count.open += len(shards)
        for shard in shards:
            self._routes.ask(shard, HANDS, count.words, _AskReply, partial(self._take, count, shard))

    def _take(self, count: _Count, shard: int, reply: _AskReply | TaskerError) -> None:
        count.open -= 1
        if isinstance(reply, TaskerError):
            count.failed = True
        else:
            count.covered |= {shard, *reply.shards}
            if reply.node not in count.spoken:
                count.spoken.add(reply.node)
                count.sum += reply.count
                self._known[reply.node] = shard
        if not count.open:
            self._go_on(count)

    def _go_on(self, count: _Count) -> None:
        missing = {shard for shard in self._all - count.covered if not self._shards.owns(shard)}
        if count.failed or not missing:
            count.counted(None if count.failed else count.sum)
        else:
            self._ask(count, {min(missing)})

    def here(self, queue: Queue) -> int:
        """Return how much of a queue waits with this node."""
        # The gate holds a queue with all labels together: at worst too many count here, and new tasks wait longer.
        return sum(wait(queue) for wait in self._waits)

    def on_asked(self, message: Message) -> None:
        """Answer another node."""
        try:
            queue = decode_message(message.data, _AskWords).queue
        except Undecodable as error:
            _log.warning("hands_not_asked", error=error.detail)
            return
        reply = _AskReply(node=self._node, shards=tuple(self._shards.owned), count=self.here(queue))
        self._routes.respond(message, encode_message(reply))
