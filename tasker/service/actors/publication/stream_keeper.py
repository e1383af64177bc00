"""Keeps the streams: makes them when they are missing and tells who fills them that they are new."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tasker.bus.bus import Bus
from tasker.bus.jetstream import ApiRefused
from tasker.bus.streams import Streams, ensure_streams, update_work_consumers
from tasker.errors import Unavailable
from tasker.events.subjects import Subjects
from tasker.outages import Outage
from tasker.settings import StreamSettings

CHECK_S: Final = 1.0

_log = structlog.get_logger(__name__)


class StreamKeeper:
    """Watches the streams."""

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        settings: StreamSettings,
        *,
        on_new_work: Callable[[], Awaitable[None]],
        on_new_events: Callable[[], None],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._settings = settings
        self._on_new_work = on_new_work
        self._on_new_events = on_new_events
        self._known: Streams | None = None
        self._outage = Outage(_log, "streams_not_checked", monotonic_s)

    async def ensure(self) -> None:
        """Make the streams for the first time, and bring the consumers of their queues to the settings.

        Raises:
            ConfigurationError: the server refuses them (no room, other settings).
            Unavailable: NATS does not answer.
        """
        try:
            self._known = await ensure_streams(self._bus, self._subjects, self._settings)
            await update_work_consumers(self._bus, self._subjects, self._settings)
        except ApiRefused as refused:
            raise refused.as_configuration() from refused

    async def run(self) -> None:
        """Watch, for ever."""
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                await self._check()
                self._outage.is_over()
            except Unavailable as error:
                self._outage.goes_on(error.detail)

    async def _check(self) -> None:
        before = self._known
        found = await ensure_streams(self._bus, self._subjects, self._settings)
        if before is None:
            self._known = found
            return
        if found.work.created != before.work.created:
            _log.warning("work_stream_is_new", created=found.work.created)
            await self._on_new_work()
        if found.events.created != before.events.created:
            _log.warning("event_stream_is_new", created=found.events.created)
            self._on_new_events()
        self._known = found
