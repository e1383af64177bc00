"""A schedule's document checked, with every fault at once, and turned into its stored form and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from tasker.errors import FieldError, ScheduleInvalid
from tasker.events.codec import INPUT_BYTES_MAX
from tasker.events.envelope import US_PER_S
from tasker.events.messages import ScheduleDocument
from tasker.events.schedule_events import ScheduleSpec
from tasker.ids import NAME_PATTERN, fault_of_tag, is_name
from tasker.schedules.fire_times import CRON_ALIASES, TIME_US_MAX, cron_of, next_fire, time_text
from tasker.times import from_rfc3339

CRON_CHARS_MAX: Final = 256
CRON_FIELDS: Final = 5
EVERY_S_MIN: Final = 1.0
DURATION_S_MAX: Final = 10 * 366 * 86_400.0
TIMES_MAX: Final = 1_000
TAGS_MAX: Final = 31
"""One less than a task's: the tag `schedule` is added."""

VERSION_CHARS_MAX: Final = 128
TIME_KEY_CHARS_MAX: Final = 128
FIRES_MAX: Final = 2**53
_SOME_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)


def spec_of(document: ScheduleDocument) -> ScheduleSpec:
    """Return the stored form of `document`.

    Raises:
        ScheduleInvalid: it has faults; `errors` names each with its place.
    """
    faults = Faults()
    _check_task(document, faults)
    every_us = _check_when(document, faults)
    at_us = tuple(sorted({us for index, text in enumerate(document.at) if (us := faults.time(f"/at/{index}", text))}))
    start_us = None if document.start_at is None else faults.time("/start_at", document.start_at)
    end_us = None if document.end_at is None else faults.time("/end_at", document.end_at)
    if start_us is not None and end_us is not None and end_us <= start_us:
        faults.add("/end_at", "the end lies behind the start")
    faults.within("/jitter_s", document.jitter_s, 0.0, DURATION_S_MAX)
    faults.within("/catch_up_s", document.catch_up_s, 0.0, DURATION_S_MAX)
    if document.fires_max is not None and not 1 <= document.fires_max <= FIRES_MAX:
        faults.add("/fires_max", "at least 1")
    faults.raise_any()
    return ScheduleSpec(
        template=document.template,
        version=document.version,
        input=document.input,
        tags=document.tags,
        timeout_s=document.timeout_s,
        time_key=document.time_key,
        cron=None if document.cron is None else " ".join(document.cron.split()),
        timezone=document.timezone,
        every_us=every_us,
        at_us=at_us,
        jitter_s=document.jitter_s,
        start_us=start_us,
        end_us=end_us,
        fires_max=document.fires_max,
        overlap=document.overlap,
        catch_up_s=document.catch_up_s,
    )


def document_of(spec: ScheduleSpec) -> ScheduleDocument:
    """Return the document that `spec` is the stored form of."""
    return ScheduleDocument(
        template=spec.template,
        version=spec.version,
        input=spec.input,
        tags=spec.tags,
        timeout_s=spec.timeout_s,
        time_key=spec.time_key,
        cron=spec.cron,
        timezone=spec.timezone,
        every_s=None if spec.every_us is None else spec.every_us / US_PER_S,
        at=tuple(map(time_text, spec.at_us)),
        jitter_s=spec.jitter_s,
        start_at=None if spec.start_us is None else time_text(spec.start_us),
        end_at=None if spec.end_us is None else time_text(spec.end_us),
        fires_max=spec.fires_max,
        overlap=spec.overlap,
        catch_up_s=spec.catch_up_s,
    )


def check_fires(spec: ScheduleSpec, after_us: int) -> int:
    """Return the first fire time behind `after_us`.

    Raises:
        ScheduleInvalid: there is none.
    """
    found = next_fire(spec, after_us)
    if found is None:
        place = "/cron" if spec.cron is not None else "/at" if spec.at_us else "/end_at"
        detail = "no fire time lies ahead; it would never start a task"
        raise ScheduleInvalid(f"{place}: {detail}", errors=(FieldError(place, detail),))
    return found


class Faults:
    """Gathers the faults of a document."""

    def __init__(self) -> None:
        self._found: list[FieldError] = []

    def add(self, pointer: str, detail: str) -> None:
        """Note one."""
        self._found.append(FieldError(pointer, detail))

    def within(self, pointer: str, value: float, least: float, most: float) -> bool:
        """Return whether a number lies within its bounds; note it when it does not."""
        fine = math.isfinite(value) and least <= value <= most
        if not fine:
            self.add(pointer, f"a number of seconds from {least:g} to {most:.0f}")
        return fine

    def time(self, pointer: str, text: str) -> int | None:
        """Return the time that `text` names; note it when there is none."""
        try:
            at_us = from_rfc3339(text)
        except (ValueError, OverflowError):
            at_us = -1
        if 0 < at_us < TIME_US_MAX:
            return at_us
        self.add(pointer, f"{text[:40]!r} is no RFC 3339 time with a zone, from 1970 to 3000")
        return None

    def raise_any(self) -> None:
        """Return when there were none.

        Raises:
            ScheduleInvalid: with all of them.
        """
        if self._found:
            told = "; ".join(f"{one.pointer}: {one.detail}" if one.pointer else one.detail for one in self._found)
            raise ScheduleInvalid(told, errors=tuple(self._found))


def _check_task(document: ScheduleDocument, faults: Faults) -> None:
    if not is_name(document.template):
        faults.add("/template", f"a template's name matches {NAME_PATTERN}")
    if document.version is not None and not 1 <= len(document.version) <= VERSION_CHARS_MAX:
        faults.add("/version", f"a version has 1 to {VERSION_CHARS_MAX} characters")
    if len(document.tags) > TAGS_MAX:
        faults.add("/tags", f"at most {TAGS_MAX} tags")
    for key, value in document.tags.items():
        if (fault := fault_of_tag(key, value)) is not None:
            faults.add("/tags", fault)
            break
    if document.timeout_s is not None and not (
        math.isfinite(document.timeout_s) and 0 < document.timeout_s <= DURATION_S_MAX
    ):
        faults.add("/timeout_s", f"a timeout is above 0 and at most {DURATION_S_MAX:.0f} s")
    if len(bytes(document.input)) > INPUT_BYTES_MAX:
        faults.add("/input", f"at most {INPUT_BYTES_MAX} bytes")
    if document.time_key is not None:
        if not 1 <= len(document.time_key) <= TIME_KEY_CHARS_MAX:
            faults.add("/time_key", f"1 to {TIME_KEY_CHARS_MAX} characters")
        if not isinstance(msgspec.json.decode(bytes(document.input) or b"null"), dict):
            faults.add("/input", "an object, so that `time_key` has a place in it")


def _check_when(document: ScheduleDocument, faults: Faults) -> int | None:
    """Return `every_s` in microseconds."""
    given = [
        name
        for name, value in (("cron", document.cron), ("every_s", document.every_s), ("at", document.at or None))
        if value is not None
    ]
    if len(given) != 1:
        faults.add("", f"one of cron, every_s and at, not {' and '.join(given) or 'none'}")
    has_zone = _check_zone(document.timezone, faults.add)
    if document.cron is not None:
        _check_cron(document.cron, document.timezone if has_zone else "UTC", faults.add)
    elif document.timezone != "UTC":
        faults.add("/timezone", "a time zone is for cron; times of `at` have their own, `every_s` needs none")
    if len(document.at) > TIMES_MAX:
        faults.add("/at", f"at most {TIMES_MAX} times")
    if document.every_s is None or not faults.within("/every_s", document.every_s, EVERY_S_MIN, DURATION_S_MAX):
        return None
    return round(document.every_s * US_PER_S)


def _check_zone(name: str, add: Callable[[str, str], None]) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        add("/timezone", f"{name[:80]!r} is no name of the IANA time-zone database, such as Europe/Zurich")
        return False
    return True


def _check_cron(text: str, timezone: str, add: Callable[[str, str], None]) -> None:
    cron = cron_of(text)
    if len(cron) > CRON_CHARS_MAX or len(cron.split()) != CRON_FIELDS:
        add("/cron", f"five fields (minute hour day month weekday), or one of {', '.join(CRON_ALIASES)}")
        return
    try:
        CronSim(cron, _SOME_TIME.astimezone(ZoneInfo(timezone)))
    except (CronSimError, ValueError, AssertionError, TypeError) as error:
        add("/cron", f"{cron!r}: {str(error)[:200] or 'this is no cron expression'}")
