"""The contents of templates as the log's blobs hold them: read once, and never trusted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tasker.errors import Undecodable
from tasker.events.codec import hash_of
from tasker.events.log import EventLog
from tasker.events.stored import DomainEvent
from tasker.events.task_events import TaskCreated
from tasker.templates import CompiledTemplate, compiled_from

_HASH_CHARS: Final = 64


class Contents:
    """Content hash -> compiled template, of those that were asked for."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._found: dict[str, CompiledTemplate | None] = {}

    def of(self, digest: str) -> CompiledTemplate | None:
        """Return the template; None when `load` found no content that is its own."""
        return self._found.get(digest)

    async def load(self, events: Iterable[DomainEvent | Undecodable]) -> None:
        """Read the contents that tasks created among `events` need."""
        for event in events:
            if isinstance(event, TaskCreated) and event.template.hash not in self._found:
                self._found[event.template.hash] = await self._read(event.template.hash)

    async def _read(self, digest: str) -> CompiledTemplate | None:
        try:
            key = bytes.fromhex(digest)
        except ValueError:
            return None
        blob = await self._log.get_blob(key) if len(digest) == _HASH_CHARS else None
        if blob is None or hash_of(blob) != digest:
            return None
        try:
            return compiled_from(blob)
        except Undecodable:
            return None
