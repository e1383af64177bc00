"""How times are written. They are whole microseconds since the Unix epoch, UTC, as an `int`.

Integers compare and add exactly, cost nothing to store in an event and cannot carry a wrong zone.
Text on the wire is RFC 3339 with a `Z`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(at_us: int) -> datetime:
    """Return `at_us` as an aware UTC datetime, exact to the microsecond."""
    return _EPOCH + timedelta(microseconds=at_us)


def from_datetime(at: datetime) -> int:
    """Return an aware datetime in microseconds since the Unix epoch."""
    return (at - _EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=256)
def to_rfc3339(at_us: int) -> str:
    """Return `at_us` as RFC 3339 text with six decimals and `Z`: sorts as text like it does in time."""
    second, us = divmod(at_us, 1_000_000)
    return f"{_second_text(second)}.{us:06d}Z"


def to_rfc3339_if(at_us: int | None) -> str | None:
    """Return `to_rfc3339` of a time that there may be."""
    return None if at_us is None else to_rfc3339(at_us)


@lru_cache(maxsize=256)
def _second_text(second: int) -> str:
    return f"{_EPOCH + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}"


def from_rfc3339(text: str) -> int:
    """Return the microseconds since the epoch that an RFC 3339 `text` names.

    Raises:
        ValueError: it is no RFC 3339 time, has no zone, or none that can be written in UTC.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        message = f"{text!r} has no time zone"
        raise ValueError(message)
    try:
        return from_datetime(at.astimezone(UTC))
    except OverflowError:
        message = f"{text!r} lies outside the years 1 to 9999 in UTC"
        raise ValueError(message) from None
