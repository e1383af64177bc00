"""What a running attempt says live: chunks of a stream, and its progress. Nobody has to listen.

It goes out on core NATS, at most a message every `LIVE_S` of an attempt, with all that came meanwhile. What waits is
bounded: beyond that the oldest chunks are dropped, and told as a number. So neither a fast handler nor a slow reader
costs more than that, and no reader slows a handler.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.errors import TaskerError
from tasker.events.codec import encode_message
from tasker.events.messages import LiveUpdate, Progress, Work
from tasker.events.subjects import Subjects
from tasker.templates.instances import name_of
from tasker.times import to_rfc3339

LIVE_S: Final = 0.1
CHUNK_BYTES_MAX: Final = 16 * 1024
MESSAGE_BYTES_MAX: Final = 64 * 1024
"""Bytes of chunks in one message, unless a single one is larger."""

WAITING_BYTES_MAX: Final = 256 * 1024
WAITING_CHUNKS_MAX: Final = 2_000

_log = structlog.get_logger(__name__)


class LiveFeed:
    """What waits to be told of one attempt. `put_chunk`, `put_progress` are safe from any thread.

    Attributes:
        used: something was ever told. armed: a message is due.
        number: of the messages so far. sent_s: when the last one went.
    """

    def __init__(self) -> None:
        self.used = False
        self.armed = False
        self.number = 0
        self.sent_s = float("-inf")
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._progress: Progress | None = None
        self._lock = threading.Lock()

    def put_chunk(self, chunk: bytes) -> bool:
        """Take a chunk; returns whether a message has to be armed for it."""
        with self._lock:
            self._chunks.append(chunk)
            self._bytes += len(chunk)
            while self._bytes > WAITING_BYTES_MAX or len(self._chunks) > WAITING_CHUNKS_MAX:
                self._bytes -= len(self._chunks.popleft())
                self._dropped += 1
            return self._arm()

    def put_progress(self, progress: Progress) -> bool:
        """Take a progress, in place of one that waits; returns whether a message has to be armed for it."""
        with self._lock:
            self._progress = progress
            return self._arm()

    def _arm(self) -> bool:
        self.used = True
        due, self.armed = not self.armed, True
        return due

    def take(self) -> tuple[tuple[msgspec.Raw, ...], Progress | None, int, bool]:
        """Return chunks for one message, the progress, how many were dropped so far, and whether there is more."""
        with self._lock:
            taken: list[msgspec.Raw] = []
            size = 0
            while self._chunks and (not taken or size + len(self._chunks[0]) <= MESSAGE_BYTES_MAX):
                chunk = self._chunks.popleft()
                size += len(chunk)
                taken.append(msgspec.Raw(chunk))
            self._bytes -= size
            progress, self._progress = self._progress, None
            self.armed = bool(self._chunks)
            return tuple(taken), progress, self._dropped, self.armed

    def lost(self, chunks: int) -> None:
        """Count chunks that could not be sent."""
        with self._lock:
            self._dropped += chunks


class LivePublisher:
    """Publishes the live feeds of one worker. Make it on the worker's loop; its methods are for that loop."""

    def __init__(self, bus: Bus, subjects: Subjects, tenant: str, worker: str, now_us: Callable[[], int]) -> None:
        self._bus = bus
        self._subjects = subjects
        self._tenant = tenant
        self._worker = worker
        self._now_us = now_us
        self._loop = asyncio.get_running_loop()

    def arm(self, work: Work, feed: LiveFeed) -> None:
        """Publish what waits as soon as it may."""
        self._loop.call_later(max(0.0, feed.sent_s + LIVE_S - self._loop.time()), self._flush, work, feed)

    def end(self, work: Work, feed: LiveFeed) -> None:
        """Publish all that waits, the last of it marked as the end of the attempt; nothing where nothing was told."""
        if not feed.used:
            return
        more = True
        while more:
            more = self._publish(work, feed, last=True)
        feed.used = False

    def _flush(self, work: Work, feed: LiveFeed) -> None:
        if feed.used and self._publish(work, feed, last=False):
            self.arm(work, feed)

    def _publish(self, work: Work, feed: LiveFeed, *, last: bool) -> bool:
        chunks, progress, dropped, more = feed.take()
        feed.number += 1
        feed.sent_s = self._loop.time()
        update = LiveUpdate(
            task_id=work.task_id,
            step=work.step,
            attempt=work.attempt,
            worker=self._worker,
            number=feed.number,
            at=to_rfc3339(self._now_us()),
            progress=progress,
            chunks=chunks,
            dropped=dropped,
            ended=last and not more,
        )
        if not self._bus.connected:
            feed.lost(len(chunks))  # what waits for the connection is the room of reports
            return more
        try:
            tenant = self._subjects.tenant_of_work(self._tenant, work.report_to)
            self._bus.publish(self._subjects.live(tenant, work.task_id, name_of(work.step)), encode_message(update))
        except TaskerError as error:
            feed.lost(len(chunks))
            _log.debug("live_update_not_sent", task_id=work.task_id, step=work.step, error=error.detail)
        return more
