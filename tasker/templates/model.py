"""What a template is: frozen data, with every default in one place.

A `TemplateSpec` that `validate` returned is whole: names are names, numbers are within bounds, the
steps form a DAG. The decider, the SDK and the wire all read this one form. The *document* is what a
person writes (YAML, the body of `template.register`): the same keys, with defaults left out.

How long a retry waits is computed in `service.domain`; here stand only the numbers it is computed from.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from tasker.ids import NAME_PATTERN

Backoff = Literal["exponential", "linear", "fibonacci", "constant", "none"]
OnFailure = Literal["block", "fail"]
Identity = Literal["key", "strict"]

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

# Bounds as JSON Schema says them, for editors; `validate` checks them, and more.
Name = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{NAME_PATTERN}$"})]
Seconds = Annotated[float, msgspec.Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": SECONDS_MAX})]
Attempts = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": ATTEMPTS_MAX})]
Factor = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": FACTOR_MAX})]
Share = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 1})]
ErrorType = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": ERROR_TYPE_CHARS_MAX})]

UNUSED_RETRY_KEYS: Final[dict[Backoff, frozenset[str]]] = {
    "exponential": frozenset(),
    "linear": frozenset({"factor"}),
    "fibonacci": frozenset({"factor"}),
    "constant": frozenset({"factor", "delay_s_max"}),
    "none": frozenset({"factor", "delay_s_max", "delay_s", "jitter"}),
}
"""Keys of `Retry` that would do nothing under a backoff, and so are refused beside it."""


class _Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stored form: keyword arguments only, and a key that this build does not know is an error."""


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
        heartbeat_s: an attempt that was silent for longer is lost. It is of no effect where
            `start_to_close_s` is shorter.
    """

    name: Name
    handler: Name
    after: tuple[Name, ...] = ()
    queue: Name | None = None
    retry: Retry = Retry()
    start_to_close_s: Seconds = 30.0
    schedule_to_start_s: Seconds | None = None
    heartbeat_s: Seconds = 10.0


class TemplateSpec(_Form, frozen=True):
    """A workflow: a DAG of steps, in declared order.

    Attributes:
        name: what tasks of it are asked for with.
        namespace: whose names and handlers it shares.
        version: a semantic version; None: the content's hash stands for one. Not part of the content.
        input_schema: JSON Schema (draft 2020-12) that a task's input must match.
        queue: where work of its steps is offered; None: a queue called like the template.
        timeout_s: a task's timeout where `task.create` names none.
        on_failure: after a failed step, when nothing can move, wait for a person or fail the task.
        result: the step whose result is the task's; None: the only last step's, else all last steps' by name.
        identity: `key`: a task's identity comes from the caller's key; `strict`: from its input.
        identity_bucket_s: with `strict`, equal inputs are one task only within such a span of time.
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

    def queue_of(self, step: StepSpec) -> str:
        """Return the queue on which the work of `step` is offered."""
        return step.queue or self.queue or self.name


def document_of(spec: TemplateSpec) -> dict[str, Any]:
    """Return the document that spells `spec`: builtins, with every default left out.

    `validate(document_of(spec))` is `spec` again.
    """
    document = _without_defaults(spec, {})
    document["steps"] = [_step_document(step) for step in spec.steps]
    return document


def retry_document(retry: Retry) -> dict[str, Any]:
    """Return the document that spells `retry`; empty when all is default."""
    return _without_defaults(retry, {})


def _step_document(step: StepSpec) -> dict[str, Any]:
    document = _without_defaults(step, {"handler": step.name})
    retry = retry_document(step.retry)
    document["retry"] = {key: retry[key] for key in retry if key not in UNUSED_RETRY_KEYS[step.retry.backoff]}
    if not document["retry"]:
        del document["retry"]
    return document


def _without_defaults(form: _Form, more_defaults: dict[str, Any]) -> dict[str, Any]:
    defaults = {
        field.name: field.default for field in msgspec.structs.fields(form) if field.default is not msgspec.NODEFAULT
    } | more_defaults
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name in form.__struct_fields__
        if (value := getattr(form, name)) != defaults.get(name, msgspec.NODEFAULT)
    }
