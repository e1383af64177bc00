"""What a schedule is asked: commands with every time, and everything that others know, inside them."""

from __future__ import annotations

from typing import Literal

import msgspec

from tasker.events.schedule_events import BackfillOverlap, ScheduleSpec


class AskedOfSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """What every command carries: `at_us`, the time at which it is decided."""

    at_us: int


class CreateSchedule(AskedOfSchedule, frozen=True, kw_only=True):
    """Begin the schedule."""

    namespace: str
    name: str
    spec: ScheduleSpec


class UpdateSchedule(AskedOfSchedule, frozen=True, kw_only=True):
    """Give it another document."""

    spec: ScheduleSpec


class PauseSchedule(AskedOfSchedule, frozen=True, kw_only=True):
    """Let fire times start nothing."""

    note: str | None = None


class ResumeSchedule(AskedOfSchedule, frozen=True, kw_only=True):
    """Let them count again."""

    note: str | None = None


class TriggerSchedule(AskedOfSchedule, frozen=True, kw_only=True):
    """Start a task now; `command_id` names it."""

    command_id: str


class BackfillSchedule(AskedOfSchedule, frozen=True, kw_only=True):
    """Start the tasks of past fire times."""

    start_us: int
    end_us: int
    overlap: BackfillOverlap


class StopBackfill(AskedOfSchedule, frozen=True, kw_only=True):
    """Let the open backfills start nothing more; `end_us`: only those up to this end."""

    end_us: int | None


class DeleteSchedule(AskedOfSchedule, frozen=True, kw_only=True):
    """End the schedule."""


class GoOn(AskedOfSchedule, frozen=True, kw_only=True):
    """Do what is due. `ended` are those of the tasks that ran which their owners say have ended."""

    ended: frozenset[str] = frozenset()


class NoteStarted(AskedOfSchedule, frozen=True, kw_only=True):
    """The owner of a fire's task has it."""

    task_id: str
    duplicate: bool


class NoteRefused(AskedOfSchedule, frozen=True, kw_only=True):
    """The owner of a fire's task refused it for good."""

    task_id: str
    code: str
    detail: str


class ReconcileSchedule(AskedOfSchedule, frozen=True, kw_only=True):
    """The owner of the shard found that these obligations, if they are open, would never have been seen to."""

    lost: Literal["forgotten", "not_woken"]
    obligations: tuple[str, ...]


AnyScheduleCommand = (
    CreateSchedule
    | UpdateSchedule
    | PauseSchedule
    | ResumeSchedule
    | TriggerSchedule
    | BackfillSchedule
    | StopBackfill
    | DeleteSchedule
    | GoOn
    | NoteStarted
    | NoteRefused
    | ReconcileSchedule
)
