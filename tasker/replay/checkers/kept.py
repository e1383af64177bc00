"""Each snapshot is what the events up to its own give, by the domain's own fold.

Of a snapshot only the hash of its state is remembered, so that memory holds as many states as there are long streams.
One in a form that this build does not read is passed over, as by an owner: it is folded from the first event.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple
from uuid import UUID

from tasker.errors import Undecodable
from tasker.events.envelope import RecordedEvent
from tasker.events.log import Snapshot
from tasker.events.state_form import StateForm
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report
from tasker.service.domain.forms import FORMS

REMEDY: Final = "delete its row of the table `snapshot` and restart the shard's owner: it folds the events again"


class _Kept(NamedTuple):
    """A snapshot that is to be met."""

    seq: int
    position: int
    digest: bytes
    form: StateForm[Any]


class KeptChecker:
    """Checks the snapshots of one shard, which are told before its events."""

    def __init__(self, shard: int, report: Report) -> None:
        self._shard = shard
        self._report = report
        self._kept: dict[UUID, _Kept] = {}
        self._states: dict[UUID, Any] = {}

    def expect(self, snapshot: Snapshot) -> None:
        """Take note of a snapshot."""
        form = FORMS.get(snapshot.kind)
        if form is None or form.number != snapshot.form:
            return
        try:
            state = form.decode(snapshot)
        except Undecodable as error:
            self._find(snapshot.stream_id, snapshot.position, f"the snapshot cannot be read: {error.detail}")
            return
        digest = hashlib.sha256(form.encode(state)).digest()
        self._kept[snapshot.stream_id] = _Kept(snapshot.seq, snapshot.position, digest, form)
        self._states[snapshot.stream_id] = form.new()

    def __bool__(self) -> bool:
        return bool(self._kept)

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Check the next event of the shard."""
        state = self._states.get(recorded.stream_id)
        if state is None:
            return
        kept = self._kept[recorded.stream_id]
        is_readable = not isinstance(event, Undecodable)  # else it is `folded`'s to say
        if is_readable and recorded.seq <= kept.seq:
            try:
                kept.form.fold(state, recorded)
            except Exception:  # noqa: BLE001 - a fold that breaks is `folded`'s to say, too
                is_readable = False
        if is_readable and recorded.seq < kept.seq:
            return
        del self._kept[recorded.stream_id], self._states[recorded.stream_id]
        if not is_readable:
            return
        if recorded.position != kept.position:
            detail = f"the snapshot is of event {kept.seq} at position {kept.position}, which is at {recorded.position}"
            self._find(recorded.stream_id, recorded.position, detail)
        elif hashlib.sha256(kept.form.encode(state)).digest() != kept.digest:
            detail = f"the snapshot of event {kept.seq} is not what the events give"
            self._find(recorded.stream_id, recorded.position, detail)

    def close(self) -> None:
        """Find the snapshots of events that are not there."""
        for stream_id, kept in self._kept.items():
            self._find(stream_id, kept.position, f"the snapshot is of event {kept.seq}, which the stream does not have")

    def _find(self, stream_id: UUID, position: int, detail: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.SNAPSHOT,
                shard=self._shard,
                position=position,
                task_id=str(stream_id),
                detail=f"{detail}; {REMEDY}",
            )
        )
