"""Reads of the views: what can be asked for, and the cursors of pages.

Every read names its tenant. A page goes on behind the key of its last row (a keyset), so rows that come or go
meanwhile make no gap and no repetition among the others.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol, TypeVar
from uuid import UUID

import msgspec

from tasker.errors import ParameterInvalid
from tasker.events.codec import is_text
from tasker.events.reads import (
    ApprovalView,
    FireTime,
    ScheduleView,
    StepView,
    TaskView,
    TemplateView,
    UsageBy,
    UsageTotal,
)

TaskSort = Literal["created_at", "-created_at", "updated_at", "-updated_at"]
TASK_SORTS: Final[tuple[TaskSort, ...]] = ("created_at", "-created_at", "updated_at", "-updated_at")
PAGE_ITEMS: Final = 100
PAGE_ITEMS_MAX: Final = 500
PAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of what is large in the items of a page, which waits in memory for whoever reads it."""

_INT_MAX: Final = 2**63 - 1

R = TypeVar("R")


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks, in which order.

    Attributes:
        states: any of them; empty: all.
        tags: all of them.
        created_from_us, created_to_us: the first included, the second not.
        beside_namespace: of all namespaces but this one.
        after: cursor of the page before.
    """

    states: tuple[str, ...] = ()
    namespace: str | None = None
    template: str | None = None
    tags: Mapping[str, str] = {}
    created_from_us: int | None = None
    created_to_us: int | None = None
    beside_namespace: str | None = None
    sort: TaskSort = "-created_at"
    limit: int = PAGE_ITEMS
    after: str | None = None


class ApprovalQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which open approvals, the oldest first.

    Attributes:
        assignee, roles: only those that this person, or one with such a role, may answer.
        after: cursor of the page before.
    """

    assignee: str | None = None
    roles: tuple[str, ...] = ()
    namespace: str | None = None
    template: str | None = None
    limit: int = PAGE_ITEMS
    after: str | None = None


class TemplateQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which versions of which templates; by namespace, name and time of registration."""

    namespace: str | None = None
    name: str | None = None
    limit: int = PAGE_ITEMS
    after: str | None = None


class ScheduleQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which schedules, by namespace and name; without `states` all but the deleted ones."""

    states: tuple[str, ...] = ()
    namespace: str | None = None
    template: str | None = None
    limit: int = PAGE_ITEMS
    after: str | None = None


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which usage, and what is added up by itself."""

    by: UsageBy = "template"
    task_id: UUID | None = None
    namespace: str | None = None
    template: str | None = None
    model: str | None = None
    limit: int = PAGE_ITEMS
    after: str | None = None


class UsageTotals(NamedTuple):
    """A page of totals."""

    items: list[UsageTotal]
    next: str | None
    positions: dict[int, int]


class Tasks(NamedTuple):
    """A page of tasks; `next` is the cursor of the one behind it; `positions` is where it was read at least."""

    items: list[TaskView]
    next: str | None
    positions: dict[int, int]


class Approvals(NamedTuple):
    """A page of open approvals."""

    items: list[ApprovalView]
    next: str | None
    positions: dict[int, int]


class Templates(NamedTuple):
    """A page of templates."""

    items: list[TemplateView]
    next: str | None
    positions: dict[int, int]


class Schedules(NamedTuple):
    """A page of schedules."""

    items: list[ScheduleView]
    next: str | None
    positions: dict[int, int]


class TaskPlace(NamedTuple):
    """To whom a task belongs and what it is a run of: facts of its creation."""

    tenant: str
    namespace: str
    template: str


class InFlight(NamedTuple):
    """Steps of running tasks of one template that have begun and not ended, in one state, of all tenants."""

    namespace: str
    template: str
    state: str
    steps: int
    oldest_age_s: float
    """How long ago the first of them was dispatched."""


class Queries(Protocol):
    """Reads of the views. Every method may raise `Unavailable`."""

    async def positions(self) -> dict[int, int]:
        """Return shard -> the position that every view has reached."""
        ...

    async def task(self, tenant: str, task_id: UUID) -> TaskView | None:
        """Return a task of the tenant; None when the view has none."""
        ...

    async def tasks(self, tenant: str, query: TaskQuery) -> Tasks:
        """Return a page of the tenant's tasks.

        Raises:
            ParameterInvalid: the cursor is none, or of another sort.
        """
        ...

    async def count_tasks(self, tenant: str, query: TaskQuery) -> int:
        """Return how many of the tenant's tasks match; the query's order and page are of no effect."""
        ...

    async def steps(self, tenant: str, task_id: UUID, names: Sequence[str]) -> list[StepView]:
        """Return those of the named step instances of a task that have begun."""
        ...

    async def instances(
        self, tenant: str, task_id: UUID, *, beside: Sequence[str], after: str, limit: int
    ) -> list[StepView]:
        """Return up to `limit` other step instances of a task that have begun, by name, behind the name `after`."""
        ...

    async def open_instances(
        self, tenant: str, task_id: UUID, *, beside: Sequence[str], within: str, limit: int
    ) -> list[StepView]:
        """Return up to `limit` of the same that are open, the longest first, then of those that failed.

        All of them have names that begin with `within`.
        """
        ...

    async def newest_visits(self, tenant: str, task_id: UUID) -> list[StepView]:
        """Return the newest visit of each step of a task that a loop has come back to."""
        ...

    async def approvals(self, tenant: str, query: ApprovalQuery) -> Approvals:
        """Return a page of the tenant's open approvals.

        Raises:
            ParameterInvalid: the cursor is none.
        """
        ...

    async def templates(self, tenant: str, query: TemplateQuery) -> Templates:
        """Return a page of the tenant's templates, without their documents."""
        ...

    async def template(self, tenant: str, namespace: str, name: str, version: str | None) -> TemplateView | None:
        """Return a version (None: the one in use) of a template, without its document."""
        ...

    async def schedules(self, tenant: str, query: ScheduleQuery) -> Schedules:
        """Return a page of the tenant's schedules.

        Raises:
            ParameterInvalid: the cursor is none.
        """
        ...

    async def usage(self, tenant: str, query: UsageQuery) -> UsageTotals:
        """Return a page of what the tenant's attempts used, added up.

        Raises:
            ParameterInvalid: the cursor is none, or of what was added up otherwise.
        """
        ...

    async def schedule(self, tenant: str, namespace: str, name: str) -> ScheduleView | None:
        """Return a schedule; None when the view has none, or it is deleted."""
        ...

    async def next_fires(self, tenant: str, namespace: str, name: str, count: int) -> list[FireTime] | None:
        """Return coming fire times of a schedule; None when there is no such schedule."""
        ...

    async def counts(self, tenant: str) -> dict[str, int]:
        """Return state -> number of the tenant's tasks; states without tasks are left out."""
        ...

    async def open_counts(self) -> dict[str, int]:
        """Return state -> number of tasks that have not ended, of all tenants; states without tasks are left out."""
        ...

    async def in_flight(self) -> list[InFlight]:
        """Return the steps in flight, counted by template and state."""
        ...

    async def places(self, task_ids: Sequence[UUID]) -> dict[UUID, TaskPlace]:
        """Return the places of those tasks that the view has."""
        ...


def encode_cursor(*key: str | int) -> str:
    """Return the opaque cursor of a page that ended at `key`."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode_cursor(cursor: str, kind: type[tuple[str, ...]] | object) -> tuple[str | int, ...]:
    """Return the key that a cursor holds; `kind` is the tuple type that it must have.

    Raises:
        ParameterInvalid: it is no cursor of this list.
    """
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key: tuple[str | int, ...] = msgspec.json.decode(data, type=kind)
        if not all(_is_sound(part) for part in key):
            raise ValueError(cursor)  # noqa: TRY301 - the one answer to every bad cursor
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ParameterInvalid(
            f"{cursor[:80]!r} is no cursor of this list; take it from `next` of the page before"
        ) from error
    return key


def page_of(
    rows: list[R],
    limit: int,
    key: Callable[[R], Iterable[str | int]],
    *,
    size: Callable[[R], int] | None = None,
) -> tuple[list[R], str | None]:
    """Return the rows of a page, and the cursor of the page behind it; None: there is none.

    Args:
        rows: that match, one more than `limit` where there are as many.
        limit: of the page.
        key: what stands in the cursor of a page that ends with a row.
        size: returns the bytes of what is large in a row; None: nothing is.
    """
    page = rows[:limit]
    if size is not None:
        page = page[: count_within(map(size, page), PAGE_BYTES_MAX)]
    return page, None if len(page) == len(rows) else encode_cursor(*key(page[-1]))


def count_within(sizes: Iterable[int], bytes_max: int) -> int:
    """Return how many, from the first on, have up to `bytes_max` together; the first counts whatever it has."""
    left, count = bytes_max, 0
    for size in sizes:
        left -= size
        if left < 0 and count:
            break
        count += 1
    return count


def task_of_cursor(part: str | int) -> UUID:
    """Return the id of a task that is a part of a cursor's key.

    Raises:
        ParameterInvalid: it is none.
    """
    try:
        return UUID(str(part))
    except ValueError as error:
        raise ParameterInvalid("the cursor names no task") from error


def _is_sound(part: str | int) -> bool:
    """Return whether a store can compare its values with `part`."""
    return is_text(part) if isinstance(part, str) else 0 <= part <= _INT_MAX
