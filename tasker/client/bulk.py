"""One command for everything that matches: `client.bulk`. A task of the service's own does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol, TypedDict, Unpack

import msgspec

from tasker.client.requests import SendCommand, TaskHandle, TaskRef, command_id_of, rfc3339_of, texts_of
from tasker.errors import DeadlineExceeded, StateForbids
from tasker.events.bulk import BulkOutcome
from tasker.events.codec import decode_message
from tasker.events.messages import (
    BULK_RATE_PER_S,
    BulkCreate,
    BulkDeadLetters,
    BulkMatch,
    BulkTasks,
    BulkVerb,
)
from tasker.events.reads import StepView, TaskView
from tasker.ids import RESERVED_NAMESPACE, IdSource
from tasker.templates.built_in import BULK

LOOK_S: Final = 0.5
"""How often a wait with a progress looks how far a bulk is."""

OnProgress = Callable[[int, int], None]
"""Takes how many are over, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks; all of what is given must hold.

    Attributes:
        states: one, or any of several; none: those to which the command makes sense.
        created_after, created_before: the first included, the second not; a datetime needs a zone.
    """

    states: str | Sequence[str] = ()
    namespace: str | None = None
    template: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | str | None = None
    created_before: datetime | str | None = None

    def wire(self) -> BulkTasks:
        """Return the wire's form.

        Raises:
            ValueInvalid: a time has no zone.
        """
        return BulkTasks(
            states=texts_of(self.states),
            namespace=self.namespace,
            template=self.template,
            tags=dict(self.tags),
            created_after=rfc3339_of(self.created_after, "created_after"),
            created_before=rfc3339_of(self.created_before, "created_before"),
        )


EVERY_TASK: Final = TaskFilter()
"""No filter at all."""


class BulkOptions(TypedDict, total=False):
    """What every bulk takes.

    Attributes:
        arguments: the command's further fields, such as `grace_s` of `task.cancel`.
        rate_per_s: so many commands a second at most.
        command_id: names the bulk, so that a repetition is the same one; drawn when absent.
    """

    arguments: Mapping[str, Any]
    rate_per_s: float
    command_id: str | None


class BulkPreview(NamedTuple):
    """What a bulk would be for now: how many, and the first of them.

    Attributes:
        would_refuse: how many of them are in a state in which the command is refused; others may refuse it, too.
    """

    matched: int
    sample: tuple[BulkMatch, ...]
    would_refuse: int = 0


class LetterFilter(Protocol):
    """A filter of dead letters (`DeadLetterFilter` is one)."""

    def wire(self) -> BulkDeadLetters:
        """Return the wire's form."""
        ...


class Waits(Protocol):
    """Waits for the end of a task."""

    async def __call__(self, task: TaskRef, *, timeout_s: float | None = None) -> TaskView:
        """Return the task once it has ended or is blocked."""
        ...


class StepsOf(Protocol):
    """Reads the steps of a task."""

    async def __call__(self, task: TaskRef) -> Sequence[StepView]:
        """Return them."""
        ...


class Bulks:
    """Bulks of a client's tenant. Each says who asks and why: both are kept with every effect."""

    def __init__(self, send: SendCommand, wait: Waits, steps: StepsOf, ids: IdSource) -> None:
        self._send = send
        self._wait = wait
        self._steps = steps
        self._ids = ids

    async def preview(
        self,
        verb: BulkVerb,
        wanted: TaskFilter | LetterFilter,
        *,
        requested_by: str,
        reason: str,
        **options: Unpack[BulkOptions],
    ) -> BulkPreview:
        """Return what `start` would be for, after the same checks; nothing is recorded.

        Raises:
            BodyInvalid: a field may not be used.
        """
        command = self._order(verb, wanted, requested_by, reason, options)
        command.dry_run = True
        reply = await self._send("bulk.create", command)
        return BulkPreview(reply.matched or 0, reply.sample, reply.would_refuse or 0)

    async def start(
        self,
        verb: BulkVerb,
        wanted: TaskFilter | LetterFilter,
        *,
        requested_by: str,
        reason: str,
        **options: Unpack[BulkOptions],
    ) -> TaskHandle:
        """Have a command given to everything that matches and was there before; returns the task that does it.

        The task can be waited for, cancelled and paused like any other. A target that does not take the command is
        counted and listed in its result.

        Raises:
            BodyInvalid: a field may not be used. KeyConflict: `command_id` named another bulk.
        """
        command = self._order(verb, wanted, requested_by, reason, options)
        reply = await self._send("bulk.create", command)
        return TaskHandle(
            task_id=reply.task_id or "",
            template=BULK,
            namespace=RESERVED_NAMESPACE,
            idempotency_key=command.command_id or "",
            position=reply.position,
            duplicate=reply.duplicate,
        )

    async def outcome(self, bulk: TaskRef, *, on_progress: OnProgress | None = None) -> BulkOutcome:
        """Return what became of a bulk, once it is over.

        Raises:
            TaskUnknown: there is none. StateForbids: it was cancelled, or is blocked: it says nothing of all of them.
        """
        view = await (self._wait(bulk) if on_progress is None else self._watched(bulk, on_progress))
        if view.state != "completed" or view.result is None:
            why = view.error.message if view.error is not None else view.waiting_on or view.reason or "no reason told"
            raise StateForbids(f"the bulk {view.task_id} is {view.state}: {why}", state=view.state)
        found = decode_message(bytes(view.result), BulkOutcome)
        over = found.done + found.refused
        if on_progress is not None and over:
            on_progress(over, max(found.matched, over))
        return found

    async def run(
        self,
        verb: BulkVerb,
        wanted: TaskFilter | LetterFilter,
        *,
        requested_by: str,
        reason: str,
        on_progress: OnProgress | None = None,
        **options: Unpack[BulkOptions],
    ) -> BulkOutcome:
        """Start a bulk and wait for its outcome; it goes on without us.

        Raises:
            BodyInvalid: a field may not be used. StateForbids: somebody cancelled it.
        """
        bulk = await self.start(verb, wanted, requested_by=requested_by, reason=reason, **options)
        return await self.outcome(bulk, on_progress=on_progress)

    async def _watched(self, bulk: TaskRef, on_progress: OnProgress) -> TaskView:
        while True:
            try:
                return await self._wait(bulk, timeout_s=LOOK_S)
            except DeadlineExceeded:
                for step in await self._steps(bulk):
                    if step.progress is not None and step.progress.total is not None:
                        on_progress(int(step.progress.done), int(step.progress.total))

    def _order(
        self,
        verb: BulkVerb,
        wanted: TaskFilter | LetterFilter,
        requested_by: str,
        reason: str,
        options: BulkOptions,
    ) -> BulkCreate:
        named = wanted.wire()
        is_everything = named == type(named)()
        return BulkCreate(
            verb=verb,
            arguments=msgspec.to_builtins(dict(options.get("arguments", {}))),
            tasks=named if isinstance(named, BulkTasks) and not is_everything else None,
            dead_letters=named if isinstance(named, BulkDeadLetters) and not is_everything else None,
            everything=is_everything,
            rate_per_s=options.get("rate_per_s", BULK_RATE_PER_S),
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(options.get("command_id"), self._ids),
        )
