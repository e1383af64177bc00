"""What a client asks a service for: tasks with their steps and events, templates, usage, and the log."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from tasker.client.http import Parameters
from tasker.client.pages import items_of
from tasker.client.requests import PAGE_ITEMS, TaskRef, position_of, rfc3339_of, segment, task_id_of, texts_of
from tasker.client.subscription import EventFilter
from tasker.events.reads import (
    EventPage,
    EventView,
    Explanation,
    Refusal,
    RefusalPage,
    Stats,
    StepPage,
    StepView,
    TaskPage,
    TaskView,
    TemplatePage,
    TemplateView,
    UsageBy,
    UsagePage,
    UsageTotal,
)
from tasker.ids import check_name

T = TypeVar("T")

LOG_PAGE_ITEMS = 500
LATEST = "latest"
"""In place of a position, to the log's endpoint: its head."""


class ServiceReads(abc.ABC):
    """Reads of the views and of the log; each goes over HTTP, and is repeated until the client's timeout is over."""

    @abc.abstractmethod
    async def _get(self, path: str, kind: type[T], parameters: Parameters) -> T:
        """Return what the path answers, as `kind`; repeats it until the deadline."""

    async def get(self, task: TaskRef, *, at_least: str | None = None) -> TaskView:
        """Return a task as the view shows it, never older than what `task` itself was returned with.

        Raises:
            TaskUnknown: there is none. Behind: the view did not reach the position in time.
        """
        parameters = {"at_least": at_least or position_of(task)}
        return await self._get(f"/v1/tasks/{segment(task_id_of(task))}", TaskView, parameters)

    async def page(
        self,
        *,
        states: str | Sequence[str] | None = None,
        namespace: str | None = None,
        template: str | None = None,
        tags: Mapping[str, str] | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        sort: str | None = None,
        limit: int = PAGE_ITEMS,
        after: str | None = None,
        at_least: str | None = None,
    ) -> TaskPage:
        """Return a page of tasks that match all of what is given; `page.next` is `after` of the one behind it."""
        return await self._get(
            "/v1/tasks",
            TaskPage,
            {
                "state": list(texts_of(states)),
                "namespace": namespace,
                "template": template,
                "tag": [f"{key}={value}" for key, value in (tags or {}).items()],
                "created_after": rfc3339_of(created_after, "created_after"),
                "created_before": rfc3339_of(created_before, "created_before"),
                "sort": sort,
                "limit": limit,
                "after": after,
                "at_least": at_least,
            },
        )

    async def list(
        self,
        *,
        states: str | Sequence[str] | None = None,
        namespace: str | None = None,
        template: str | None = None,
        tags: Mapping[str, str] | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        sort: str | None = None,
        at_least: str | None = None,
        page_items: int = PAGE_ITEMS,
    ) -> AsyncIterator[TaskView]:
        """Yield every task that matches, page by page; newest first unless `sort` says otherwise."""
        after: str | None = None
        while True:
            page = await self.page(
                states=states,
                namespace=namespace,
                template=template,
                tags=tags,
                created_after=created_after,
                created_before=created_before,
                sort=sort,
                limit=page_items,
                after=after,
                at_least=at_least,
            )
            for task in page.items:
                yield task
            after = page.next
            if after is None:
                return

    async def explain(self, task: TaskRef, step: str | None = None, *, at_least: str | None = None) -> Explanation:
        """Return why a task, or a step of it, is where it is: a sentence, and what it waits for.

        Raises:
            TaskUnknown, StepUnknown: there is none. Behind: the view did not reach the position in time.
        """
        path = f"/v1/tasks/{segment(task_id_of(task))}"
        if step is not None:
            path = f"{path}/steps/{segment(step)}"
        return await self._get(f"{path}/explain", Explanation, {"at_least": at_least or position_of(task)})

    async def steps(
        self, task: TaskRef, *, limit: int | None = None, at_least: str | None = None
    ) -> Sequence[StepView]:
        """Return the steps of a task: those of the template in declared order, then further visits and items.

        Args:
            task: its id, or a handle.
            limit: at most so many, from 1 on; None: all.
            at_least: as of this position or later.
        """
        path = f"/v1/tasks/{segment(task_id_of(task))}/steps"
        page_items = PAGE_ITEMS if limit is None else min(limit, PAGE_ITEMS)
        parameters: Parameters = {"at_least": at_least or position_of(task), "limit": page_items}
        found: list[StepView] = []
        async for step in items_of(self._get, path, StepPage, parameters):
            found.append(step)
            if len(found) == limit:
                break
        return found

    async def events(
        self, task: TaskRef, *, after_seq: int = 0, page_items: int = PAGE_ITEMS
    ) -> AsyncIterator[EventView]:
        """Yield the recorded events of a task behind `after_seq`, from the log."""
        path = f"/v1/tasks/{segment(task_id_of(task))}/events"
        async for event in items_of(self._get, path, EventPage, {"after": str(after_seq), "limit": page_items}):
            yield event

    async def templates(
        self, *, namespace: str | None = None, name: str | None = None, page_items: int = PAGE_ITEMS
    ) -> AsyncIterator[TemplateView]:
        """Yield the registered versions of templates."""
        parameters: Parameters = {"namespace": namespace, "name": name, "limit": page_items}
        async for template in items_of(self._get, "/v1/templates", TemplatePage, parameters):
            yield template

    async def template(self, name: str, *, namespace: str = "default", version: str | None = None) -> TemplateView:
        """Return a version of a template (None: the one in use), with its document.

        Raises:
            TemplateUnknown: there is none.
        """
        path = f"/v1/templates/{check_name(namespace, 'namespace')}/{check_name(name, 'template')}"
        return await self._get(path if version is None else f"{path}/{segment(version)}", TemplateView, {})

    async def usage(
        self,
        *,
        by: UsageBy = "template",
        task: TaskRef | None = None,
        namespace: str | None = None,
        template: str | None = None,
        model: str | None = None,
        at_least: str | None = None,
        page_items: int = PAGE_ITEMS,
    ) -> AsyncIterator[UsageTotal]:
        """Yield what attempts used and cost, failed ones too, added up exactly.

        Args:
            by: what is added up by itself: "tenant", "template", "step" (of a template) or "task".
            task: only of this one.
            namespace: only of its tasks.
            template: only of its tasks.
            model: only what was used of it.
            at_least: a position that the totals must have reached.
            page_items: so many are asked for at a time.
        """
        parameters: Parameters = {
            "by": by,
            "task_id": None if task is None else task_id_of(task),
            "namespace": namespace,
            "template": template,
            "model": model,
            "limit": page_items,
            "at_least": at_least,
        }
        async for total in items_of(self._get, "/v1/usage", UsagePage, parameters):
            yield total

    async def refusals(self, *, page_items: int = PAGE_ITEMS) -> AsyncIterator[Refusal]:
        """Yield the submitted commands that were refused lately, oldest first."""
        async for refusal in items_of(self._get, "/v1/refusals", RefusalPage, {"limit": page_items}):
            yield refusal

    async def stats(self) -> Stats:
        """Return counts of tasks by state and how far the views are."""
        return await self._get("/v1/stats", Stats, {})

    async def log_page(self, *, after: str | None, wanted: EventFilter, limit: int = LOG_PAGE_ITEMS) -> EventPage:
        """Return recorded events behind the position `after` (None: from the start), from the log."""
        return await self._get("/v1/events", EventPage, {**wanted.parameters(), "after": after, "limit": limit})


class LogOverHttp:
    """The log's endpoint, as a subscription reads it."""

    def __init__(self, reads: ServiceReads) -> None:
        self._reads = reads

    async def page(self, *, after: str | None, wanted: EventFilter) -> EventPage:
        """Return the events behind a position."""
        return await self._reads.log_page(after=after, wanted=wanted)

    async def head(self) -> str:
        """Return the position of the log's head."""
        page = await self._reads.log_page(after=LATEST, wanted=EventFilter(), limit=1)
        return page.next or page.position
