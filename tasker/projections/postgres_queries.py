"""Reads of the views in PostgreSQL.

Plans are made anew for every read (`force_custom_plan`): a filter that is not given costs nothing, and a plan from
the time when the table was empty is never used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from tasker.errors import ParameterInvalid
from tasker.events.codec import canonical
from tasker.events.reads import TASK_ENDED, FireTime, ScheduleView, StepView, TaskView, TemplateView, UsageTotal
from tasker.ids import schedule_stream_id, template_stream_id
from tasker.projections.postgres_store import LOST, pairs, row_of, translated
from tasker.projections.queries import (
    ApprovalQuery,
    Approvals,
    InFlight,
    ScheduleQuery,
    Schedules,
    TaskPlace,
    TaskQuery,
    Tasks,
    TaskSort,
    TemplateQuery,
    Templates,
    UsageQuery,
    UsageTotals,
    decode_cursor,
    page_of,
    task_of_cursor,
)
from tasker.projections.sql import statements
from tasker.projections.views import awaits, step, task, template
from tasker.projections.views import schedule as schedule_rows
from tasker.projections.views.reasons import Standing

_SQL = statements("queries")
_SERVER_SETTINGS: Final = {
    "application_name": "tasker-reads",
    "default_transaction_read_only": "on",
    "jit": "off",
    "plan_cache_mode": "force_custom_plan",
    "statement_timeout": "15s",
}
_SORTS: Final[dict[TaskSort, tuple[str, str, str]]] = {
    "created_at": (
        "created_at_us",
        "(created_at_us, task_id) > ($9, $10)",
        "created_at_us, task_id",
    ),
    "-created_at": (
        "created_at_us",
        "(created_at_us, task_id) < ($9, $10)",
        "created_at_us DESC, task_id DESC",
    ),
    "updated_at": (
        "updated_at_us",
        "(updated_at_us, task_id) > ($9, $10)",
        "updated_at_us, task_id",
    ),
    "-updated_at": (
        "updated_at_us",
        "(updated_at_us, task_id) < ($9, $10)",
        "updated_at_us DESC, task_id DESC",
    ),
}
"""Sort -> its column, what stands behind a cursor, and the order."""

_TASKS: Final[dict[TaskSort, str]] = {
    sort: _SQL["tasks"]
    .replace("{matching}", _SQL["tasks_matching"])
    .replace("{keyset}", keyset)
    .replace("{order}", order)
    for sort, (_, keyset, order) in _SORTS.items()
}
_COUNT_TASKS: Final = _SQL["count_tasks"].replace("{matching}", _SQL["tasks_matching"])
_USAGE_KEY: Final = ("namespace", "template", "task_id", "step", "model", "meter", "unit", "currency")
_NEEDS_STEPS: Final = frozenset({"running", "compensating"})


async def open_read_pool(dsn: str, *, size: int = 8) -> asyncpg.Pool:
    """Return a pool of read-only connections, set up as this module needs them."""
    with translated():
        return await asyncpg.create_pool(
            dsn, min_size=1, max_size=size, server_settings=_SERVER_SETTINGS, command_timeout=20, reset=_keep
        )


async def _keep(connection: object) -> None:
    """Leave a connection as it is: no statement of ours changes its session."""


class PostgresQueries:
    """`Queries` over the SQL views."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def positions(self) -> dict[int, int]:
        """Return shard -> the position that every view has reached."""
        return pairs(await self._fetch(_SQL["positions"]))

    async def task(self, tenant: str, task_id: UUID) -> TaskView | None:
        """Return a task of the tenant; None when the view has none."""
        records = await self._fetch(_SQL["task"], tenant, task_id)
        if not records:
            return None
        has_ended = records[0]["state"] in TASK_ENDED  # no other can have been restarted
        restarts = await self._fetch(_SQL["restarts"], tenant, task_id) if has_ended else []
        return (await self._task_views(records, restarted_as=[record[0] for record in restarts]))[0]

    async def tasks(self, tenant: str, query: TaskQuery) -> Tasks:
        """Return a page of the tenant's tasks."""
        at_us, after_id = _task_cursor(query)
        positions = await self.positions()
        records = await self._fetch(
            _TASKS[query.sort],
            *_matching(tenant, query),
            at_us,
            after_id,
            query.limit + 1,
        )
        column = _SORTS[query.sort][0]
        records, following = page_of(
            records, query.limit, lambda last: (query.sort, last[column], str(last["task_id"])), size=_task_bytes
        )
        return Tasks(await self._task_views(records), following, positions)

    async def count_tasks(self, tenant: str, query: TaskQuery) -> int:
        """Return how many of the tenant's tasks match."""
        records = await self._fetch(_COUNT_TASKS, *_matching(tenant, query))
        return int(records[0][0])

    async def steps(self, tenant: str, task_id: UUID, names: Sequence[str]) -> list[StepView]:
        """Return those of the named step instances of a task that have begun."""
        records = await self._fetch(_SQL["steps"], tenant, task_id, list(names))
        return [step.to_view(row_of(step.StepRow, record)) for record in records]

    async def instances(
        self, tenant: str, task_id: UUID, *, beside: Sequence[str], after: str, limit: int
    ) -> list[StepView]:
        """Return up to `limit` other step instances of a task that have begun, by name, behind the name `after`."""
        records = await self._fetch(_SQL["instances"], tenant, task_id, list(beside), after, limit)
        return [step.to_view(row_of(step.StepRow, record)) for record in records]

    async def open_instances(
        self, tenant: str, task_id: UUID, *, beside: Sequence[str], within: str, limit: int
    ) -> list[StepView]:
        """Return up to `limit` of the same that are open, the longest first, then of those that failed."""
        records = await self._fetch(_SQL["open_instances"], tenant, task_id, list(beside), within, limit)
        return [step.to_view(row_of(step.StepRow, record)) for record in records]

    async def newest_visits(self, tenant: str, task_id: UUID) -> list[StepView]:
        """Return the newest visit of each step of a task that a loop has come back to."""
        records = await self._fetch(_SQL["newest_visits"], tenant, task_id)
        return [step.to_view(row_of(step.StepRow, record)) for record in records]

    async def approvals(self, tenant: str, query: ApprovalQuery) -> Approvals:
        """Return a page of the tenant's open approvals."""
        after: tuple[Any, ...] = (None, None, None)
        if query.after is not None:
            at_us, task_id, step_name = decode_cursor(query.after, tuple[int, str, str])
            after = (at_us, task_of_cursor(str(task_id)), step_name)
        asks = [f"p:{query.assignee}"] if query.assignee is not None else []
        asks += [f"r:{role}" for role in query.roles]
        positions = await self.positions()
        records = await self._fetch(
            _SQL["approvals"],
            tenant,
            [*asks, awaits.ANYBODY] if asks else None,
            query.namespace,
            query.template,
            *after,
            query.limit + 1,
        )
        records, following = page_of(
            records, query.limit, lambda last: (last["dispatched_at_us"], str(last["task_id"]), last["step"])
        )
        return Approvals([awaits.to_approval(**record) for record in records], following, positions)

    async def templates(self, tenant: str, query: TemplateQuery) -> Templates:
        """Return a page of the tenant's templates, without their documents."""
        after: tuple[Any, ...] = (None, None, None, None)
        if query.after is not None:
            after = decode_cursor(query.after, tuple[str, str, int, str])
        positions = await self.positions()
        records = await self._fetch(_SQL["templates"], tenant, query.namespace, query.name, *after, query.limit + 1)
        records, following = page_of(
            records,
            query.limit,
            lambda last: (last["namespace"], last["name"], last["registered_at_us"], last["version"]),
        )
        return Templates([_template_view(record) for record in records], following, positions)

    async def template(self, tenant: str, namespace: str, name: str, version: str | None) -> TemplateView | None:
        """Return a version (None: the one in use) of a template, without its document."""
        stream_id = template_stream_id(tenant, namespace, name)
        records = await self._fetch(_SQL["template"], stream_id, tenant, version)
        return _template_view(records[0]) if records else None

    async def schedules(self, tenant: str, query: ScheduleQuery) -> Schedules:
        """Return a page of the tenant's schedules."""
        after: tuple[Any, ...] = (None, None)
        if query.after is not None:
            after = decode_cursor(query.after, tuple[str, str])
        positions = await self.positions()
        states = list(query.states) or None
        records = await self._fetch(
            _SQL["schedules"], tenant, states, query.namespace, query.template, *after, query.limit + 1
        )
        records, following = page_of(records, query.limit, lambda last: (last["namespace"], last["name"]))
        rows = [row_of(schedule_rows.ScheduleRow, record) for record in records]
        return Schedules([schedule_rows.to_view(row) for row in rows], following, positions)

    async def schedule(self, tenant: str, namespace: str, name: str) -> ScheduleView | None:
        """Return a schedule; None when the view has none, or it is deleted."""
        row = await self._schedule_row(tenant, namespace, name)
        return None if row is None else schedule_rows.to_view(row)

    async def next_fires(self, tenant: str, namespace: str, name: str, count: int) -> list[FireTime] | None:
        """Return coming fire times of a schedule; None when there is no such schedule."""
        row = await self._schedule_row(tenant, namespace, name)
        return None if row is None else schedule_rows.next_fires(row, count)

    async def _schedule_row(self, tenant: str, namespace: str, name: str) -> schedule_rows.ScheduleRow | None:
        records = await self._fetch(_SQL["schedule"], schedule_stream_id(tenant, namespace, name), tenant)
        row: schedule_rows.ScheduleRow | None = row_of(schedule_rows.ScheduleRow, records[0]) if records else None
        return None if row is None or row.state == "deleted" else row

    async def usage(self, tenant: str, query: UsageQuery) -> UsageTotals:
        """Return a page of what the tenant's attempts used, added up."""
        after: Sequence[Any] = (None,) * 8
        if query.after is not None:
            by, *after = decode_cursor(query.after, tuple[str, str, str, str, str, str, str, str, str])
            if by != query.by:
                raise ParameterInvalid(f"the cursor is of totals by {by}, not {query.by}")
        positions = await self.positions()
        records = await self._fetch(
            _SQL["usage"],
            tenant,
            query.by,
            query.task_id,
            query.namespace,
            query.template,
            query.model,
            *after,
            query.limit + 1,
        )
        records, following = page_of(
            records, query.limit, lambda last: [query.by, *(last[name] for name in _USAGE_KEY)]
        )
        totals = [UsageTotal(**{**dict(record), "prices": tuple(record["prices"])}) for record in records]
        return UsageTotals(totals, following, positions)

    async def counts(self, tenant: str) -> dict[str, int]:
        """Return state -> number of the tenant's tasks; states without tasks are left out."""
        return pairs(await self._fetch(_SQL["counts"], tenant))

    async def open_counts(self) -> dict[str, int]:
        """Return state -> number of tasks that have not ended, of all tenants; states without tasks are left out."""
        return pairs(await self._fetch(_SQL["open_counts"]))

    async def in_flight(self) -> list[InFlight]:
        """Return the steps in flight, counted by template and state."""
        return [InFlight(*record) for record in await self._fetch(_SQL["in_flight"])]

    async def places(self, task_ids: Sequence[UUID]) -> dict[UUID, TaskPlace]:
        """Return the places of those tasks that the view has."""
        records = await self._fetch(_SQL["places"], list(task_ids))
        return {record[0]: TaskPlace(record[1], record[2], record[3]) for record in records}

    async def _fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        return await fetch(self._pool, statement, *values)

    async def _task_views(
        self, records: Sequence[asyncpg.Record], *, restarted_as: Sequence[UUID] = ()
    ) -> list[TaskView]:
        rows = [row_of(task.TaskRow, record) for record in records]
        running = [row.task_id for row in rows if row.state in _NEEDS_STEPS]
        open_steps: dict[UUID, list[Standing]] = {}
        if running:
            for task_id, *facts in await self._fetch(_SQL["open_steps"], running, task.OPEN_STEPS_ASKED):
                open_steps.setdefault(task_id, []).append(Standing(*facts))
        return [task.to_view(row, open_steps.get(row.task_id, ()), restarted_as=restarted_as) for row in rows]


async def fetch(pool: asyncpg.Pool, statement: str, *values: object) -> list[asyncpg.Record]:
    """Return the records of a statement.

    A pool keeps connections that the server ended long ago, so a lost one is met by another attempt: a read
    may be repeated.
    """
    with translated():
        for _ in range(pool.get_max_size()):
            try:
                return await pool.fetch(statement, *values)
            except LOST:
                continue
        return await pool.fetch(statement, *values)


def _matching(tenant: str, query: TaskQuery) -> tuple[object, ...]:
    """Return the parameters of `tasks_matching`."""
    return (
        tenant,
        list(query.states) or None,
        query.namespace,
        query.template,
        canonical(dict(query.tags)).decode() if query.tags else None,
        query.created_from_us,
        query.created_to_us,
        query.beside_namespace,
    )


def _task_bytes(record: asyncpg.Record) -> int:
    return sum(len(record[name] or b"") for name in ("input", "last_input", "result", "metadata"))


def _task_cursor(query: TaskQuery) -> tuple[int | None, UUID | None]:
    if query.after is None:
        return None, None
    sort, at_us, task_id = decode_cursor(query.after, tuple[str, int, str])
    if sort != query.sort:
        raise ParameterInvalid(f"the cursor is of a list sorted by {sort}, not {query.sort}")
    return int(at_us), task_of_cursor(task_id)


def _template_view(record: asyncpg.Record) -> TemplateView:
    facts = dict(record)
    in_use = facts.pop("in_use")
    return template.to_view(template.TemplateRow(**facts), in_use=in_use)
