"""What a caller hands in and gets back: a task to create, the handle of one that was accepted."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol, TypedDict, overload, runtime_checkable
from urllib.parse import quote
from uuid import UUID

import msgspec

from tasker.errors import TaskUnknown, ValueInvalid
from tasker.events.codec import encode_value
from tasker.events.messages import Command, Reply, TaskCreate
from tasker.events.reads import TaskView
from tasker.ids import IdSource
from tasker.times import from_datetime, to_rfc3339

PAGE_ITEMS: Final = 100
"""Items that a list asks for at a time."""


@runtime_checkable
class NamedTemplate(Protocol):
    """Anything that says which template it is, such as the SDK's `Template`."""

    @property
    def name(self) -> str:
        """Return the template's name."""
        ...

    @property
    def namespace(self) -> str:
        """Return its namespace."""
        ...


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create.

    Attributes:
        template: its name, or an object that has `name` and `namespace`.
        input: whatever has an exact JSON form (msgspec structs and dataclasses too).
        version: None: the one in use.
        idempotency_key: names the task for ever. None: the client draws one for its own retries.
        tags: for lists and filters. metadata: a JSON object to keep with the task.
        not_before: no step starts earlier; a datetime needs a zone.
        timeout_s: the task fails when it has not ended so long after its creation.
        priority: -100 to 100: where workers are short, work of a higher one begins first; None: the template's.
    """

    template: str | NamedTemplate
    input: object = None
    _: KW_ONLY
    namespace: str | None = None
    version: str | None = None
    idempotency_key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    not_before: datetime | str | None = None
    timeout_s: float | None = None
    priority: int | None = None
    correlation_id: str | None = None
    requested_by: str | None = None
    reason: str | None = None

    def command(self, ids: IdSource) -> TaskCreate:
        """Return the wire's form, with a key from `ids` where the caller gave none.

        Raises:
            ValueInvalid, BodyTooLarge: the input cannot be sent.
        """
        if isinstance(self.template, str):
            name, namespace = self.template, self.namespace or "default"
        else:
            name, namespace = self.template.name, self.namespace or self.template.namespace
        return TaskCreate(
            template=name,
            namespace=namespace,
            version=self.version,
            input=msgspec.Raw(encode_value(self.input)),
            idempotency_key=f"drawn-{ids.token()}" if self.idempotency_key is None else self.idempotency_key,
            tags=dict(self.tags),
            metadata=dict(self.metadata),
            not_before=rfc3339_of(self.not_before, "not_before"),
            timeout_s=self.timeout_s,
            priority=self.priority,
            correlation_id=self.correlation_id,
            requested_by=self.requested_by,
            reason=self.reason,
        )


class TaskHandle(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task that the service accepted: it is in the log.

    Attributes:
        position: reads at or after it show the task.
        duplicate: the key named a task that was there already (also when an own lost answer was asked for again).
        debounced: the task of an earlier start begins later, with this input (see `debounce` of templates).
        task: how the task was when `wait_s` of its creation ended; None when that was not asked, or not over by then.
    """

    task_id: str
    template: str
    namespace: str
    idempotency_key: str
    position: str | None = None
    duplicate: bool = False
    debounced: bool = False
    task: TaskView | None = None


class OperatorOptions(TypedDict, total=False):
    """What every command to a task, a step, a schedule or a template takes.

    Attributes:
        reason: why, kept in the event.
        requested_by: who asks, kept in the event.
        command_id: names the command, so that a repetition is the same one; drawn when absent.
        dry_run: only answer what would happen.
    """

    reason: str | None
    requested_by: str | None
    command_id: str | None
    dry_run: bool


SendCommand = Callable[[str, Command], Coroutine[Any, Any, Reply]]
"""Takes a verb and a command, which carries a key; returns its acceptance. A refusal is raised."""

_NO_SEGMENTS: Final = frozenset({"", ".", ".."})
"""What would lead a request to another place."""

TaskRef = TaskHandle | TaskView | UUID | str
"""How a task is named: what was returned for it, or its id."""


def command_id_of(given: str | None, ids: IdSource) -> str:
    """Return what names a command: what the caller gave, also "", which the service refuses; else one from `ids`."""
    return ids.token() if given is None else given


def named(options: OperatorOptions, ids: IdSource) -> OperatorOptions:
    """Return `options` with the id that makes a repetition the same command."""
    return {**options, "command_id": command_id_of(options.get("command_id"), ids)}


def texts_of(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return what a filter asks for, of which a caller may give one as it is."""
    return (given,) if isinstance(given, str) else tuple(given or ())


def task_id_of(task: TaskRef) -> str:
    """Return the id of `task`.

    Raises:
        TaskUnknown: it is none, nor a part of a path.
    """
    found = task.task_id if isinstance(task, (TaskHandle, TaskView)) else str(task)
    if found in _NO_SEGMENTS:
        raise TaskUnknown(f"{found!r} is no task id")
    return found


def position_of(task: TaskRef) -> str | None:
    """Return the position at or after which reads show what the caller knows of `task`."""
    return task.position if isinstance(task, (TaskHandle, TaskView)) else None


def handle_of(command: TaskCreate, reply: Reply) -> TaskHandle:
    """Return the handle that `reply`, an acceptance of `command`, gives."""
    return TaskHandle(
        task_id=reply.task_id or "",
        template=command.template,
        namespace=command.namespace,
        idempotency_key=command.idempotency_key or "",
        position=reply.position,
        duplicate=reply.duplicate,
        debounced=reply.debounced,
    )


@overload
def rfc3339_of(at: datetime | str, what: str) -> str: ...
@overload
def rfc3339_of(at: datetime | str | None, what: str) -> str | None: ...
def rfc3339_of(at: datetime | str | None, what: str) -> str | None:
    """Return a time as the wire has it.

    Raises:
        ValueInvalid: it has no time zone.
    """
    if not isinstance(at, datetime):
        return at
    return to_rfc3339(time_us_of(at, what))


def time_us_of(at: datetime, what: str) -> int:
    """Return a time in microseconds since the epoch.

    Raises:
        ValueInvalid: it has no time zone.
    """
    if at.tzinfo is None:
        raise ValueInvalid(f"{what} {at.isoformat()} has no time zone")
    return from_datetime(at)


def segment(text: str) -> str:
    """Return `text` as one segment of a path."""
    return quote(text, safe="")
