r"""A task's state, as its events left it (`evolve`).

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
from typing import Final, Literal, NamedTuple

import msgspec

from tasker.events.command_memory import CommandMemory, check_repeat
from tasker.events.task_events import (
    NULL,
    ChildRequested,
    ErrorInfo,
    PlaceRequested,
    TaskBudgetSet,
    TaskStopping,
    TemplateRef,
)
from tasker.service.domain.costs.running_time import RunningTime
from tasker.service.domain.dead_letters.staleness import Staleness
from tasker.service.domain.shared_state.written import Shared
from tasker.service.domain.waits.inbox import Inbox
from tasker.service.domain.waits.wait_state import Wait
from tasker.templates.instances import name_of, visit_of


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

# What is asked at every event has names of the module: to find a member by its enum takes four times as long.
TASK_ABSENT: Final = TaskStatus.ABSENT
TASK_PENDING: Final = TaskStatus.PENDING
TASK_RUNNING: Final = TaskStatus.RUNNING
TASK_PAUSED: Final = TaskStatus.PAUSED
STEP_DISPATCHED: Final = StepStatus.DISPATCHED
STEP_RUNNING: Final = StepStatus.RUNNING
STEP_WAITING: Final = StepStatus.WAITING
STEP_COMPLETED: Final = StepStatus.COMPLETED
STEP_CANCELLED: Final = StepStatus.CANCELLED

# Tuples: an enum's hash is Python code, its identity is not; most steps are found at the first place.
STEP_OPEN: Final = (STEP_DISPATCHED, STEP_RUNNING, STEP_WAITING)
STEP_SETTLED: Final = (STEP_COMPLETED, STEP_CANCELLED)
TASK_ENDED: Final = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)

_NO_TEMPLATE: Final = TemplateRef("", "", "", "")


Waits = Literal["retry", "items", "turn", "time", "child", "pause", "signal", "approval", "event", "place"]


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
        again: instances that are retried and whose turn has not come, in order; they are open as well.
        open, failed, cancelled: instances that are so.
        completed: how many are.
        is_held: it was said that some have to wait for their turn.
    """

    __slots__ = (
        "_index",
        "_results",
        "again",
        "begun",
        "cancelled",
        "completed",
        "failed",
        "is_held",
        "items",
        "keys",
        "open",
    )

    def __init__(self, items: list[msgspec.Raw], keys: tuple[str, ...]) -> None:
        self.items = items
        self.keys = keys or tuple(str(index) for index in range(len(items)))
        self.begun = 0
        self.is_held = False
        self.completed = 0
        self.again: dict[str, None] = {}
        self.open: dict[str, None] = {}
        self.failed: dict[str, None] = {}
        self.cancelled: dict[str, None] = {}
        self._results: msgspec.Raw | None = None
        self._index = {key: index for index, key in enumerate(self.keys)}

    @property
    def waiting(self) -> int:
        """Return how many items have to wait for their turn."""
        return len(self.items) - self.begun + len(self.again)

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
            (self.open, after in STEP_OPEN),
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
        metered: the newest attempt of which usage is recorded; 0: of none. Each tells it once.
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
        "metered",
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
        self.metered = 0

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
        paused_from: where a paused task was; `pending` also of one that is blocked before it began.
        paused_by: the command that paused it.
        deadline_us_given: its deadline as whoever started it gave it, whatever a person made of that since.
        resumed_us: when it last went on; the time to start counts anew from then.
        children_told: what its child tasks were last told with it; None: nothing.
        usage: what its attempts used so far: `tokens`, and `cost:<currency>`; None: nothing.
        budget: what a person allows it instead of its template. over_budget: what of it is used up, in words.
        starts: other starts that it took while it waited (`debounce`) -> what tells each from a conflict; None: none.
        depth: how many tasks are above it.
        is_late: its deadline has passed, and nothing of it begins until a person gives it another one.
        commands: the last commands that changed the task, but for those that brought a signal.
        created_by: who created it, where that is known (see `TaskCreated`).
        changed_by: who changed its input or a result by hand, where that is known; None: nobody.
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
        "changed_by",
        "children_told",
        "closed",
        "closed_edges",
        "commands",
        "completed",
        "created_by",
        "created_us",
        "deadline_us",
        "deadline_us_given",
        "depth",
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
        self.template = _NO_TEMPLATE
        self.input = NULL
        self.request_hash = ""
        self.idempotency_key: str | None = None
        self.tags: dict[str, str] = {}
        self.metadata: msgspec.Raw | None = None
        self.priority = 0
        self.depth = 0
        self.created_us = 0
        self.not_before_us: int | None = None
        self.deadline_us: int | None = None
        self.deadline_us_given: int | None = None
        self.steps: dict[str, StepState] = {}
        self.completed = 0
        self.open = 0
        self.failed: dict[str, None] = {}
        self.stopping: TaskStopping | None = None
        self.blocked_reason: str | None = None
        self.result: msgspec.Raw | None = None
        self.error: ErrorInfo | None = None
        self.commands = CommandMemory()
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
        self.changed_by: dict[str, None] | None = None
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
        return self.status in TASK_ENDED

    @property
    def is_plain(self) -> bool:
        """Return whether nothing is closed and no step was visited twice: steps are their own nodes."""
        return not (self.closed or self.closed_edges or self.visits)

    def has_taken(self, command_id: str | None, request: str | None = None) -> bool:
        """Return whether the command has changed the task: one of the last ones, or any that brought a signal.

        Raises:
            KeyConflict: one with its id has, that asked for something else.
        """
        if self.commands.knows(command_id, request):
            return True
        if command_id is None or self.inbox is None or command_id not in self.inbox.commands:
            return False
        check_repeat(command_id, request, self.inbox.commands[command_id])
        return True

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
