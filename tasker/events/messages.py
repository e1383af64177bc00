"""Wire messages between callers, service and workers. They are sent, never stored.

JSON; the same field names on NATS, HTTP, in the CLI and the SDK. A command refuses fields it does not
know (a typo must not be ignored); reports, work, replies and events ignore them (an older reader must
not break); fields are only ever added. A command or report may be an array, answered by an array in
the same order, each item with its own verdict.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, final

import msgspec

from tasker.errors import Problem
from tasker.events.control_events import ControlScope, LimitScope
from tasker.events.schedule_events import CATCH_UP_S, BackfillOverlap, Overlap
from tasker.events.task_events import NULL, Choice, ErrorInfo, OptionalRaw
from tasker.ids import EVENT_NAME_PATTERN, INSTANCE_PATTERN, KEY_CHARS_MAX, NAME_PATTERN, PERSON_CHARS_MAX
from tasker.settings import Settings

# ---------------------------------------------------------------- headers

HEADER_IDEMPOTENCY_KEY: Final = "Idempotency-Key"
"""Carries a command's key beside the body's field; two that differ are `key_ambiguous`."""

HEADER_MESSAGE_ID: Final = "Nats-Msg-Id"
HEADER_TRACEPARENT: Final = "traceparent"

HEADER_REPLY_TO: Final = "Tasker-Reply-To"
"""Of a submitted command: the subject that gets its verdict."""

HEADER_SUBMITTED: Final = "Tasker-Submitted"
"""Of such a verdict: the sequence that the stream's ack named."""
# What the service checks of a text beyond its type; said here for the contracts, not checked in decoding.
Name = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{NAME_PATTERN}$"})]
EventName = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^(?:{EVENT_NAME_PATTERN})$"})]
Key = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": KEY_CHARS_MAX})]
StepInstance = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{INSTANCE_PATTERN}$"})]
Person = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": PERSON_CHARS_MAX})]
Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
Id = Annotated[str, msgspec.Meta(extra_json_schema={"format": "uuid"})]

DEFAULT_TENANT: Final = Settings().tenant
CANCEL_GRACE_S: Final = 10.0


# ---------------------------------------------------------------- commands


class Command(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all commands may say.

    Attributes:
        requested_by, reason: who asks and why; kept with the events that the command causes.
    """

    requested_by: str | None = None
    reason: str | None = None
    correlation_id: str | None = None


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
    """

    template: Name
    namespace: Name = "default"
    version: str | None = None
    input: msgspec.Raw = NULL
    idempotency_key: Key | None = None
    tags: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    not_before: Time | None = None
    timeout_s: float | None = None
    priority: int | None = None


class OperatorCommand(Command, kw_only=True, omit_defaults=True):
    """A command to something that exists.

    Attributes:
        command_id: names the command; a repetition gets the same answer. Drawn when absent.
    """

    command_id: Key | None = None


class TaskOperatorCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """A command to a task.

    Attributes:
        dry_run: only answer what would happen (`would`), after the same checks; nothing is recorded.
    """

    task_id: Id
    dry_run: bool = False


class StepOperatorCommand(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """A command to a step of a task."""

    step: StepInstance


class TaskCancel(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.cancel`: end a task. Running handlers are told and have `grace_s` to stop."""

    grace_s: float = CANCEL_GRACE_S


class TaskComplete(TaskOperatorCommand, kw_only=True, omit_defaults=True):
    """`task.complete`: end a task as completed, with a result of yours, whatever its steps have done.

    Running handlers are told and have `grace_s` to stop. Nothing is undone.
    """

    result: msgspec.Raw = NULL
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

    tags: dict[str, str | None] = {}
    metadata: dict[str, Any] = {}
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


class StepRetry(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.retry`: give one failed step a fresh set of attempts.

    Attributes:
        attempt: the failed attempt that the caller saw; another one now is a conflict. None: whichever.
    """

    attempt: int | None = None


class StepSkip(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.skip`: complete a step without running it (any more); it is marked as skipped.

    Attributes:
        result: what the steps behind it get.
        routes: of a decision, the steps that are to run; (): none.
    """

    result: msgspec.Raw = NULL
    routes: tuple[Name, ...] = ()


class StepResolve(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.resolve`: complete a step with a result that was got in another way; it counts as completed.

    Attributes:
        routes: of a decision, the steps that are to run.
    """

    result: msgspec.Raw
    routes: tuple[Name, ...] = ()


class StepReset(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.reset`: let the failures of an open step count no more, so that it has all its attempts again."""


class StepEdit(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.edit`: give a completed step another result.

    The old one stays in the log. Steps that have used it are not repeated; those that begin later get the new one.
    """

    result: msgspec.Raw


class StepRelease(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """`step.release`: end what a step waits for. Its retry or its time comes now; a pending step begins at once."""


class ApprovalCommand(StepOperatorCommand, kw_only=True, omit_defaults=True):
    """A person's word on what a step asks; `requested_by` is who, and must be given.

    Attributes:
        attempt: the asking that the person saw; another one now is a conflict. None: whichever.
        roles: that the person has. Whoever sends the command vouches for them, and for who it is.
    """

    attempt: int | None = None
    roles: tuple[Person, ...] = ()


class StepApprove(ApprovalCommand, kw_only=True, omit_defaults=True):
    """`step.approve`: say yes to what a step asks.

    Attributes:
        values: of the approval's form.
    """

    values: msgspec.Raw = NULL


class StepReject(ApprovalCommand, kw_only=True, omit_defaults=True):
    """`step.reject`: say no to what a step asks.

    Attributes:
        values: of the approval's form; null: none.
    """

    values: msgspec.Raw = NULL


class StepDelegate(ApprovalCommand, kw_only=True, omit_defaults=True):
    """`step.delegate`: have somebody else answer what a step asks.

    Attributes:
        to: who is to answer instead.
    """

    to: Person


class TemplateRegister(OperatorCommand, kw_only=True, omit_defaults=True):
    """`template.register`: make a template known; `template` is the document that YAML spells too."""

    template: dict[str, Any]


class TemplateUse(OperatorCommand, kw_only=True, omit_defaults=True):
    """`template.use`: choose what "no version" means for new tasks."""

    name: Name
    namespace: Name = "default"
    version: str


class ScheduleDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When a schedule fires and which tasks it starts. One of `cron`, `every_s` and `at` names the fire times.

    Attributes:
        template: of the tasks, in the schedule's namespace.
        version: of the template; None: the one in use at each fire.
        input, tags, timeout_s: of each task, as of `task.create`; a task also gets the tag `schedule`.
        time_key: the key of an input, an object, that gets the fire time.
        cron: five fields, or @hourly, @daily, @weekly, @monthly, @yearly; read in `timezone`.
        timezone: a name of the IANA database, such as Europe/Zurich.
        every_s: seconds between fire times, counted from `start_at`, else from 1970-01-01T00:00:00Z.
        at: single fire times.
        jitter_s: each fire is late by a chance of up to so much, the same however often it is worked out.
        start_at, end_at: fire times lie from the one, up to and not including the other.
        fires_max: so many fire times start a task at most.
        overlap: what a fire does while a task of the schedule runs: nothing (`skip`); wait, one of them
            (`buffer_one`) or all (`buffer_all`); have it cancelled and wait (`cancel_running`); start beside it
            (`allow`).
        catch_up_s: a fire that is later than this, after a stop of the service, is not made up for.
    """

    template: Name
    version: str | None = None
    input: msgspec.Raw = NULL
    tags: dict[str, str] = {}
    timeout_s: float | None = None
    time_key: str | None = None
    cron: str | None = None
    timezone: str = "UTC"
    every_s: float | None = None
    at: tuple[Time, ...] = ()
    jitter_s: float = 0.0
    start_at: Time | None = None
    end_at: Time | None = None
    fires_max: int | None = None
    overlap: Overlap = "skip"
    catch_up_s: float = CATCH_UP_S


class SchedulePreview(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Asks for the next `count` fire times of a document. `name`, `namespace`: for its jitter."""

    schedule: ScheduleDocument
    count: int = 5
    name: Name | None = None
    namespace: Name = "default"


class ScheduleCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """A command to a schedule, which its name identifies within its namespace."""

    name: Name
    namespace: Name = "default"


class ScheduleCreate(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.create`: begin a schedule. The same document again is a duplicate, another one a conflict."""

    schedule: ScheduleDocument


class ScheduleUpdate(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.update`: give a schedule another document, whole."""

    schedule: ScheduleDocument


class SchedulePause(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.pause`: let fire times start nothing until `schedule.resume`.

    Attributes:
        note: why, shown with the schedule; at most 500 characters.
    """

    note: str | None = None


class ScheduleResume(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.resume`: let fire times count again from now on; those of the pause are skipped.

    Attributes:
        note: shown with the schedule; at most 500 characters.
    """

    note: str | None = None


class ScheduleTrigger(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.trigger`: start a task now, whatever runs, also while the schedule is paused."""


class ScheduleBackfill(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.backfill`: start the tasks of past fire times that have none.

    Attributes:
        start, end: the range of fire times, `end` not included; not after now.
        overlap: one after another (`buffer_all`), or all at once (`allow`).
    """

    start: Time
    end: Time
    overlap: BackfillOverlap = "buffer_all"


class ScheduleDelete(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.delete`: end a schedule. Tasks that it started go on; its name is free."""


class DeadLetterCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """What every command about a dead letter says; `requested_by` and `reason` (or a note) are asked for.

    Attributes:
        step: the step's instance; None: the task itself.
    """

    task_id: Id
    step: str | None = None


class DeadLetterAdd(DeadLetterCommand, kw_only=True, omit_defaults=True):
    """`dlq.add`: put a task or a step among the dead letters, although nothing has failed for good."""


class DeadLetterInvestigate(DeadLetterCommand, kw_only=True, omit_defaults=True):
    """`dlq.investigate`: look into a dead letter, give it an owner, add a note.

    Attributes:
        owner: who sees to it from now on; "": nobody. None: as before.
        note: what was found out; at most 4,000 characters.
    """

    owner: str | None = None
    note: str | None = None


class DeadLetterResolve(DeadLetterCommand, kw_only=True, omit_defaults=True):
    """`dlq.resolve`: settle a dead letter.

    Attributes:
        attempt: the failed attempt that the caller saw; another one now is a conflict. None: whichever.
        ignore: it is settled because nothing is to be done about it.
    """

    attempt: int | None = None
    ignore: bool = False


class DeadLetterReopen(DeadLetterCommand, kw_only=True, omit_defaults=True):
    """`dlq.reopen`: a settled dead letter is not settled after all."""


class DeadLetterRetry(DeadLetterCommand, kw_only=True, omit_defaults=True):
    """`dlq.retry`: give the step (or every failed step of the task) a fresh set of attempts, as `step.retry` does.

    Attributes:
        attempt: the failed attempt that the caller saw; another one now is a conflict. None: whichever.
    """

    attempt: int | None = None


class ControlCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """What every command about work as a whole says; `requested_by` and `reason` are asked for.

    Attributes:
        scope: `everything` (only of the tenant `default`, whose callers are the service's operators), `tenant` (the
            caller's own), `template` or `queue`.
        namespace, name: of the template or the queue.
    """

    scope: ControlScope
    namespace: Name | None = None
    name: Name | None = None


class ControlPause(ControlCommand, kw_only=True, omit_defaults=True):
    """`control.pause`: let no attempt in the scope begin, until `control.resume`. Those that run go on."""


class ControlResume(ControlCommand, kw_only=True, omit_defaults=True):
    """`control.resume`: let attempts in the scope begin again.

    Attributes:
        ramp_s: they come back evenly spread over so many seconds; 0: at once.
    """

    ramp_s: float = 0.0


class LimitCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """What every command about a rate limit says; `requested_by` and `reason` are asked for.

    Attributes:
        scope: `queue` or `handler`; namespace, name: its own.
    """

    scope: LimitScope
    name: Name
    namespace: Name = "default"


class LimitSet(LimitCommand, kw_only=True, omit_defaults=True):
    """`limit.set`: let so many attempts of a queue or a handler begin in a time, over all nodes.

    Attributes:
        per_s: attempts a second; below 1 for slower ones.
        burst: so many may begin at once when none did for a while.
        key: an expression over the task's `input`, such as `input.customer`; each of its values has the limit for
            itself. Tasks that have no such value share one.
    """

    per_s: float
    burst: int = 1
    key: str | None = None


class LimitRemove(LimitCommand, kw_only=True, omit_defaults=True):
    """`limit.remove`: let attempts of a queue or a handler begin as they come."""


class CircuitCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """What every command about the circuit of a handler says; `requested_by` and `reason` are asked for.

    Attributes:
        name, namespace: of the handler.
    """

    name: Name
    namespace: Name = "default"


class CircuitOpen(CircuitCommand, kw_only=True, omit_defaults=True):
    """`circuit.open`: let no attempt of a handler begin, as if too many of them had failed.

    Attributes:
        open_s: after so long a trial begins, which closes the circuit or opens it for twice as long.
    """

    open_s: float = 600.0


class CircuitClose(CircuitCommand, kw_only=True, omit_defaults=True):
    """`circuit.close`: let attempts of a handler begin again, as if none of them had failed.

    Attributes:
        ramp_s: they come back evenly spread over so many seconds; 0: at once.
    """

    ramp_s: float = 0.0


class BulkTasks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which tasks a bulk is for; all of what is given must hold.

    Attributes:
        states: any of them; none: those to which the command makes sense.
        created_after, created_before: the first included, the second not.
    """

    states: tuple[str, ...] = ()
    namespace: Name | None = None
    template: Name | None = None
    tags: dict[str, str] = {}
    created_after: Time | None = None
    created_before: Time | None = None


class BulkDeadLetters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which dead letters a bulk is for; all of what is given must hold. Only those that are dead count.

    Attributes:
        statuses: any of them; none: `open` and `investigating`.
        reasons: any of them; none: those that the command may repair.
        step: of the template; its instances count as well.
        seen_after, seen_before: of the last failure; the first included, the second not.
    """

    statuses: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    namespace: Name | None = None
    template: Name | None = None
    step: Name | None = None
    fingerprint: str | None = None
    owner: str | None = None
    tags: dict[str, str] = {}
    seen_after: Time | None = None
    seen_before: Time | None = None


BulkVerb = Literal[
    "task.cancel",
    "task.fail",
    "task.retry",
    "task.pause",
    "task.resume",
    "task.update",
    "task.deadline",
    "task.restart",
    "dlq.retry",
    "dlq.resolve",
]
BULK_RATE_PER_S: Final = 200.0


class BulkCreate(OperatorCommand, kw_only=True, omit_defaults=True):
    """`bulk.create`: give one command to everything that matches; a task of the service's own does it.

    It is for what was there when it was created. `requested_by` and `reason` are asked for, and kept with each effect.

    Attributes:
        verb: the command. arguments: its further fields, such as `grace_s` of `task.cancel`.
        tasks, dead_letters: to what; `dead_letters` of the verbs `dlq.*`, else `tasks`.
        everything: said where no filter is.
        rate_per_s: so many commands a second at most; at most 1,000.
        dry_run: only answer how many match (`matched`), and a few of them (`sample`); nothing is recorded.
    """

    verb: BulkVerb
    arguments: dict[str, Any] = {}
    tasks: BulkTasks | None = None
    dead_letters: BulkDeadLetters | None = None
    everything: bool = False
    rate_per_s: float = BULK_RATE_PER_S
    dry_run: bool = False


COMMANDS: Final[dict[str, type[Command]]] = {
    "task.create": TaskCreate,
    "task.cancel": TaskCancel,
    "task.complete": TaskComplete,
    "task.fail": TaskFail,
    "task.update": TaskUpdate,
    "task.deadline": TaskDeadline,
    "task.restart": TaskRestart,
    "task.retry": TaskRetry,
    "task.pause": TaskPause,
    "task.resume": TaskResume,
    "task.signal": TaskSignal,
    "task.budget": TaskBudget,
    "step.retry": StepRetry,
    "step.skip": StepSkip,
    "step.resolve": StepResolve,
    "step.reset": StepReset,
    "step.edit": StepEdit,
    "step.release": StepRelease,
    "step.approve": StepApprove,
    "step.reject": StepReject,
    "step.delegate": StepDelegate,
    "template.register": TemplateRegister,
    "template.use": TemplateUse,
    "schedule.create": ScheduleCreate,
    "schedule.update": ScheduleUpdate,
    "schedule.pause": SchedulePause,
    "schedule.resume": ScheduleResume,
    "schedule.trigger": ScheduleTrigger,
    "schedule.backfill": ScheduleBackfill,
    "schedule.delete": ScheduleDelete,
    "dlq.add": DeadLetterAdd,
    "dlq.investigate": DeadLetterInvestigate,
    "dlq.resolve": DeadLetterResolve,
    "dlq.reopen": DeadLetterReopen,
    "dlq.retry": DeadLetterRetry,
    "control.pause": ControlPause,
    "control.resume": ControlResume,
    "limit.set": LimitSet,
    "limit.remove": LimitRemove,
    "circuit.open": CircuitOpen,
    "circuit.close": CircuitClose,
    "bulk.create": BulkCreate,
}
"""Verb -> its body. The only list of what the service can be told."""


# ---------------------------------------------------------------- replies


class WouldHappen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that a dry run foresees; `steps` are those that it is about, () when it is about the task."""

    event: str
    steps: tuple[str, ...] = ()


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


# ---------------------------------------------------------------- work and reports


class DeclaredEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A domain event that a handler may emit; `schema` is the JSON Schema of its data, null: any."""

    name: str
    schema: msgspec.Raw = NULL


class EmittedEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A domain event that a handler emitted; it is raised when the attempt ends as its declaration asks for."""

    name: str
    data: msgspec.Raw = NULL


class UsageLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an attempt used of one meter, all together.

    Attributes:
        amount, cost: decimal text, exact. cost: as the handler told it; null: the price table gives it, if it can.
        unit: of the amount. model: whose meter it is; "": of none.
        currency: of the cost.
        price, prices: what a unit cost, and the version of the price table that said so; the owner's to say.
    """

    meter: str
    amount: str
    unit: str = ""
    model: str = ""
    cost: str | None = None
    currency: str = ""
    price: str | None = None
    prices: str | None = None


class Work(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One attempt of a step, offered to the workers of a queue.

    Attributes:
        queue: what of the namespace's queues it is for.
        offer: 0 for the first offer of an attempt; a later one runs only after the owner said so.
        step: of the task; that of a compensation ends with `~undo`.
        input: the task's input. results: parent -> result, in declared order; of a compensation: the step that it
            undoes -> the result of that instance.
        results_ref: parents whose results did not fit; the worker asks the owner for them.
        idempotency_key: the same over all attempts of the step.
        report_to: the subject of reports.
        deadline_in_s: what is left of the task's time when this was sent; None: no limit, as for a compensation.
        item, index: of one item of a list that the step runs for: its value and its place.
        input_ref: the input does not come with it; the worker asks the owner for it when the handler takes it.
        checkpoint: what the attempt before gave back: go on from there.
        emits: the domain events that its handler may emit.
    """

    task_id: str
    step: str
    attempt: int
    handler: str
    namespace: str
    queue: str = ""
    template: str
    input: msgspec.Raw
    idempotency_key: str
    report_to: str
    start_to_close_s: float
    heartbeat_s: float
    results: dict[str, msgspec.Raw] = {}
    results_ref: tuple[str, ...] = ()
    offer: int = 0
    deadline_in_s: float | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    item: OptionalRaw = None
    index: int | None = None
    input_ref: bool = False
    checkpoint: OptionalRaw = None
    emits: tuple[DeclaredEvent, ...] = ()
    state: OptionalRaw = None


class WorkArray(msgspec.Struct, kw_only=True):
    """Work that a node sends straight to a worker, which counts it in its next `WorkerSlots`.

    Attributes:
        sent_at_us: the node's time.
        part: whose slots it is for; "": those that are no part's.
    """

    sent_at_us: int
    part: str = ""
    work: list[Work]


class SlotsPart(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Slots of a worker that are for handlers with a limit alone, and not among its `WorkerSlots.slots`.

    Attributes:
        name: what an array for it says.
        handlers: namespace, queue and name of those handlers, as far as their queues have no backlog.
        slots, elsewhere, nodes: as of `WorkerSlots`, of these handlers.
    """

    name: str
    handlers: list[tuple[str, str, str]]
    slots: int
    elsewhere: int = 0
    nodes: dict[str, tuple[int, int]] = {}


class WorkerSlots(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a worker tells all nodes each second, and whenever its queues change.

    Attributes:
        slots: how many attempts it runs at a time; 0: it takes no more.
        elsewhere: slots held by work from the work stream.
        queues: namespace and name of those that have no backlog in the work stream.
        backlogged: those that have one: of them it takes what may overtake it.
        nodes: node -> how many items it ever received from that node, and how many of them it has released.
        parts: slots for single handlers of these queues; work for those is sent for the part, never else.
    """

    worker: str
    slots: int
    elsewhere: int = 0
    queues: list[tuple[str, str]] = []
    nodes: dict[str, tuple[int, int]] = {}
    parts: list[SlotsPart] = []
    backlogged: list[tuple[str, str]] = []


class NodeTime(msgspec.Struct, kw_only=True):
    """A node's answer to `WorkerSlots`: its time, by which the worker judges the age of what it sends."""

    node: str
    now_us: int


HEADER_RELEASED: Final = "Tasker-Released"
"""On reports to a node: how many of its items the worker has released, as in `WorkerSlots`."""

HEADER_RELEASED_PARTS: Final = "Tasker-Released-Parts"
"""The same of each part, as in `p0=17,p1=2`."""

ReportKind = Literal[
    "claim", "started", "heartbeat", "completed", "failed", "yielded", "result", "input", "returned", "peek"
]


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a running attempt is, as it says itself.

    Attributes:
        done: of `total`, in the handler's own unit. total: None: it does not know.
        message: for people; at most 200 characters.
    """

    done: float
    total: float | None = None
    message: str = ""


class LiveUpdate(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a running attempt says live. It may be lost, and is kept nowhere.

    Attributes:
        step: the instance; the subject has the step of the template.
        number: of the messages of this attempt, from 1: one that is missing was lost.
        chunks: of its stream, in order. dropped: chunks left out so far, because they came too fast.
        ended: the attempt says nothing more.
    """

    task_id: str
    step: str
    attempt: int
    worker: str
    number: int
    at: str
    progress: Progress | None = None
    chunks: tuple[msgspec.Raw, ...] = ()
    dropped: int = 0
    ended: bool = False


class StepProgress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The progress that a running attempt told last, and when its owner heard of it.

    It is in the owner's memory alone: not in the log, and gone until the next heartbeat when the owner changes.
    """

    attempt: int
    at: str
    done: float
    total: float | None = None
    message: str = ""


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a worker says of an attempt; sent again until it is answered.

    | kind        | meaning                                             | answer                          |
    |-------------|-----------------------------------------------------|---------------------------------|
    | `claim`     | may I run it? (a redelivered, re-offered, old copy)  | `run`; it is recorded as started |
    | `started`   | I run it                                            | `recorded`                      |
    | `heartbeat` | I still run it, with my `progress`                   | `recorded`, `cancel`            |
    | `completed` | `result`, its `choice`, `emitted`, `usage`, `writes`, `progress`; implies `started` | `recorded` |
    | `failed`    | `error`, `emitted`, `usage`, the last `progress`; implies `started`  | `recorded`     |
    | `yielded`   | call again after `after_s`, with `checkpoint`, `usage`, `writes`, `progress` | `recorded`        |
    | `result`    | give me the result of step `of`                     | `result`                        |
    | `input`     | give me the task's input                            | `result`                        |
    | `returned`  | I have not begun it and shall not: offer it again   | `ok`                            |
    | `peek`      | (readers) the task's `StepProgress` by running step | `result`                        |
    """

    kind: ReportKind
    task_id: str
    step: str
    attempt: int
    worker: str
    result: msgspec.Raw = NULL
    error: ErrorInfo | None = None
    of: str | None = None
    progress: Progress | None = None
    traceparent: str | None = None
    choice: Choice | None = None
    checkpoint: msgspec.Raw = NULL
    after_s: float = 0.0
    emitted: tuple[EmittedEvent, ...] = ()
    usage: tuple[UsageLine, ...] = ()
    writes: dict[str, msgspec.Raw] = {}


RefusalReason = Literal["stale_attempt", "not_open", "task_ended", "task_unknown", "started_elsewhere", "gone"]


@final
class ReportReply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The owner's verdict on one report.

    Attributes:
        ok: the report was understood and decided on. False: `error` says why; retry when it is 503.
        recorded: it is in the log. False: `reason` says why it never will be.
        duplicate: it was there already.
        run: (claim) go ahead. cancel: stop the attempt; `grace_s` is left for it.
        result: (result) the value asked for.
    """

    ok: bool
    recorded: bool
    duplicate: bool = False
    run: bool = False
    reason: RefusalReason | None = None
    cancel: bool = False
    grace_s: float | None = None
    result: msgspec.Raw = NULL
    error: Problem | None = None


class CancelAttempt(msgspec.Struct, kw_only=True):
    """To one worker: stop this attempt; after `grace_s` its outcome is of no interest."""

    task_id: str
    step: str
    attempt: int
    grace_s: float


# ---------------------------------------------------------------- lifecycle events


class LifecycleEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A recorded event as published: a CloudEvents 1.0 JSON document.

    Attributes:
        id: `<log>:<shard>:<position>`; the same at each repetition.
        type: `tasker.<event>.v<version>`. subject: the task's id. position: within the shard, as text.
        data: the event's payload; null where that is larger than the server takes messages: the log has it.
    """

    id: str
    source: str
    type: str
    subject: str
    time: str
    tenant: str
    shard: int
    position: str
    seq: int
    data: msgspec.Raw
    specversion: str = "1.0"
    datacontenttype: str = "application/json"
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None


class DomainEventMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A domain event as published: a CloudEvents 1.0 JSON document.

    Attributes:
        id: `<log>:<shard>:<position>:domain`; the same at each repetition.
        type: the name of the event. subject: the task's id.
        outcome: how the step's attempt ended: `success`, `retryable`, `permanent`, `cancelled`.
        shard, position, seq: of the `domain_event_raised` in the log that this tells of.
        data: of the event; null where that is larger than the server takes messages: the log has it.
    """

    id: str
    source: str
    type: str
    subject: str
    time: str
    tenant: str
    namespace: str
    template: str
    step: str
    attempt: int
    outcome: str
    shard: int
    position: str
    seq: int
    data: msgspec.Raw
    specversion: str = "1.0"
    datacontenttype: str = "application/json"
    correlationid: str | None = None
    traceparent: str | None = None


class Mark(msgspec.Struct, kw_only=True):
    """In the event stream: everything of `shard` up to `position` stands before this mark.

    Attributes:
        filled: holes of the stream, each its first and last sequence, whose events stand before this mark once more.
    """

    log_id: str
    shard: int
    position: int
    filled: tuple[tuple[int, int], ...] = ()


class LogHead(msgspec.Struct, kw_only=True):
    """A wake-up for readers: these shards grew to here. May be lost; readers poll as well."""

    positions: dict[int, int]
