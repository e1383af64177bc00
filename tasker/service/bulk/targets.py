"""What a bulk is for: found in the views, page by page, in an order that its own effects do not change.

Tasks go by the time of their creation, dead letters by that of their last failure; only what was there before the bulk
is walked. A target whose state has changed meanwhile is passed over, or refuses the command.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from tasker.events.bulk import OPEN_STATUSES, REASONS_OF, REFUSED_IN, STATES_OF, BulkOrder, is_of_letters
from tasker.events.messages import BulkDeadLetters, BulkMatch, BulkTasks
from tasker.ids import RESERVED_NAMESPACE
from tasker.projections.dead_letter_queries import DeadLetterQueries, DeadLetterQuery
from tasker.projections.queries import Queries, TaskQuery
from tasker.times import from_rfc3339

SAMPLE_ITEMS: Final = 10


class Target(NamedTuple):
    """A task, or a dead letter of it: of a step, as it stood at its last failed attempt."""

    task_id: str
    step: str = ""
    attempt: int = 0


class Targets(NamedTuple):
    """A page of them; `next` is the cursor of the one behind it."""

    items: list[Target]
    next: str | None


class BulkTargets:
    """Reads what orders are for."""

    def __init__(self, queries: Queries, dead_letters: DeadLetterQueries) -> None:
        self._queries = queries
        self._dead_letters = dead_letters

    async def count(self, tenant: str, order: BulkOrder, *, until_us: int | None = None) -> int:
        """Return how many there are now, of those before `until_us`."""
        if is_of_letters(order.verb):
            return await self._dead_letters.count(tenant, _letter_query(order, until_us))
        return await self._queries.count_tasks(tenant, _task_query(order, until_us))

    async def refusing_count(self, tenant: str, order: BulkOrder) -> int:
        """Return how many of them are in a state in which the command is refused."""
        if is_of_letters(order.verb):
            return 0
        query = _task_query(order, None)
        states = tuple(state for state in query.states if state in REFUSED_IN[order.verb])
        return await self._queries.count_tasks(tenant, msgspec.structs.replace(query, states=states)) if states else 0

    async def page(
        self, tenant: str, order: BulkOrder, *, until_us: int | None, after: str | None, limit: int
    ) -> Targets:
        """Return up to `limit` of those before `until_us`, behind a cursor."""
        if is_of_letters(order.verb):
            letters = _letter_query(order, until_us)
            found = await self._dead_letters.page(tenant, msgspec.structs.replace(letters, after=after, limit=limit))
            return Targets([Target(one.task_id, one.step, one.attempt) for one in found.items], found.next)
        query = msgspec.structs.replace(_task_query(order, until_us), after=after, limit=limit)
        page = await self._queries.tasks(tenant, query)
        return Targets([Target(one.task_id) for one in page.items], page.next)

    async def sample(self, tenant: str, order: BulkOrder) -> tuple[BulkMatch, ...]:
        """Return the first of them, for people."""
        if is_of_letters(order.verb):
            letters = msgspec.structs.replace(_letter_query(order, None), limit=SAMPLE_ITEMS)
            return tuple(
                BulkMatch(
                    task_id=one.task_id, namespace=one.namespace, template=one.template, state=one.state, step=one.step
                )
                for one in (await self._dead_letters.page(tenant, letters)).items
            )
        query = msgspec.structs.replace(_task_query(order, None), limit=SAMPLE_ITEMS)
        return tuple(
            BulkMatch(task_id=one.task_id, namespace=one.namespace, template=one.template, state=one.state)
            for one in (await self._queries.tasks(tenant, query)).items
        )


def _task_query(order: BulkOrder, until_us: int | None) -> TaskQuery:
    wanted = order.tasks or BulkTasks()
    return TaskQuery(
        states=wanted.states or STATES_OF[order.verb],
        namespace=wanted.namespace,
        template=wanted.template,
        tags=wanted.tags,
        created_from_us=_time_us(wanted.created_after),
        created_to_us=_earlier(_time_us(wanted.created_before), until_us),
        beside_namespace=RESERVED_NAMESPACE,
        sort="created_at",
    )


def _letter_query(order: BulkOrder, until_us: int | None) -> DeadLetterQuery:
    wanted = order.dead_letters or BulkDeadLetters()
    return DeadLetterQuery(
        states=("dead",),
        statuses=wanted.statuses or OPEN_STATUSES,
        reasons=wanted.reasons or REASONS_OF[order.verb],
        namespace=wanted.namespace,
        template=wanted.template,
        step=wanted.step,
        fingerprint=wanted.fingerprint,
        owner=wanted.owner,
        tags=wanted.tags,
        seen_from_us=_time_us(wanted.seen_after),
        seen_to_us=_earlier(_time_us(wanted.seen_before), until_us),
    )


def _time_us(text: str | None) -> int | None:
    return None if text is None else from_rfc3339(text)


def _earlier(one: int | None, other: int | None) -> int | None:
    given = [at_us for at_us in (one, other) if at_us is not None]
    return min(given) if given else None
