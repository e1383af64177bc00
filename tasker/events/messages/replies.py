"""What the service answers."""

from __future__ import annotations

from typing import Literal

import msgspec

from tasker.errors import Problem


class WouldHappen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that a dry run foresees.

    Attributes:
        event: its type. steps: those that it is about; () when it is about all of what the command names.
        fires: of a backfill, and of fire times that start nothing: how many there are; None: more than are counted.
    """

    event: str
    steps: tuple[str, ...] = ()
    fires: int | None = None


class BulkMatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of what a bulk would be for; `step` is that of a dead letter."""

    task_id: str
    namespace: str
    template: str
    state: str
    step: str = ""


class Accepted(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A command was recorded (or, `duplicate`, had been); after a dry run nothing was.

    Attributes:
        position: token at or after which reads show it.
        task_id: of commands to tasks, and of `schedule.trigger`.
        debounced: of `task.create`: the task of an earlier start begins later, with this input (see `debounce`).
        template: of commands to templates: namespace, name, version and hash.
        schedule: of commands to schedules: namespace and name.
        would: of a dry run: the events that the command would cause, in order; () when it would change nothing.
        matched, sample: of the dry run of a bulk: how many there are now, and the first of them.
        would_refuse: of the same: how many of them are in a state in which the command is refused; others may, too.
    """

    ok: Literal[True]
    task_id: str | None = None
    position: str | None = None
    duplicate: bool = False
    template: dict[str, str] | None = None
    schedule: dict[str, str] | None = None
    dry_run: bool = False
    would: tuple[WouldHappen, ...] = ()
    matched: int | None = None
    would_refuse: int | None = None
    sample: tuple[BulkMatch, ...] = ()
    debounced: bool = False


class Refused(msgspec.Struct, kw_only=True):
    """A command was not recorded; `error` is the RFC 9457 problem."""

    ok: Literal[False]
    error: Problem


class Reply(msgspec.Struct, kw_only=True):
    """Either, as a caller decodes it."""

    ok: bool
    task_id: str | None = None
    position: str | None = None
    duplicate: bool = False
    template: dict[str, str] | None = None
    schedule: dict[str, str] | None = None
    dry_run: bool = False
    would: tuple[WouldHappen, ...] = ()
    matched: int | None = None
    would_refuse: int | None = None
    sample: tuple[BulkMatch, ...] = ()
    debounced: bool = False
    error: Problem | None = None


class RefusedCommand(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A submitted command that was refused, as the list of refusals keeps it.

    Attributes:
        submitted: the sequence of its message in the stream of commands.
        submitted_at: when the stream took it.
        item: its place in the message, when that is an array.
        key: what names the command where its message's headers do.
        body: the beginning of the command.
    """

    tenant: str
    verb: str
    submitted: int
    submitted_at: str
    error: Problem
    item: int | None = None
    key: str | None = None
    body: str = ""
