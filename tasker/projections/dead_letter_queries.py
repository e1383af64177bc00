"""Reads of dead letters: what can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from tasker.events.reads import DeadLetterGroup, DeadLetterView
from tasker.projections.queries import PAGE_ITEMS


class DeadLetterQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters.

    Attributes:
        states, statuses: any of them; both empty: what has neither left nor been settled.
        reasons: any of them; empty: all.
        step: of the template; its instances count as well.
        tags: all of them.
        seen_from_us, seen_to_us: of the last failure; the first included, the second not.
        task_id: only of this task.
        after: cursor of the page before.
    """

    states: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    namespace: str | None = None
    template: str | None = None
    step: str | None = None
    fingerprint: str | None = None
    owner: str | None = None
    tags: Mapping[str, str] = {}
    seen_from_us: int | None = None
    seen_to_us: int | None = None
    task_id: UUID | None = None
    limit: int = PAGE_ITEMS
    after: str | None = None


class DeadLetters(NamedTuple):
    """A page of dead letters; `next` is the cursor of the one behind it; `positions` is where it was read at least."""

    items: list[DeadLetterView]
    next: str | None
    positions: dict[int, int]


class DeadLetterGroups(NamedTuple):
    """A page of groups."""

    items: list[DeadLetterGroup]
    next: str | None
    positions: dict[int, int]


class DeadLetterQueries(Protocol):
    """Reads of dead letters. Every method may raise `Unavailable`, and `ParameterInvalid` for a cursor that is none."""

    async def page(self, tenant: str, query: DeadLetterQuery) -> DeadLetters:
        """Return a page of the tenant's dead letters, the newest first."""
        ...

    async def groups(self, tenant: str, query: DeadLetterQuery) -> DeadLetterGroups:
        """Return a page of the tenant's dead letters by fingerprint, the largest group first."""
        ...

    async def count(self, tenant: str, query: DeadLetterQuery) -> int:
        """Return how many of the tenant's dead letters match; the query's page is of no effect."""
        ...

    async def open_counts(self) -> dict[str, int]:
        """Return status -> number of what has neither left nor been settled, of all tenants; others are left out."""
        ...

    async def of_task(self, tenant: str, task_id: UUID) -> list[DeadLetterView]:
        """Return every dead letter of a task, those that left among them, with their notes."""
        ...
