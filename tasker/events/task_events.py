"""What can happen to a task and its steps: the union stored in a task's stream.

One fact an event, past tense, for ever. A stored form is `(type, version)`; it is never edited. A
new form is a new class (or version) with an upcast from the old (`upcast.py`) and a recorded history
in `tests/compat`. JSON values of users (`input`, `result`) are raw canonical bytes: they are carried,
compared and hashed, never rewritten.

Times are microseconds since the epoch (`_us`), durations seconds (`_s`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

import msgspec

if TYPE_CHECKING:
    OptionalRaw = msgspec.Raw | None
else:
    # msgspec reads `Raw | None` as null alone. A field that is absent is None, one that is null is Raw(b"null").
    OptionalRaw = msgspec.Raw

NULL: Final = msgspec.Raw(b"null")


class TaskEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event of a task is. Its stored type is its class name in snake case."""


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an attempt failed.

    Attributes:
        type: the exception's class, or `timeout`, `worker_lost`, `result_invalid`.
        message: for people; at most 2,000 characters.
        retryable: whether another attempt may help, as the handler says.
        retry_after_s: the wait the target asked for, already bounded.
        stack: the traceback's end, at most 8,000 characters.
    """

    type: str
    message: str
    retryable: bool = True
    retry_after_s: float | None = None
    stack: str | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a decision's handler chose.

    Attributes:
        routes: the steps that are to run; (): none of them.
        reason: why, for people; at most 2,000 characters.
    """

    routes: tuple[str, ...] = ()
    reason: str = ""


class TemplateRef(msgspec.Struct, frozen=True):
    """The template a task started with: `hash` (sha256, hex) names its content for ever."""

    namespace: str
    name: str
    version: str
    hash: str


class StaleLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long a task may be so, or a step of it wait, before that is recorded as stale; absent: for ever."""

    pending_s: float | None = None
    blocked_s: float | None = None
    paused_s: float | None = None
    waiting_s: float | None = None


class TaskCreated(TaskEvent, frozen=True, kw_only=True):
    """The task was accepted.

    Attributes:
        request_hash: of the canonical input and the version as sent; tells a repetition from a conflict.
        not_before_us: no step starts earlier; the task is `pending` until then.
        deadline_us: when the task's timeout ends it.
        metadata: a JSON object of whoever created it.
        restarted_from: the id of the task whose restart this is.
        created_by: who asked for it, where an approval of its template may not be theirs.
        stale_after: how long it may stand still before somebody is told, as its template says.
        admitted_us: when a place was asked for under the `max_running` of its template, which it has until it ends:
            this names it.
        priority: of its work, -100 to 100: where workers are short, more begins first.
        running_s_max: how long a step of it may run on a worker, all together, as the budget of its template says.
        depth: how many tasks are above it: that which started it, that which started that, and so on.
    """

    template: TemplateRef
    input: msgspec.Raw
    request_hash: str
    idempotency_key: str | None = None
    tags: dict[str, str] = {}
    not_before_us: int | None = None
    deadline_us: int | None = None
    metadata: OptionalRaw = None
    restarted_from: str | None = None
    created_by: str | None = None
    stale_after: StaleLimits | None = None
    admitted_us: int | None = None
    priority: int = 0
    running_s_max: float | None = None
    depth: int = 0


class TaskPostponed(TaskEvent, frozen=True, kw_only=True):
    """Another start of a task that waits for more of them (`debounce`): it begins later, with the newest input.

    Attributes:
        start: names the other start: the id that its task would have.
        request_hash: of the other start; tells a repetition from a conflict.
        deadline_us: when the task's timeout, counted from its begin, ends it; absent: it has none.
        by: who asked for the other start, where an approval of its template may not be theirs.
    """

    start: str
    request_hash: str
    input: msgspec.Raw
    not_before_us: int
    deadline_us: int | None = None
    by: str | None = None


class TaskStarted(TaskEvent, frozen=True, kw_only=True):
    """A task whose `not_before` has come began; a task without one begins with `task_created`."""


class StepDispatched(TaskEvent, frozen=True, kw_only=True):
    """An attempt of a step is owed to the workers.

    Attributes:
        attempt: from 1, growing over the life of the step.
        start_by_us: the attempt fails when no worker started it by then (`schedule_to_start`).
        close_by_us: of the first of a set of attempts: the step fails when it has no outcome by then, whatever
            attempts it has left (`schedule_to_close`).
        worker: the one that it is kept for while that lives (`sticky`); None: it is anybody's.
    """

    step: str
    attempt: int
    start_by_us: int | None = None
    close_by_us: int | None = None
    worker: str | None = None


class StepStarted(TaskEvent, frozen=True, kw_only=True):
    """A worker began an attempt.

    Attributes:
        finish_by_us: the attempt fails when it has no outcome by then (`start_to_close`).
        heartbeat_s: it fails as well when no sign of life comes for so long.
    """

    step: str
    attempt: int
    worker: str
    finish_by_us: int
    heartbeat_s: float


class StepCompleted(TaskEvent, frozen=True, kw_only=True):
    """A step has its one result.

    Attributes:
        writes: what the attempt wrote to the task's shared state, key -> value.
    """

    step: str
    attempt: int
    result: msgspec.Raw
    writes: dict[str, msgspec.Raw] = {}


class StepAttemptFailed(TaskEvent, frozen=True, kw_only=True):
    """An attempt ended without a result."""

    step: str
    attempt: int
    error: ErrorInfo


DomainOutcome = Literal["success", "retryable", "permanent", "cancelled"]


class DomainEventRaised(TaskEvent, frozen=True, kw_only=True):
    """A step says what happened in the business; recorded in one unit with its attempt's outcome, and before it.

    Attributes:
        name: as the template declares it.
        outcome: how the attempt ends: `success`; failed and another follows (`retryable`); failed for good
            (`permanent`); `cancelled`, failed while its task stops.
        data: of the event.
    """

    step: str
    attempt: int
    name: str
    outcome: DomainOutcome
    data: msgspec.Raw


class UsageRecorded(TaskEvent, frozen=True, kw_only=True):
    """What an attempt used of one meter; recorded in one unit with the attempt's outcome, and before it, or late.

    Attributes:
        amount, cost: decimal text, exact. cost: null: nobody knows it.
        unit: of the amount. model: whose meter it is; "": of none.
        currency: of the cost.
        price, prices: where the cost is the amount times a price: that price, and the version of its price table.
        excess: with this the task has gone over its budget; how, in words. Nothing more of it begins.
        late: the attempt was over when its worker told of it, and its outcome has been recorded otherwise.
    """

    step: str
    attempt: int
    meter: str
    amount: str
    unit: str = ""
    model: str = ""
    cost: str | None = None
    currency: str = ""
    price: str | None = None
    prices: str | None = None
    excess: str | None = None
    late: bool = False


class ProgressRecorded(TaskEvent, frozen=True, kw_only=True):
    """The last progress that an attempt told; recorded in one unit with the attempt's outcome, and before it.

    Attributes:
        done: of `total`, in the handler's own unit. total: null: it does not know.
        message: for people; at most 200 characters.
    """

    step: str
    attempt: int
    done: float
    total: float | None = None
    message: str = ""


class StepRetryScheduled(TaskEvent, frozen=True, kw_only=True):
    """Another attempt will be dispatched; `delay_s` is the chosen wait, jitter included."""

    step: str
    attempt: int
    delay_s: float
    retry_at_us: int


FailureReason = Literal[
    "retries_exhausted",
    "permanent_error",
    "expression_failed",
    "assertion_failed",
    "items_failed",
    "visits_exhausted",
    "no_progress",
    "steps_exhausted",
    "wait_expired",
    "timed_out",
    "result_too_large",
    "state_conflict",
]


class StepTimedOut(TaskEvent, frozen=True, kw_only=True):
    """A limit of a step was over, and its template says what then (`on_timeout`); the event behind this one is that.

    Attributes:
        limit: which one.
        then: `fail`: the step fails at once; `block`: it does, and a person decides what becomes of it; `continue`: it
            completes with null.
    """

    step: str
    attempt: int
    limit: Literal["schedule_to_start", "start_to_close", "heartbeat", "schedule_to_close"]
    then: Literal["fail", "block", "continue"]


class StepFailed(TaskEvent, frozen=True, kw_only=True):
    """A step has no attempt left, or its error forbids another."""

    step: str
    attempt: int
    reason: FailureReason
    error: ErrorInfo


class StepCancelRequested(TaskEvent, frozen=True, kw_only=True):
    """A running attempt is to be told to stop; it has until `grace_until_us`."""

    step: str
    attempt: int
    grace_until_us: int


class StepCancelled(TaskEvent, frozen=True, kw_only=True):
    """A step will have no result, because its task ends."""

    step: str
    attempt: int
    reason: str


class StepRetried(TaskEvent, frozen=True, kw_only=True):
    """A person gave a failed step a fresh set of attempts; the next one is `attempt`.

    Attributes:
        cancelled: it is an item that had not failed: it was cancelled when its list did.
    """

    step: str
    attempt: int
    cancelled: bool = False


class StepSkipped(TaskEvent, frozen=True, kw_only=True):
    """A person had a step completed without running it (any more).

    Attributes:
        attempt: its newest; 0: it had not begun.
        failed: whether it had failed.
        by: who, where an approval of its template may not be theirs.
    """

    step: str
    attempt: int
    result: msgspec.Raw
    failed: bool = False
    by: str | None = None


class StepResolved(TaskEvent, frozen=True, kw_only=True):
    """A person completed a step with a result got in another way; other fields are as of `StepSkipped`."""

    step: str
    attempt: int
    result: msgspec.Raw
    failed: bool = False
    by: str | None = None


class StepAttemptsReset(TaskEvent, frozen=True, kw_only=True):
    """A person let the failures of a step count no more; `attempt` is the first of its new set."""

    step: str
    attempt: int


class StepResultEdited(TaskEvent, frozen=True, kw_only=True):
    """A person gave a completed step another result; steps that had used the old one are not repeated.

    Attributes:
        by: who, where an approval of its template may not be theirs.
    """

    step: str
    result: msgspec.Raw
    by: str | None = None


class StepReleased(TaskEvent, frozen=True, kw_only=True):
    """A person ended what a step waited for; `attempt` is the one that waited, or the last before the retry."""

    step: str
    attempt: int


class ParentsOverridden(TaskEvent, frozen=True, kw_only=True):
    """A person had a step begin before its parents let it; `parents` are those that had not completed."""

    step: str
    parents: tuple[str, ...] = ()


class StepRouted(TaskEvent, frozen=True, kw_only=True):
    """A decision chose among its declared successors; recorded before its completion.

    Attributes:
        chosen, closed: those of its `routes` that it chose, and the others.
        reason: why, as the handler says it.
    """

    step: str
    attempt: int
    chosen: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    reason: str = ""


class PathsClosed(TaskEvent, frozen=True, kw_only=True):
    """Some steps will not run (in this visit): no way to them is open any more, or their condition is false.

    Attributes:
        steps: of the template; they have no other event.
        edges: (parent, child) pairs that do not count for the child any more.
        by: the step instance (or the step itself) that decided it.
        reason: why, for people.
    """

    by: str
    reason: str
    steps: tuple[str, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()


class StepFailureAccepted(TaskEvent, frozen=True, kw_only=True):
    """A step's failure holds nothing up: the joins behind it do not need its result."""

    step: str
    joins: tuple[str, ...]


class StepExpanded(TaskEvent, frozen=True, kw_only=True):
    """A step begins to run for each item of a list.

    Attributes:
        items: the list, as JSON.
        keys: the items' keys, in the list's order; (): their indices name them.
    """

    step: str
    items: msgspec.Raw
    keys: tuple[str, ...] = ()


class StepItemsHeld(TaskEvent, frozen=True, kw_only=True):
    """Not all items of a step may begin at once; the others wait for their turn. Said once, of the first that waits.

    Attributes:
        limit: how many run at a time (`max_parallel`, `parallelism`). waiting: how many had to wait then.
    """

    step: str
    limit: int
    waiting: int


class StepGathered(TaskEvent, frozen=True, kw_only=True):
    """A step that ran for each item of a list is complete; its result is the list of the items' results."""

    step: str
    completed: int
    failed: int = 0


class StepYielded(TaskEvent, frozen=True, kw_only=True):
    """An attempt gave its slot back with a checkpoint; the next attempt goes on from there.

    Attributes:
        attempt: the one that ended so; failures before it do not count any more.
        resume_at_us: when the next is dispatched.
        writes: what the attempt wrote to the task's shared state, key -> value.
    """

    step: str
    attempt: int
    checkpoint: msgspec.Raw
    delay_s: float
    resume_at_us: int
    writes: dict[str, msgspec.Raw] = {}


class StepDelayed(TaskEvent, frozen=True, kw_only=True):
    """A step that only waits began; it completes at `until_us`."""

    step: str
    attempt: int
    until_us: int


class ChildRequested(TaskEvent, frozen=True, kw_only=True):
    """A step is to start a task of another template; the key of that task is `child:<task>:<step>:<attempt>`.

    Attributes:
        version: of the template; None: the one in use when the child is created.
    """

    step: str
    attempt: int
    template: str
    namespace: str
    input: msgspec.Raw
    version: str | None = None


class ChildStarted(TaskEvent, frozen=True, kw_only=True):
    """The child of a step exists."""

    step: str
    attempt: int
    child: str


class SignalReceived(TaskEvent, frozen=True, kw_only=True):
    """A signal came to the task; it is kept until a step takes it. The command that brought it names it.

    Attributes:
        number: counted over all signals of the task, from 1 and without a gap.
    """

    name: str
    number: int
    value: msgspec.Raw


class StepAwaited(TaskEvent, frozen=True, kw_only=True):
    """A step waits for a signal.

    Attributes:
        deadline_us: how long; None: as long as it takes.
        count: how many it waits for.
    """

    step: str
    attempt: int
    signal: str
    deadline_us: int | None = None
    count: int = 1


class StepSignalled(TaskEvent, frozen=True, kw_only=True):
    """A waiting step took signals; no other step gets them.

    Attributes:
        numbers: of the signals, in their order.
    """

    step: str
    attempt: int
    numbers: tuple[int, ...]


class ApprovalRequested(TaskEvent, frozen=True, kw_only=True):
    """A step asks people, and waits for their answers.

    Attributes:
        title: what is asked, for people.
        assignees, roles: who may answer; both empty: everybody.
        form: JSON Schema of the values of an answer; null: any values.
        approvals: how many different persons have to approve.
        four_eyes: who created the task, or changed its input or a result by hand, may not answer.
        may_delegate: who may answer may hand that to somebody else.
        deadline_us: until when; None: as long as it takes.
        escalate_us: when others may answer as well.
    """

    step: str
    attempt: int
    title: str = ""
    assignees: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    form: msgspec.Raw = NULL
    approvals: int = 1
    four_eyes: bool = False
    may_delegate: bool = True
    deadline_us: int | None = None
    escalate_us: int | None = None


Decision = Literal["approved", "rejected"]


class ApprovalAnswered(TaskEvent, frozen=True, kw_only=True):
    """A person answered what a step asks.

    Attributes:
        by: who. reason: why, as they say.
        values: of the form.
    """

    step: str
    attempt: int
    decision: Decision
    by: str
    reason: str = ""
    values: msgspec.Raw = NULL


class ApprovalDelegated(TaskEvent, frozen=True, kw_only=True):
    """A person who may answer what a step asks has somebody else do so."""

    step: str
    attempt: int
    by: str
    to: str
    reason: str = ""


class ApprovalEscalated(TaskEvent, frozen=True, kw_only=True):
    """Nobody answered what a step asks in time: `assignees` and who has one of `roles` may answer as well."""

    step: str
    attempt: int
    assignees: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


class EventAwaited(TaskEvent, frozen=True, kw_only=True):
    """A step waits for an event of another task, from now on.

    Attributes:
        event: a type of the lifecycle, else the name of a domain event.
        deadline_us: until when; None: as long as it takes.
    """

    step: str
    attempt: int
    event: str
    deadline_us: int | None = None


class EventMatched(TaskEvent, frozen=True, kw_only=True):
    """Another task had the event that a step waits for.

    Attributes:
        task_id, seq: which event it is.
        event: the event, as the step gets it.
    """

    step: str
    attempt: int
    task_id: str
    seq: int
    event: msgspec.Raw


class WaitExpired(TaskEvent, frozen=True, kw_only=True):
    """What a step waited for did not come by its deadline; what becomes of it is an event of its own."""

    step: str
    attempt: int


class PlaceRequested(TaskEvent, frozen=True, kw_only=True):
    """A task, or an attempt of a step, waits for a place under a concurrency key.

    Attributes:
        step: instance that waits; "": the task as a whole. attempt: of the step; 0: of the task.
        key: what the template's expression gave, as JSON.
        limit: how many places there are. strategy: what happens when all are taken.
    """

    key: str
    limit: int
    strategy: Literal["queue", "drop", "cancel_oldest", "cancel_newest"] = "queue"
    step: str = ""
    attempt: int = 0


class PlaceTaken(TaskEvent, frozen=True, kw_only=True):
    """The place that was waited for is there; it is held until the step, or the task, has ended."""

    step: str = ""
    attempt: int = 0


class PlaceDenied(TaskEvent, frozen=True, kw_only=True):
    """The task, or the step, is cancelled for its concurrency key.

    Attributes:
        reason: `full`: all places were taken; `evicted`: it makes room for another.
        taken_by: who has a place, or gets this one: a task's id or, of a step, `<task>:<step>:<attempt>`; absent: not
            known.
    """

    reason: Literal["full", "evicted"]
    step: str = ""
    attempt: int = 0
    taken_by: str | None = None


class LoopTurned(TaskEvent, frozen=True, kw_only=True):
    """A loop came back to `step`: it and all behind it begin anew, as instances of their own.

    Attributes:
        by: the step instance that led back.
        visit: which visit of `step` begins.
        steps: those that begin anew, in declared order.
        failures: failed steps that nobody needed, and that some of those need again.
    """

    step: str
    by: str
    visit: int
    steps: tuple[str, ...]
    failures: tuple[str, ...] = ()


class TaskBlocked(TaskEvent, frozen=True, kw_only=True):
    """Nothing can move until a person helps.

    Attributes:
        steps: the failed steps; with `compensation_failed` the compensation.
    """

    reason: Literal[
        "step_failed",
        "poison",
        "history_limit",
        "no_progress",
        "result_limit",
        "compensation_failed",
        "budget_exceeded",
        "deadline_passed",
    ]
    steps: tuple[str, ...] = ()
    detail: str | None = None


class TaskResumed(TaskEvent, frozen=True, kw_only=True):
    """A blocked task goes on."""


class TaskBudgetSet(TaskEvent, frozen=True, kw_only=True):
    """A person allowed the task to use as much, instead of what its template says.

    Attributes:
        cost_max: decimal text, in the currency of the template's budget. tokens_max: of all models together.
        running_s_max: how long a step of it may run on a worker, all together; absent: as before.
        goes_on: the task was blocked by its budget, and goes on.
    """

    cost_max: str | None = None
    tokens_max: int | None = None
    goes_on: bool = False
    running_s_max: float | None = None


class RunningTimeSpent(TaskEvent, frozen=True, kw_only=True):
    """Steps of the task have run for as long as its budget allows. Nothing more of it begins.

    Attributes:
        running_us: how long a worker ran at least one of them.
        excess: how it went over its budget, in words.
    """

    running_us: int
    excess: str


class TaskPaused(TaskEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A person paused the task: attempts that run go on and are recorded, nothing else begins.

    Attributes:
        children: so do its child tasks, and theirs.
    """

    children: bool = False


class TaskUnpaused(TaskEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A paused task goes on from where it stands.

    Attributes:
        children: so do its child tasks, and theirs.
    """

    children: bool = False


class TaskUpdated(TaskEvent, frozen=True, kw_only=True):
    """A person changed what a task is labelled with, or its priority.

    Attributes:
        tags: all it has now; absent when they are as before.
        metadata: the JSON object now, null when there is none; absent when it is as before.
        priority: of its work now; absent when it is as before.
    """

    tags: dict[str, str] | None = None
    metadata: OptionalRaw = None
    priority: int | None = None


class TaskDeadlineSet(TaskEvent, frozen=True, kw_only=True):
    """A person gave a task another deadline; absent: it has none any more.

    Attributes:
        goes_on: the task was blocked as the one before had passed, and goes on.
        pending: it waits for its start time, or its place, as it did before; a paused one does so once it is resumed.
    """

    deadline_us: int | None = None
    goes_on: bool = False
    pending: bool = False


class TaskDeadlinePassed(TaskEvent, frozen=True, kw_only=True):
    """The deadline of a task has passed, and its template says (`on_timeout`) that it does not end by that.

    Attributes:
        then: `block`: nothing of it begins until a person gives it another deadline; `continue`: it goes on.
    """

    then: Literal["block", "continue"]


class TaskReconciled(TaskEvent, frozen=True, kw_only=True):
    """What the task owed would never have been seen to, and was brought back; nothing else of the task changes.

    Attributes:
        lost: how: `forgotten`: neither memory nor the due rows knew of it; `not_woken`: its time was long over.
        obligations: what was lost, such as `retry:charge:2`: what is owed, the step, the attempt.
    """

    lost: Literal["forgotten", "not_woken"]
    obligations: tuple[str, ...]


class WentStale(TaskEvent, frozen=True, kw_only=True):
    """A task, or a step of it, has stood still for longer than its template allows; it is a dead letter until it moves.

    Attributes:
        step: the step's instance; "": the task itself.
        attempt: the newest of the step; 0 for the task.
        state: in which it stands still: `pending`, `blocked` or `paused` for a task, `waiting` for a step.
        after_s: the limit that is over.
    """

    step: str = ""
    attempt: int = 0
    state: Literal["pending", "blocked", "paused", "waiting"]
    after_s: float


class StaleEnded(TaskEvent, frozen=True, kw_only=True):
    """What was stale has moved; `step` is as in `went_stale`."""

    step: str = ""


Ending = Literal["failed", "cancelled", "completed"]


class TaskStopping(TaskEvent, frozen=True, kw_only=True):
    """The task will end as `ending` once its running steps have ended or their grace is over.

    Attributes:
        result, error: with which an operator has it complete, or fail.
    """

    ending: Ending
    cause: Literal["cancel", "timeout", "step_failed", "result_limit", "operator", "budget_exceeded", "concurrency"]
    step: str | None = None
    result: OptionalRaw = None
    error: ErrorInfo | None = None


class TaskCompensating(TaskEvent, frozen=True, kw_only=True):
    """Nothing of the stopping task runs any more; what it did is undone before it ends.

    Every completed instance of `steps` is undone, one after the other, the last completed first.

    Attributes:
        steps: those of the template that have a compensation and something to undo, in declared order.
        instances: how many are undone: visits and items count by themselves, a step that ran for a list does not.
    """

    steps: tuple[str, ...]
    instances: int


class TaskCompleted(TaskEvent, frozen=True, kw_only=True):
    """Every step has a result, and so has the task; or an operator said so.

    Attributes:
        state: the shared state as the last steps left it; None: none wrote to it.
    """

    result: msgspec.Raw
    state: OptionalRaw = None


class TaskFailed(TaskEvent, frozen=True, kw_only=True):
    """The task ended without a result.

    Attributes:
        not_undone: the step instances whose compensation a person gave up.
    """

    cause: Literal["timeout", "step_failed", "result_limit", "operator", "budget_exceeded"]
    step: str | None = None
    error: ErrorInfo | None = None
    not_undone: tuple[str, ...] = ()


class TaskCancelled(TaskEvent, frozen=True, kw_only=True):
    """The task was ended by a person's or a program's request; `not_undone` is as in `task_failed`."""

    not_undone: tuple[str, ...] = ()


AnyTaskEvent = (
    TaskCreated
    | TaskStarted
    | StepDispatched
    | StepStarted
    | StepCompleted
    | StepAttemptFailed
    | StepRetryScheduled
    | StepTimedOut
    | StepFailed
    | StepCancelRequested
    | StepCancelled
    | StepRetried
    | StepSkipped
    | StepResolved
    | StepAttemptsReset
    | StepResultEdited
    | StepReleased
    | ParentsOverridden
    | StepRouted
    | PathsClosed
    | StepFailureAccepted
    | StepExpanded
    | StepItemsHeld
    | StepGathered
    | StepYielded
    | StepDelayed
    | ChildRequested
    | ChildStarted
    | SignalReceived
    | StepAwaited
    | StepSignalled
    | ApprovalRequested
    | ApprovalAnswered
    | ApprovalDelegated
    | ApprovalEscalated
    | EventAwaited
    | EventMatched
    | WaitExpired
    | PlaceRequested
    | PlaceTaken
    | PlaceDenied
    | LoopTurned
    | TaskBlocked
    | TaskResumed
    | TaskPaused
    | TaskUnpaused
    | TaskUpdated
    | TaskDeadlineSet
    | TaskPostponed
    | TaskDeadlinePassed
    | TaskReconciled
    | WentStale
    | StaleEnded
    | TaskStopping
    | TaskCompensating
    | TaskCompleted
    | TaskFailed
    | TaskCancelled
    | DomainEventRaised
    | UsageRecorded
    | TaskBudgetSet
    | RunningTimeSpent
    | ProgressRecorded
)

TASK_EVENT_TYPES: Final[tuple[type[TaskEvent], ...]] = get_args(AnyTaskEvent)
ENDING_TYPES: Final = frozenset({"task_completed", "task_failed", "task_cancelled"})
"""Nothing follows one of these in a task's stream."""
