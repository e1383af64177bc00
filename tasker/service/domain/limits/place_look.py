"""How a concurrency key stands, for whoever wants to know why something waits."""

from __future__ import annotations

from itertools import islice
from typing import Final

from tasker.events.places import parse_request
from tasker.events.reads import PlaceFacts, PlaceHolder
from tasker.service.domain.limits.concurrency import ConcurrencyState
from tasker.times import to_rfc3339

HOLDERS_TOLD: Final = 10
AHEAD_COUNTED: Final = 1_000
"""Whoever has more than so many ahead of it is not told how many."""


def place_facts(state: ConcurrencyState, request: str) -> PlaceFacts | None:
    """Return how the key stands for `request`; None: nobody has ever asked for a place under it."""
    if state.name is None:
        return None
    if state.line is None or request not in state.waiting:
        first = islice(state.waiting, AHEAD_COUNTED)
        ahead = next((count for count, one in enumerate(first) if one == request), None)
    else:
        ahead = state.line.ahead_of(request, AHEAD_COUNTED)
    return PlaceFacts(
        key=state.name.key,
        limit=state.limit,
        held=len(state.holders),
        waiting=len(state.waiting),
        ahead=ahead,
        holders=tuple(_holder(one, since_us) for one, since_us in islice(state.holders.items(), HOLDERS_TOLD)),
    )


def _holder(request: str, since_us: int) -> PlaceHolder:
    task_id, step, _ = parse_request(request)
    return PlaceHolder(task_id=task_id, since=to_rfc3339(since_us), step=step or None)
