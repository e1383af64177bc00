"""Keeps the streams: makes them when they are missing and tells who fills them that they are new.

The work stream is missed by who owns a shard while it vanishes. Who takes the shard later knows the new one only, and
the rows may say of an offer that the stream has it. So as long as the stream is younger than the time for which a row
may put an offer off, whoever takes a shard offers anew what is open, of the tasks that were there before the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from tasker.bus.bus import Bus
from tasker.bus.jetstream import ApiRefused
from tasker.bus.streams import StreamInfo, Streams, ensure_streams, update_work_consumers
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
        offer_at_rest: Callable[[Iterable[int], float], Awaitable[None]],
        rest_s_max: float,
        on_new_events: Callable[[], None],
        monotonic_s: Callable[[], float],
    ) -> None:
        """`offer_at_rest`: offers what rows of shards put off, of tasks older than so many seconds.

        They put it off for `rest_s_max` at most.
        """
        self._bus = bus
        self._subjects = subjects
        self._settings = settings
        self._on_new_work = on_new_work
        self._offer_at_rest = offer_at_rest
        self._rest_s_max = rest_s_max
        self._on_new_events = on_new_events
        self._known: Streams | None = None
        self._taken: set[int] = set()
        """Shards that were taken since the last look: their rows may mean an earlier work stream."""

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

    async def open_shard(self, shard: int, epoch: int) -> None:  # noqa: ARG002 - the protocol's
        """Compare its rows with the work stream at the next look."""
        self._taken.add(shard)

    def close_shard(self, shard: int) -> None:
        """Leave the shard to its next owner."""
        self._taken.discard(shard)

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
        assert before is not None  # noqa: S101 - ensured at the start
        found = await ensure_streams(self._bus, self._subjects, self._settings)
        if found.work.created != before.work.created:
            _log.warning("work_stream_is_new", created=found.work.created)
            await self._on_new_work()
        await self._compare(found.work)
        if found.events.created != before.events.created:
            _log.warning("event_stream_is_new", created=found.events.created)
            self._on_new_events()
        self._known = found

    async def _compare(self, work: StreamInfo) -> None:
        """Offer what shards that were just taken may have left to an earlier work stream."""
        taken, self._taken = self._taken, set()
        if work.age_s > self._rest_s_max:
            return
        try:
            await self._offer_at_rest(taken, work.age_s)
        except Unavailable:
            self._taken |= taken
            raise
