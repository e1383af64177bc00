"""Reading whole views, and what they must be: the fold of the log."""

from collections.abc import Iterable, MutableMapping
from typing import Any

import msgspec

from tasker.errors import Undecodable
from tasker.events.envelope import RecordedEvent
from tasker.events.stored import from_recorded
from tasker.projections.projection import Key, Projection, keys_of, moved_on
from tasker.projections.store import ViewStore
from tasker.projections.views import PROJECTIONS


def fold_into(rows: MutableMapping[Key, Any], projection: Projection[Any], recorded: RecordedEvent) -> None:
    """Move `rows`, all that earlier events made, on by one event: what a row is by its definition."""
    if recorded.kind not in projection.kinds:
        return
    try:
        event = from_recorded(recorded)
    except Undecodable as error:
        key: Key = (recorded.stream_id, "")
        _keep(rows, key, projection.poisoned(rows.get(key), recorded, error.detail))
        return
    if projection.types is not None and recorded.type not in projection.types:
        return
    for one in keys_of(projection, recorded, event, rows):
        _keep(rows, one, moved_on(projection, rows.get(one), recorded, event))


def _keep(rows: MutableMapping[Key, Any], key: Key, row: msgspec.Struct | None) -> None:
    if row is not None:
        rows[key] = row


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
