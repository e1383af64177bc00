"""What a step or a task waits for, as facts and in words: the answers of `waiting_on` and `explain`."""

from __future__ import annotations

from typing import Literal

import msgspec

from tasker.events.control_events import ControlScope, LimitScope

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


class QueueFacts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a queue stands with the workers, as NATS says at this moment.

    Attributes:
        namespace, queue: which one.
        asking: how many requests for work of it are open: each is a worker with a free slot. 0: no worker runs that
            serves it, or all are busy.
        offered: how much of its work lies in the stream and nobody has taken.
        given_back: how much of its work was taken and given back, and nobody has begun: a worker that has no such
            handler does that, and one whose handler is at its `concurrency`.
        known: whether a worker has ever served it. last_taken: when work of it was last taken from the stream.
        handler: what the work of the step that waits names.
    """

    namespace: str
    queue: str
    asking: int = 0
    offered: int = 0
    given_back: int = 0
    known: bool = True
    last_taken: str | None = None
    handler: str | None = None


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
        ahead: how many of them come before the one that is explained, by priority and by when they asked (with fair
            shares: of its own share, so others may come in between); absent: far more than matter.
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


class TurnFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt waits for its turn under rate limits, as its owner says at this moment.

    Attributes:
        ahead: how many that wait for the same have their turn before it: of a higher priority or, of its own,
            dispatched earlier (with fair shares these take turns, so it may come earlier or later).
        at: about when it comes, if nothing more urgent arrives.
    """

    ahead: int
    at: str


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
        turn: when it has its turn under them; absent where it has had it. queue: how its queue stands. Both only in
            explanations.
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
    turn: TurnFacts | None = None
    queue: QueueFacts | None = None
    steps: tuple[str, ...] = ()
    reason: str | None = None
    requested_by: str | None = None
    detail: str | None = None
    ending: str | None = None


class Cause(Wait, kw_only=True, omit_defaults=True):
    """One thing that something waits for: its facts, in words, and (`remedy`) a command that helps.

    `more`: so many further items of the same list wait for the same; they have no causes of their own.
    """

    text: str
    remedy: str | None = None
    more: int = 0


class RouteFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a completed decision chose.

    Attributes:
        chosen, closed: those of its `routes` that it chose, and the others.
        reason: why, as the handler says it, or as the person does who completed the step (`requested_by`).
    """

    chosen: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    reason: str | None = None
    requested_by: str | None = None


class EndFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ended a task, or has it end, other than its last step.

    Attributes:
        cause: `cancel`, `operator` (a person had it complete or fail), `concurrency` (it was cancelled for its key),
            `timeout`, `step_failed`, `budget_exceeded` or `result_limit`.
        requested_by, reason: who asked for it, and why, as they say it.
        place: of `concurrency`: `full`: no place was free; `evicted`: it made room for another.
        taken_by: the task that had a place, or for which it made room; absent: the log does not say.
    """

    cause: str
    requested_by: str | None = None
    reason: str | None = None
    place: str | None = None
    taken_by: str | None = None


class Explanation(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why a task or a step is where it is.

    Attributes:
        state: of it.
        sentence: the whole of it, for people.
        causes: what it waits for, the nearest first; of a step that has not begun, also what the steps ahead wait for.
        position: token of what it was read from.
        route: of a completed decision, what it chose.
        end: of what has ended, or is about to: what ended the task.
    """

    task_id: str
    state: str
    sentence: str
    position: str
    step: str | None = None
    causes: tuple[Cause, ...] = ()
    route: RouteFacts | None = None
    end: EndFacts | None = None
