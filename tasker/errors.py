"""Families of errors, each leaf with the stable code that callers see.

The class is the table: a leaf's code, HTTP status, exit code and title stand here and nowhere
else. `problem()` turns any of them into the RFC 9457 document that NATS and HTTP both answer.

| Family            | Meaning                                   | What happens                              |
|-------------------|-------------------------------------------|-------------------------------------------|
| `CommandRejected` | the state or the input says no            | answered; logged as info; nothing recorded |
| `Fenced`          | another owner took the shard              | its actors are dropped; the caller retries |
| `Unavailable`     | the log, the bus or a store failed        | back off until the deadline; 503           |
| `Undecodable`     | bytes that nobody here understands        | a message is refused, a task is blocked    |
| `ConfigurationError` | the process cannot start               | one clear line, exit                       |
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, final

import msgspec

PROBLEM_TYPE_PREFIX = "urn:tasker:error:"
"""`type` of a problem document is this and the code; the reference page of errors is keyed by it."""


class FieldError(msgspec.Struct, frozen=True):
    """One fault of an input: where (an RFC 6901 pointer, "" for the whole) and what."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An RFC 9457 problem document: what a refusal carries on NATS and HTTP alike.

    `code` is stable and for programs; `detail` is for people and says what to do next.
    `context` holds the facts of this occurrence (the task that a conflict names, ...).
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: tuple[FieldError, ...] = ()
    retry_after_s: float | None = None
    context: dict[str, Any] = {}


class TaskerError(Exception):
    """The root of all our errors.

    Attributes:
        detail: a sentence for people, with what to do next where that helps.
        errors: the faults one by one, where an input has several.
        retry_after_s: when a repetition makes sense, in seconds; None: when something changed.
        context: facts of this occurrence, JSON values.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    title: ClassVar[str] = "Something failed inside the service"
    wait_s: ClassVar[float | None] = None
    """`retry_after_s` of its problem where the occurrence names none; of whatever passes by itself it is a time."""

    leaves: ClassVar[dict[str, type[TaskerError]]] = {}

    def __init__(
        self,
        detail: str = "",
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after_s: float | None = None,
        **context: Any,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.context = context

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" in cls.__dict__:
            known = TaskerError.leaves.setdefault(cls.code, cls)
            if known is not cls:
                message = f"error code {cls.code!r} belongs to {known.__name__} already"
                raise TypeError(message)

    def problem(self) -> Problem:
        """Return the document that a caller gets."""
        return Problem(
            type=PROBLEM_TYPE_PREFIX + self.code,
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            errors=self.errors,
            retry_after_s=self.wait_s if self.retry_after_s is None else self.retry_after_s,
            context=self.context,
        )

    @staticmethod
    def from_problem(problem: Problem) -> TaskerError:
        """Return the error that `problem` tells of; an unknown code is a plain `TaskerError` that keeps it."""
        leaf = TaskerError.leaves.get(problem.code, TaskerError)
        error = leaf(problem.detail, errors=problem.errors, retry_after_s=problem.retry_after_s)
        error.context = dict(problem.context)
        return error


class CommandRejected(TaskerError):
    """The input or the state forbids the command. Nothing was recorded."""

    code = "rejected"
    status = 409
    exit_code = 6
    title = "The command was refused"


class BodyInvalid(CommandRejected):
    code = "body_invalid"
    status = 400
    exit_code = 2
    title = "The body is not the JSON that this command takes"

    @classmethod
    def at(cls, pointer: str, detail: str) -> Self:
        """Return the error of one fault, at the place of the body that the JSON pointer names."""
        return cls(f"{pointer or 'the body'}: {detail}", errors=(FieldError(pointer, detail),))


class BodyTooLarge(CommandRejected):
    code = "body_too_large"
    status = 413
    exit_code = 2
    title = "The body is larger than the limit"


class ValueInvalid(CommandRejected):
    code = "value_invalid"
    status = 422
    exit_code = 2
    title = "A value is outside what can be stored exactly"


class NameInvalid(CommandRejected):
    code = "name_invalid"
    status = 422
    exit_code = 2
    title = "A name has a form that is not allowed"


class VerbUnknown(CommandRejected):
    code = "verb_unknown"
    status = 404
    exit_code = 2
    title = "There is no such command"


class ParameterInvalid(CommandRejected):
    code = "parameter_invalid"
    status = 400
    exit_code = 2
    title = "A parameter of the request is not valid"


class EndpointUnknown(CommandRejected):
    code = "endpoint_unknown"
    status = 404
    exit_code = 3
    title = "There is no such endpoint"


class MethodNotAllowed(CommandRejected):
    code = "method_not_allowed"
    status = 405
    exit_code = 2
    title = "The endpoint does not take this method"


class InputInvalid(CommandRejected):
    code = "input_invalid"
    status = 422
    exit_code = 2
    title = "The input does not match the template's schema"


class TemplateInvalid(CommandRejected):
    code = "template_invalid"
    status = 422
    exit_code = 2
    title = "The template has faults"


class TemplateUnknown(CommandRejected):
    code = "template_unknown"
    status = 404
    exit_code = 3
    title = "No such template, or no such version of it"


class TemplateConflict(CommandRejected):
    code = "template_conflict"
    status = 409
    exit_code = 6
    title = "The version is registered with other content"


class TemplateLimit(CommandRejected):
    code = "template_limit"
    status = 409
    exit_code = 6
    title = "The template has as many versions or events as a template may have"


class ExpressionInvalid(CommandRejected):
    code = "expression_invalid"
    status = 422
    exit_code = 2
    title = "An expression of a template cannot be compiled"


class ExpressionFailed(CommandRejected):
    code = "expression_failed"
    status = 422
    exit_code = 2
    title = "An expression has no value for what it was given"


class ScheduleInvalid(CommandRejected):
    code = "schedule_invalid"
    status = 422
    exit_code = 2
    title = "The schedule has faults"


class ScheduleUnknown(CommandRejected):
    code = "schedule_unknown"
    status = 404
    exit_code = 3
    title = "No such schedule"


class ScheduleConflict(CommandRejected):
    code = "schedule_conflict"
    status = 409
    exit_code = 6
    title = "The name belongs to a schedule with another document"


class ScheduleForbids(CommandRejected):
    code = "schedule_forbids"
    status = 409
    exit_code = 6
    title = "The state of the schedule forbids the command"


class KeyAmbiguous(CommandRejected):
    code = "key_ambiguous"
    status = 400
    exit_code = 2
    title = "Two carriers name different keys for one command"


class KeyConflict(CommandRejected):
    code = "key_conflict"
    status = 409
    exit_code = 6
    title = "The key belongs to another request"


class TaskUnknown(CommandRejected):
    code = "task_unknown"
    status = 404
    exit_code = 3
    title = "No such task"


class StepUnknown(CommandRejected):
    code = "step_unknown"
    status = 404
    exit_code = 3
    title = "The task has no such step"


class DeadLetterUnknown(CommandRejected):
    code = "dead_letter_unknown"
    status = 404
    exit_code = 3
    title = "It is no dead letter"


class TaskEnded(CommandRejected):
    code = "task_ended"
    status = 409
    exit_code = 6
    title = "The task has ended"


class StateForbids(CommandRejected):
    code = "state_forbids"
    status = 409
    exit_code = 6
    title = "The state of the task forbids the command"


class TaskPoisoned(CommandRejected):
    code = "task_poisoned"
    status = 409
    exit_code = 6
    title = "The task's log has an event that cannot be folded"


class HistoryLimit(CommandRejected):
    code = "history_limit"
    status = 409
    exit_code = 6
    title = "The task has as many events as a task may have"


class EventRefused(CommandRejected):
    """A domain event may not be raised: nothing that another attempt of the same code would change."""


class EventUnknown(EventRefused):
    code = "event_unknown"
    status = 422
    exit_code = 2
    title = "The step does not declare the domain event"


class EventInvalid(EventRefused):
    code = "event_invalid"
    status = 422
    exit_code = 2
    title = "The data of the domain event do not match its schema"


class EventTooLarge(EventRefused):
    code = "event_too_large"
    status = 413
    exit_code = 2
    title = "The data of the domain event, or of all of an attempt, are larger than the limit"


class EventsTooMany(EventRefused):
    code = "events_too_many"
    status = 422
    exit_code = 2
    title = "The attempt emits more domain events than an attempt may"


class SignalUnknown(CommandRejected):
    code = "signal_unknown"
    status = 404
    exit_code = 3
    title = "No step of the task waits for a signal of that name"


class SignalInvalid(CommandRejected):
    code = "signal_invalid"
    status = 422
    exit_code = 2
    title = "The signal's value does not match its schema"


class StateInvalid(CommandRejected):
    code = "state_invalid"
    status = 422
    exit_code = 2
    title = "The step cannot write this to the task's state"


class SignalsFull(CommandRejected):
    code = "signals_full"
    status = 409
    exit_code = 6
    title = "The task keeps as many signals as it may, and no step has taken them"


class SiteRefused(CommandRejected):
    code = "site_refused"
    status = 403
    exit_code = 5
    title = "A page of another site may not ask, nor anybody under a name that is not the service's"


class ApprovalForbidden(CommandRejected):
    code = "approval_forbidden"
    status = 403
    exit_code = 5
    title = "The person may not answer the approval"


class ApprovalInvalid(CommandRejected):
    code = "approval_invalid"
    status = 422
    exit_code = 2
    title = "The values of the answer do not match the form of the approval"


class UsageRefused(CommandRejected):
    """Usage may not be metered so: nothing that another attempt of the same code would change."""


class UsageInvalid(UsageRefused):
    code = "usage_invalid"
    status = 422
    exit_code = 2
    title = "Usage is not an exact amount of a named meter"


class UsageTooMany(UsageRefused):
    code = "usage_too_many"
    status = 422
    exit_code = 2
    title = "The attempt uses more meters of models than an attempt may"


class ChunkTooLarge(CommandRejected):
    code = "chunk_too_large"
    status = 413
    exit_code = 2
    title = "The chunk of a live stream is larger than the limit"


class PositionInvalid(CommandRejected):
    code = "position_invalid"
    status = 400
    exit_code = 2
    title = "The position token cannot be read here"


class Busy(CommandRejected):
    code = "busy"
    status = 429
    exit_code = 7
    title = "The service is full at the moment"
    wait_s = 0.5


class Fenced(TaskerError):
    """Another owner took the shard: whoever holds this must drop what it decided on."""

    code = "fenced"
    status = 503
    exit_code = 7
    title = "The shard has another owner now"
    wait_s = 0.2


class Unavailable(TaskerError):
    """The outside (log, bus, store) failed; nothing was recorded. A repetition is safe."""

    code = "unavailable"
    status = 503
    exit_code = 7
    title = "The service cannot answer now"
    wait_s: ClassVar[float | None] = 0.2


class OutcomeUnknown(Unavailable):
    """The connection was lost in the commit and the log could not tell: it may be recorded or not."""

    code = "outcome_unknown"
    title = "It is not known whether the command was recorded; repeat it with the same key"


class Behind(Unavailable):
    code = "behind"
    title = "The view has not reached the position asked for"


class DeadlineExceeded(Unavailable):
    code = "deadline_exceeded"
    status = 504
    title = "No answer came within the time given"


class NotPermitted(Unavailable):
    """NATS does not let this user publish or subscribe there: only other permissions help, no repetition."""

    code = "not_permitted"
    exit_code = 4
    title = "NATS does not permit the user what it takes"
    wait_s = None


@final
class Undecodable(TaskerError):
    """Bytes that this build does not understand."""

    code = "undecodable"
    title = "Stored or received bytes cannot be decoded"


class ConfigurationError(TaskerError):
    """The process cannot start; the detail is one line that says what to do."""

    code = "configuration"
    exit_code = 2
    title = "The configuration does not work"


class AuthenticationFailed(ConfigurationError):
    """A server does not take who we say we are: to ask again is of no use."""

    code = "authentication_failed"
    status = 401
    exit_code = 4
    title = "A server refused the user, the password or the credentials"


class SchemaMismatch(ConfigurationError):
    code = "schema_mismatch"
    title = "The database's schema does not fit this build"


def is_passing(error: TaskerError) -> bool:
    """Say whether a repetition with the same key may succeed where `error` came."""
    return isinstance(error, (Unavailable, Fenced, Busy)) and not isinstance(error, NotPermitted)
