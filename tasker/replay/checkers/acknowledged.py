"""I1: every acknowledged command is in the log exactly once; one whose answer was lost, once or not at all.

A client, or a test in its place, keeps a record of what it asked and what it was answered. The log is read once,
all shards, and only what the record names is kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import msgspec

from tasker.errors import Undecodable
from tasker.events.envelope import RecordedEvent
from tasker.events.stored import meta_of
from tasker.events.task_events import TaskCreated
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """A command and the answer to it.

    Attributes:
        idempotency_key: of a `task.create`; None for another command.
        command_id: of another command than `task.create`.
        task_id: as answered; None when no answer came.
        shard, position: as answered; None when no answer came.
    """

    idempotency_key: str | None = None
    command_id: str | None = None
    task_id: UUID | None = None
    shard: int | None = None
    position: int | None = None


class AcknowledgedChecker:
    """Checks all shards of a log, one after the other, against a record of commands.

    Keys must be unique over the record's namespaces and templates, as a test's are.
    """

    def __init__(self, record: Iterable[Acknowledgement], report: Report) -> None:
        self._report = report
        self._record = list(record)
        self._keys = {one.idempotency_key for one in self._record if one.idempotency_key is not None}
        self._commands = {one.command_id for one in self._record if one.command_id is not None}
        self._created: dict[str, list[RecordedEvent]] = {}
        self._done: dict[str, dict[tuple[UUID, int], RecordedEvent]] = {}
        """Command id -> its units, each by stream and time: all events of one decision have both in common."""

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Take the next event of a shard."""
        if isinstance(event, TaskCreated) and event.idempotency_key in self._keys:
            self._created.setdefault(str(event.idempotency_key), []).append(recorded)
        if self._commands and recorded.meta != b"{}":
            command_id = _command_id(recorded)
            if command_id in self._commands:
                units = self._done.setdefault(str(command_id), {})
                units.setdefault((recorded.stream_id, recorded.at_us), recorded)

    def close(self) -> None:
        """Do nothing: a shard is not the log; see `close_log`."""

    def close_log(self) -> None:
        """Check the record, now that every shard was read."""
        answered: dict[str, UUID] = {}
        for one in self._record:
            if one.idempotency_key is not None:
                found = self._created.get(one.idempotency_key, [])
                self._check(one, f"task.create with key {one.idempotency_key}", found)
                if one.task_id is not None:
                    before = answered.setdefault(one.idempotency_key, one.task_id)
                    if before != one.task_id:
                        self._find(one, f"key {one.idempotency_key} was answered with task {before} as well", None)
            if one.command_id is not None:
                self._check(one, f"command {one.command_id}", list(self._done.get(one.command_id, {}).values()))

    def _check(self, one: Acknowledgement, what: str, found: list[RecordedEvent]) -> None:
        if len(found) > 1:
            places = ", ".join(f"{recorded.shard}:{recorded.position}" for recorded in found[:5])
            self._find(one, f"{what} is in the log {len(found)} times: {places}", found[1])
        if one.task_id is None:
            return
        if not found:
            self._find(one, f"{what} was acknowledged and is not in the log", None)
            return
        recorded = found[0]
        if recorded.stream_id != one.task_id:
            detail = f"{what} was answered with task {one.task_id}, the log has it in {recorded.stream_id}"
            self._find(one, detail, recorded)
        elif one.position is not None and (one.shard != recorded.shard or one.position < recorded.position):
            at = f"{recorded.shard}:{recorded.position}"
            self._find(one, f"{what} was answered with {one.shard}:{one.position}, the log has it at {at}", recorded)

    def _find(self, one: Acknowledgement, detail: str, recorded: RecordedEvent | None) -> None:
        self._report(
            Finding(
                invariant=Invariant.ACKNOWLEDGED,
                shard=one.shard if recorded is None else recorded.shard,
                position=one.position if recorded is None else recorded.position,
                task_id=None if one.task_id is None else str(one.task_id),
                detail=detail,
            )
        )


def _command_id(recorded: RecordedEvent) -> str | None:
    try:
        return meta_of(recorded).command_id
    except Undecodable:
        return None
