"""What can happen under one concurrency key: the union stored in the stream of the key.

The `max_running` of a template is such a key, called by that name; the values of an expression never are. So are the
values of its `singleton` and of its `debounce`, behind these words.

A *place* is the right to run under a key, of which there are `limit`. A *request* names who asks for one: a task
(`<task>`) or one attempt of a step instance (`<task>:<step>:<attempt>`). One event tells of many requests: a busy key
is asked, and gives, many places at once.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

REQUESTS_MAX: Final = 500
"""Most requests that one event names."""


class ConcurrencyEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event of a concurrency key is."""


class ConcurrencyKeyOpened(ConcurrencyEvent, frozen=True, kw_only=True):
    """A place under the key was asked for, for the first time.

    Attributes:
        step: of the template whose instances take places; "": its tasks do.
        key: what the expression gave, as text.
    """

    namespace: str
    template: str
    key: str
    step: str = ""


class PlacesAsked(ConcurrencyEvent, frozen=True, kw_only=True):
    """Requests wait for a place, in this order; from now on there are `limit` places.

    Attributes:
        priority: the higher gets its place first.
        share, weight: among those of one priority, whose share of the places they take (absent: that of all without a
            key of fairness), and how large that is.
    """

    requests: tuple[str, ...]
    limit: int
    priority: int = 0
    share: str | None = None
    weight: float = 1.0


class PlacesMoved(ConcurrencyEvent, frozen=True, kw_only=True):
    """Waiting requests have another priority: that of their task was changed."""

    requests: tuple[str, ...]
    priority: int


class PlacesGranted(ConcurrencyEvent, frozen=True, kw_only=True):
    """Waiting requests have a place.

    Attributes:
        beyond: whether or not one is free: they are children of tasks that run, which `max_running` keeps no task from.
    """

    requests: tuple[str, ...]
    beyond: bool = False


class PlacesEvicted(ConcurrencyEvent, frozen=True, kw_only=True):
    """Who has, or waits for, a place is to end and so make room for others.

    Attributes:
        taken_by: the request that they make room for; absent: an earlier version did not say.
    """

    requests: tuple[str, ...]
    taken_by: str | None = None


class PlacesReturned(ConcurrencyEvent, frozen=True, kw_only=True):
    """Requests are over: their places, if they had any, are free."""

    requests: tuple[str, ...]


class StartsMet(ConcurrencyEvent, frozen=True, kw_only=True):
    """Starts met the task that has the place (`singleton`: it runs; `debounce`: it waits for more of them).

    They go to it, and get no place; so does a repeat of them.

    Attributes:
        holder: the request of that task.
    """

    requests: tuple[str, ...]
    holder: str


class ConcurrencyKeyReconciled(ConcurrencyEvent, frozen=True, kw_only=True):
    """What the key owed would never have been seen to, and was brought back; nothing else of it changes.

    Attributes:
        lost: how: `forgotten`: neither memory nor the due rows knew of it; `not_woken`: its time was long over.
        obligations: what was lost: `look`, to ask who holds a place how it stands.
    """

    lost: Literal["forgotten", "not_woken"]
    obligations: tuple[str, ...]


AnyConcurrencyEvent = (
    ConcurrencyKeyOpened
    | PlacesAsked
    | PlacesMoved
    | PlacesGranted
    | PlacesEvicted
    | PlacesReturned
    | StartsMet
    | ConcurrencyKeyReconciled
)
CONCURRENCY_EVENT_TYPES: Final[tuple[type[ConcurrencyEvent], ...]] = get_args(AnyConcurrencyEvent)
