"""What the endpoints stand on: the parts that `compose` puts together, as protocols."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

from aiohttp import web

from tasker.clock import Clock
from tasker.controls.watch import ControlsWatch
from tasker.events.log import EventLog, LogInfo
from tasker.events.messages import StepProgress
from tasker.events.places import KeyName
from tasker.events.reads import PlaceFacts, QueueFacts, Refusal, TurnFacts
from tasker.events.subjects import DEFAULT_PREFIX
from tasker.projections.checkpoints import Positions, PositionWatch
from tasker.projections.dead_letter_queries import DeadLetterQueries
from tasker.projections.queries import Queries
from tasker.projections.store import LogTail
from tasker.settings import HttpSettings


class Gateway(Protocol):
    """Brings commands to their owner."""

    async def send(self, tenant: str, verb: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> bytes:
        """Return the answer to the command `verb`: a verdict, or an array of them, as JSON.

        Raises:
            Unavailable: nobody takes it, or there is no connection. Nothing was recorded.
            OutcomeUnknown, DeadlineExceeded: the answer did not come; it may have been recorded.
        """
        ...


class Refusals(Protocol):
    """Keeps the submitted commands that were refused."""

    async def page(self, tenant: str, *, after: int, limit: int) -> list[Refusal]:
        """Return up to `limit` refusals of a tenant behind the place `after`, oldest first.

        Raises:
            Unavailable: the list does not answer.
        """
        ...


class Watch(Protocol):
    """Live news; some may be missed, so who waits looks for itself as well."""

    @property
    def ended_at(self) -> Positions | None:
        """Return where an event said that the task has ended or is blocked, since the watch began."""
        ...

    async def news(self, timeout_s: float) -> bool:
        """Return whether there was news since the last call, waiting for it up to `timeout_s`."""
        ...


class Watcher(Protocol):
    """Listens to live events."""

    def task(self, tenant: str, task_id: str) -> AbstractContextManager[Watch]:
        """Return a watch over the events of one task."""
        ...

    def log(self) -> AbstractContextManager[Watch]:
        """Return a watch over the growth of the log."""
        ...


class LiveUpdates(Protocol):
    """What attempts say live; bounded, the oldest dropped."""

    def take(self) -> tuple[list[bytes], int]:
        """Return what waits, each a `LiveUpdate`, and how many were dropped since the last call."""
        ...

    async def more(self, timeout_s: float) -> None:
        """Return when there is more, or it is time to look."""
        ...


class Live(Protocol):
    """Listens to running attempts."""

    def of_task(self, tenant: str, task_id: str, step: str | None) -> AbstractContextManager[LiveUpdates]:
        """Return what attempts of a task say from now on: of a step, of one instance of it, or of all."""
        ...


ProgressOf = Callable[[str, UUID], Awaitable[Mapping[str, StepProgress]]]
"""Returns how far running attempts and lists of a task (tenant, id) are, by step; nothing when its owner is away."""

QueueOf = Callable[[str, str, str], Awaitable[QueueFacts | None]]
"""Returns how a queue (tenant, namespace, name) stands with the workers; None when NATS does not say."""

PlaceOf = Callable[[KeyName, str], Awaitable[PlaceFacts | None]]
"""Returns how a concurrency key stands for a request; None when its owner does not say."""

TurnsOf = Callable[[UUID, Mapping[str, int]], Awaitable[Mapping[str, TurnFacts]]]
"""Returns when attempts of a task (step -> number) have their turn under rate limits, of those that wait for one."""

Check = Callable[[], Awaitable[str | None]]
"""Returns None when all is well, else what is wrong, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts.

    Attributes:
        positions: knows how far the views are.
        controls: knows what operators hold back.
        nats_prefix: that of the subjects, for the document that describes them.
        checks: of readiness, by name.
        progress_of: asks the owner of a task; None: nobody is asked.
        live: listens to running attempts; None: nothing is live.
        queue_of: asks NATS; None: nobody is asked.
        place_of: asks the owners of concurrency keys; None: nobody is asked.
        turns_of: asks the owner of a task; None: nobody is asked.
        stopping: set once the process drains: whoever waits answers what there is, and event streams end.
    """

    queries: Queries
    dead_letters: DeadLetterQueries
    positions: PositionWatch
    log: EventLog
    info: LogInfo
    tail: LogTail
    controls: ControlsWatch
    gateway: Gateway
    watcher: Watcher
    refusals: Refusals
    clock: Clock
    nats_prefix: str = DEFAULT_PREFIX
    checks: Mapping[str, Check] = field(default_factory=dict)
    progress_of: ProgressOf | None = None
    live: Live | None = None
    queue_of: QueueOf | None = None
    place_of: PlaceOf | None = None
    turns_of: TurnsOf | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    settings: HttpSettings = field(default_factory=HttpSettings)


SERVICES: Final = web.AppKey("services", Services)
