"""Looks for what is owed and would never be seen to, and has it repaired.

Nothing of this should ever find anything: what a task owes goes into the due book with the very commit that opens it.
But a task that owes something which no book and no row knows stands still for ever, and nobody is told. So each shard's
owner compares, a slice at a time:

    in memory     what actors owe     with the due book: an obligation that is not there is *forgotten*
                  the book            with its wakes: one whose time is long over and that has none is *not woken*
    in the log    open tasks that are not in memory, folded for the purpose, with the due rows

What seems lost in the log is looked at twice, a pass apart: a commit or a write of rows may have been on its way. The
actor of the task, the schedule or the concurrency key has the last word: it records what was lost, or knows better.
docs/explanation/failure-model.md says what is not looked for, and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final, Literal
from uuid import UUID

import structlog

from tasker.errors import Unavailable
from tasker.events.envelope import US_PER_S, StreamKind
from tasker.events.history import History
from tasker.events.log import EventLog
from tasker.service.runtime.actor import ActorFactory, Message, Owed
from tasker.service.runtime.due import UNFOLDED
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.shards import Shards

RECONCILE_S: Final = 5.0
"""Time between two passes."""

SLICE_STREAMS: Final = 100
"""So many streams of a shard are looked at in memory in one pass."""

SLICE_POSITIONS: Final = 500
"""So many positions of one shard's log are searched for open tasks in one pass."""

FOLDED_AT_ONCE: Final = 50
LOGGED_MAX: Final = 10
LATE_S: Final = 30.0
"""What is overdue for longer and has no wake will get none."""

_log = structlog.get_logger(__name__)

Lost = Literal["forgotten", "not_woken"]


Says = Callable[[Lost, Sequence[str], Callable[[int], None]], Message]
"""Makes one of how, which, and what is called with how many were still open once that is recorded."""


class Reconciler:
    """Looks through the shards that are owned here.

    Attributes:
        repaired: how many obligations were brought back, by how they had been lost.
    """

    def __init__(
        self,
        log: EventLog,
        shards: Shards,
        factory: ActorFactory,
        clock: NodeClock,
        *,
        message: Says,
        ending_types: Collection[str],
    ) -> None:
        self._log = log
        self._shards = shards
        self._factory = factory
        self._clock = clock
        self._message = message
        self._ending_types = tuple(ending_types)
        self._next_in_memory: dict[int, int] = {}
        self._next_position: dict[int, int] = {}
        self._suspects: dict[int, dict[UUID, set[str]]] = {}
        self._turn = 0
        self.repaired: dict[Lost, int] = {"forgotten": 0, "not_woken": 0}

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await asyncio.sleep(RECONCILE_S)
            try:
                await self.look()
            except Unavailable as error:
                _log.debug("reconcile_failed", error=error.detail)

    async def look(self) -> None:
        """Look at the next slice of each shard's memory, and of one shard's log.

        Raises:
            Unavailable: the log does not answer.
        """
        if not self._clock.trusted():
            return
        owned = self._shards.owned
        for shard in owned:
            self._look_in_memory(shard)
            await asyncio.sleep(0)
        if owned:
            self._turn += 1
            await self._look_in_log(owned[self._turn % len(owned)])

    # ---------------------------------------------------------------- in memory

    def _look_in_memory(self, shard: int) -> None:
        book = self._shards.book_of(shard)
        if book is None:
            return
        streams = self._shards.streams(shard)
        start = self._next_in_memory.get(shard, 0)
        self._next_in_memory[shard] = 0 if start + SLICE_STREAMS >= len(streams) else start + SLICE_STREAMS
        settled = [one for one in streams[start : start + SLICE_STREAMS] if self._shards.is_settled(shard, one)]
        for stream_id in settled:
            actor = self._shards.actor_of(shard, stream_id)
            if actor is None:
                continue
            known = _names(book.owed(stream_id))
            self._tell(shard, stream_id, "forgotten", [name for name in _names(actor.owes()) if name not in known])
        late_us = self._clock.now_us() - round(LATE_S * US_PER_S)
        for stream_id, names in book.not_woken(settled, late_us).items():
            self._tell(shard, stream_id, "not_woken", names)

    # ---------------------------------------------------------------- in the log

    async def _look_in_log(self, shard: int) -> None:
        book = self._shards.book_of(shard)
        if book is None:
            return
        after = self._next_position.get(shard, 0)
        found = await self._log.open_streams(
            shard, StreamKind.TASK, self._ending_types, after=after, limit=SLICE_POSITIONS
        )
        before = self._suspects.pop(shard, {})
        suspects: dict[UUID, set[str]] = {}
        for start in range(0, len(found), FOLDED_AT_ONCE):
            page = [one for one in found[start : start + FOLDED_AT_ONCE] if not self._shards.knows(shard, one)]
            suspects.update(await self._without_rows(shard, page))
        is_new = False
        for stream_id, names in suspects.items():
            sure = names & before.get(stream_id, set())
            if sure:
                self._tell(shard, stream_id, "forgotten", sorted(sure))
            elif stream_id not in before:
                is_new = True
        if is_new:
            self._suspects[shard] = suspects  # the same slice is looked at once more
        else:
            self._next_position[shard] = 0 if after + SLICE_POSITIONS >= book.position else after + SLICE_POSITIONS

    async def _without_rows(self, shard: int, stream_ids: Sequence[UUID]) -> dict[UUID, set[str]]:
        """Return what some streams owe and no row knows."""
        if not stream_ids:
            return {}
        rows = await self._log.due_of(shard, stream_ids)
        found: dict[UUID, set[str]] = {}
        for stream_id, events in (await self._log.load(stream_ids)).items():
            actor = await self._factory.revive(stream_id, History.of(events), StreamKind.TASK)
            missing = _names(actor.owes()) - rows.get(stream_id, set()) - {UNFOLDED}
            if missing and not self._shards.knows(shard, stream_id):
                found[stream_id] = missing
        return found

    # ----------------------------------------------------------------

    def _tell(self, shard: int, stream_id: UUID, lost: Lost, names: Sequence[str]) -> None:
        if not names:
            return

        def repaired(count: int) -> None:
            self.repaired[lost] += count
            told = list(names)[:LOGGED_MAX]
            _log.warning("obligations_reconciled", lost=lost, obligations=told, shard=shard, stream=str(stream_id))

        # Of what is not in memory only tasks are looked for; the actor of another stream is there, whatever the kind.
        self._shards.send(shard, stream_id, StreamKind.TASK, self._message(lost, names, repaired))


def _names(owed: Owed) -> set[str]:
    return {name for obligations in owed.values() for name in obligations}
