"""Reading whole views, and what they must be: the fold of the log."""

from collections.abc import Iterable
from typing import Any

from tasker.events.envelope import RecordedEvent
from tasker.projections.projection import Key, fold_into
from tasker.projections.store import ViewStore
from tasker.projections.views import PROJECTIONS


def folded(events: Iterable[RecordedEvent]) -> dict[str, dict[Key, Any]]:
    """Every view's rows by name, as one fold over all events gives them."""
    views: dict[str, dict[Key, Any]] = {projection.name: {} for projection in PROJECTIONS}
    for recorded in events:
        for projection in PROJECTIONS:
            fold_into(views[projection.name], projection, recorded)
    return views


async def stored(store: ViewStore) -> dict[str, dict[Key, Any]]:
    """Every view's rows by name, as the store has them."""
    views: dict[str, dict[Key, Any]] = {}
    async with store.snapshot() as snapshot:
        for projection in PROJECTIONS:
            views[projection.name] = {
                projection.key_of(row): row async for page in snapshot.rows(projection) for row in page
            }
    return views
