"""What a template is: frozen data, with every default in one place.

A `TemplateSpec` that `validate` returned is whole: names are names, numbers are within bounds, the
steps form a DAG. The decider, the SDK and the wire all read this one form. The *document* is what a
person writes (YAML, the body of `template.register`): the same keys, with defaults left out.

How long a retry waits is computed in `service.domain`; here stand only the numbers it is computed from.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Final, Literal

import msgspec

from tasker.callers import place_of_caller
from tasker.errors import ConfigurationError
from tasker.ids import EVENT_NAME_PATTERN, NAME_PATTERN, PERSON_CHARS_MAX
from tasker.labels import LABEL_PATTERN, work_queue
from tasker.suggestions import did_you_mean
from tasker.weights import WEIGHT_MAX, WEIGHT_MIN

Backoff = Literal["exponential", "linear", "fibonacci", "constant", "none"]
OnFailure = Literal["block", "fail"]
CompensateOn = Literal["both", "failure", "cancel", "never"]
Identity = Literal["key", "strict"]
Join = Literal["all", "deferred", "any", "n_of", "all_settled"]
ItemFailure = Literal["fail_fast", "continue", "isolate", "tolerate"]
BatchFailure = Literal["fail_fast", "continue_on_failure", "isolate"]
OnParentClose = Literal["cancel", "abandon", "wait"]
StepKind = Literal["handler", "transform", "asserts", "delay", "child", "signal", "approval", "event"]
SignalTake = Literal["first", "last", "all"]
OnWaitDeadline = Literal["fail", "continue", "escalate"]
StatePolicy = Literal["fail", "last_edge_wins", "append", "union", "sum", "max", "merge"]
EmitOn = Literal["success", "failure", "always", "retryable", "permanent"]
OnDeadline = Literal["fail", "block", "continue"]
OnLimit = Literal["retry", "fail", "block", "continue"]
OnLastLimit = Literal["fail", "block", "continue"]
ConcurrencyStrategy = Literal["queue", "drop", "cancel_oldest", "cancel_newest"]

STEPS_MAX: Final = 1000
EDGES_MAX: Final = 10_000
"""Most dependencies of one template, all steps together."""

ATTEMPTS_MAX: Final = 1000
SECONDS_MAX: Final = 30 * 24 * 3600.0
"""Longest delay or timeout: 30 days."""

FACTOR_MAX: Final = 100.0
ERROR_TYPES_MAX: Final = 100
ERROR_TYPE_CHARS_MAX: Final = 200
VERSION_CHARS_MAX: Final = 128
EXPRESSION_CHARS_MAX: Final = 4096
ROUTES_MAX: Final = 50
"""Most steps that one decision chooses among."""

DECISIONS_DEEP_MAX: Final = 20
"""Most decisions on one way through a template."""

PARALLEL_MAX: Final = 1000
ITEMS_MAX: Final = 10_000
"""Most items that a step runs for."""

VISITS_MAX: Final = 10_000
PRIORITY_MAX: Final = 100
"""Of a task, up and down from 0."""

INSTANCES_MAX: Final = 50_000
"""Most step instances of a task that a template may allow."""
TOKENS_MAX: Final = 10**15
CONCURRENCY_LIMIT_MAX: Final = 10_000
"""Most places under one concurrency key."""

PER_S_MIN: Final = 1e-5
"""About one a day."""

PER_S_MAX: Final = 1e6
BURST_MAX: Final = 1_000_000
BREAKER_ATTEMPTS_MAX: Final = 100_000
BREAKER_S_MIN: Final = 1.0
"""Nodes hear of a circuit within a second."""

BREAKER_S_MAX: Final = 24 * 3600.0
PROBES_MAX: Final = 1_000
READY_MAX: Final = 10_000_000
"""Most steps that `max_ready` may let wait in a queue."""

EMITS_MAX: Final = 32
"""Most domain events that one step declares."""

EMITS_BYTES_MAX: Final = 32 * 1024
"""Most bytes of their schemas together: they go with the step's work."""

SIGNALS_MAX: Final = 1000
"""Most signals of one name that a task keeps until a step takes them; so many a step may wait for at once."""

PERSONS_MAX: Final = 100
"""Most persons, and most roles, that an approval names."""

APPROVALS_MAX: Final = 10
"""Most persons who have to approve one thing."""

FORM_BYTES_MAX: Final = 16 * 1024
"""Most bytes of an approval's form: it goes into the event that asks for it."""

TITLE_CHARS_MAX: Final = 500
WAITS_PARALLEL_MAX: Final = 100
"""Most items of a step that may wait for signals at a time: each signal is offered to each of them."""

STATE_KEYS_MAX: Final = 100
"""Most keys of the shared state that a template names."""

# Bounds as JSON Schema says them, for editors; `validate` checks them, and more.
Name = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{NAME_PATTERN}$"})]
EventName = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^(?:{EVENT_NAME_PATTERN})$"})]
Money = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": r"^[0-9]{1,18}(\.[0-9]{1,12})?$"})]
Currency = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[A-Z]{3}$"})]
Tokens = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": TOKENS_MAX})]
Seconds = Annotated[float, msgspec.Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": SECONDS_MAX})]
Attempts = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": ATTEMPTS_MAX})]
Factor = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": FACTOR_MAX})]
Share = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 1})]
Expression = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": EXPRESSION_CHARS_MAX})]
Parallel = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": PARALLEL_MAX})]
Visits = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": VISITS_MAX})]
Instances = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": INSTANCES_MAX})]
Priority = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": -PRIORITY_MAX, "maximum": PRIORITY_MAX})]
Count = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": STEPS_MAX})]
SignalCount = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": SIGNALS_MAX})]
Approvals = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": APPROVALS_MAX})]
Person = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": PERSON_CHARS_MAX})]
Title = Annotated[str, msgspec.Meta(extra_json_schema={"maxLength": TITLE_CHARS_MAX})]
Places = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": CONCURRENCY_LIMIT_MAX})]
PerSecond = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": PER_S_MIN, "maximum": PER_S_MAX})]
Weight = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": WEIGHT_MIN, "maximum": WEIGHT_MAX})]
Burst = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": BURST_MAX})]
PartOf1 = Annotated[float, msgspec.Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": 1})]
BreakerAttempts = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": BREAKER_ATTEMPTS_MAX})]
BreakerSeconds = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": BREAKER_S_MIN, "maximum": BREAKER_S_MAX})]
Probes = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": PROBES_MAX})]
Ready = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": READY_MAX})]
Tolerated = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": ITEMS_MAX})]
Share100 = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": r"^(?:100|[0-9]{1,2})(?:\.[0-9]{1,3})?%$"})]
StateKey = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,62}$"})]
Label = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{LABEL_PATTERN}$"})]
ErrorType = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": ERROR_TYPE_CHARS_MAX})]

UNUSED_RETRY_KEYS: Final[dict[Backoff, frozenset[str]]] = {
    "exponential": frozenset(),
    "linear": frozenset({"factor"}),
    "fibonacci": frozenset({"factor"}),
    "constant": frozenset({"factor", "delay_s_max"}),
    "none": frozenset({"factor", "delay_s_max", "delay_s", "jitter"}),
}
"""Keys of `Retry` that would do nothing under a backoff, and so are refused beside it."""


class _Called(msgspec.StructMeta):
    """Lets a call that does not fit a form say so as every declaration does: with its place, and what was meant."""

    def __call__(cls, *args: Any, **keys: Any) -> Any:  # noqa: N805 - a class is what it makes
        try:
            return super().__call__(*args, **keys)
        except TypeError as error:
            known = cls.__struct_fields__
            wrong = next((key for key in keys if key not in known), None)
            told = f"() has no keyword {wrong!r}{did_you_mean(wrong, known)}" if wrong is not None else f"(): {error}"
            raise ConfigurationError(f"{place_of_caller()}{cls.__name__}{told}") from error


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True, metaclass=_Called):
    """A stored form: a key that this build does not know is an error."""


class Retry(_Form, frozen=True):
    """When a failed attempt is followed by another.

    Attributes:
        max_attempts: total runs, the first included.
        backoff: how the wait grows; `none` retries at once.
        delay_s: the wait after the first failure.
        factor: what each further wait is multiplied with; exponential only.
        delay_s_max: no wait that grows is longer; with `constant` at least `delay_s`.
        jitter: the share of a wait, in [0, 1], by which it may be longer or shorter.
        non_retryable: error types after which no attempt follows.
    """

    max_attempts: Attempts = 3
    backoff: Backoff = "exponential"
    delay_s: Seconds = 1.0
    factor: Factor = 2.0
    delay_s_max: Seconds = 30.0
    jitter: Share = 0.15
    non_retryable: tuple[ErrorType, ...] = ()


class Emit(_Form, frozen=True):
    """A domain event that a step declares.

    Attributes:
        name: one to four names with dots between them, such as `payment.captured`.
        on: how the attempt has to end for it to be raised: `success`; `failure`: in any other way; `always`;
            `retryable`: failed, and another attempt follows; `permanent`: failed, and with it the step.
        schema: JSON Schema (draft 2020-12) that its data must match; None: any data.
        auto: the service raises it by itself, with the step's result or its error as data; the handler does not.
    """

    name: EventName
    on: EmitOn = "success"
    schema: dict[str, Any] | None = None
    auto: bool = False


class Approval(_Form, frozen=True):
    """What a step asks people.

    Attributes:
        title: what is asked, for people.
        assignees: who may answer.
        assignees_from: an expression that gives such a person, or a list of them; they come besides `assignees`.
        roles: who has one of them may answer too. Without assignees and roles everybody may.
        form: JSON Schema (draft 2020-12) of the values that come with an answer; None: any values.
        approvals: so many different persons have to approve. One rejection rejects.
        four_eyes: who created the task, or changed its input or a result by hand, may not answer.
        may_delegate: who may answer may hand that to somebody else.
        escalate_after_s: so long after it is asked others may answer as well.
        escalate_to, escalate_roles: those others.
    """

    title: Title = ""
    assignees: tuple[Person, ...] = ()
    assignees_from: Expression | None = None
    roles: tuple[Person, ...] = ()
    form: dict[str, Any] | None = None
    approvals: Approvals = 1
    four_eyes: bool = False
    may_delegate: bool = True
    escalate_after_s: Seconds | None = None
    escalate_to: tuple[Person, ...] = ()
    escalate_roles: tuple[Person, ...] = ()

    @property
    def escalates(self) -> bool:
        """Return whether there are others who may answer later."""
        return bool(self.escalate_to or self.escalate_roles)


class Budget(_Form, frozen=True):
    """What the attempts of one task may use together, and how long they may run.

    Attributes:
        cost_max: decimal text. currency: of it; costs in others do not count.
        tokens_max: tokens in and out of all models together.
        running_s_max: how long a worker may run at least one of its steps, all together; what waits counts nothing.
        on_exceeded: `block`: begin nothing more and wait for a person, who allows it more (`task.budget`);
            `fail`: end the task.
    """

    cost_max: Money | None = None
    currency: Currency = "USD"
    tokens_max: Tokens | None = None
    on_exceeded: OnFailure = "block"
    running_s_max: Seconds | None = None


class OnTimeout(_Form, frozen=True):
    """What happens when a limit of a step is over.

    `retry`: the attempt has failed, and another follows as `retry` of the step says; `fail`: the step fails at once;
    `block`: it does, and the task waits for a person, whatever its `on_failure` says; `continue`: the step completes
    with null.

    Attributes:
        schedule_to_start: no worker began the attempt in time. start_to_close: it ran for too long.
        heartbeat: its worker was silent for too long.
        schedule_to_close: the time over all attempts is over, so that no other can follow.
    """

    schedule_to_start: OnLimit = "retry"
    start_to_close: OnLimit = "retry"
    heartbeat: OnLimit = "retry"
    schedule_to_close: OnLastLimit = "fail"


class Concurrency(_Form, frozen=True):
    """How many run at a time of those with the same key.

    Attributes:
        key: an expression; what it gives names the key. null: no limit holds for this one.
        limit: how many places there are under one key.
        strategy: what happens when all are taken. `queue`: the new one waits for its turn; `drop`: it is cancelled;
            `cancel_oldest`, `cancel_newest`: of those before it the one that asked first, or last, is cancelled, and
            the new one begins once that has ended.
    """

    key: Expression
    limit: Places = 1
    strategy: ConcurrencyStrategy = "queue"


class Debounce(_Form, frozen=True):
    """Of the starts with the same key, close behind each other, one task runs, with the input of the last.

    Attributes:
        key: an expression over `input`; what it gives names the key. null: this start is a task of its own.
        for_s: the task begins this long after the last start.
        max_s: and at most this long after the first; None: however long starts go on.
    """

    key: Expression
    for_s: Seconds
    max_s: Seconds | None = None


class Fairness(_Form, frozen=True):
    """How the slots of a queue are shared where workers are short: none with a long backlog keeps others waiting.

    Attributes:
        key: an expression over `input`; what it gives names who shares. null: all without a key share as one.
        weight: how large the share is beside others; a number, or an expression over `input` that gives one.
    """

    key: Expression
    weight: Weight | Expression = 1.0


class RateLimit(_Form, frozen=True):
    """How many attempts of a step begin in a time, over all tasks, workers and nodes. The others wait for their turn.

    Attributes:
        per_s: attempts a second; 0.1 is one in ten seconds.
        burst: so many may begin at once when none did for a while.
        key: an expression over `input`; each of its values has the limit for itself. None: all share one.
    """

    per_s: PerSecond
    burst: Burst = 1
    key: Expression | None = None


class CircuitBreaker(_Form, frozen=True):
    """When attempts of a step's handler are held instead of being let fail, and how they come back.

    What says something of the target counts: results on one side, errors that can be retried and timeouts on the other.

    Attributes:
        failure_rate: the circuit opens when so large a share of the last attempts failed.
        min_attempts: so many must have ended within the window before it may; each node counts those of its tasks.
        window_s: how far back attempts are counted.
        open_s: after so long a few attempts are let begin as a trial; what was held comes back over so long, too.
        open_s_max: the wait doubles with each trial that fails, up to this.
        probes: how many attempts are a trial. All succeed: the circuit closes; one fails: it opens again.
    """

    failure_rate: PartOf1 = 0.5
    min_attempts: BreakerAttempts = 20
    window_s: BreakerSeconds = 60.0
    open_s: BreakerSeconds = 30.0
    open_s_max: BreakerSeconds = 600.0
    probes: Probes = 3


class Using(_Form, frozen=True):
    """How two writes of a key of the state become one: the value of an expression.

    Attributes:
        using: over `left`, what there is so far, and `right`, the next write in declared order.
    """

    using: Expression


class StepSpec(_Form, frozen=True):
    """One step of a template.

    Attributes:
        name: of the step, once in a template.
        handler: the worker's function; by default called like the step.
        after: parents in declared order. A step starts when all have completed, and their results
            go into its work message in this order.
        queue: where its work is offered; None: the template's queue.
        start_to_close_s: an attempt that ran longer is failed as `timeout`.
        schedule_to_start_s: an attempt that no worker started so long after its offer is failed;
            None: it waits for a worker as long as it takes.
        schedule_to_close_s: the step fails so long after its first offer, over all its attempts and the waits between
            them; None: no limit but that of each attempt.
        heartbeat_s: an attempt that was silent for longer is lost. It is of no effect where
            `start_to_close_s` is shorter.
        after_when: parent -> expression: that edge only counts when it is true once the parent has completed.
            A document writes it in `after`, as `{step: ..., when: ...}`.
        when: the step only runs when this expression is true once its parents are done.
        join: what of its parents it waits for. `all`; `deferred`: all of those that run at all; `any`: the first
            that completes, the others are cancelled; `n_of`: the first `join_count`; `all_settled`: all, failed or not.
        join_count: how many results the step waits for, with join `n_of`.
        routes: the step is a decision: its handler says which of these children run.
        each: an expression that gives a list; the step runs once for each item.
        item_key: an expression over `item` that names it; None: its index does.
        max_parallel: how many items run at a time.
        on_item_failure: `fail_fast`: the step fails with the first failed item, others are cancelled; `continue`: it
            completes all the same, null stands for the result; `isolate`: the others go on, the step completes when a
            person has repaired the failed; `tolerate`: it fails when more than `tolerate` have.
        tolerate: how many items may fail, or which share of them, such as "10%".
        batches: the parent whose result is a list of cursors; the step runs once for each of them.
        parallelism, failure_strategy: with `batches`, what `max_parallel` and `on_item_failure` are with `each`.
        transform: the step has no handler: the value of this expression is its result.
        asserts: the step has no handler: it completes when this expression is true, else it fails for good.
        delay_s: the step has no handler: it completes so long after its parents.
        until: the step has no handler: it completes at the time (RFC 3339) that this expression gives.
        back_to: when the step has completed, a new visit of this ancestor begins, and of all behind it.
        max_visits: how often a loop may visit the step; one more fails it.
        child: the step has no handler: it starts a task of this template, and completes with its result.
        child_namespace, child_version: of that template; None: the own namespace, the version in use.
        child_input: an expression that gives its input; None: the task's own.
        child_wait: False: the step completes as soon as the child exists, with its id.
        on_parent_close: what becomes of a child when the task stops: `cancel` it, `abandon` it, or `wait` for its end.
        unchanged_visits_max: so many visits in a row with the same result fail it: nothing moves. None: no limit.
        compensate: the handler that undoes the step, once it has completed, when the task fails or is cancelled. It
            gets the task's input and the step's result, and is offered where the step is.
        compensate_retry: when a failed attempt to undo it is followed by another; None: as `retry`.
        compensate_start_to_close_s: an attempt to undo it that ran longer is failed; None: `start_to_close_s`.
        emits: the domain events that it may raise.
        signal: the step has no handler: it waits for a signal of this name, and its result is the signal's value.
        signal_schema: JSON Schema (draft 2020-12) that its value must match, or it is refused; None: any value.
        signal_take: which it takes, of those that match: the `first`; the `last` of those that have come before it
            waits (the others are used up with it); `all`: the first `signal_count`, as a list.
        signal_count: how many it waits for, with `signal_take: all`.
        signal_when: an expression over `signal` that tells whether one is meant for the step; None: every one is.
        wait_deadline_s: how long it waits; None: as long as it takes.
        on_wait_deadline: what then: the step `fail`s; or it completes (`continue`) with null, with `all` as the list
            of those that have come, and an approval with the decision `expired`; or an approval is escalated
            (`escalate`) and goes on waiting.
        approval: the step has no handler: it asks people, and its result is what they decided.
        concurrency: how many instances of it with the same key run at a time, over all tasks of the template; each
            item of a list by itself. A place is held until the instance has ended, waits and retries included.
        event: the step has no handler: it waits for an event of another task, and its result is that event: of this
            type of the lifecycle (`task_completed`), else a domain event of this name. It counts from the moment on at
            which the step waits.
        event_when: an expression over `event` that tells whether one is meant for the step; None: every one is.
        on_timeout: what happens when one of its limits is over; None: an attempt is retried, the step fails.
        rate_limit: how many of its attempts begin in a time; None: they begin as they come. A limit that an operator
            sets for its handler takes the place of it.
        requires: labels that a worker must have to get its work.
        sticky: its attempts run where this earlier step ran, and all of them on one worker, as long as that lives; the
            step itself: all of them on one.
        sticky_wait_s: an attempt waits so long for that worker, should it be busy; None: as long as it takes.
        priority: more begins first where workers are short: it is added to the task's.
        fairness: among whom the slots are shared for its work; None: as the template says.
        circuit_breaker: when its handler fails too often, attempts are held until it works again; None: its outcomes
            are not counted. An open circuit holds all attempts of the handler, whichever step they are of.
    """

    name: Name
    handler: Name | Literal[""]
    after: tuple[Name, ...] = ()
    queue: Name | None = None
    retry: Retry = Retry()
    start_to_close_s: Seconds = 30.0
    schedule_to_start_s: Seconds | None = None
    heartbeat_s: Seconds = 10.0
    after_when: dict[Name, Expression] = {}
    when: Expression | None = None
    join: Join = "all"
    join_count: Count | None = None
    routes: tuple[Name, ...] = ()
    each: Expression | None = None
    item_key: Expression | None = None
    max_parallel: Parallel = 100
    on_item_failure: ItemFailure = "fail_fast"
    tolerate: Tolerated | Share100 | None = None
    batches: Name | None = None
    parallelism: Parallel = 100
    failure_strategy: BatchFailure = "fail_fast"
    transform: Expression | None = None
    asserts: Expression | None = None
    delay_s: Seconds | None = None
    until: Expression | None = None
    back_to: Name | None = None
    max_visits: Visits = 100
    unchanged_visits_max: Visits | None = None
    child: Name | None = None
    child_namespace: Name | None = None
    child_version: str | None = None
    child_input: Expression | None = None
    child_wait: bool = True
    on_parent_close: OnParentClose = "cancel"
    compensate: Name | None = None
    compensate_retry: Retry | None = None
    compensate_start_to_close_s: Seconds | None = None
    emits: tuple[Emit, ...] = ()
    signal: EventName | None = None
    signal_schema: dict[str, Any] | None = None
    signal_take: SignalTake = "first"
    signal_count: SignalCount | None = None
    signal_when: Expression | None = None
    wait_deadline_s: Seconds | None = None
    on_wait_deadline: OnWaitDeadline = "fail"
    schedule_to_close_s: Seconds | None = None
    approval: Approval | None = None
    concurrency: Concurrency | None = None
    event: EventName | None = None
    event_when: Expression | None = None
    on_timeout: OnTimeout | None = None
    rate_limit: RateLimit | None = None
    circuit_breaker: CircuitBreaker | None = None
    requires: dict[Name, Label] = {}
    sticky: Name | None = None
    sticky_wait_s: Seconds | None = None
    priority: Priority = 0
    fairness: Fairness | None = None

    @property
    def kind(self) -> StepKind:
        """Return what runs the step: a worker's handler, or the service itself."""
        if self.handler:
            return "handler"
        if self.transform is not None:
            return "transform"
        if self.asserts is not None:
            return "asserts"
        if self.signal is not None:
            return "signal"
        if self.approval is not None:
            return "approval"
        if self.event is not None:
            return "event"
        return "delay" if self.child is None else "child"

    @property
    def waits(self) -> bool:
        """Return whether it waits for something from outside: a signal, an approval, an event of another task."""
        return self.signal is not None or self.approval is not None or self.event is not None

    @property
    def expands(self) -> bool:
        """Return whether it runs for each item of a list."""
        return self.each is not None or self.batches is not None

    @property
    def item_policy(self) -> ItemFailure:
        """Return what a failed item means for the step."""
        if self.batches is None:
            return self.on_item_failure
        return "continue" if self.failure_strategy == "continue_on_failure" else self.failure_strategy

    @property
    def isolates(self) -> bool:
        """Return whether a failed item waits for a person while the others go on."""
        return self.expands and self.item_policy == "isolate"

    @property
    def items_at_a_time(self) -> int:
        """Return how many items run at a time."""
        return self.max_parallel if self.batches is None else self.parallelism


def undo_step(step: StepSpec) -> StepSpec:
    """Return the step that runs the compensation of `step`: a parent of which is that itself."""
    start_to_close_s = step.compensate_start_to_close_s or step.start_to_close_s
    return StepSpec(
        name=step.name,
        handler=step.compensate or "",
        after=(step.name,),
        queue=step.queue,
        retry=step.compensate_retry or step.retry,
        start_to_close_s=start_to_close_s,
        schedule_to_start_s=step.schedule_to_start_s,
        heartbeat_s=step.heartbeat_s,
        requires=step.requires,
        priority=step.priority,
        fairness=step.fairness,
    )


class StaleAfter(_Form, frozen=True):
    """How long a task may stand still before it is a dead letter, until it moves; None: as long as it likes.

    Attributes:
        pending_s: before its start. blocked_s: until a person repairs it. paused_s: until a person resumes it.
        waiting_s: for each step: for its retry, its next part, a time, a child task, or what comes from outside.
    """

    pending_s: Seconds | None = None
    blocked_s: Seconds | None = None
    paused_s: Seconds | None = None
    waiting_s: Seconds | None = None


LATER_KEYS: Final = frozenset(StepSpec.__struct_fields__[StepSpec.__struct_fields__.index("after_when") :]) | {
    "max_steps",
    "compensate_on",
    "budget",
    "concurrency",
    "stale_after",
    "priority",
    "fairness",
    "state",
    "max_running",
    "max_ready",
    "singleton",
    "debounce",
}
"""Keys that the first form did not have: at their default they are no part of a template's content."""


class TemplateSpec(_Form, frozen=True):
    """A workflow: a DAG of steps, in declared order.

    Attributes:
        name: what tasks of it are asked for with.
        namespace: whose names and handlers it shares.
        version: a semantic version; None: the content's hash stands for one. Not part of the content.
        input_schema: JSON Schema (draft 2020-12) that a task's input must match.
        queue: where work of its steps is offered; None: a queue called like the template.
        timeout_s: a task's timeout where `task.create` names none.
        on_timeout: what happens at a task's deadline. `fail`: it stops, and fails; `block`: nothing more of it begins
            until a person gives it another one; `continue`: that is recorded, and it goes on.
        on_failure: after a failed step, when nothing can move, wait for a person or fail the task.
        result: the step whose result is the task's; None: the only last step's, else all last steps' by name.
        identity: `key`: a task's identity comes from the caller's key; `strict`: from its input.
        identity_bucket_s: with `strict`, equal inputs are one task only within such a span of time.
        max_steps: how many step instances (visits, items) a task may begin; one more fails. None: as many as fit into
            a task's history.
        state: key of the shared state -> what several writes of it come to. `fail`: the step where branches meet that
            wrote it fails; `last_edge_wins`; `append`: a list of all; `union`: of lists; `sum`; `max`; `merge`: of
            objects, the last wins; or `{using: EXPRESSION}` over `left` and `right`. Other keys: `fail`.
        compensate_on: whether steps with `compensate` are undone when the task fails, is cancelled, both, or never.
        budget: what the attempts of one task may use together; None: as much as they like.
        concurrency: how many of its tasks with the same key run at a time; the key is an expression over `input`.
        stale_after: how long tasks may stand still before somebody is told.
        max_running: so many of its tasks may be there that have not ended, for each tenant; a new one is refused as
            `busy`. Children are let in, and count. None: as many as are asked for.
        max_ready: while so many steps or more wait for a worker in one of the queues of its steps, a new task of it is
            refused as `busy`; children are let in. None: however many wait.
        fairness: among whom the slots are shared where workers are short; None: what came first goes first.
        priority: of its tasks' work, where `task.create` names none: where workers are short, more begins first.
        singleton: an expression over `input`: while a task with the same value has not ended, a start is answered with
            that task, as a `duplicate`. null: it need not be the only one.
        debounce: starts with the same value of its key wait for each other, and one task runs for them.
    """

    name: Name
    namespace: Name = "default"
    version: str | None = None
    input_schema: dict[str, Any] | None = None
    steps: tuple[StepSpec, ...] = ()
    queue: Name | None = None
    timeout_s: Seconds | None = None
    on_failure: OnFailure = "block"
    result: Name | None = None
    identity: Identity = "key"
    identity_bucket_s: Seconds | None = None
    max_steps: Instances | None = None
    compensate_on: CompensateOn = "both"
    budget: Budget | None = None
    concurrency: Concurrency | None = None
    stale_after: StaleAfter | None = None
    priority: Priority = 0
    fairness: Fairness | None = None
    state: dict[StateKey, StatePolicy | Using] = {}
    max_running: Places | None = None
    on_timeout: OnDeadline = "fail"
    max_ready: Ready | None = None
    singleton: Expression | None = None
    debounce: Debounce | None = None

    def queue_of(self, step: StepSpec) -> str:
        """Return the queue to which the work of `step` belongs; see `work_queue_of`."""
        return step.queue or self.queue or self.name

    def work_queue_of(self, step: StepSpec) -> str:
        """Return the queue in which the work of `step` is offered: with labels that it requires, one beside its own."""
        queue = self.queue_of(step)
        return work_queue(queue, step.requires) if step.requires else queue


def document_of(spec: TemplateSpec) -> dict[str, Any]:
    """Return the document that spells `spec`: builtins, with every default left out.

    `validate(document_of(spec))` is `spec` again.
    """
    return form_document(spec) | {"steps": [_step_document(step) for step in spec.steps]}


def form_document(form: _Form) -> dict[str, Any]:
    """Return the document that spells a form, such as a `Retry`; empty when all is default."""
    return _without_defaults(form, {})


def _step_document(step: StepSpec) -> dict[str, Any]:
    document = _without_defaults(step, {"handler": step.name if step.handler else ""})
    if document.pop("after_when", None):
        conditions = step.after_when
        document["after"] = [
            {"step": name, "when": conditions[name]} if name in conditions else name for name in step.after
        ]
    document["retry"] = _used_retry(step.retry)
    if not document["retry"]:
        del document["retry"]
    if step.compensate_retry is not None:
        document["compensate_retry"] = _used_retry(step.compensate_retry)
    return document


def _used_retry(retry: Retry) -> dict[str, Any]:
    document = form_document(retry)
    return {key: document[key] for key in document if key not in UNUSED_RETRY_KEYS[retry.backoff]}


def _without_defaults(form: _Form, more_defaults: dict[str, Any]) -> dict[str, Any]:
    defaults = defaults_of(type(form)) | more_defaults
    return {
        name: _spelled(value) for name in form.__struct_fields__ if (value := getattr(form, name)) != defaults[name]
    }


@functools.cache
def defaults_of(form: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the default of each field of a form, `NODEFAULT` where there is none; to be compared with, not handed on.

    Kept, because msgspec resolves every annotation anew each time that it is asked for the fields.
    """
    return {field.name: _default_of(field) for field in msgspec.structs.fields(form)}


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _spelled(value: Any) -> Any:
    match value:
        case _Form():
            return form_document(value)
        case tuple():
            return [_spelled(one) for one in value]
        case dict():
            return {key: _spelled(one) for key, one in value.items()}
        case _:
            return value
