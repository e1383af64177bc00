"""Templates in Python: `@template.step` on the functions that do the work.

Declarations only: nothing here runs a step. The DAG comes from the functions' own signatures; since a
function may depend on one defined further down, it is put together, and checked whole, at `Template.spec()`.
The result is the same `TemplateSpec` that YAML gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from tasker.callers import place_of_caller
from tasker.errors import ConfigurationError, TemplateInvalid
from tasker.handlers.declarations import Declarations, DeclaredStep, StepHandler, Undo
from tasker.handlers.emits import Emits, emits_document
from tasker.handlers.handler import place_of
from tasker.handlers.keywords import keywords_told
from tasker.handlers.models import schema_of
from tasker.templates.model import (
    BatchFailure,
    Budget,
    CircuitBreaker,
    CompensateOn,
    Concurrency,
    Debounce,
    Fairness,
    Identity,
    ItemFailure,
    Join,
    OnDeadline,
    OnFailure,
    OnParentClose,
    OnTimeout,
    OnWaitDeadline,
    RateLimit,
    Retry,
    SignalTake,
    StaleAfter,
    StatePolicy,
    TemplateSpec,
    document_of,
    form_document,
)
from tasker.templates.reading import Faults, kind_of
from tasker.templates.validate import validate
from tasker.templates.yaml import load_yaml

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Template:
    """A workflow whose steps are functions.

    Its keywords, and those of its methods, are the keys of a template and of a step in YAML, where those of
    `compensation` are `compensate_retry` and so on. Only in Python there are `process` and a number for `concurrency`,
    which are of the worker, and `after_when`, which YAML writes in `after`.

    ```python
    orders = Template("order_fulfillment", namespace="shop")

    @orders.step
    async def validate_cart(input: Order) -> Cart: ...

    @orders.step(retry=Retry(max_attempts=5), start_to_close_s=30)
    async def charge(ctx: StepContext, input: Order, validate_cart: Cart) -> Receipt: ...
    ```

    Without `input_schema` one is derived when every step that takes `input` annotates the same msgspec
    struct, dataclass, TypedDict, attrs class or Pydantic model.

    Args:
        version: a semantic version; None: the content's hash stands for one, so that edits just work.
        queue: where its work is offered; None: a queue called like the template.
        timeout_s: the default timeout of its tasks.
        on_timeout: what happens at a task's deadline: it `fail`s, is left for a person (`block`), or that is recorded
            and it goes on (`continue`).
        on_failure: `block`: wait for a person; `fail`: end the task.
        result: the step whose result is the task's; None: the last steps'.
        identity: `key`: of the caller; `strict`: of the input, within `identity_bucket_s` when given.
        max_steps: how many step instances (visits of loops, items of lists) a task may begin.
        compensate_on: when steps with a `compensation` are undone: the task fails (`failure`), is cancelled (`cancel`),
            `both`, or `never`.
        budget: what the attempts of one task may use together.
        concurrency: how many of its tasks with the same key run at a time.
        fairness: among whom the slots of its queues are shared where workers are short.
        priority: of its tasks' work, -100 to 100, unless a task has its own: where workers are short, more goes first.
        stale_after: how long tasks may be pending, blocked or paused, and steps wait, before they are dead letters.
        state: key of the shared state -> what several writes of it come to: `fail`, `last_edge_wins`, `append`,
            `union`, `sum`, `max`, `merge`, or `{"using": "left + right"}`. A key that is not named fails the step
            where branches meet that wrote it.
        max_running: so many of its tasks may be there that have not ended; a new one is refused as `busy`, which the
            client waits out. Children are let in, and count.
        max_ready: while so many steps or more wait for a worker in one of its queues, a new task is refused as `busy`.
        singleton: an expression over `input`: while a task with the same value has not ended, a start is answered with
            that task, as a `duplicate`.
        debounce: of its starts with the same key, close behind each other, one task runs, with the input of the last.
    """

    @keywords_told
    def __init__(
        self,
        name: str,
        *,
        namespace: str = "default",
        version: str | None = None,
        input_schema: dict[str, Any] | None = None,
        queue: str | None = None,
        timeout_s: float | None = None,
        on_timeout: OnDeadline | None = None,
        on_failure: OnFailure = "block",
        result: str | None = None,
        identity: Identity = "key",
        identity_bucket_s: float | None = None,
        max_steps: int | None = None,
        compensate_on: CompensateOn | None = None,
        budget: Budget | None = None,
        concurrency: Concurrency | None = None,
        stale_after: StaleAfter | None = None,
        priority: int | None = None,
        fairness: Fairness | None = None,
        state: Mapping[str, StatePolicy | dict[str, str]] | None = None,
        max_running: int | None = None,
        max_ready: int | None = None,
        singleton: str | None = None,
        debounce: Debounce | None = None,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self._keys: dict[str, Any] = {
            "name": name,
            "namespace": namespace,
            "version": version,
            "input_schema": input_schema,
            "queue": queue,
            "timeout_s": timeout_s,
            "on_timeout": on_timeout,
            "on_failure": on_failure,
            "result": result,
            "identity": identity,
            "identity_bucket_s": identity_bucket_s,
            "max_steps": max_steps,
            "compensate_on": compensate_on,
            "budget": _spelled(budget),
            "concurrency": _spelled(concurrency),
            "priority": priority,
            "fairness": _spelled(fairness),
            "stale_after": _spelled(stale_after),
            "state": dict(state) if isinstance(state, Mapping) else state,
            "max_running": max_running,
            "max_ready": max_ready,
            "singleton": singleton,
            "debounce": _spelled(debounce),
        }
        self._declared = Declarations()
        self._spec: TemplateSpec | None = None
        self._is_loaded = False

    def __repr__(self) -> str:
        return f"Template({self.name!r}, namespace={self.namespace!r})"

    @classmethod
    def from_yaml(cls, text: str) -> Template:
        """Return the template that YAML spells; its functions are those marked `@handler(name)`.

        Raises:
            ConfigurationError: it is no text.
            TemplateInvalid: `errors` has every fault, with its line.
        """
        if not isinstance(text, str):
            raise ConfigurationError(f"{place_of_caller()}from_yaml() takes the text itself, not {kind_of(text)}")
        spec = load_yaml(text)
        template = cls(spec.name, namespace=spec.namespace)
        template._spec = spec
        template._is_loaded = True
        return template

    @classmethod
    def load(cls, path: str | Path) -> Template:
        """Return `from_yaml` of a file; a relative path counts from the working directory.

        Raises:
            ConfigurationError: the file cannot be read.
            TemplateInvalid: it has faults.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, TypeError) as error:
            raise ConfigurationError(f"the template {path} cannot be read: {error}") from error
        try:
            return cls.from_yaml(text)
        except TemplateInvalid as error:
            raise TemplateInvalid(f"{path}: {error.detail}", errors=error.errors) from error

    @overload
    def step(self, function: F, /) -> F: ...
    @overload
    def step(
        self,
        /,
        *,
        retry: Retry | None = None,
        start_to_close_s: float | None = None,
        schedule_to_start_s: float | None = None,
        schedule_to_close_s: float | None = None,
        heartbeat_s: float | None = None,
        on_timeout: OnTimeout | None = None,
        rate_limit: RateLimit | None = None,
        circuit_breaker: CircuitBreaker | None = None,
        after: str | Sequence[str] = (),
        name: str | None = None,
        handler: str | None = None,
        queue: str | None = None,
        requires: Mapping[str, str] | None = None,
        sticky: str | None = None,
        sticky_wait_s: float | None = None,
        priority: int | None = None,
        fairness: Fairness | None = None,
        process: bool = False,
        concurrency: int | Concurrency | None = None,
        when: str | None = None,
        after_when: Mapping[str, str] | None = None,
        join: Join = "all",
        join_count: int | None = None,
        routes: Sequence[str] = (),
        each: str | None = None,
        item_key: str | None = None,
        max_parallel: int | None = None,
        on_item_failure: ItemFailure | None = None,
        tolerate: int | str | None = None,
        batches: str | None = None,
        parallelism: int | None = None,
        failure_strategy: BatchFailure | None = None,
        back_to: str | None = None,
        max_visits: int | None = None,
        unchanged_visits_max: int | None = None,
        emits: Emits | str | Sequence[Emits | str] = (),
    ) -> Callable[[F], F]: ...
    @keywords_told
    def step(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        retry: Retry | None = None,
        start_to_close_s: float | None = None,
        schedule_to_start_s: float | None = None,
        schedule_to_close_s: float | None = None,
        heartbeat_s: float | None = None,
        on_timeout: OnTimeout | None = None,
        rate_limit: RateLimit | None = None,
        circuit_breaker: CircuitBreaker | None = None,
        after: str | Sequence[str] = (),
        name: str | None = None,
        handler: str | None = None,
        queue: str | None = None,
        requires: Mapping[str, str] | None = None,
        sticky: str | None = None,
        sticky_wait_s: float | None = None,
        priority: int | None = None,
        fairness: Fairness | None = None,
        process: bool = False,
        concurrency: int | Concurrency | None = None,
        when: str | None = None,
        after_when: Mapping[str, str] | None = None,
        join: Join = "all",
        join_count: int | None = None,
        routes: Sequence[str] = (),
        each: str | None = None,
        item_key: str | None = None,
        max_parallel: int | None = None,
        on_item_failure: ItemFailure | None = None,
        tolerate: int | str | None = None,
        batches: str | None = None,
        parallelism: int | None = None,
        failure_strategy: BatchFailure | None = None,
        back_to: str | None = None,
        max_visits: int | None = None,
        unchanged_visits_max: int | None = None,
        emits: Emits | str | Sequence[Emits | str] = (),
    ) -> Any:
        """Declare a step; the function stays as it is.

        Parameters called like steps are its parents, in their order, and take their results; then come
        those of `after`, which only order.

        Args:
            function: the function itself, where the decorator stands without parentheses.
            retry: when a failed attempt is followed by another.
            start_to_close_s: how long one attempt may run.
            schedule_to_start_s: how long an attempt may wait for a worker.
            schedule_to_close_s: how long the step may take over all its attempts and the waits between them.
            heartbeat_s: how long an attempt may be silent.
            on_timeout: what happens when one of these limits is over.
            after: parents whose results the function does not take.
            name: of the step; the function's name when None.
            handler: what work for it names; the step's name when None.
            queue: where its work is offered; the template's queue when None.
            requires: labels that a worker must have to get its work, such as `{"gpu": "a100"}`.
            sticky: the earlier step on whose worker it runs, and all of its attempts, as long as that worker lives; the
                step itself: all of its attempts on one worker. For what steps leave there: files, models in memory.
            sticky_wait_s: how long an attempt waits for that worker, should it be busy; None: as long as it takes.
            priority: -100 to 100, added to that of the task: where workers are short, more begins first.
            fairness: among whom the slots are shared for its work, in place of the template's.
            process: run the function in a process of its own, for work that needs a core; a timeout or a cancellation
                kills that process.
            concurrency: how many attempts of it one worker runs at a time; None: as many as there are slots. A
                `Concurrency`: how many instances of it with the same key run at a time, on all workers together.
            when: the step only runs when this expression is true once its parents are done.
            after_when: parent -> expression: that edge only counts when it is true once the parent has completed.
            join: what of its parents it waits for: `all`, `deferred` (all that run at all), `any`, `n_of`,
                `all_settled`.
                A parameter of a parent that may give no result has a default.
            join_count: how many results `n_of` waits for.
            routes: the children that it chooses among, with `Decision`.
            each: it runs for each item of the list that this expression gives, as its parameter `item`.
            item_key: an expression over `item` that names it; None: its index does.
            max_parallel: how many items run at a time.
            on_item_failure: what a failed item means: `fail_fast`, `continue`, `isolate`, `tolerate`.
            tolerate: how many items may fail, or which share of them ("10%").
            batches: it runs for each cursor that this parent gave, as its parameter `item`.
            parallelism: with `batches`, how many run at a time.
            failure_strategy: with `batches`, what a failed one means: `fail_fast`, `continue_on_failure`, `isolate`.
            back_to: when it has completed, a new visit of this ancestor begins, and of all behind that.
            max_visits: how often a loop may visit this step.
            unchanged_visits_max: how often in a row it may give the same result.
            emits: the domain events that it may raise; a name alone: any data, on success.
            rate_limit: how many of its attempts begin in a time, over all workers; the others wait for their turn.
            circuit_breaker: when its handler fails too often, attempts are held until it works again.
        """
        if self._is_loaded:
            raise ConfigurationError(f"{self!r} was loaded whole; its functions are marked @handler(name)")
        keys = {
            "queue": queue,
            "requires": dict(requires) if isinstance(requires, Mapping) else requires,
            "sticky": sticky,
            "sticky_wait_s": sticky_wait_s,
            "priority": priority,
            "fairness": _spelled(fairness),
            "retry": _spelled(retry),
            "start_to_close_s": start_to_close_s,
            "schedule_to_start_s": schedule_to_start_s,
            "schedule_to_close_s": schedule_to_close_s,
            "heartbeat_s": heartbeat_s,
            "on_timeout": _spelled(on_timeout) or None,  # all as by default
            "when": when,
            "join": join,
            "join_count": join_count,
            "routes": list(routes) if isinstance(routes, (list, tuple)) else routes,
            "each": each,
            "item_key": item_key,
            "max_parallel": max_parallel,
            "on_item_failure": on_item_failure,
            "tolerate": tolerate,
            "batches": batches,
            "parallelism": parallelism,
            "failure_strategy": failure_strategy,
            "back_to": back_to,
            "max_visits": max_visits,
            "unchanged_visits_max": unchanged_visits_max,
            "emits": emits_document(emits),
            "rate_limit": _spelled(rate_limit),
            "circuit_breaker": _spelled(circuit_breaker),
            "concurrency": _spelled(concurrency) if isinstance(concurrency, (Concurrency, Mapping)) else None,
        }
        of_worker = None if isinstance(concurrency, (Concurrency, Mapping)) else concurrency
        conditions = _conditions(after_when)
        parents = _parents(after) if batches is None else (*_parents(after), batches)

        def declare(function: F) -> F:
            if not callable(function):
                raise ConfigurationError(f"{self!r}: write @step or @step(name=...); {function!r} is no function")
            step_name = name or str(getattr(function, "__name__", type(function).__name__))
            declared = DeclaredStep(
                _name(step_name), place_of(function), handler, function, parents, conditions, keys, process, of_worker
            )
            self._declared.steps.append(declared)
            self._spec = None
            return function

        return declare if function is None else declare(function)

    @keywords_told
    def compensation(
        self,
        step: str,
        /,
        *,
        retry: Retry | None = None,
        start_to_close_s: float | None = None,
        handler: str | None = None,
        process: bool = False,
        concurrency: int | None = None,
    ) -> Callable[[F], F]:
        """Declare what undoes a step that has completed, when its task fails or is cancelled; see `compensate_on`.

        The function may take the context, `input`, the step's result as a parameter called like the step, `item` where
        the step runs for a list, and resources. It is called once for each visit of a loop and each item.

        Args:
            step: which one it undoes.
            retry: when a failed attempt is followed by another; as the step's when None.
            start_to_close_s: how long one attempt may run; as the step's when None.
            handler: what work for it names; the function's name when None.
            process: run the function in a process of its own.
            concurrency: how many attempts of it one worker runs at a time.
        """
        if self._is_loaded:
            raise ConfigurationError(f"{self!r} was loaded whole; its functions are marked @handler(name)")
        if not isinstance(step, str):
            raise ConfigurationError(
                f"{place_of_caller()}compensation() is given the name of the step that it undoes, such as "
                f"'{getattr(step, '__name__', 'charge')}', not {kind_of(step)}"
            )
        keys = {
            "compensate_retry": _spelled(retry),
            "compensate_start_to_close_s": start_to_close_s,
        }

        def declare(function: F) -> F:
            if not callable(function):
                raise ConfigurationError(
                    f"{place_of_caller()}compensation() is a decorator; {function!r} is no function"
                )
            name = handler or str(getattr(function, "__name__", type(function).__name__))
            self._declared.undos.append(Undo(step, name, function, keys, process, concurrency))
            self._spec = None
            return function

        return declare

    @keywords_told
    def transform(self, name: str, expression: str, *, after: str | Sequence[str] = (), **keys: Any) -> None:
        """Declare a step that no worker runs: its result is the value of `expression`.

        Args:
            name: of the step.
            expression: what gives the result.
            after: its parents.
            keys: more keys of a step, such as `when` and `join`.
        """
        self._declare(name, after, {"transform": _said("an expression", expression), **keys})

    @keywords_told
    def asserts(self, name: str, expression: str, *, after: str | Sequence[str] = (), **keys: Any) -> None:
        """Declare a step that no worker runs: it completes when `expression` is true, else it fails for good."""
        self._declare(name, after, {"asserts": _said("an expression", expression), **keys})

    @keywords_told
    def delay(
        self,
        name: str,
        delay_s: float | None = None,
        *,
        until: str | None = None,
        after: str | Sequence[str] = (),
        **keys: Any,
    ) -> None:
        """Declare a step that only waits: so many seconds, or until the time that the expression `until` gives."""
        if until is None:
            delay_s = _said("delay_s or until", delay_s)
        self._declare(name, after, {"delay_s": delay_s, "until": until, **keys})

    @keywords_told
    def wait(
        self,
        name: str,
        signal: str,
        *,
        signal_schema: dict[str, Any] | None = None,
        signal_take: SignalTake | None = None,
        signal_count: int | None = None,
        signal_when: str | None = None,
        wait_deadline_s: float | None = None,
        on_wait_deadline: OnWaitDeadline | None = None,
        after: str | Sequence[str] = (),
        **keys: Any,
    ) -> None:
        """Declare a step that waits for a signal; its result is the signal's value.

        A signal may come before the step waits: it is kept for it.

        Args:
            name: of the step.
            signal: what `TaskerClient.signal` names.
            signal_schema: JSON Schema that its value must match; another is refused.
            signal_take: the `first` that comes (the default), the `last` of those that came before, or `all`.
            signal_count: with `all`, how many: the result is their list. Given alone it means `all`.
            signal_when: an expression over `signal` that tells whether one is meant for this step.
            wait_deadline_s: how long it waits; None: as long as it takes.
            on_wait_deadline: what then: `fail` (the default), or `continue` with null.
            after: its parents.
            keys: more keys of a step, such as `each` (a wait for each item), `when` and `join`.
        """
        own = {
            "signal": _said("a signal", signal),
            "signal_schema": signal_schema,
            "signal_take": "all" if signal_take is None and signal_count is not None else signal_take,
            "signal_count": signal_count,
            "signal_when": signal_when,
            "wait_deadline_s": wait_deadline_s,
            "on_wait_deadline": on_wait_deadline,
        }
        self._declare(name, after, {**own, **keys})

    @keywords_told
    def approval(
        self,
        name: str,
        *,
        title: str | None = None,
        assignees: str | Sequence[str] = (),
        roles: str | Sequence[str] = (),
        assignees_from: str | None = None,
        form: Any = None,
        approvals: int | None = None,
        four_eyes: bool | None = None,
        may_delegate: bool | None = None,
        escalate_to: str | Sequence[str] = (),
        escalate_roles: str | Sequence[str] = (),
        escalate_after_s: float | None = None,
        wait_deadline_s: float | None = None,
        on_wait_deadline: OnWaitDeadline | None = None,
        after: str | Sequence[str] = (),
        **keys: Any,
    ) -> None:
        """Declare a step that asks people; its result is what they decided: `{"decision": "approved", "by": ...}`.

        Args:
            name: of the step.
            title: what is asked, for people.
            assignees: who may answer.
            roles: who has one of them may answer too. Without assignees and roles everybody may.
            assignees_from: an expression that gives a person, or a list of them, who may answer besides.
            form: what the values of an answer must match: a JSON Schema, or a type as an `input` may have it.
            approvals: so many different persons have to approve. One rejection rejects.
            four_eyes: who created the task, or changed its input or a result by hand, may not answer.
            may_delegate: who may answer may hand that to somebody else, which is so unless it is False.
            escalate_to: who may answer as well once it is escalated.
            escalate_roles: the same, for who has one of these roles.
            escalate_after_s: when it is escalated.
            wait_deadline_s: how long it waits; None: as long as it takes.
            on_wait_deadline: what then: `fail` (the default), `continue` with the decision `expired`, or `escalate` and
                wait on.
            after: its parents.
            keys: more keys of a step, such as `each` (an approval for each item), `when` and `join`.
        """
        asked = {
            "title": title,
            "assignees": _texts(assignees),
            "assignees_from": assignees_from,
            "roles": _texts(roles),
            "form": self._form_of(name, form),
            "approvals": approvals,
            "four_eyes": four_eyes,
            "may_delegate": may_delegate,
            "escalate_after_s": escalate_after_s,
            "escalate_to": _texts(escalate_to),
            "escalate_roles": _texts(escalate_roles),
        }
        own = {
            "approval": {key: value for key, value in asked.items() if value not in (None, [])},
            "wait_deadline_s": wait_deadline_s,
            "on_wait_deadline": on_wait_deadline,
        }
        self._declare(name, after, {**own, **keys})

    @keywords_told
    def wait_event(
        self,
        name: str,
        event: str,
        *,
        event_when: str | None = None,
        wait_deadline_s: float | None = None,
        on_wait_deadline: OnWaitDeadline | None = None,
        after: str | Sequence[str] = (),
        **keys: Any,
    ) -> None:
        """Declare a step that waits for an event of another task; its result is that event.

        Args:
            name: of the step.
            event: a type of the lifecycle (`task_completed`), else the name of a domain event (`payment.captured`).
            event_when: an expression over `event` that tells whether one is meant for this step.
            wait_deadline_s: how long it waits; None: as long as it takes.
            on_wait_deadline: what then: `fail` (the default), or `continue` with null.
            after: its parents. Events count from the moment on at which they have completed.
            keys: more keys of a step, such as `each` (a wait for each item), `when` and `join`.
        """
        own = {
            "event": _said("an event", event),
            "event_when": event_when,
            "wait_deadline_s": wait_deadline_s,
            "on_wait_deadline": on_wait_deadline,
        }
        self._declare(name, after, {**own, **keys})

    def _form_of(self, name: str, form: Any) -> dict[str, Any] | None:
        if form is None or isinstance(form, dict):
            return form
        schema = schema_of(form)
        if schema is None:
            raise ConfigurationError(
                f"{self!r}: the form of {name} is a JSON Schema or the type of a record, not {form!r}"
            )
        return schema

    @keywords_told
    def child(
        self,
        name: str,
        template: str,
        *,
        child_input: str | None = None,
        child_namespace: str | None = None,
        child_version: str | None = None,
        child_wait: bool = True,
        on_parent_close: OnParentClose | None = None,
        after: str | Sequence[str] = (),
        **keys: Any,
    ) -> None:
        """Declare a step that starts a task of another template, and completes with its result.

        Args:
            name: of the step.
            template: of the child.
            child_input: an expression that gives the child's input; None: the task's own.
            child_namespace: of the child's template; None: the own one.
            child_version: of the child's template; None: the one in use.
            child_wait: False: the step completes as soon as the child exists, with its id.
            on_parent_close: what becomes of the child when the task stops: `cancel` it (the default), `abandon` it, or
                `wait` for its end.
            after: its parents.
            keys: more keys of a step, such as `each` (a child for each item), `when` and `join`.
        """
        own = {
            "child": _said("a template", template),
            "child_input": child_input,
            "child_namespace": child_namespace,
            "child_version": child_version,
            "child_wait": None if child_wait else False,
            "on_parent_close": on_parent_close,
        }
        self._declare(name, after, {**own, **keys})

    def _declare(self, name: str, after: str | Sequence[str], keys: dict[str, Any]) -> None:
        if self._is_loaded:
            raise ConfigurationError(f"{self!r} was loaded whole; it has its steps")
        conditions = _conditions(keys.pop("after_when", None))
        keys = {key: _spelled(value) for key, value in keys.items()}
        place = f"{place_of_caller()}step {_name(name)}"
        self._declared.steps.append(
            DeclaredStep(name, place, None, None, _parents(after), conditions, keys, process=False, concurrency=None)
        )
        self._spec = None

    def spec(self) -> TemplateSpec:
        """Return the template as data.

        Raises:
            TemplateInvalid: `errors` has every fault: of the functions, then of the template.
        """
        if self._spec is None:
            document, faults = self._declared.document(self._keys)
            try:
                spec = validate(document)
            except TemplateInvalid as error:
                Faults(found=(*faults, *self._declared.placed(error.errors))).refuse()
                raise
            Faults(found=faults).refuse()
            self._spec = spec
        return self._spec

    def document(self) -> dict[str, Any]:
        """Return the document that `template.register` takes."""
        return document_of(self.spec())

    def handlers(self) -> tuple[StepHandler, ...]:
        """Return the functions of the steps with the places they serve; empty for a loaded template."""
        return self._declared.handlers(self.spec())


def _name(name: object) -> str:
    """Return the name of a step; whether it can be one is looked at with the whole template."""
    if isinstance(name, str):
        return name
    raise ConfigurationError(f"{place_of_caller()}the name of a step is text, not {kind_of(name)}")


def _said(what: str, value: T | None) -> T:
    """Return what makes a step of the service's own; without it a worker would be looked for to run the step."""
    if value is None:
        raise ConfigurationError(f"{place_of_caller()}the step needs {what}; None says nothing")
    return value


def _texts(value: object) -> object:
    """Return the list that one text, or several, spell; what is none as it is, so that the check names it."""
    return [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else value


def _conditions(after_when: object) -> dict[str, Any]:
    """Return the conditions of edges by the parent that they lead from."""
    if after_when is None or isinstance(after_when, Mapping):
        return dict(after_when or {})
    raise ConfigurationError(
        f"{place_of_caller()}after_when is an object, such as {{'judge': 'results.judge.ok'}}, "
        f"not {kind_of(after_when)}"
    )


def _spelled(form: Any) -> Any:
    """Return the document that spells a form; what is none as it is, so that the check of the template names it."""
    is_form = isinstance(form, msgspec.Struct)
    return form_document(form) if is_form else form


def _parents(after: object) -> tuple[str, ...]:
    """Return the parents that `after` names, in their order, which a set would not keep."""
    if isinstance(after, str):
        return (after,)
    if isinstance(after, (list, tuple)):
        odd = next((one for one in after if not isinstance(one, str)), None)
        if odd is None:
            return tuple(after)
        raise ConfigurationError(
            f"{place_of_caller()}after lists names of steps, not {kind_of(odd)}: the condition of an edge is "
            "after_when={step: expression}"
        )
    raise ConfigurationError(
        f"{place_of_caller()}after is the name of a step, or a list of names, not {kind_of(after)}"
    )
