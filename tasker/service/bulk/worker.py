"""The worker of the service's own queue: it runs inside the process that reads the views, for all tenants.

It is a worker like any other, so leases, heartbeats, retries, checkpoints and cancels are those of every step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final

from tasker.bus.bus import Bus
from tasker.events.subjects import EVERY_TENANT, Subjects
from tasker.handlers.runner import Invocable, Runner
from tasker.handlers.worker import Worker
from tasker.ids import RESERVED_NAMESPACE
from tasker.service.bulk.part import BulkParts
from tasker.settings import DirectSettings, StreamSettings
from tasker.templates.built_in import BULK, BULK_STEP

SLOTS: Final = 4
"""Bulks that have a part under way here at a time; each of the others has its turn."""


class BulkHandlers:
    """What the worker runs."""

    def __init__(self, parts: BulkParts) -> None:
        self._parts = parts

    def queues(self) -> Iterable[tuple[str, str]]:
        """Return namespace and queue of all work that these handlers take."""
        return [(RESERVED_NAMESPACE, BULK)]

    def lookup(self, namespace: str, queue: str, handler: str) -> Invocable | None:
        """Return the handler that work of the queue names; None: there is none here."""
        return self._parts if (namespace, queue, handler) == (RESERVED_NAMESPACE, BULK, BULK_STEP) else None


def bulk_worker(
    bus: Bus, subjects: Subjects, parts: BulkParts, streams: StreamSettings | None = None, *, drain_s: float
) -> Worker:
    """Return the worker. Its handlers run on the loop that calls this, where the connections are."""
    return Worker(
        bus,
        BulkHandlers(parts),
        subjects=subjects,
        tenant=EVERY_TENANT,
        slots=SLOTS,
        drain_s=drain_s,
        streams=streams,
        direct=DirectSettings(enabled=False),  # what nodes send themselves goes to a tenant's worker
        runner=partial(Runner, loop=asyncio.get_running_loop()),
    )
