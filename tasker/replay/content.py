"""The contents of templates as the log's blobs hold them: read once, and never trusted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tasker.errors import Undecodable
from tasker.events.codec import hash_of
from tasker.events.log import EventLog
from tasker.events.stored import DomainEvent
from tasker.events.task_events import TaskCreated
from tasker.events.template_events import TemplateRegistered
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
        """Read the contents that are registered, or that tasks were created with, among `events`."""
        for event in events:
            if type(event) is TaskCreated:
                digest = event.template.hash
            elif type(event) is TemplateRegistered:
                digest = event.hash
            else:
                continue
            if digest not in self._found:
                self._found[digest] = await self._read(digest)

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
