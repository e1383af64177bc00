"""What a bulk would be for: the answer to its dry run, which only who reads the views can give."""

from __future__ import annotations

import asyncio

import structlog

from tasker.bus.bus import Bus, Message, Subscription
from tasker.errors import TaskerError, Undecodable
from tasker.events.bulk import PREVIEW, BulkOrder
from tasker.events.codec import decode_message, encode_message
from tasker.events.messages import Accepted, Refused
from tasker.events.subjects import HEADER_TENANT, Subjects
from tasker.service.bulk.targets import BulkTargets

QUEUE = "views"

_log = structlog.get_logger(__name__)


class BulkPreviews:
    """Answers nodes that were asked for a dry run."""

    def __init__(self, bus: Bus, subjects: Subjects, targets: BulkTargets) -> None:
        self._bus = bus
        self._subject = subjects.views(PREVIEW)
        self._targets = targets
        self._under_way: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    def start(self) -> None:
        """Listen, as one of all who read the views."""
        self._subscription = self._bus.subscribe(self._subject, self._on_asked, queue=QUEUE)

    async def stop(self) -> None:
        """Answer what was asked, and hear no more. Twice is fine."""
        if self._subscription is not None:
            self._subscription.unsubscribe()
            self._subscription = None
        await asyncio.gather(*self._under_way)

    def _on_asked(self, message: Message) -> None:
        tenant = (message.headers or {}).get(HEADER_TENANT, "")
        answering = asyncio.get_running_loop().create_task(self._answer(message, tenant), name="bulk-preview")
        self._under_way.add(answering)
        answering.add_done_callback(self._under_way.discard)

    async def _answer(self, message: Message, tenant: str) -> None:
        try:
            order = decode_message(message.data, BulkOrder)
            matched = await self._targets.count(tenant, order)
            would_refuse = await self._targets.refusing_count(tenant, order)
            sample = await self._targets.sample(tenant, order)
            answer = encode_message(
                Accepted(ok=True, dry_run=True, matched=matched, would_refuse=would_refuse, sample=sample)
            )
        except (TaskerError, Undecodable) as error:
            answer = encode_message(Refused(ok=False, error=error.problem()))
        try:
            self._bus.publish(message.reply, answer)
        except TaskerError as error:
            _log.warning("reply_not_sent", error=error.detail)
