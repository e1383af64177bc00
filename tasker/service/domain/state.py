r"""A task's state and how events move it.

`evolve` is total: a recorded event is never refused. It updates the state of its one owner in place,
and its cost does not grow with the number of steps (that of the one which plans compensations does).

    task   pending -> running -> completed
                      running <-> blocked
           pending, running, blocked <-> paused
           any of them -> (stopping: running steps have their grace) -> failed | cancelled
                             `-> compensating <-> blocked -> failed | cancelled

    step   dispatched -> running -> completed
             ^  \_________/ attempt failed
             |                 |-> waiting (retry) -> dispatched
             |                 `-> failed -> (a person's retry) -> dispatched
           dispatched, running, waiting -> cancelled

A step without an event is pending and has no entry. What a step does while it waits for no worker (`waits`): its
retry or the next part after a checkpoint, the items that it runs for, a time, or the end of a pause in which it was
retried.

A step of the template has an entry for each visit of a loop and each item of a list (`templates.instances`). The newest
visit of a step is its *node*: joins and the end of the task look at nodes. A node is *settled* when nothing more is
expected of it: it completed, was cancelled while the task goes on, will not run, or its failure was accepted.

A compensation is an instance as well (`charge~undo`), and no node.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, assert_never

import msgspec

from tasker.events.codec import canonical, hash_of
from tasker.events.command_memory import remember
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    ApprovalAnswered,
    ApprovalDelegated,
    ApprovalEscalated,
    ApprovalRequested,
    ChildRequested,
    ChildStarted,
    DomainEventRaised,
    ErrorInfo,
    EventAwaited,
    EventMatched,
    LoopTurned,
    ParentsOverridden,
    PathsClosed,
    PlaceDenied,
    PlaceRequested,
    PlaceTaken,
    ProgressRecorded,
    RunningTimeSpent,
    SignalReceived,
    StaleEnded,
    StepAttemptFailed,
    StepAttemptsReset,
    StepAwaited,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepDelayed,
    StepDispatched,
    StepExpanded,
    StepFailed,
    StepFailureAccepted,
    StepGathered,
    StepItemsHeld,
    StepReleased,
    StepResolved,
    StepResultEdited,
    StepRetried,
    StepRetryScheduled,
    StepRouted,
    StepSignalled,
    StepSkipped,
    StepStarted,
    StepTimedOut,
    StepYielded,
    TaskBlocked,
    TaskBudgetSet,
    TaskCancelled,
    TaskCompensating,
    TaskCompleted,
    TaskCreated,
    TaskDeadlinePassed,
    TaskDeadlineSet,
    TaskFailed,
    TaskPaused,
    TaskPostponed,
    TaskReconciled,
    TaskResumed,
    TaskStarted,
    TaskStopping,
    TaskUnpaused,
    TaskUpdated,
    TemplateRef,
    UsageRecorded,
    WaitExpired,
    WentStale,
)
from tasker.events.usage import TOKEN_METERS, added, amount_text
from tasker.service.domain.costs.running_time import RunningTime
from tasker.service.domain.dead_letters.staleness import WAITING, Staleness
from tasker.service.domain.shared_state.written import Shared
from tasker.service.domain.waits.inbox import Inbox
from tasker.service.domain.waits.wait_state import ApprovalWait, EventWait, Wait
from tasker.templates.instances import is_item, is_undo, name_of, node_of, visit_of


class TaskStatus(StrEnum):
    """Where a task is."""

    ABSENT = "absent"
    PENDING = "pending"
    RUNNING = "running"
    BLOCKED = "blocked"
    COMPENSATING = "compensating"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    """Where a step is."""

    DISPATCHED = "dispatched"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


BUDGET_EXCEEDED: Final = "budget_exceeded"
"""Why a task is blocked, or stops, whose usage went over its template's budget."""

DEADLINE_PASSED: Final = "deadline_passed"
"""Why a task is blocked whose deadline has passed, and whose template says that it waits for a person then."""

TASK_ENDED: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})

# What is asked at every event has names of the module: to find a member by its enum takes four times as long.
TASK_ABSENT: Final = TaskStatus.ABSENT
TASK_RUNNING: Final = TaskStatus.RUNNING
TASK_PAUSED: Final = TaskStatus.PAUSED
STEP_DISPATCHED: Final = StepStatus.DISPATCHED
STEP_RUNNING: Final = StepStatus.RUNNING
STEP_WAITING: Final = StepStatus.WAITING
STEP_COMPLETED: Final = StepStatus.COMPLETED
STEP_CANCELLED: Final = StepStatus.CANCELLED

STEP_OPEN: Final = frozenset({STEP_DISPATCHED, STEP_RUNNING, STEP_WAITING})


# Tuples: an enum's hash is Python code, its identity is not; most steps are found at the first place.
_OPEN: Final = (STEP_DISPATCHED, STEP_RUNNING, STEP_WAITING)
_ENDED: Final = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)
_SETTLED: Final = (STEP_COMPLETED, STEP_CANCELLED)

Waits = Literal["retry", "items", "time", "child", "pause", "signal", "approval", "event", "place"]


class Place:
    """A place under a concurrency key that the task, or a step, waits for or holds.

    Attributes:
        request: what was asked for. asked_us: when.
        held: whether it is there. denied: whether it is to be given up, as its owner is cancelled.
    """

    __slots__ = ("asked_us", "denied", "held", "request")

    def __init__(self, request: PlaceRequested, asked_us: int) -> None:
        self.request = request
        self.asked_us = asked_us
        self.held = False
        self.denied = False


class Expansion:
    """The items that a step runs for, and how far that is.

    Attributes:
        items: each as JSON. keys: what their instances are called by.
        begun: how many have begun, in the list's order.
        open, failed, cancelled: instances that are so.
        completed: how many are.
        is_held: it was said that some have to wait for their turn.
    """

    __slots__ = ("_index", "_results", "begun", "cancelled", "completed", "failed", "is_held", "items", "keys", "open")

    def __init__(self, items: list[msgspec.Raw], keys: tuple[str, ...]) -> None:
        self.items = items
        self.keys = keys or tuple(str(index) for index in range(len(items)))
        self.begun = 0
        self.is_held = False
        self.completed = 0
        self.open: dict[str, None] = {}
        self.failed: dict[str, None] = {}
        self.cancelled: dict[str, None] = {}
        self._results: msgspec.Raw | None = None
        self._index = {key: index for index, key in enumerate(self.keys)}

    def index_of(self, instance: str) -> int:
        """Return the place in the list of the item that `instance` is."""
        return self._index[instance[instance.index("[") + 1 : instance.index("]")]]

    def moved(self, name: str, before: StepStatus | None, after: StepStatus) -> None:
        """Count an item's way from one status to another."""
        self._results = None
        if before is None:
            self.begun += 1
        self.completed += (after is STEP_COMPLETED) - (before is STEP_COMPLETED)
        for places, is_in in (
            (self.open, after in _OPEN),
            (self.failed, after is StepStatus.FAILED),
            (self.cancelled, after is STEP_CANCELLED),
        ):
            if is_in:
                places[name] = None
            else:
                places.pop(name, None)

    def changed(self) -> None:
        """Take note that an item's result is another one."""
        self._results = None

    def results(self, steps: dict[str, StepState], node: str) -> msgspec.Raw:
        """Return the list of the items' results; null stands where there is none."""
        if self._results is None:
            found = (steps.get(f"{node}[{key}]") for key in self.keys)
            parts = (b"null" if step is None or step.result is None else bytes(step.result) for step in found)
            self._results = msgspec.Raw(b"[" + b",".join(parts) + b"]")
        return self._results


class StepState:
    """One step that has begun.

    Attributes:
        attempt: the newest; attempts before `first_attempt` were of an earlier set.
        dispatched_us: when the newest attempt was dispatched.
        ended_attempt: the attempt whose outcome the last one is, with `result` or `error`.
        close_by_us: when the step fails, whatever attempts it has left.
        cancel_by_us: the attempt was asked to stop and has until then.
        kept_for: the worker that is to run the newest attempt while it lives; None: any.
        waits: what a waiting step waits for.
        checkpoint: where the next attempt goes on; None: at the beginning.
        child_request, child: the task that a step is to start, and its id once it exists.
        expansion: of a step that runs for each item of a list. of: that of the step that this is an item of.
        completed_seq: of the event that completed it; 0: nothing of it is to be undone.
        undoes: it is the compensation of another.
        wait: what it waits for from outside, while it does.
        timed_out: what its template says happens, of the limit of it that was over last; None: none of that kind.
    """

    __slots__ = (
        "attempt",
        "cancel_by_us",
        "checkpoint",
        "child",
        "child_request",
        "close_by_us",
        "completed_seq",
        "dispatched_us",
        "ended_attempt",
        "error",
        "expansion",
        "finish_by_us",
        "first_attempt",
        "heartbeat_s",
        "kept_for",
        "of",
        "result",
        "retry_at_us",
        "start_by_us",
        "started_us",
        "status",
        "timed_out",
        "undoes",
        "wait",
        "waits",
        "worker",
    )

    def __init__(self) -> None:
        self.status = STEP_DISPATCHED
        self.attempt = 0
        self.first_attempt = 1
        self.dispatched_us = 0
        self.started_us = 0
        self.start_by_us: int | None = None
        self.close_by_us: int | None = None
        self.finish_by_us = 0
        self.heartbeat_s = 0.0
        self.retry_at_us = 0
        self.cancel_by_us: int | None = None
        self.worker: str | None = None
        self.kept_for: str | None = None
        self.ended_attempt = 0
        self.result: msgspec.Raw | None = None
        self.error: ErrorInfo | None = None
        self.waits: Waits = "retry"
        self.checkpoint: msgspec.Raw | None = None
        self.expansion: Expansion | None = None
        self.of: Expansion | None = None
        self.child_request: ChildRequested | None = None
        self.child: str | None = None
        self.completed_seq = 0
        self.undoes = False
        self.wait: Wait | None = None
        self.timed_out: str | None = None

    @property
    def failed_before_it_began(self) -> bool:
        """Return whether the step failed at an expression, say, and was never offered: a retry looks at it anew."""
        return self.status is StepStatus.FAILED and not self.dispatched_us and self.of is None


class ChildrenTold(NamedTuple):
    """A person paused a task with its child tasks, or resumed it with those that are paused with it.

    Attributes:
        pause: seq of the event that paused them.
        is_over: they are to go on.
        at_us: when that was said.
    """

    pause: int
    is_over: bool
    at_us: int


class TaskState:
    """A task as its events left it. Owned by one actor.

    Attributes:
        seq: events so far.
        steps: those that have begun, in the order in which they did.
        completed, open: how many steps are so. failed: those that failed and hold the task up, in order.
        settled: how many nodes are.
        closed: steps that will not run in this visit -> why. closed_edges: edges that do not count.
        accepted: steps whose failure holds nothing up.
        visits: step -> its newest visit, of those that a loop came back to.
        stopping: the task will end so once its running steps have.
        to_undo: what is undone before that, in this order. undone: how many of them are.
        paused_from: where a paused task was. paused_by: the command that paused it.
        resumed_us: when it last went on; the time to start counts anew from then.
        children_told: what its child tasks were last told with it; None: nothing.
        usage: what its attempts used so far: `tokens`, and `cost:<currency>`; None: nothing.
        budget: what a person allows it instead of its template. over_budget: what of it is used up, in words.
        starts: other starts that it took while it waited (`debounce`) -> what tells each from a conflict; None: none.
        is_late: its deadline has passed, and nothing of it begins until a person gives it another one.
        commands: the last commands that changed the task -> the seq of their last event.
        created_by: who created it, where that is known (see `TaskCreated`).
        inbox: the signals that came, and who waits for more; None: none came, and nobody does.
        places: what waits for or holds a place under a concurrency key: a step instance, "" for the task.
        admitted_us: names its place under the `max_running` of its template; None: it has none.
        places_left: requests that are over since whoever tells their keys took them from here.
        staleness: what stands still; None: the task has no limits for that.
        running: how long it has run; None: nothing limits that.
        shared: what the steps wrote to the state that they share; None: nothing.
    """

    __slots__ = (
        "accepted",
        "admitted_us",
        "blocked_reason",
        "budget",
        "children_told",
        "closed",
        "closed_edges",
        "commands",
        "completed",
        "created_by",
        "created_us",
        "deadline_us",
        "error",
        "failed",
        "idempotency_key",
        "inbox",
        "input",
        "is_late",
        "metadata",
        "not_before_us",
        "open",
        "over_budget",
        "paused_by",
        "paused_from",
        "places",
        "places_left",
        "priority",
        "request_hash",
        "result",
        "resumed_us",
        "running",
        "seq",
        "settled",
        "shared",
        "staleness",
        "starts",
        "status",
        "steps",
        "stopping",
        "tags",
        "template",
        "to_undo",
        "undone",
        "usage",
        "visits",
    )

    def __init__(self) -> None:
        self.status = TASK_ABSENT
        self.seq = 0
        self.template = TemplateRef("", "", "", "")
        self.input = msgspec.Raw(b"null")
        self.request_hash = ""
        self.idempotency_key: str | None = None
        self.tags: dict[str, str] = {}
        self.metadata: msgspec.Raw | None = None
        self.priority = 0
        self.created_us = 0
        self.not_before_us: int | None = None
        self.deadline_us: int | None = None
        self.steps: dict[str, StepState] = {}
        self.completed = 0
        self.open = 0
        self.failed: dict[str, None] = {}
        self.stopping: TaskStopping | None = None
        self.blocked_reason: str | None = None
        self.result: msgspec.Raw | None = None
        self.error: ErrorInfo | None = None
        self.commands: dict[str, int] = {}
        self.settled = 0
        self.closed: dict[str, str] = {}
        self.closed_edges: dict[tuple[str, str], None] = {}
        self.accepted: dict[str, None] = {}
        self.visits: dict[str, int] = {}
        self.to_undo: tuple[str, ...] = ()
        self.undone = 0
        self.paused_from: TaskStatus | None = None
        self.paused_by: str | None = None
        self.children_told: ChildrenTold | None = None
        self.resumed_us = 0
        self.inbox: Inbox | None = None
        self.created_by: str | None = None
        self.usage: dict[str, Decimal] | None = None
        self.budget: TaskBudgetSet | None = None
        self.over_budget: str | None = None
        self.places: dict[str, Place] = {}
        self.places_left: list[PlaceRequested] = []
        self.staleness: Staleness | None = None
        self.running: RunningTime | None = None
        self.shared: Shared | None = None
        self.admitted_us: int | None = None
        self.is_late = False
        self.starts: dict[str, str] | None = None

    @property
    def is_stopping(self) -> bool:
        """Return whether what is open is being stopped: no step begins, none is tried again."""
        return self.stopping is not None and not self.to_undo

    @property
    def paused(self) -> bool:
        """Return whether nothing begins until a person resumes the task."""
        return self.status is TASK_PAUSED

    @property
    def held(self) -> bool:
        """Return whether nothing begins until a person says so: it is paused, over its budget, or past its deadline."""
        return self.status is TASK_PAUSED or ((self.over_budget is not None or self.is_late) and self.stopping is None)

    @property
    def ended(self) -> bool:
        """Return whether nothing will happen any more."""
        return self.status in _ENDED

    @property
    def is_plain(self) -> bool:
        """Return whether nothing is closed and no step was visited twice: steps are their own nodes."""
        return not (self.closed or self.closed_edges or self.visits)

    def has_taken(self, command_id: str) -> bool:
        """Return whether the command has changed the task: one of the last ones, or any that brought a signal."""
        return command_id in self.commands or (self.inbox is not None and command_id in self.inbox.commands)

    def node(self, step: str) -> str:
        """Return the newest visit of a step of the template."""
        return step if step not in self.visits else visit_of(step, self.visits[step])

    def at_node(self, step: str) -> StepState | None:
        """Return the entry of a step's newest visit; None when that has not begun."""
        return self.steps.get(self.node(step) if self.visits else step)

    def has_result(self, step: str) -> bool:
        """Return whether the newest visit of `step` is completed."""
        found = self.at_node(step)
        return found is not None and found.status is STEP_COMPLETED

    def has_begun(self, step: str) -> bool:
        """Return whether the newest visit of `step` has begun, or will not run."""
        return step in self.closed or self.at_node(step) is not None

    def result_of(self, step: str) -> msgspec.Raw | None:
        """Return the result of the newest visit of `step`; None: it has none."""
        return self.result_at(self.node(step))

    def result_at(self, instance: str) -> msgspec.Raw | None:
        """Return the result of one instance; None: it has none."""
        found = self.steps.get(instance)
        if found is None or found.status is not STEP_COMPLETED:
            return None
        return found.result if found.expansion is None else found.expansion.results(self.steps, instance)


def evolve(  # noqa: PLR0915 - one case an event
    state: TaskState, event: AnyTaskEvent, *, at_us: int, command_id: str | None = None
) -> TaskState:
    """Return `state` moved on by `event`, which was recorded at `at_us`. Total."""
    state.seq += 1
    if command_id is not None and type(event) is not SignalReceived:  # the inbox knows those for good
        remember(state.commands, command_id, state.seq)
    match event:
        case StepDispatched(step=name, attempt=attempt):
            step = _enter(state, name, STEP_DISPATCHED)
            step.attempt = attempt
            step.dispatched_us = at_us
            step.start_by_us = event.start_by_us
            if event.close_by_us is not None:
                step.close_by_us = event.close_by_us
            step.worker = None
            step.kept_for = event.worker
        case StepStarted(step=name):
            step = _enter(state, name, STEP_RUNNING)
            step.worker = event.worker
            step.started_us = at_us
            step.finish_by_us = event.finish_by_us
            step.heartbeat_s = event.heartbeat_s
        case StepCompleted(step=name, attempt=attempt):
            step = _enter(state, name, STEP_COMPLETED)
            step.ended_attempt = attempt
            step.result = event.result
            step.error = None
            step.cancel_by_us = None
            if event.writes:
                _write(state, name, event.writes)
        case TaskCreated():
            state.status = TASK_RUNNING if event.not_before_us is None else TaskStatus.PENDING
            state.template = event.template
            state.input = event.input
            state.request_hash = event.request_hash
            state.idempotency_key = event.idempotency_key
            state.tags = event.tags
            state.metadata = event.metadata
            state.created_us = at_us
            state.not_before_us = event.not_before_us
            state.deadline_us = event.deadline_us
            state.created_by = event.created_by
            state.admitted_us = event.admitted_us
            state.priority = event.priority
            if event.stale_after is not None:
                state.staleness = Staleness(event.stale_after)
            if event.running_s_max is not None:
                state.running = RunningTime(float(event.running_s_max))
        case TaskCompleted():
            _end(state, TaskStatus.COMPLETED)
            state.result = event.result
        case TaskPostponed():
            state.input = event.input
            state.not_before_us = event.not_before_us
            state.deadline_us = event.deadline_us
            if state.starts is None:
                state.starts = {}
            state.starts[event.start] = event.request_hash
        case TaskStarted():
            state.status = TASK_RUNNING
        case StepAttemptFailed(step=name, attempt=attempt):
            # The fact alone; what follows from it (retry, failure, cancellation) is an event of its own.
            step = _enter(state, name, STEP_WAITING)
            step.waits = "retry"
            step.ended_attempt = attempt
            step.error = event.error
            step.timed_out = None
            step.cancel_by_us = None
        case StepRetryScheduled(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.retry_at_us = event.retry_at_us
        case StepFailed(step=name):
            step = _enter(state, name, StepStatus.FAILED)
            step.attempt = event.attempt
            step.error = event.error
            if step.of is None and not step.undoes:
                state.failed[name] = None
        case StepCancelRequested(step=name):
            _entry(state, name).cancel_by_us = event.grace_until_us
        case StepCancelled(step=name):
            _enter(state, name, STEP_CANCELLED).cancel_by_us = None
        case StepRetried(step=name, attempt=attempt):
            _forget_failure(state, name)
            step = _entry(state, name)
            step.first_attempt = attempt
            step.close_by_us = None
            if step.expansion is not None:
                _enter(state, name, STEP_WAITING)
            elif step.failed_before_it_began:
                del state.steps[name]  # it failed before it began, at an expression say: it may begin again
            elif state.held:
                _enter(state, name, STEP_WAITING).waits = "pause"
        case StepSkipped(step=name) | StepResolved(step=name):
            _forget_failure(state, name)
            step = _enter(state, name, STEP_COMPLETED)
            if step.expansion is not None or isinstance(event, StepSkipped):
                step.completed_seq = 0
            step.expansion = None
            step.result = event.result
            step.error = None
            step.cancel_by_us = None
        case StepAttemptsReset(step=name, attempt=attempt):
            _entry(state, name).first_attempt = attempt
        case StepResultEdited(step=name):
            step = _entry(state, name)
            step.result = event.result
            if step.of is not None:
                step.of.changed()
        case StepReleased(step=name):
            step = _entry(state, name)
            step.retry_at_us = at_us
            if step.wait is not None:
                step.wait.release(at_us)
        case ParentsOverridden():
            pass  # what begins by it says so
        case StepRouted(step=name):
            for child in event.closed:
                state.closed_edges[name_of(name), child] = None
        case PathsClosed(steps=names):
            state.closed.update((name, event.reason) for name in names)
            state.closed_edges.update((edge, None) for edge in event.edges)
            state.settled += len(names)
        case StepFailureAccepted(step=name):
            state.failed.pop(name, None)
            state.accepted[name] = None
            state.settled += 1
        case StepExpanded(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = 1
            step.dispatched_us = at_us
            step.waits = "items"
            step.expansion = Expansion(msgspec.json.decode(event.items, type=list[msgspec.Raw]), event.keys)
        case StepGathered(step=name):
            _enter(state, name, STEP_COMPLETED).error = None
        case StepYielded(step=name, attempt=attempt):
            step = _enter(state, name, STEP_WAITING)
            step.waits = "retry"
            step.ended_attempt = attempt
            step.first_attempt = attempt + 1
            step.checkpoint = event.checkpoint
            step.retry_at_us = event.resume_at_us
            step.error = None
            step.cancel_by_us = None
            if event.writes:
                _write(state, name, event.writes)
        case StepDelayed(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = event.attempt
            step.dispatched_us = at_us
            step.waits = "time"
            step.retry_at_us = event.until_us
        case ChildRequested(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = event.attempt
            step.dispatched_us = at_us
            step.waits = "child"
            step.child_request = event
            step.child = None
        case ChildStarted(step=name):
            _entry(state, name).child = event.child
        case SignalReceived():
            _inbox(state).receive(event, command_id)
        case StepAwaited(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = event.attempt
            step.dispatched_us = at_us
            step.waits = "signal"
            step.error = None
            step.wait = _inbox(state).await_signal(name, event)
        case StepSignalled(step=name):
            _inbox(state).take(_entry(state, name).wait, event.numbers)
        case ApprovalRequested(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = event.attempt
            step.dispatched_us = at_us
            step.waits = "approval"
            step.error = None
            step.wait = ApprovalWait(event)
        case ApprovalAnswered(step=name):
            _approval(state, name).answer(event, at_us)
        case ApprovalDelegated(step=name):
            _approval(state, name).delegate(event)
        case ApprovalEscalated(step=name):
            _approval(state, name).escalate(event)
        case EventAwaited(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = event.attempt
            step.dispatched_us = at_us
            step.waits = "event"
            step.error = None
            step.wait = EventWait(event, at_us)
        case EventMatched(step=name):
            found = _entry(state, name).wait
            if isinstance(found, EventWait):
                found.matched = event.event
        case TaskReconciled():
            pass  # its obligations are what they were
        case StepItemsHeld(step=name):
            held = _entry(state, name).expansion
            if held is not None:
                held.is_held = True
        case WaitExpired():
            pass  # what becomes of the step says so
        case PlaceRequested(step=name):
            state.places[name] = Place(event, at_us)
            if name:
                step = _enter(state, name, STEP_WAITING)
                step.attempt = event.attempt
                step.dispatched_us = at_us
                step.waits = "place"
            else:
                state.status = TaskStatus.PENDING
        case PlaceTaken(step=name):
            if name in state.places:
                state.places[name].held = True
            if name:
                pass  # what begins by it says so
            elif state.paused:
                state.paused_from = TASK_RUNNING
            else:
                state.status = TASK_RUNNING
        case PlaceDenied(step=name):
            if name in state.places:
                state.places[name].denied = True
        case LoopTurned():
            _turn(state, event)
        case TaskBlocked():
            state.status = TaskStatus.BLOCKED
            state.blocked_reason = event.reason
        case TaskResumed():
            state.status = TaskStatus.COMPENSATING if state.to_undo else TASK_RUNNING
            state.blocked_reason = None
        case TaskPaused(children=children):
            if not state.paused:
                state.paused_from = state.status
                state.paused_by = command_id
            state.status = TASK_PAUSED
            state.blocked_reason = None
            if children:
                state.children_told = ChildrenTold(state.seq, False, at_us)  # noqa: FBT003 - a tuple of three
        case TaskUnpaused(children=children):
            told = state.children_told
            state.children_told = told._replace(is_over=True, at_us=at_us) if told is not None and children else None
            state.paused_by = None
            state.status = TaskStatus.PENDING if state.paused_from is TaskStatus.PENDING else TASK_RUNNING
            state.paused_from = None
            state.resumed_us = at_us
        case TaskUpdated(tags=tags, metadata=metadata, priority=priority):
            if tags is not None:
                state.tags = tags
            if metadata is not None:
                state.metadata = None if metadata == NULL else metadata
            if priority is not None:
                state.priority = priority
        case StepTimedOut(step=name):
            _entry(state, name).timed_out = event.then
        case TaskDeadlineSet():
            state.deadline_us = event.deadline_us
            state.is_late = False
            if event.goes_on:
                state.status = TASK_RUNNING
                state.blocked_reason = None
                state.resumed_us = at_us
        case TaskDeadlinePassed():
            state.deadline_us = None
            state.is_late = event.then == "block"
        case UsageRecorded():
            if state.usage is None:
                state.usage = {}
            count_usage(state.usage, event)
            if event.excess is not None:
                state.over_budget = event.excess
        case RunningTimeSpent():
            state.over_budget = event.excess
        case TaskBudgetSet():
            state.budget = event
            state.over_budget = None
            if state.running is not None and event.running_s_max is not None:
                state.running.limit_s = float(event.running_s_max)
            if event.goes_on:
                state.status = TASK_RUNNING
                state.blocked_reason = None
                state.resumed_us = at_us
        case TaskStopping():
            state.stopping = event
            if state.status in (TaskStatus.BLOCKED, TASK_PAUSED):
                # It moves again, towards its end: its running steps are told, and owe an outcome.
                state.status = TASK_RUNNING
                state.blocked_reason = None
        case TaskCompensating():
            state.status = TaskStatus.COMPENSATING
            state.to_undo = instances_to_undo(state, event.steps)
        case TaskFailed():
            _end(state, TaskStatus.FAILED)
            state.error = event.error
        case TaskCancelled():
            _end(state, TaskStatus.CANCELLED)
        case DomainEventRaised() | ProgressRecorded():
            pass  # what it says is for others; nothing of the task moves
        case WentStale(step=scope):
            if state.staleness is not None:
                state.staleness.tell(scope)
        case StaleEnded(step=scope):
            if state.staleness is not None:
                state.staleness.told.pop(scope, None)
        case _:
            assert_never(event)
    if state.staleness is not None:
        _note_standing(state, state.staleness, event, at_us)
    if state.running is not None:
        _note_running(state, state.running, event, at_us)
    return state


_STANDS_STILL: Final = frozenset({TaskStatus.PENDING, TaskStatus.BLOCKED, TASK_PAUSED})


def _note_standing(state: TaskState, staleness: Staleness, event: AnyTaskEvent, at_us: int) -> None:
    """Take note of whether the task, and the step that `event` is about, stand still."""
    if state.status in _STANDS_STILL and state.blocked_reason not in ("history_limit", "no_progress"):
        staleness.stands("", str(state.status), at_us)
    else:
        staleness.moves("")
    name: str = getattr(event, "step", None) or ""
    entry = state.steps.get(name)
    if entry is None:
        return
    if entry.status is STEP_WAITING and entry.waits not in ("items", "pause"):
        staleness.stands(name, WAITING, at_us)
    else:
        staleness.moves(name)


def _note_running(state: TaskState, running: RunningTime, event: AnyTaskEvent, at_us: int) -> None:
    """Take note of whether the step that `event` is about runs."""
    name: str = getattr(event, "step", None) or ""
    entry = state.steps.get(name)
    if entry is not None and entry.status is STEP_RUNNING:
        running.runs(name, at_us)
    else:
        running.rests(name, at_us)


def _forget_failure(state: TaskState, name: str) -> None:
    """Let a step's failure, accepted or not, count no more."""
    state.failed.pop(name, None)
    if state.accepted.pop(name, name) is None:
        state.settled -= 1


def _enter(state: TaskState, name: str, status: StepStatus) -> StepState:
    """Return the step, moved to `status`, with the task's counts kept right."""
    step = _entry(state, name)
    before = step.status
    if state.places and status not in _OPEN:
        _leave_place(state, name)
    if before is not status:
        state.open += (status in _OPEN) - (before in _OPEN)
        state.completed += (status is STEP_COMPLETED) - (before is STEP_COMPLETED)
        if status is STEP_COMPLETED:
            step.completed_seq = state.seq
        if step.wait is not None:
            if state.inbox is not None:
                state.inbox.forget(name, step.wait)
            step.wait = None
        if step.of is not None:
            step.of.moved(name, before, status)
        elif step.undoes:
            state.undone += (status in _SETTLED) - (before in _SETTLED)
        else:
            state.settled += (status in _SETTLED) - (before in _SETTLED)
        step.status = status
    return step


def _write(state: TaskState, name: str, writes: dict[str, msgspec.Raw]) -> None:
    if state.shared is None:
        state.shared = Shared()
    state.shared.write(state.seq, name, writes)


def _inbox(state: TaskState) -> Inbox:
    if state.inbox is None:
        state.inbox = Inbox()
    return state.inbox


def _approval(state: TaskState, name: str) -> ApprovalWait:
    """Return what a step asks people; one that asks nothing has a wait that nobody sees."""
    wait = _entry(state, name).wait
    return wait if isinstance(wait, ApprovalWait) else ApprovalWait(ApprovalRequested(step=name, attempt=0))


def _entry(state: TaskState, name: str) -> StepState:
    step = state.steps.get(name)
    if step is None:
        step = state.steps[name] = StepState()
        state.open += 1
        if state.shared is not None and not is_item(name):
            state.shared.begun[name] = state.seq
        if is_item(name):
            node = state.steps.get(node_of(name))
            step.of = None if node is None else node.expansion
            if step.of is not None:
                step.of.moved(name, None, step.status)
        else:
            step.undoes = is_undo(name)
    return step


def instances_to_undo(state: TaskState, steps: Collection[str]) -> tuple[str, ...]:
    """Return the completed instances of some steps, the last completed first; items stand for the step they are of."""
    done = [
        (step.completed_seq, name)
        for name, step in state.steps.items()
        if step.status is STEP_COMPLETED
        and step.completed_seq
        and step.expansion is None
        and not step.undoes
        and name_of(name) in steps
    ]
    return tuple(name for _, name in sorted(done, reverse=True))


def _turn(state: TaskState, event: LoopTurned) -> None:
    """Let the steps of a loop's body begin anew: what their last visit left is history."""
    for name in event.steps:
        if name in state.closed:
            del state.closed[name]
            state.settled -= 1
        else:
            node = state.node(name)
            last = state.steps.get(node)
            if last is not None:
                state.settled -= last.status in _SETTLED or node in state.accepted
                state.failed.pop(node, None)
                state.visits[name] = state.visits.get(name, 1) + 1
    for node in event.failures:
        if state.accepted.pop(node, node) is None:
            state.failed[node] = None
            state.settled -= 1
    if state.shared is not None:
        state.shared.turns.setdefault(event.step, []).append(state.seq)
    body = set(event.steps)
    for edge in [edge for edge in state.closed_edges if edge[0] in body]:
        del state.closed_edges[edge]


def count_usage(used: dict[str, Decimal], event: UsageRecorded) -> None:
    """Add what `event` tells to `used`: tokens, and costs by currency."""
    if event.meter in TOKEN_METERS:
        used["tokens"] = added(used.get("tokens", Decimal(0)), Decimal(event.amount))
    if event.cost is not None:
        cost = f"cost:{event.currency}"
        used[cost] = added(used.get(cost, Decimal(0)), Decimal(event.cost))


def _end(state: TaskState, status: TaskStatus) -> None:
    state.status = status
    state.blocked_reason = None
    for name in list(state.places):
        _leave_place(state, name)


def _leave_place(state: TaskState, name: str) -> None:
    place = state.places.pop(name, None)
    if place is not None:
        state.places_left.append(place.request)


def state_document(state: TaskState) -> dict[str, Any]:
    """Return `state` as a JSON value: what `task show --at` prints and `state_hash` hashes."""
    return {
        "state": str(state.status),
        "seq": state.seq,
        "template": msgspec.to_builtins(state.template),
        "input": msgspec.json.decode(state.input),
        "request_hash": state.request_hash,
        "idempotency_key": state.idempotency_key,
        "tags": state.tags,
        "created_us": state.created_us,
        "not_before_us": state.not_before_us,
        "deadline_us": state.deadline_us,
        "steps": {name: _step_document(step) for name, step in state.steps.items()},
        "completed": state.completed,
        "open": state.open,
        "failed": list(state.failed),
        "stopping": msgspec.json.decode(msgspec.json.encode(state.stopping)),
        "blocked_reason": state.blocked_reason,
        "result": None if state.result is None else msgspec.json.decode(state.result),
        "error": msgspec.to_builtins(state.error),
        "commands": state.commands,
        **_later_document(state),
    }


def _later_document(state: TaskState) -> dict[str, Any]:
    """Return what the first form of a state did not have: left out where there is none, so that its hash stays."""
    document: dict[str, Any] = {
        "closed": state.closed,
        "closed_edges": [list(edge) for edge in state.closed_edges],
        "accepted": list(state.accepted),
        "visits": state.visits,
        "to_undo": list(state.to_undo),
        "undone": state.undone,
        "paused_from": state.paused_from and str(state.paused_from),
        "paused_by": state.paused_by,
        "resumed_us": state.resumed_us,
        "children_told": state.children_told and list(state.children_told),
        "inbox": state.inbox and state.inbox.document(),
        "metadata": state.metadata and msgspec.json.decode(state.metadata),
        "created_by": state.created_by,
        "usage": state.usage and {what: amount_text(amount) for what, amount in state.usage.items()},
        "budget": state.budget and {"cost_max": state.budget.cost_max, "tokens_max": state.budget.tokens_max},
        "over_budget": state.over_budget,
        "places": {name: _place_document(place) for name, place in state.places.items()},
        "staleness": state.staleness and state.staleness.document(),
        "running": state.running and state.running.document(),
        "shared": state.shared and state.shared.document(),
        "admitted_us": state.admitted_us,
        "starts": state.starts,
        "is_late": state.is_late,
        "priority": state.priority,
    }
    return {key: value for key, value in document.items() if value}


def _place_document(place: Place) -> dict[str, Any]:
    return {
        "request": msgspec.to_builtins(place.request),
        "asked_us": place.asked_us,
        "held": place.held,
        "denied": place.denied,
    }


_NO_FACT: Final = (
    "close_by_us",
    "kept_for",
    "of",
    "expansion",
    "waits",
    "checkpoint",
    "child",
    "child_request",
    "completed_seq",
    "undoes",
    "wait",
    "timed_out",
)


def _step_document(step: StepState) -> dict[str, Any]:
    document = {slot: getattr(step, slot) for slot in StepState.__slots__ if slot not in _NO_FACT}
    if step.waits != "retry":
        document["waits"] = step.waits
    if step.checkpoint is not None:
        document["checkpoint"] = msgspec.json.decode(step.checkpoint)
    if step.close_by_us is not None:
        document["close_by_us"] = step.close_by_us
    if step.kept_for is not None:
        document["kept_for"] = step.kept_for
    if step.child is not None:
        document["child"] = step.child
    if step.timed_out is not None:
        document["timed_out"] = step.timed_out
    if step.wait is not None:
        document["wait"] = step.wait.document()
    if step.expansion is not None:
        document["items"] = len(step.expansion.items)
    document["status"] = str(step.status)
    document["error"] = msgspec.to_builtins(step.error)
    document["result"] = None if step.result is None else msgspec.json.decode(step.result)
    return document


def state_hash(state: TaskState) -> str:
    """Return the sha256 (hex) of the canonical form of `state`: equal for two equal folds."""
    return hash_of(canonical(state_document(state)))
