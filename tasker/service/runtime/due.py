"""The due book of a shard: which obligations are open and when they wake their actor.

What a *committed* event opened or closed is noted here at its commit. The book is written behind to the
log's `due` rows, together with the position it is complete to, in one transaction; whoever takes the
shard reads the rows and folds the log from there. A row is a hint: the actor decides when it wakes.

A build that cannot fold a stream (a newer one wrote to it) does not know what it owes, and the checkpoint passes it by.
So the stream owes that it be folded anew, `UNFOLDED`, in a row that is due at once: whoever takes the shard next wakes
its actor, and a build that can fold it writes what it really owes.

Memory holds what was touched lately and what is due soon. An untouched stream whose times all lie
beyond the horizon lives in its rows alone and comes back when the horizon reaches it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from tasker.events.log import Due, DueChange

HORIZON_US: Final = 60_000_000
"""What is due within this is held in memory."""

UNFOLDED: Final = "unfolded"
UNFOLDED_US: Final = 1
"""When that is due: before everything else."""

NEWER_BUILD_S: Final = 3600.0
"""What only another build can read is looked at again after this: one may come."""

WAKES_MIN: Final = 1000
"""So many wakes are kept without a look at which of them are still wanted."""

Scope = str
Changes = Mapping[Scope, Mapping[str, int]]
"""scope -> its obligations now (obligation -> time); a scope that is not named is unchanged."""


class DueBook:
    """One shard's open obligations."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.position = 0
        """Everything up to here is noted."""
        self.written_position = 0
        self._open: dict[UUID, dict[Scope, dict[str, int]]] = {}
        self._heap: list[tuple[int, int, UUID, str, Scope | None]] = []
        """Time, order, stream, obligation, and its scope; None: a row says so, which counts until memory knows more."""
        self._sift_above = WAKES_MIN
        self._dirty: dict[UUID, dict[str, int | None]] = {}
        self._writing: dict[UUID, dict[str, int | None]] = {}
        self._rows: dict[UUID, set[str]] = {}
        """What has (or may have) a row, of the streams in memory: only that needs a delete."""
        self._left_due: dict[UUID, set[str]] = {}
        """What wakes later than its row says: nothing but memory holds it. Such a stream stays in memory."""
        self._unfolded: set[UUID] = set()
        """Streams with a row that says so: what else they owe may be in no row."""
        self._order = 0
        self.late_us = 0
        """How late the last `pop_due` was for the earliest of what it found."""

    def __len__(self) -> int:
        return sum(len(owed) for scopes in self._open.values() for owed in scopes.values())

    @property
    def wakes(self) -> int:
        """How many wakes are in memory, those of closed obligations included."""
        return len(self._heap)

    # ---------------------------------------------------------------- what commits changed

    def apply(self, stream_id: UUID, changes: Changes | None, *, decided_us: int = 0) -> None:
        """Note what a committed unit left open; None: the stream owes nothing any more.

        What was due when the unit was decided, at `decided_us`, does not wake the actor: it is the effect of the
        unit itself, and who performs it says when to look again (`reschedule`). If it was open before, it keeps the
        time at which somebody wanted to look again.
        """
        if len(self._heap) > self._sift_above:
            self._sift()
        if changes is None:
            scopes = self._open.pop(stream_id, None)
            if scopes is not None:
                self._close(stream_id, [name for owed in scopes.values() for name in owed])
            return
        scopes = self._open.setdefault(stream_id, {})
        for scope, owed in changes.items():
            before = scopes.get(scope)
            if before:
                self._close(stream_id, [name for name in before if name not in owed])
            now = dict(owed)
            for name, at_us in owed.items():
                known_us = before.get(name) if before else None
                if known_us is not None and at_us <= decided_us:
                    now[name] = known_us
                elif known_us != at_us:
                    self._note(stream_id, scope, name, at_us, decided_us)
            if now:
                scopes[scope] = now
            else:
                scopes.pop(scope, None)
        if not scopes:
            del self._open[stream_id]

    def adopt(self, stream_id: UUID, owed: Mapping[Scope, Mapping[str, int]], *, written: bool) -> None:
        """Take up a stream that was folded from the log; `written`: its rows are complete already."""
        if written and stream_id in self._open:
            return
        if stream_id in self._unfolded:
            self._unfolded.discard(stream_id)
            self._dirty.setdefault(stream_id, {})[UNFOLDED] = None
            written = False
        names = {name for obligations in owed.values() for name in obligations}
        if names:
            self._rows.setdefault(stream_id, set()).update(names)
        self.apply(stream_id, owed)
        if written:
            self._dirty.pop(stream_id, None)

    def reschedule(self, stream_id: UUID, scope: Scope, obligation: str, at_us: int, *, keep: bool) -> None:
        """Wake for an open obligation again at `at_us`; `keep`: write the new time to its row, too.

        One that has been closed meanwhile is left alone.
        """
        owed = self._open.get(stream_id, {}).get(scope, {})
        if obligation not in owed:
            return
        owed[obligation] = at_us
        self._push(stream_id, obligation, at_us, scope)
        if keep:
            self._write_time(stream_id, obligation, at_us)

    def leave_due(self, stream_id: UUID, scope: Scope, obligation: str, now_us: int) -> None:
        """Let the row of an open obligation say that it is due, whenever memory wakes for it: so will another owner."""
        if obligation in self._open.get(stream_id, {}).get(scope, {}):
            self._dirty.setdefault(stream_id, {})[obligation] = now_us
            self._left_due.setdefault(stream_id, set()).add(obligation)

    def keep(self, stream_id: UUID, scope: Scope, obligation: str) -> None:
        """Let the row of what was left due say when memory wakes for it: it is in safe hands."""
        if obligation in self._left_due.get(stream_id, ()):
            self._write_time(stream_id, obligation, self._open[stream_id][scope][obligation])

    def retry(self, stream_id: UUID, obligation: str, at_us: int, *, keep: bool = False) -> None:
        """Wake for an obligation again at `at_us`, whatever is known of it: its actor could not be asked.

        `keep`: write the new time of an open one to its row, too, so that the stream may leave memory until then.
        """
        scopes = self._open.get(stream_id)
        if scopes is None:
            self._push(stream_id, obligation, at_us, None)
            return
        for scope, owed in scopes.items():
            if obligation in owed:
                owed[obligation] = at_us
                self._push(stream_id, obligation, at_us, scope)
                if keep:
                    self._write_time(stream_id, obligation, at_us)

    def wake_all(self, prefix: str, now_us: int) -> None:
        """Wake for every open obligation in memory that begins with `prefix`."""
        for stream_id, scopes in self._open.items():
            for scope, owed in scopes.items():
                for name in owed:
                    if name.startswith(prefix):
                        owed[name] = now_us
                        self._push(stream_id, name, now_us, scope)

    def forget(self, stream_id: UUID, obligation: str) -> None:
        """Drop one obligation that its actor says is closed (a row that outlived it)."""
        scopes = self._open.get(stream_id, {})
        for owed in scopes.values():
            owed.pop(obligation, None)
        self._write_time(stream_id, obligation, None)

    # ---------------------------------------------------------------- time

    def load(self, rows: Iterable[Due]) -> None:
        """Take up rows from the log that are due within the horizon."""
        for row in rows:
            known = self._open.get(row.stream_id)
            if known is not None:
                # Its actor's commits are newer than the row.
                continue
            if row.obligation == UNFOLDED:
                self._unfolded.add(row.stream_id)
            self._push(row.stream_id, row.obligation, row.at_us, None)

    def pop_due(self, now_us: int, limit: int) -> list[tuple[UUID, str]]:
        """Return up to `limit` obligations whose time has come, earliest first."""
        found: list[tuple[UUID, str]] = []
        heap = self._heap
        while heap and heap[0][0] <= now_us and len(found) < limit:
            at_us, _, stream_id, obligation, scope = heapq.heappop(heap)
            if self._is_wanted(at_us, stream_id, obligation, scope):
                if not found:
                    self.late_us = now_us - at_us
                found.append((stream_id, obligation))
        return found

    def next_us(self) -> int | None:
        """Return the earliest time in memory."""
        return self._heap[0][0] if self._heap else None

    def _is_wanted(self, at_us: int, stream_id: UUID, obligation: str, scope: Scope | None) -> bool:
        """Return whether the newest word on an obligation is that it is due at `at_us`.

        A row's word counts only for a stream that memory does not know: what it knows has wakes of its own.
        """
        scopes = self._open.get(stream_id)
        if scopes is not None:
            owed = None if scope is None else scopes.get(scope)
            return owed is not None and owed.get(obligation) == at_us
        if scope is not None:
            return False
        pending = self._dirty.get(stream_id)
        return pending is None or pending.get(obligation, 0) is not None

    # ---------------------------------------------------------------- writing behind

    def changes(self, epoch: int) -> DueChange | None:
        """Return what to write so that the rows are complete to `position`; None when they are."""
        if self.position == self.written_position and not self._dirty:
            return None
        upserts: list[tuple[UUID, str, int]] = []
        deletes: list[tuple[UUID, str]] = []
        for stream_id, names in self._dirty.items():
            for name, at_us in names.items():
                if at_us is None:
                    deletes.append((stream_id, name))
                else:
                    upserts.append((stream_id, name, at_us))
        return DueChange(shard=self.shard, epoch=epoch, position=self.position, upserts=upserts, deletes=deletes)

    def begin_write(self, epoch: int) -> DueChange | None:
        """Return `changes` and take them off the book: `written` or `not_written` tells how it went."""
        change = self.changes(epoch)
        self._writing, self._dirty = self._dirty, {}
        return change

    def written(self, change: DueChange) -> None:
        """Note that `change` is durable."""
        self.written_position = change.position
        self._writing = {}
        for stream_id, name, _ in change.upserts:
            self._rows.setdefault(stream_id, set()).add(name)
        for stream_id, name in change.deletes:
            rows = self._rows.get(stream_id, set())
            rows.discard(name)
            if not rows:
                self._rows.pop(stream_id, None)

    def not_written(self) -> None:
        """Put the changes of a failed write back, below what has been noted since."""
        for stream_id, names in self._writing.items():
            newer = self._dirty.setdefault(stream_id, {})
            for name, at_us in names.items():
                newer.setdefault(name, at_us)
        self._writing = {}

    def release(self, stream_id: UUID, until_us: int) -> bool:
        """Let an idle stream live in its rows alone, when they are written and all lie beyond `until_us`."""
        scopes = self._open.get(stream_id)
        if scopes is None:
            return True
        if stream_id in self._dirty or stream_id in self._writing or stream_id in self._left_due:
            return False
        if any(at_us <= until_us for owed in scopes.values() for at_us in owed.values()):
            return False
        del self._open[stream_id]
        self._rows.pop(stream_id, None)
        return True

    def streams(self) -> list[UUID]:
        """Return the streams in memory."""
        return list(self._open)

    def knows(self, stream_id: UUID) -> bool:
        """Return whether the stream is in memory, or what it owes is on its way to its rows."""
        return stream_id in self._open or stream_id in self._dirty or stream_id in self._writing

    def owed(self, stream_id: UUID) -> Mapping[Scope, Mapping[str, int]]:
        """Return what a stream in memory owes by the book: scope -> obligation -> time."""
        return self._open.get(stream_id, {})

    def not_woken(self, stream_ids: Iterable[UUID], before_us: int) -> dict[UUID, list[str]]:
        """Return what of some streams was due before `before_us` and has no wake: stream -> obligations."""
        overdue = [
            (at_us, stream_id, name)
            for stream_id in stream_ids
            for owed in self.owed(stream_id).values()
            for name, at_us in owed.items()
            if at_us < before_us
        ]
        found: dict[UUID, list[str]] = {}
        if overdue:
            wakes = {(at_us, stream_id, name) for at_us, _, stream_id, name, _ in self._heap}
            for one in overdue:
                if one not in wakes:
                    found.setdefault(one[1], []).append(one[2])
        return found

    # ----------------------------------------------------------------

    def _write_time(self, stream_id: UUID, name: str, at_us: int | None) -> None:
        """Have the row of an obligation say `at_us`; None: have no row of it."""
        self._dirty.setdefault(stream_id, {})[name] = at_us
        self._hold_no_more(stream_id, name)

    def _hold_no_more(self, stream_id: UUID, name: str) -> None:
        left_due = self._left_due.get(stream_id)
        if left_due is not None:
            left_due.discard(name)
            if not left_due:
                del self._left_due[stream_id]

    def _note(self, stream_id: UUID, scope: Scope, name: str, at_us: int, decided_us: int) -> None:
        self._dirty.setdefault(stream_id, {})[name] = at_us
        if at_us > decided_us:
            self._push(stream_id, name, at_us, scope)

    def _close(self, stream_id: UUID, names: Iterable[str]) -> None:
        rows = self._rows.get(stream_id, ())
        writing = self._writing.get(stream_id, ())
        for name in names:
            self._hold_no_more(stream_id, name)
            if name in rows or name in writing:
                self._dirty.setdefault(stream_id, {})[name] = None
            elif (dirty := self._dirty.get(stream_id)) is not None:
                dirty.pop(name, None)
                if not dirty:
                    del self._dirty[stream_id]

    def _push(self, stream_id: UUID, name: str, at_us: int, scope: Scope | None) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at_us, self._order, stream_id, name, scope))

    def _sift(self) -> None:
        """Drop the wakes that nobody wants any more: a closed obligation leaves its own, however far off that is."""
        self._heap = [wake for wake in self._heap if self._is_wanted(wake[0], wake[2], wake[3], wake[4])]
        heapq.heapify(self._heap)
        self._sift_above = max(WAKES_MIN, 2 * len(self._heap))
