"""To a task's actor: what would another run of you take over?

The new task has an id in the slot of the old one (`ids.restart_id_of`), so the shard's owner has both, and whatever
repeats the command makes the same task.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tasker.errors import BodyInvalid, CommandRejected, FieldError, TaskerError
from tasker.events.messages import TaskCreate, TaskRestart
from tasker.service.actors.entrances.requests import check_version
from tasker.service.domain.repairs.restart import Original, original_of
from tasker.service.domain.state import TaskState
from tasker.service.runtime.actor import Turn
from tasker.templates import CompiledTemplate


def check_restart(command: TaskRestart) -> None:
    """Return when the fields of a `task.restart` may be used.

    Raises:
        BodyInvalid: they may not.
    """
    if command.version is not None:
        check_version(command.version)
        if command.current:
            detail = "say a version, or current, not both"
            raise BodyInvalid(detail, errors=(FieldError("/current", detail),))


def restart_of(command: TaskRestart, original: Original) -> TaskCreate:
    """Return what creates the new task."""
    version = None if command.current else command.version or original.template.version
    return TaskCreate(
        template=original.template.name,
        namespace=original.template.namespace,
        version=version,
        input=original.input,
        tags=original.tags,
        metadata={} if original.metadata is None else msgspec.json.decode(original.metadata),
        timeout_s=original.timeout_s,
        priority=original.priority,
        requested_by=command.requested_by,
        reason=command.reason,
        correlation_id=command.correlation_id,
        dry_run=command.dry_run,
    )


class OriginalMessage:
    """The question; `answered` gets the answer once all that it rests on is durable."""

    __slots__ = ("answered", "fail", "tenant")

    def __init__(
        self, *, tenant: str, answered: Callable[[Original], None], fail: Callable[[TaskerError], None]
    ) -> None:
        self.tenant = tenant
        self.answered = answered
        self.fail = fail

    def turn(self, state: TaskState, template: CompiledTemplate) -> Turn:
        """Return the answer from `state`."""
        try:
            original = original_of(state, template)
        except CommandRejected as refusal:
            return Turn.refusal(refusal, self.fail)
        return Turn.answer(lambda _: self.answered(original), self.fail)
