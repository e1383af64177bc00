"""What the core is asked: commands to one task, with every time and every draw inside them."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import msgspec

from tasker.events.messages import EmittedEvent, Progress, UsageLine
from tasker.events.task_events import Choice, Decision, ErrorInfo, OptionalRaw, TemplateRef


class TaskCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What every command carries: `at_us`, the time at which it is decided."""

    at_us: int


class CreateTask(TaskCommand, frozen=True, kw_only=True):
    """Begin the task; its input has been checked against the template."""

    template: TemplateRef
    input: msgspec.Raw
    request_hash: str
    idempotency_key: str | None = None
    tags: dict[str, str] = {}
    metadata: OptionalRaw = None
    restarted_from: str | None = None
    not_before_us: int | None = None
    timeout_s: float | None = None
    created_by: str | None = None
    admitted_us: int | None = None
    priority: int = 0
    depth: int = 0


class PostponeTask(TaskCommand, frozen=True, kw_only=True):
    """Begin later and with another input, as another start says (`debounce`); it has been checked as one's own.

    `by` asked for it, where an approval of the template may not be theirs.
    """

    start: str
    request_hash: str
    input: msgspec.Raw
    not_before_us: int | None = None
    timeout_s: float | None = None
    by: str | None = None


class CancelTask(TaskCommand, frozen=True, kw_only=True):
    """End the task; running steps have `grace_s` to stop."""

    grace_s: float


class CompleteTask(TaskCommand, frozen=True, kw_only=True):
    """End the task as completed, with a person's result; running steps have `grace_s` to stop."""

    result: msgspec.Raw
    grace_s: float


class FailTask(TaskCommand, frozen=True, kw_only=True):
    """End the task as failed, with a person's error; running steps have `grace_s` to stop."""

    error: ErrorInfo
    grace_s: float


class UpdateTask(TaskCommand, frozen=True, kw_only=True):
    """Change tags (None removes one), metadata (a JSON merge patch, RFC 7396) and priority; None: nothing of it."""

    tags: dict[str, str | None]
    metadata: dict[str, Any] | None
    priority: int | None = None


class SetDeadline(TaskCommand, frozen=True, kw_only=True):
    """Give the task another deadline: a time, or so long from now on; neither: none."""

    deadline_us: int | None = None
    within_s: float | None = None


class PauseTask(TaskCommand, frozen=True, kw_only=True):
    """Let nothing more of the task begin; attempts that run go on. `children`: nor of its child tasks, and theirs."""

    children: bool = False


class ResumeTask(TaskCommand, frozen=True, kw_only=True):
    """Let a paused task go on.

    Attributes:
        children: and its child tasks, and theirs, that are paused with it.
        paused_by: only when this command paused it; None: whoever did.
    """

    children: bool = False
    paused_by: str | None = None


class RetryTask(TaskCommand, frozen=True, kw_only=True):
    """Give every failed step a fresh set of attempts; while the task compensates, the compensation that failed."""


class RetryStep(TaskCommand, frozen=True, kw_only=True):
    """Give one failed step a fresh set of attempts; `attempt` is the failed one that the caller saw."""

    step: str
    attempt: int | None = None


class SkipStep(TaskCommand, frozen=True, kw_only=True):
    """Have a person, `by`, complete a step without running it.

    Of a decision, `choice` says what runs then (None: nothing).
    """

    step: str
    result: msgspec.Raw
    choice: Choice | None = None
    by: str | None = None


class ResolveStep(TaskCommand, frozen=True, kw_only=True):
    """Have a person, `by`, complete a step with a result got in another way; of a decision with its choice."""

    step: str
    result: msgspec.Raw
    choice: Choice | None = None
    by: str | None = None


class ResetStep(TaskCommand, frozen=True, kw_only=True):
    """Let the failures of an open step count no more."""

    step: str


class EditResult(TaskCommand, frozen=True, kw_only=True):
    """Have a person, `by`, give a completed step another result."""

    step: str
    result: msgspec.Raw
    by: str | None = None


class ReleaseStep(TaskCommand, frozen=True, kw_only=True):
    """End what a step waits for: its retry, its time, or parents that have not completed."""

    step: str


class SignalTask(TaskCommand, frozen=True, kw_only=True):
    """Bring the task a signal; `value` in canonical bytes."""

    name: str
    value: msgspec.Raw


class AnswerApproval(TaskCommand, frozen=True, kw_only=True):
    """A person answers what a step asks; `attempt` is the asking that they saw.

    Attributes:
        roles: that they have, as the caller vouches.
        values: of the form, in canonical bytes.
    """

    step: str
    attempt: int | None
    decision: Decision
    by: str
    roles: tuple[str, ...]
    reason: str
    values: msgspec.Raw


class DelegateApproval(TaskCommand, frozen=True, kw_only=True):
    """A person who may answer what a step asks has `to` do so."""

    step: str
    attempt: int | None
    by: str
    roles: tuple[str, ...]
    to: str
    reason: str


class SetBudget(TaskCommand, frozen=True, kw_only=True):
    """Let the task use as much instead of what its template says; None: as it is."""

    cost_max: str | None = None
    tokens_max: int | None = None
    running_s_max: float | None = None


class StartAttempt(TaskCommand, frozen=True, kw_only=True):
    """A worker began the attempt."""

    step: str
    attempt: int
    worker: str


class CompleteAttempt(TaskCommand, frozen=True, kw_only=True):
    """A worker has the attempt's result, in canonical bytes; of a decision, the choice too."""

    step: str
    attempt: int
    worker: str
    result: msgspec.Raw
    choice: Choice | None = None
    emitted: tuple[EmittedEvent, ...] = ()
    usage: tuple[UsageLine, ...] = ()
    progress: Progress | None = None
    writes: dict[str, msgspec.Raw] = {}


class YieldAttempt(TaskCommand, frozen=True, kw_only=True):
    """A worker gives the attempt back with a checkpoint, to be called again after `delay_s`."""

    step: str
    attempt: int
    worker: str
    checkpoint: msgspec.Raw
    delay_s: float
    usage: tuple[UsageLine, ...] = ()
    progress: Progress | None = None
    writes: dict[str, msgspec.Raw] = {}


class FailAttempt(TaskCommand, frozen=True, kw_only=True):
    """A worker's attempt failed. `jitter` in [0, 1) is drawn by the caller."""

    step: str
    attempt: int
    worker: str
    error: ErrorInfo
    jitter: float
    emitted: tuple[EmittedEvent, ...] = ()
    usage: tuple[UsageLine, ...] = ()
    progress: Progress | None = None


class RecordUsage(TaskCommand, frozen=True, kw_only=True):
    """A worker told what an attempt used that is over for its task: it was paid for all the same."""

    step: str
    attempt: int
    usage: tuple[UsageLine, ...]


class NoteChild(TaskCommand, frozen=True, kw_only=True):
    """The owner of a step's child told how that stands.

    Attributes:
        child: its id; None: it was refused, with `error`.
        ended: it ended as `state`, with `result` when it completed, else with `error`.
    """

    step: str
    attempt: int
    child: str | None
    ended: bool = False
    state: str = ""
    result: msgspec.Raw | None = None
    error: ErrorInfo | None = None


class TakePlace(TaskCommand, frozen=True, kw_only=True):
    """A concurrency key grants the place that a step instance, or the task (""), asked for."""

    step: str
    attempt: int


class DenyPlace(TaskCommand, frozen=True, kw_only=True):
    """A concurrency key refuses the place, or wants it back for another; `taken_by` is that one's request."""

    step: str
    attempt: int
    reason: Literal["full", "evicted"]
    taken_by: str | None = None


class NoteEvent(TaskCommand, frozen=True, kw_only=True):
    """Another task had an event that a step may wait for.

    Attributes:
        task_id, seq, event_at_us: which event, and its time.
        event: as an expression sees it, in canonical bytes.
    """

    step: str
    attempt: int
    task_id: str
    seq: int
    event_at_us: int
    event: msgspec.Raw


class Reconcile(TaskCommand, frozen=True, kw_only=True):
    """Obligations were found that nothing would have seen to; see `TaskReconciled`."""

    lost: Literal["forgotten", "not_woken"]
    obligations: tuple[str, ...]


class FireObligation(TaskCommand, frozen=True, kw_only=True):
    """The time of an obligation has come; nothing happens when it is closed by now."""

    obligation: str
    jitter: float


AnyTaskCommand = (
    CreateTask
    | CancelTask
    | CompleteTask
    | FailTask
    | UpdateTask
    | PostponeTask
    | SetDeadline
    | PauseTask
    | ResumeTask
    | RetryTask
    | RetryStep
    | SkipStep
    | ResolveStep
    | ResetStep
    | EditResult
    | ReleaseStep
    | SignalTask
    | AnswerApproval
    | DelegateApproval
    | SetBudget
    | StartAttempt
    | CompleteAttempt
    | YieldAttempt
    | FailAttempt
    | RecordUsage
    | NoteChild
    | TakePlace
    | DenyPlace
    | NoteEvent
    | FireObligation
    | Reconcile
)

Outcome = CompleteAttempt | YieldAttempt | FailAttempt
"""How an attempt ends, as its worker tells."""

OUTCOMES: Final = frozenset[type](get_args(Outcome))
"""Their classes: for a command of another class this is asked in a tenth of the time that `isinstance` takes."""
