"""Commands to tasks."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tasker.events.messages.command import Command, TaskOperatorCommand
from tasker.events.messages.fields import EventName, Key, Name, Time
from tasker.events.task_events import NULL

CANCEL_GRACE_S: Final = 10.0


class TaskCreate(Command, kw_only=True, omit_defaults=True):
    """`task.create`: start a task of a template.

    Attributes:
        version: of the template; None: the one in use.
        input: any JSON value; checked against the template's schema.
        idempotency_key: names the task; a repetition with the same request answers `duplicate`.
        tags: for lists and filters; at most 32, keys and values at most 128 characters.
        metadata: a JSON object to keep with the task; at most 16 KiB.
        not_before: RFC 3339; no step starts earlier.
        timeout_s: the task fails when it has not ended so long after its creation.
        priority: -100 to 100: where workers are short, work of a higher one begins first; None: the template's.
        dry_run: only answer what would happen (`would`), after the same checks; nothing is recorded.
    """

    template: Name
    namespace: Name = "default"
    version: str | None = None
    input: msgspec.Raw = NULL
    idempotency_key: Key | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    not_before: Time | None = None
    timeout_s: float | None = None
    priority: int | None = None
    dry_run: bool = False


class TaskCancel(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.cancel`: end a task. Running handlers are told and have `grace_s` to stop."""

    grace_s: float = CANCEL_GRACE_S


class TaskComplete(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.complete`: end a task as completed, with a result of yours, whatever its steps have done.

    Running handlers are told and have `grace_s` to stop. Nothing is undone.

    Attributes:
        result: any JSON value, null too; it has to be said, for the task is over with it.
    """

    result: msgspec.Raw
    grace_s: float = CANCEL_GRACE_S


class TaskFail(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.fail`: end a task as failed, with an error of yours. It compensates as any task that fails.

    Attributes:
        message: of the error; its type is `failed_by_operator`.
    """

    message: str
    grace_s: float = CANCEL_GRACE_S


class TaskUpdate(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.update`: change what a task is labelled with, or its priority.

    Attributes:
        tags: those to set; null removes one.
        metadata: a JSON merge patch (RFC 7396) of its metadata: members to set; null removes one.
        priority: -100 to 100; work of it that waits gets its new place at once. None: as it is.
    """

    tags: dict[str, str | None] = msgspec.field(default_factory=dict)
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    priority: int | None = None


class TaskDeadline(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.deadline`: give a task another deadline, at which it fails unless it has ended.

    Attributes:
        deadline: RFC 3339. within_s: so long from now on. remove: it has none any more. One of the three is given.
    """

    deadline: Time | None = None
    within_s: float | None = None
    remove: bool = False


class TaskRestart(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.restart`: run a task that has ended once more, as a new task with its input, tags, priority and the like.

    It takes over metadata and timeout as well. The answer's `task_id` is the new task's, which names the old one as
    `restarted_from`.

    Attributes:
        version: of the template; None: the one that the old task ran.
        current: the version that is in use now.
    """

    version: str | None = None
    current: bool = False


class TaskRetry(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.retry`: give every failed step of a blocked task a fresh set of attempts."""


class TaskPause(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.pause`: let nothing more of a task begin. Attempts that run go on, and their outcomes are recorded.

    Attributes:
        children: nor of its child tasks, and theirs; of those that it waits for, and does not abandon.
    """

    children: bool = False


class TaskResume(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.resume`: let a paused task go on from where it stands.

    Attributes:
        children: and its child tasks, and theirs, that are paused with it.
        paused_by: only when the command of this id paused it; None: whoever did.
    """

    children: bool = False
    paused_by: Key | None = None


class TaskBudget(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.budget`: let a task use more than its template's budget allows; blocked by that, it goes on.

    Attributes:
        cost_max: decimal text, in the currency of the template's budget; all that the task may cost. None: as it is.
        tokens_max: of all models together, from the task's beginning. None: as it is.
        running_s_max: how long a worker may run at least one of its steps, from the task's beginning. None: as it is.
    """

    cost_max: str | None = None
    tokens_max: int | None = None
    running_s_max: float | None = None


class TaskSignal(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.signal`: bring a task a signal, for a step that waits for one of its name, now or later.

    A repetition with the same `command_id` is the same signal, for as long as the task is.

    Attributes:
        name: as a step of the template has it (`signal`); another is refused.
        value: any JSON value; checked against the schema of the signal.
    """

    name: EventName
    value: msgspec.Raw = NULL
