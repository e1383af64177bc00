"""What a stream is folded from: the snapshot that is kept of it, when it fits, and the events behind that.

A snapshot is a shorter way to a state that the events give as well; it is never the truth. One is taken up only when

    it fits     the stream has its event: at its `seq`, at its position in the shard
    it is known its form is one that this build reads, and its bytes are of that form

and else the fold begins with the first event, as if there were none. Whether a snapshot that fits is right is for
`tasker log verify` to say, which folds what it is of.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar
from uuid import UUID

import structlog

from tasker.errors import Undecodable
from tasker.events.envelope import RecordedEvent
from tasker.events.log import HISTORY_PAGE_EVENTS, EventLog, Loaded
from tasker.events.state_form import StateForm

S = TypeVar("S")

_log: Final = structlog.get_logger(__name__)


class History:
    """One stream, to be folded.

    Attributes:
        kind: of the stream; None: it does not exist.
        snapshot: the one that fits; None: there is none.
    """

    __slots__ = ("_last", "_log", "_page", "kind", "snapshot", "stream_id")

    def __init__(self, stream_id: UUID, loaded: Loaded | None, log: EventLog | None = None) -> None:
        self.stream_id = stream_id
        self.snapshot = None if loaded is None else loaded.snapshot
        self._log = log
        self._page: Sequence[RecordedEvent] | None = () if loaded is None else loaded.events
        first = self._page[0] if self._page else None
        self.kind = None if first is None else first.kind
        self._last = first
        kept = self.snapshot
        if kept is not None and (first is None or (first.seq, first.position) != (kept.seq, kept.position)):
            self.kind = kept.kind
            self._discard(f"the stream has no event {kept.seq} at position {kept.position}")

    @classmethod
    def of(cls, events: Sequence[RecordedEvent]) -> History:
        """Return the history of a stream that was read whole."""
        return cls(events[0].stream_id if events else UUID(int=0), Loaded(None, list(events)))

    @property
    def seq(self) -> int:
        """Return the last event that was folded; 0: none."""
        return 0 if self._last is None else self._last.seq

    @property
    def position(self) -> int:
        """Return its position."""
        return 0 if self._last is None else self._last.position

    @property
    def at_us(self) -> int:
        """Return when it was recorded."""
        return 0 if self._last is None else self._last.at_us

    @property
    def tenant(self) -> str:
        """Return its tenant."""
        return "" if self._last is None else self._last.tenant

    @property
    def is_long(self) -> bool:
        """Return whether more has to be read."""
        return self._page is None or (self._log is not None and len(self._page) >= HISTORY_PAGE_EVENTS)

    async def folded(self, form: StateForm[S]) -> S:
        """Return the state after the last event. What is in memory at once is bounded, however long the stream.

        Raises:
            Undecodable: this build cannot read one of the events.
            Unavailable: the log cannot be read.
        """
        state = self.resumed(form)
        if state is None:
            state = form.new()
        async for page in self._pages():
            for recorded in page:
                form.fold(state, recorded)
        return state

    async def events(self) -> list[RecordedEvent]:
        """Return all events, from the first.

        Raises:
            Unavailable: the log cannot be read.
        """
        if self.snapshot is not None:
            self._discard("streams of this kind are folded from their first event")
        return [recorded async for page in self._pages() for recorded in page]

    def resumed(self, form: StateForm[S]) -> S | None:
        """Return the state that the snapshot keeps; None: there is none to begin with."""
        if self.snapshot is None:
            return None
        try:
            return form.decode(self.snapshot)
        except Undecodable as error:
            self._discard(error.detail)
            return None

    async def _pages(self) -> AsyncIterator[Sequence[RecordedEvent]]:
        page = await self._read() if self._page is None else self._page
        self._page = ()
        first = 0 if self.snapshot is None else 1  # its own event is in it
        while page:
            self._last = page[-1]
            yield page[first:]
            first = 0
            page = await self._read() if self._log is not None and len(page) >= HISTORY_PAGE_EVENTS else ()

    async def _read(self) -> Sequence[RecordedEvent]:
        assert self._log is not None  # noqa: S101 - what was read whole has no snapshot to be discarded
        return await self._log.load_stream(self.stream_id, after_seq=self.seq, limit=HISTORY_PAGE_EVENTS)

    def _discard(self, why: str) -> None:
        """Begin with the first event instead."""
        assert self.snapshot is not None  # noqa: S101 - the caller looked
        _log.warning("snapshot_discarded", stream=str(self.stream_id), kind=self.snapshot.kind, reason=why)
        self.snapshot = None
        self._page = self._last = None


async def read_history(log: EventLog, stream_id: UUID) -> History:
    """Return the history of one stream.

    Raises:
        Unavailable: the log cannot be read.
    """
    return History(stream_id, (await log.load_histories([stream_id])).get(stream_id), log)
