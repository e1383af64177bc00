"""Bulks without an event loop: `TaskerSyncClient.bulk`. Each call blocks; nothing else is different."""

from __future__ import annotations

from typing import Unpack

from tasker.client.bulk import (
    BulkOptions,
    BulkPreview,
    Bulks,
    LetterFilter,
    OnProgress,
    TaskFilter,
)
from tasker.client.requests import TaskHandle, TaskRef
from tasker.client.sync_schedules import Blocking
from tasker.events.bulk import BulkOutcome
from tasker.events.messages import BulkVerb


class SyncBulks:
    """One command for everything that matches; see `Bulks`."""

    def __init__(self, loop: Blocking, bulks: Bulks) -> None:
        self._loop = loop
        self._bulks = bulks

    def preview(
        self,
        verb: BulkVerb,
        wanted: TaskFilter | LetterFilter,
        *,
        requested_by: str,
        reason: str,
        **options: Unpack[BulkOptions],
    ) -> BulkPreview:
        """Return what `start` would be for; see `Bulks.preview`."""
        return self._loop.run(self._bulks.preview(verb, wanted, requested_by=requested_by, reason=reason, **options))

    def start(
        self,
        verb: BulkVerb,
        wanted: TaskFilter | LetterFilter,
        *,
        requested_by: str,
        reason: str,
        **options: Unpack[BulkOptions],
    ) -> TaskHandle:
        """Have a command given to everything that matches and was there before; see `Bulks.start`."""
        return self._loop.run(self._bulks.start(verb, wanted, requested_by=requested_by, reason=reason, **options))

    def outcome(self, bulk: TaskRef, *, on_progress: OnProgress | None = None) -> BulkOutcome:
        """Return what became of a bulk, once it is over; see `Bulks.outcome`."""
        return self._loop.run(self._bulks.outcome(bulk, on_progress=on_progress))

    def run(
        self,
        verb: BulkVerb,
        wanted: TaskFilter | LetterFilter,
        *,
        requested_by: str,
        reason: str,
        on_progress: OnProgress | None = None,
        **options: Unpack[BulkOptions],
    ) -> BulkOutcome:
        """Start a bulk and wait for its outcome; see `Bulks.run`."""
        return self._loop.run(
            self._bulks.run(verb, wanted, requested_by=requested_by, reason=reason, on_progress=on_progress, **options)
        )
