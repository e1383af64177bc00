"""What reads return: the rows of the views as HTTP, the client and the CLI show them.

Times are RFC 3339 text in UTC. A `position` is a token (`position.py`).
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from tasker.events.control_events import ControlScope, LimitScope
from tasker.events.messages import RefusedCommand, ScheduleDocument, StepProgress
from tasker.events.schedule_events import BackfillOverlap, FireCause, SkipReason
from tasker.events.task_events import ErrorInfo, OptionalRaw

TaskStatus = Literal["pending", "running", "blocked", "paused", "compensating", "completed", "failed", "cancelled"]
TASK_STATUSES: Final[tuple[TaskStatus, ...]] = get_args(TaskStatus)
TASK_ENDED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
StepStatus = Literal["pending", "not_chosen", "dispatched", "running", "waiting", "completed", "failed", "cancelled"]
WaitKind = Literal[
    "worker",
    "outcome",
    "stop",
    "retry",
    "checkpoint",
    "items",
    "turn",
    "time",
    "child",
    "signal",
    "approval",
    "event",
    "place",
    "hold",
    "parents",
    "start_time",
    "resume",
    "repair",
    "compensations",
]
"""What a step or a task waits for. `outcome`: of a running attempt; `stop`: its worker was told to stop; `turn`: of a
retried item, since so many run at a time; `place`: one under a concurrency key; `hold`: a pause of many tasks' work, or
its slow return; `parents`: steps ahead; `resume`, `repair`: a person, for a paused and a blocked task."""

LimitOf = Literal["queue", "handler", "step"]
FireOutcome = Literal["waiting", "starting", "started", "refused", "skipped"]
ScheduleStateName = Literal["active", "paused", "finished", "deleted", "poisoned"]
SCHEDULE_STATES: Final[tuple[ScheduleStateName, ...]] = get_args(ScheduleStateName)


class QueueFacts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a queue stands with the workers, as NATS says at this moment.

    Attributes:
        namespace, queue: which one.
        asking: how many requests for work of it are open: each is a worker with a free slot. 0: no worker runs that
            serves it, or all are busy.
        offered: how much of its work lies in the stream and nobody has taken.
        known: whether a worker has ever served it. last_taken: when work of it was last taken from the stream.
    """

    namespace: str
    queue: str
    asking: int = 0
    offered: int = 0
    known: bool = True
    last_taken: str | None = None


class PlaceHolder(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Who holds a place under a concurrency key: a task, or one of its steps, and since when."""

    task_id: str
    since: str
    step: str | None = None


class PlaceFacts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a concurrency key stands, as its owner says at this moment.

    Attributes:
        key: what its expression gave, as JSON.
        limit: how many places there are. held: how many are taken. waiting: how many wait for one.
        ahead: how many of them come before the one that is explained; absent: far more than matter.
        holders: the first of those that hold one.
    """

    key: str
    limit: int
    held: int
    waiting: int
    ahead: int | None = None
    holders: tuple[PlaceHolder, ...] = ()


class CircuitFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the circuit of a handler stands that holds its attempts.

    Attributes:
        state: `open`: none begins; `half_open`: a few do, as a trial.
        opened_at: it opened. open_s: how long it is open. trial_at: from then on those that come are a trial.
        again: how often in a row it had opened before.
        failures, attempts: what was counted when it opened by itself; absent: by hand, or a trial failed.
        error: the last failure.
    """

    state: Literal["open", "half_open"]
    opened_at: str
    trial_at: str
    open_s: float
    again: int = 0
    failures: int = 0
    attempts: int = 0
    error: str | None = None


class HoldFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds an attempt back, since when, by whom and why: a pause, (`ramp_until`) a slow return, or a circuit."""

    scope: ControlScope | LimitScope
    since: str
    namespace: str = ""
    name: str = ""
    requested_by: str = ""
    reason: str = ""
    ramp_until: str | None = None
    circuit: CircuitFacts | None = None


class LimitFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rate limit of a queue, a handler or (`name`: `template/step`) a step: how many begin in a second.

    `key`: the expression whose values have it for themselves.
    """

    scope: LimitOf
    per_s: float
    namespace: str = ""
    name: str = ""
    key: str | None = None


class AskedFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whom an approval asks, how many of them have to approve and who has; see `ApprovalView`."""

    title: str = ""
    assignees: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    approvals: int = 1
    approved_by: tuple[str, ...] = ()
    escalate_at: str | None = None
    escalated: bool = False


class Wait(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a step or a task waits for, as facts; `waiting_on` and `explain` say it in words.

    Attributes:
        kind: of what kind it is.
        step, attempt: whose it is; absent: the task's own.
        since: since when. until: when it ends by itself, at the latest.
        worker: who runs the attempt, or for whom one that nobody has begun is kept (`sticky`).
        child_task_id: of a child task that has started.
        signal: the name of it. count, taken: how many are waited for, and have come.
        event: the type or name of an event of another task.
        approval: whom it asks.
        key: the concurrency key of a place, as JSON. place: how that key stands; absent where its owner did not say.
        hold: what holds the attempt back. limits: rate limits that the attempt is under.
        queue: how its queue stands; only in explanations.
        steps: with `parents` those that have not completed, with `repair` those that failed, with `stop` those that
            still run.
        reason: of a blocked task, its code (`step_failed`, `budget_exceeded`, ...); of a paused one, the one given.
        requested_by: who paused it. detail: more about `reason`. ending: how a task that stops will end.
    """

    kind: WaitKind
    step: str | None = None
    attempt: int | None = None
    since: str | None = None
    until: str | None = None
    worker: str | None = None
    child_task_id: str | None = None
    signal: str | None = None
    count: int = 1
    taken: int = 0
    event: str | None = None
    approval: AskedFacts | None = None
    key: str | None = None
    place: PlaceFacts | None = None
    hold: HoldFacts | None = None
    limits: tuple[LimitFacts, ...] = ()
    queue: QueueFacts | None = None
    steps: tuple[str, ...] = ()
    reason: str | None = None
    requested_by: str | None = None
    detail: str | None = None
    ending: str | None = None


class Cause(Wait, kw_only=True, omit_defaults=True):
    """One thing that something waits for: its facts, in words, and (`remedy`) a command that helps."""

    text: str
    remedy: str | None = None


class TaskView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A task as the `task` view shows it.

    Attributes:
        state: of the task. waiting_on: what it waits for, in words; None when nothing.
        waiting_facts: that as facts; of a running task, what its first open steps wait for.
        steps_*: counts of steps that have begun, completed, failed.
        result: of a completed task. error: of a failed one or of the step that blocks it.
        not_chosen: steps that will not run -> why.
        metadata: a JSON object that people and programs keep with it.
        priority: -100 to 100: where workers are short, work of a higher one begins first.
        restarted_from: the task that it is a restart of. restarted_as: those that are restarts of it; not in lists.
        seq: events of the task so far. position: token of the last one.
    """

    task_id: str
    tenant: str
    namespace: str
    template: str
    version: str
    template_hash: str
    state: TaskStatus
    input: msgspec.Raw
    created_at: str
    updated_at: str
    seq: int
    position: str
    ended_at: str | None = None
    not_before: str | None = None
    deadline_at: str | None = None
    result: OptionalRaw = None
    error: ErrorInfo | None = None
    waiting_on: str | None = None
    blocked_steps: tuple[str, ...] = ()
    remedy: str | None = None
    tags: dict[str, str] = {}
    idempotency_key: str | None = None
    correlation_id: str | None = None
    requested_by: str | None = None
    reason: str | None = None
    steps_dispatched: int = 0
    steps_completed: int = 0
    steps_failed: int = 0
    retries: int = 0
    not_chosen: dict[str, str] = {}
    waiting_facts: tuple[Wait, ...] = ()
    metadata: OptionalRaw = None
    restarted_from: str | None = None
    restarted_as: tuple[str, ...] = ()
    priority: int = 0


class StepView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A step as the `step` view shows it; a step that has not begun is `pending` and has no times.

    One that will not run is `not_chosen`; `waiting_on` says why. `waiting_facts` has what it waits for as facts.
    Visits of a loop are steps of their own (`check#2`), and so are the items that a step runs for (`resize[17]`).

    `worker` is the one that began its newest attempt; before that, the one that the attempt is kept for (`sticky`).

    `by_hand` says what a person did to its result: `skipped`, `resolved` or `edited`.

    `progress` is no part of the view: the owner of the task tells it, while an attempt runs.
    """

    task_id: str
    step: str
    state: StepStatus
    attempt: int = 0
    worker: str | None = None
    dispatched_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    retry_at: str | None = None
    result: OptionalRaw = None
    error: ErrorInfo | None = None
    waiting_on: str | None = None
    position: str | None = None
    child_task_id: str | None = None
    by_hand: str | None = None
    progress: StepProgress | None = None
    waiting_facts: Wait | None = None


class Explanation(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why a task or a step is where it is.

    Attributes:
        state: of it.
        sentence: the whole of it, for people.
        causes: what it waits for, the nearest first; of a step that has not begun, also what the steps ahead wait for.
        position: token of what it was read from.
    """

    task_id: str
    state: str
    sentence: str
    position: str
    step: str | None = None
    causes: tuple[Cause, ...] = ()


class ApprovalView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a step asks people and nobody has decided yet.

    Attributes:
        attempt: the asking; an answer may name it.
        assignees, roles: who may answer now; both empty: everybody.
        form: JSON Schema of the values of an answer; absent: any values.
        approvals: how many have to approve. approved_by: who has.
        four_eyes: who created the task may not answer.
        escalate_at: when others may answer as well. escalated: they may by now.
    """

    task_id: str
    step: str
    attempt: int
    namespace: str
    template: str
    requested_at: str
    title: str = ""
    assignees: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    form: OptionalRaw = None
    approvals: int = 1
    approved_by: tuple[str, ...] = ()
    four_eyes: bool = False
    may_delegate: bool = True
    deadline_at: str | None = None
    escalate_at: str | None = None
    escalated: bool = False
    position: str | None = None


class ApprovalPage(msgspec.Struct, kw_only=True):
    """Open approvals, the oldest first; `next` asks for the page behind this one."""

    items: list[ApprovalView]
    next: str | None
    position: str


class EventView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A recorded event as reads show it."""

    task_id: str
    seq: int
    type: str
    version: int
    at: str
    tenant: str
    shard: int
    position: str
    epoch: int
    data: msgspec.Raw
    meta: msgspec.Raw


class TemplateView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A version of a template; `in_use` is the one that a task without a version gets."""

    tenant: str
    namespace: str
    name: str
    version: str
    hash: str
    registered_at: str
    in_use: bool = False
    document: OptionalRaw = None


class ScheduleFire(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of a fire time, or of several that were skipped together.

    Attributes:
        fire_time: the first of them. until: they lie before it; absent of a single one.
        outcome: `waiting`: for the task before; `starting`: its task's owner has not answered; `started`; `refused`:
            its task was, with `error`; `skipped`, with `reason`.
        cause: `time`, `buffered`, `backfill` or `trigger`; absent of what did not fire.
        count: how many were skipped; absent: more than were counted, or one.
    """

    fire_time: str
    outcome: FireOutcome
    at: str
    cause: FireCause | None = None
    task_id: str | None = None
    reason: SkipReason | None = None
    until: str | None = None
    count: int | None = None
    error: str | None = None


class FireTime(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A coming fire time; `due_at`: when it is due with its jitter, where that is another time."""

    fire_time: str
    due_at: str | None = None


class OpenBackfill(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A backfill that still has fire times to start.

    Attributes:
        start, end: the range that was asked for. next: the fire time that comes next.
        fires: how many there are, when it was asked for; None: that is not known. started: how many had their turn.
        requested_by, reason: who asked for it, and why.
    """

    start: str
    end: str
    overlap: BackfillOverlap
    next: str
    started: int = 0
    fires: int | None = None
    requested_by: str | None = None
    reason: str | None = None


class ScheduleView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A schedule as the `schedule` view shows it.

    Attributes:
        state: `finished`: no fire time lies ahead.
        note: of the last pause or resume.
        next_fires: coming fire times, as if nothing were skipped.
        last_fires: what became of the last fire times, the newest first.
        running: tasks that it started and that it does not know to have ended.
        fires, skips, refusals: how many there were. waiting: fire times that wait for a task's end.
        backfills: those that are open; the first of them has its turn.
    """

    tenant: str
    namespace: str
    name: str
    state: ScheduleStateName
    schedule: ScheduleDocument
    created_at: str
    updated_at: str
    seq: int
    position: str
    note: str | None = None
    next_fires: tuple[FireTime, ...] = ()
    last_fires: tuple[ScheduleFire, ...] = ()
    running: tuple[str, ...] = ()
    fires: int = 0
    skips: int = 0
    refusals: int = 0
    waiting: int = 0
    backfills: tuple[OpenBackfill, ...] = ()
    requested_by: str | None = None
    reason: str | None = None


class SchedulePage(msgspec.Struct, kw_only=True):
    """A page of schedules by namespace and name; `next` asks for the one behind it."""

    items: list[ScheduleView]
    next: str | None
    position: str


UsageBy = Literal["tenant", "template", "step", "task"]
USAGE_BY: Final[tuple[UsageBy, ...]] = get_args(UsageBy)


class UsageTotal(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What attempts used of one meter together; `namespace`, `template`, `task_id`, `step` as far as it is by them.

    Attributes:
        unit: of the amount. model: whose meter it is; absent: of none.
        amount, cost: decimal text, exact. cost: in `currency`; absent: nobody knows it.
        attempts: how many used something of it.
        prices: versions of the price tables that gave the cost; what handlers told themselves has none.
    """

    meter: str
    amount: str
    unit: str = ""
    model: str = ""
    cost: str | None = None
    currency: str = ""
    attempts: int = 0
    prices: tuple[str, ...] = ()
    namespace: str = ""
    template: str = ""
    task_id: str = ""
    step: str = ""


class UsagePage(msgspec.Struct, kw_only=True):
    """A page of totals; `next` asks for the one behind it; `position` is what the page was read at."""

    items: list[UsageTotal]
    next: str | None
    position: str


class FireTimes(msgspec.Struct, kw_only=True):
    """Coming fire times."""

    items: list[FireTime]


DeadLetterReason = Literal["retries_exhausted", "permanent_error", "no_worker", "stale", "poison", "manual"]
DEAD_LETTER_REASONS: Final[tuple[DeadLetterReason, ...]] = get_args(DeadLetterReason)
DeadLetterState = Literal["dead", "retrying", "left"]
DEAD_LETTER_STATES: Final[tuple[DeadLetterState, ...]] = get_args(DeadLetterState)
InvestigationStatus = Literal["open", "investigating", "resolved", "ignored"]
INVESTIGATION_STATUSES: Final[tuple[InvestigationStatus, ...]] = get_args(InvestigationStatus)


class DeadLetterNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A note of an investigation."""

    at: str
    note: str
    requested_by: str | None = None


class DeadLetterView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A task or step that needs somebody's attention.

    Attributes:
        step: the step's instance; "": the task itself.
        state: `dead`, `retrying` since a person gave it fresh attempts, `left` for good.
        status: of its investigation; a new failure opens one that was settled.
        attempt: the attempt that failed last; 0 for a task. failures: how often it came here.
        fingerprint: the same for errors of one kind. pattern: the message as the fingerprint sees it.
        left_how: `step_completed`, `failure_accepted`, `moved_on` (it was stale), `task_completed` or
            `task_cancelled`.
        settled_by, settled_reason: who resolved or ignored it, and why.
        notes: the newest 20, oldest first; only where a single task is shown.
        remedy: the command that repairs it.
    """

    task_id: str
    step: str
    namespace: str
    template: str
    version: str
    task_state: TaskStatus
    state: DeadLetterState
    status: InvestigationStatus
    reason: DeadLetterReason
    error_type: str
    message: str
    fingerprint: str
    pattern: str
    attempt: int
    failures: int
    first_seen: str
    last_seen: str
    position: str
    owner: str | None = None
    tags: dict[str, str] = {}
    notes: tuple[DeadLetterNote, ...] = ()
    notes_count: int = 0
    settled_by: str | None = None
    settled_reason: str | None = None
    settled_at: str | None = None
    left_how: str | None = None
    left_at: str | None = None
    remedy: str | None = None


class DeadLetterGroup(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Dead letters of one fingerprint.

    Attributes:
        count: dead letters. failures: how often they came here, all together.
        task_id: of the newest of them, as an example.
    """

    fingerprint: str
    error_type: str
    step: str
    pattern: str
    count: int
    failures: int
    first_seen: str
    last_seen: str
    task_id: str


class DeadLetterPage(msgspec.Struct, kw_only=True):
    """Dead letters, the newest first; `next` asks for the page behind this one."""

    items: list[DeadLetterView]
    next: str | None
    position: str


class DeadLetterGroupPage(msgspec.Struct, kw_only=True):
    """Groups of dead letters, the largest first; `next` asks for the page behind this one."""

    items: list[DeadLetterGroup]
    next: str | None
    position: str


class DeadLetterCount(msgspec.Struct, kw_only=True):
    """How many dead letters match."""

    count: int
    position: str


class TaskPage(msgspec.Struct, kw_only=True):
    """A page of tasks; `next` asks for the one behind it; `position` is what the page was read at."""

    items: list[TaskView]
    next: str | None
    position: str


class Refusal(RefusedCommand, kw_only=True, omit_defaults=True):
    """A submitted command that was refused; `id` is its place in the list."""

    id: str


class RefusalPage(msgspec.Struct, kw_only=True):
    """A page of refusals, oldest first; `next` asks for the one behind it."""

    items: list[Refusal]
    next: str | None


class StepPage(msgspec.Struct, kw_only=True):
    """The steps of a task, in declared order."""

    items: list[StepView]
    next: str | None
    position: str


class EventPage(msgspec.Struct, kw_only=True):
    """Events in order; `next` goes on with those that follow, also when none matched; `log_id` is part of their ids."""

    items: list[EventView]
    next: str | None
    position: str
    log_id: str = ""


class TemplatePage(msgspec.Struct, kw_only=True):
    """Templates by namespace, name and time."""

    items: list[TemplateView]
    next: str | None
    position: str


class Stats(msgspec.Struct, kw_only=True):
    """Counts of a tenant's tasks by state, and how far the views are."""

    tasks: dict[str, int]
    events: int
    position: str
    lag_events: int


class Live(msgspec.Struct, kw_only=True):
    """The process answers."""

    live: bool = True


class Health(msgspec.Struct, kw_only=True):
    """Readiness with its reasons: name -> None when fine, else what is wrong."""

    ready: bool
    checks: dict[str, str | None]
    version: str


class PauseView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A pause of many tasks' work: since when, by whom and why. `namespace`, `name`: of a template or a queue."""

    scope: ControlScope
    namespace: str = ""
    name: str = ""
    since: str
    requested_by: str
    reason: str


class RampView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What comes back slowly after a pause or an open circuit, `since` it was resumed, and is back whole `until` then.

    A circuit is that of a `handler`.
    """

    scope: ControlScope | LimitScope
    namespace: str = ""
    name: str = ""
    since: str
    until: str
    requested_by: str
    reason: str


class LimitView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A rate limit: `per_s` attempts a second, `burst` at once; each value of `key` has it for itself."""

    scope: LimitScope
    namespace: str
    name: str
    per_s: float
    burst: int
    key: str | None = None
    since: str
    requested_by: str
    reason: str


class DeclaredLimitView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A rate limit that the version in use of a template gives a step.

    Attributes:
        name: of template and step, with a slash between them.
        handler: whose limit, where an operator set one, holds in place of this.
        overridden: there is such a limit.
    """

    scope: Literal["step"] = "step"
    namespace: str
    name: str
    handler: str
    version: str
    per_s: float
    burst: int
    key: str | None = None
    overridden: bool = False


class LimitsView(msgspec.Struct, kw_only=True):
    """The rate limits of a tenant: those that operators set, the newest first, and those of templates."""

    limits: list[LimitView]
    declared: list[DeclaredLimitView]


class CircuitView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The circuit of a handler (`name`) that is not closed: its attempts wait.

    `since`, `requested_by`, `reason`: of its last change; `tasker` is the service itself.
    """

    scope: Literal["handler"] = "handler"
    namespace: str
    name: str
    circuit: CircuitFacts
    since: str
    requested_by: str
    reason: str


class DeclaredBreakerView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A circuit breaker that the version in use of a template gives a step.

    Attributes:
        name: of template and step, with a slash between them.
        handler: whose circuit it opens.
    """

    scope: Literal["step"] = "step"
    namespace: str
    name: str
    handler: str
    version: str
    failure_rate: float
    min_attempts: int
    window_s: float
    open_s: float
    open_s_max: float
    probes: int


class CircuitsView(msgspec.Struct, kw_only=True):
    """The circuits of a tenant's handlers that are not closed, the newest first, and the breakers of its templates."""

    circuits: list[CircuitView]
    declared: list[DeclaredBreakerView]


class ControlsView(msgspec.Struct, kw_only=True):
    """What holds work of a tenant back: pauses, what comes back slowly, rate limits, circuits; the newest first."""

    pauses: list[PauseView]
    ramps: list[RampView]
    limits: list[LimitView]
    circuits: list[CircuitView] = []
