"""The fire times of a schedule, and when each is due.

Cron is read in the schedule's time zone, as Debian's cron does. A job at a fixed time of day (neither its minutes nor
its hours begin with a star) runs once a day whatever the clocks do: a time that does not exist, because they were put
forward, moves to the first moment behind the gap; one that exists twice, because they were put back, counts the first
time. Every other job (`*/15 * * * *`, `0 * * * *`) follows real time: nothing in the gap, both passes of an overlap.

Jitter is derived from schedule and fire time, so that it is the same whoever works it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim

from tasker.events.envelope import US_PER_S
from tasker.events.schedule_events import ScheduleSpec
from tasker.ids import digest_of
from tasker.times import from_datetime, to_datetime

CRON_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}

TIME_US_MAX: Final = 32_503_680_000 * US_PER_S
"""The year 3000: no fire time lies behind it."""


def fire_times(spec: ScheduleSpec, after_us: int) -> Iterator[int]:
    """Yield the fire times behind `after_us` within the schedule's bounds, ascending."""
    start_us = 0 if spec.start_us is None else spec.start_us
    end_us = TIME_US_MAX if spec.end_us is None else spec.end_us
    for at_us in _unbounded(spec, max(after_us, start_us - 1)):
        if at_us >= end_us:
            return
        yield at_us


def next_fire(spec: ScheduleSpec, after_us: int) -> int | None:
    """Return the first fire time behind `after_us`; None when there is none."""
    return next(fire_times(spec, after_us), None)


def due_us_of(spec: ScheduleSpec, identity: str, fire_us: int) -> int:
    """Return when the fire time of the schedule `identity` is due: at once, or late by its jitter."""
    if not spec.jitter_s:
        return fire_us
    drawn = int.from_bytes(digest_of(b"jitter", identity.encode(), str(fire_us).encode())[:8], "big") / 2**64
    return fire_us + int(drawn * spec.jitter_s * US_PER_S)


def time_text(at_us: int) -> str:
    """Return a time as keys and inputs name it: RFC 3339 in UTC, without a fraction where it is zero."""
    return to_datetime(at_us).isoformat().replace("+00:00", "Z")


def cron_of(text: str) -> str:
    """Return the five fields that `text` is, or is an alias of."""
    return CRON_ALIASES.get(text.strip().lower(), text)


def _unbounded(spec: ScheduleSpec, after_us: int) -> Iterator[int]:
    if spec.cron is not None:
        yield from _cron_times(spec.cron, spec.timezone, after_us)
    elif spec.every_us is not None:
        anchor_us = spec.start_us or 0
        at_us = anchor_us + ((after_us - anchor_us) // spec.every_us + 1) * spec.every_us
        while at_us < TIME_US_MAX:
            yield at_us
            at_us += spec.every_us
    else:
        yield from (at_us for at_us in spec.at_us if at_us > after_us)


def _cron_times(cron: str, timezone: str, after_us: int) -> Iterator[int]:
    zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    last_us = after_us
    for at in CronSim(cron_of(cron), to_datetime(after_us).astimezone(zone)):
        at_us = from_datetime(at)
        if at_us > TIME_US_MAX:
            return
        # Asked from within the second pass of an overlap, the library names times of the first one.
        if at_us > last_us:
            last_us = at_us
            yield at_us
