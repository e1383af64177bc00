"""The task that a fire starts: its key, its input, its tags."""

from __future__ import annotations

from typing import Final

import msgspec

from tasker.events.codec import canonical, decode_value
from tasker.events.schedule_events import ScheduleSpec
from tasker.ids import digest_of
from tasker.schedules.fire_times import time_text

SCHEDULE_TAG: Final = "schedule"


def key_of_fire(name: str, fire_us: int) -> str:
    """Return the idempotency key of the task of a fire time: whoever starts it, it is one task."""
    return f"schedule:{name}:{time_text(fire_us)}"


def key_of_trigger(name: str, command_id: str) -> str:
    """Return the idempotency key of the task that a `schedule.trigger` starts: one a command."""
    return f"schedule:{name}:trigger:{digest_of(command_id.encode()).hex()[:32]}"


def input_of(spec: ScheduleSpec, fire_us: int) -> msgspec.Raw:
    """Return the input of a fire's task, in canonical form."""
    if spec.time_key is None:
        return spec.input
    value = decode_value(bytes(spec.input))
    assert isinstance(value, dict)  # noqa: S101 - the document was checked
    return msgspec.Raw(canonical({**value, spec.time_key: time_text(fire_us)}))


def tags_of(spec: ScheduleSpec, name: str) -> dict[str, str]:
    """Return the tags of a schedule's task."""
    return {SCHEDULE_TAG: name, **spec.tags}
