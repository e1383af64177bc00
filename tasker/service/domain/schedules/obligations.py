"""What a schedule still owes the world, each with an id and a time.

| kind           | opened by                     | at                  | when the time comes                   |
|----------------|-------------------------------|---------------------|---------------------------------------|
| `fire`         | a next fire time              | when that is due    | it is handled, and later ones due     |
| `go_on`        | a fire that waits, a backfill | at once, or a check | it starts, or the task is asked after |
| `start:<task>` | a fire                        | at once             | the task's owner is told (again)      |
"""

from __future__ import annotations

from typing import Final

from tasker.service.domain.schedules.state import ScheduleState, ScheduleStatus

FIRE: Final = "fire"
GO_ON: Final = "go_on"
START: Final = "start"


def schedule_obligations(state: ScheduleState) -> dict[str, int]:
    """Return everything the schedule owes: obligation -> time in microseconds."""
    found = {f"{START}:{task_id}": start.fired_us for task_id, start in state.starting.items()}
    active = state.status is ScheduleStatus.ACTIVE
    if active and state.due_us is not None:
        found[FIRE] = state.due_us
    if state.backfills or (active and state.buffered):
        found[GO_ON] = state.go_on_us
    return found


def task_of_start(obligation: str) -> str | None:
    """Return the task whose start is owed; None: it is another obligation."""
    kind, _, task_id = obligation.partition(":")
    return task_id if kind == START else None
