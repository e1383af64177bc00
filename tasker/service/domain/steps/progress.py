"""The last progress that an attempt told goes into the log, with its outcome; all before it is live alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tasker.events.task_events import AnyTaskEvent, ProgressRecorded, StepAttemptFailed, StepCompleted, StepYielded
from tasker.service.domain.commands import OUTCOMES, AnyTaskCommand

MESSAGE_CHARS_MAX: Final = 200


def with_progress(command: AnyTaskCommand, events: Iterable[AnyTaskEvent]) -> Iterable[AnyTaskEvent]:
    """Return `events` with the attempt's last progress, right before its outcome."""
    if type(command) not in OUTCOMES:
        return events
    told = command.progress  # type: ignore[union-attr] # as the set says
    if told is None:
        return events
    kept = tuple(events)
    for index, event in enumerate(kept):
        if isinstance(event, (StepCompleted, StepAttemptFailed, StepYielded)):
            recorded = ProgressRecorded(
                step=event.step,
                attempt=event.attempt,
                done=told.done,
                total=told.total,
                message=told.message[:MESSAGE_CHARS_MAX].replace("\0", "\ufffd"),
            )
            return (*kept[:index], recorded, *kept[index:])
    return kept
