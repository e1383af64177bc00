"""Reads of dead letters in PostgreSQL, from the view `dlq` joined with `task`."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import asyncpg

from tasker.events.codec import canonical
from tasker.events.reads import DEAD_LETTER_STATES, DeadLetterGroup, DeadLetterView
from tasker.projections.dead_letter_queries import DeadLetterGroups, DeadLetterQuery, DeadLetters
from tasker.projections.postgres_queries import fetch
from tasker.projections.postgres_store import pairs
from tasker.projections.queries import decode_cursor, page_of, task_of_cursor
from tasker.projections.sql import statements
from tasker.projections.views.dlq import DeadLetterRow, DeadLetterTask, to_view
from tasker.times import to_rfc3339

_SQL = statements("dead_letters")
_POSITIONS: Final = statements("queries")["positions"]
_ITEMS_OF_TASK_MAX: Final = 10_000


def _statements(name: str) -> dict[bool, str]:
    """Return a statement by whether it reads only what is open."""
    return {
        is_open: _SQL[name].replace("{matching}", _SQL["matching"].replace("{which}", which))
        for is_open, which in ((True, _SQL["open"]), (False, "true"))
    }


_PAGE: Final = _statements("page")
_GROUPS: Final = _statements("groups")
_COUNT: Final = _statements("count")
_OPEN_COUNTS: Final = _SQL["open_counts"].replace("{which}", _SQL["open"])


class PostgresDeadLetters:
    """`DeadLetterQueries` over the SQL views; its pool is that of `PostgresQueries`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, tenant: str, query: DeadLetterQuery) -> DeadLetters:
        """Return a page of the tenant's dead letters, the newest first."""
        after: tuple[Any, ...] = (None, None, None)
        if query.after is not None:
            last_us, task_id, step = decode_cursor(query.after, tuple[int, str, str])
            after = (last_us, task_of_cursor(str(task_id)), step)
        positions = await self._positions()
        records = await self._fetch(_PAGE, tenant, query, *after, query.limit + 1)
        records, following = page_of(
            records, query.limit, lambda last: (last["last_us"], str(last["task_id"]), last["step"])
        )
        return DeadLetters([_view(record) for record in records], following, positions)

    async def groups(self, tenant: str, query: DeadLetterQuery) -> DeadLetterGroups:
        """Return a page of the tenant's dead letters by fingerprint, the largest group first."""
        after: tuple[Any, ...] = (None, None)
        if query.after is not None:
            after = decode_cursor(query.after, tuple[int, str])
        positions = await self._positions()
        records = await self._fetch(_GROUPS, tenant, query, *after, query.limit + 1)
        records, following = page_of(records, query.limit, lambda last: (last["count"], last["fingerprint"]))
        return DeadLetterGroups([_group(record) for record in records], following, positions)

    async def count(self, tenant: str, query: DeadLetterQuery) -> int:
        """Return how many of the tenant's dead letters match."""
        records = await self._fetch(_COUNT, tenant, query)
        return int(records[0][0])

    async def open_counts(self) -> dict[str, int]:
        """Return status -> number of what has neither left nor been settled, of all tenants; others are left out."""
        return pairs(await fetch(self._pool, _OPEN_COUNTS))

    async def of_task(self, tenant: str, task_id: UUID) -> list[DeadLetterView]:
        """Return every dead letter of a task, those that left among them, with their notes."""
        query = DeadLetterQuery(states=DEAD_LETTER_STATES, task_id=task_id)
        records = await self._fetch(_PAGE, tenant, query, None, None, None, _ITEMS_OF_TASK_MAX)
        return [_view(record, with_notes=True) for record in records]

    async def _positions(self) -> dict[int, int]:
        return pairs(await fetch(self._pool, _POSITIONS))

    async def _fetch(
        self, variants: dict[bool, str], tenant: str, query: DeadLetterQuery, *more: object
    ) -> list[asyncpg.Record]:
        return await fetch(
            self._pool,
            variants[not query.states and not query.statuses],
            tenant,
            list(query.states) or None,
            list(query.statuses) or None,
            list(query.reasons) or None,
            query.namespace,
            query.template,
            query.step,
            query.fingerprint,
            query.owner,
            canonical(dict(query.tags)).decode() if query.tags else None,
            query.seen_from_us,
            query.seen_to_us,
            query.task_id,
            *more,
        )


def _view(record: asyncpg.Record, *, with_notes: bool = False) -> DeadLetterView:
    columns = dict(record)
    task = DeadLetterTask(
        namespace=columns.pop("namespace"),
        template=columns.pop("template"),
        version=columns.pop("version"),
        state=columns.pop("task_state"),
        tags=columns.pop("tags"),
    )
    return to_view(DeadLetterRow(**columns), task, with_notes=with_notes)


def _group(record: asyncpg.Record) -> DeadLetterGroup:
    columns = dict(record)
    first_us, last_us = columns.pop("first_us"), columns.pop("last_us")
    return DeadLetterGroup(first_seen=to_rfc3339(first_us), last_seen=to_rfc3339(last_us), **columns)
