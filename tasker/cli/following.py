"""Printing events as they come: `tasker log tail`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from tasker.cli.failures import UsageError
from tasker.cli.options import Format
from tasker.cli.output import document, line, note, one_by_one, time_text
from tasker.client import TaskerClient
from tasker.client.service_reads import LATEST
from tasker.client.subscription import (
    START,
    EventFilter,
    Seen,
    Subscription,
    covers,
    lifecycle_of,
    positions_in,
    type_of,
)
from tasker.errors import ConfigurationError
from tasker.events.messages import LifecycleEvent
from tasker.events.position import format_position, log_of_position
from tasker.events.reads import EventView
from tasker.events.stored import VERSION_OF

_TYPE_WIDTH = 22


def known_types(names: Sequence[str]) -> tuple[str, ...]:
    """Return types of events as given.

    Raises:
        UsageError: there is no such type; none would ever come.
    """
    for name in names:
        if name not in VERSION_OF:
            near = difflib.get_close_matches(name, VERSION_OF, n=1)
            raise UsageError(f"there is no event {name!r}{f'; is it {near[0]}?' if near else ''}")
    return tuple(names)


async def read_events(
    service: TaskerClient, *, start: str | None, wanted: EventFilter, limit: int, output: Format
) -> None:
    """Print what the log has behind `start`, up to its head at the beginning; then say where that was."""
    if output == "table":
        await _read(service, start=start, wanted=wanted, limit=limit, write=_print_view)
        return
    with one_by_one(output) as write:
        await _read(service, start=start, wanted=wanted, limit=limit, write=lambda _, view: write(view))


async def _read(
    service: TaskerClient,
    *,
    start: str | None,
    wanted: EventFilter,
    limit: int,
    write: Callable[[LifecycleEvent, EventView], None],
) -> None:
    if service.settings.http_url is None:
        raise ConfigurationError("the log is read over HTTP: set TASKER_HTTP_URL, or add --follow")
    after = await _whole(service, start)
    goal: str | None = None
    printed = 0
    seen = Seen()
    while True:
        page = await service.log_page(after=after, wanted=wanted)
        goal = goal or page.position
        seen.is_of(page.log_id)
        seen.begin_at_start(page.position)
        if after is not None:
            seen.start_at(after)
        for view in page.items:
            event = lifecycle_of(view, page.log_id)
            seen.add(event.shard, int(event.position))
            write(event, view)
            printed += 1
            if printed == limit:
                note(f"next: --from {seen.token}")
                return
        if page.next is None or (page.next == after and not page.items):
            break
        after = page.next
        if covers(after, goal):  # what comes meanwhile is not waited for: of a busy log there would be no end
            break
    note(f"{printed} events; next: --from {after or START}")


async def follow_events(
    service: TaskerClient, *, start: str | None, wanted: EventFilter, limit: int, output: Format
) -> None:
    """Print events from `start` (None: from now) on, until `limit` or for ever; say where it ended."""
    printed = 0
    start = await _whole(service, start) or start
    subscription = service.subscribe(
        namespace=wanted.namespace, template=wanted.template, task=wanted.task_id, types=wanted.types, start=start
    )
    async with subscription as events:
        try:
            async for event in events:
                if output == "table":
                    _print(event, f"{event.shard}:{event.position}")
                else:
                    document(event, "jsonl")
                printed += 1
                if printed == limit:
                    break
        finally:
            _say_where(events)


async def _whole(service: TaskerClient, start: str | None) -> str | None:
    """Return a position that names each shard: those that `start` does not name stand where they are now.

    What a person types is often the position of one command, who does not mean the history of all other shards by it.
    Without HTTP nobody says where they are; the stream then has them from its beginning.
    """
    if start is None or start == START:
        return None
    if service.settings.http_url is None:
        return start
    named = positions_in(start)
    head = await service.log_page(after=LATEST, wanted=EventFilter(), limit=1)
    whole = format_position(positions_in(head.next or head.position) | named)
    return f"{log_of_position(start) or head.log_id}/{whole}"


def _say_where(events: Subscription) -> None:
    if events.position:
        note(f"next: --from {events.position}")


def _print_view(event: LifecycleEvent, view: EventView) -> None:
    _print(event, view.position)


def _print(event: LifecycleEvent, position: str) -> None:
    data = bytes(event.data).decode()
    line(f"{time_text(event.time)}  {position:<10}  {event.subject}  {type_of(event):<{_TYPE_WIDTH}}  {data}")
