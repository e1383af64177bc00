"""What routes have in common: what they are refused with, their parameters and their answers."""

from __future__ import annotations

from http import HTTPMethod
from typing import Any, Final

from tasker import errors
from tasker.errors import TaskerError
from tasker.events.messages import Accepted
from tasker.service.http import parameters as p
from tasker.service.http import task_operations
from tasker.service.http.operations import Answer

GET: Final = HTTPMethod.GET
POST: Final = HTTPMethod.POST
PUT: Final = HTTPMethod.PUT
DELETE: Final = HTTPMethod.DELETE

Problems = tuple[type[TaskerError], ...]

ANY: Final[Problems] = (TaskerError,)
READ: Final[Problems] = (*ANY, errors.ParameterInvalid, errors.NameInvalid, errors.Unavailable)
VIEW: Final[Problems] = (*READ, errors.PositionInvalid, errors.Behind)
COMMAND: Final[Problems] = (
    *READ,
    errors.BodyInvalid,
    errors.BodyTooLarge,
    errors.ValueInvalid,
    errors.KeyAmbiguous,
    errors.KeyConflict,
    errors.Busy,
    errors.Fenced,
    errors.OutcomeUnknown,
    errors.DeadlineExceeded,
)
OPERATOR: Final[Problems] = (*COMMAND, *task_operations.REFUSALS)

LIST: Final = (p.TENANT, p.LIMIT, p.AFTER, p.AT_LEAST)
SENT: Final = (p.TENANT, p.IDEMPOTENCY_KEY, p.TRACEPARENT)


def ok(kind: Any, description: str) -> tuple[Answer, ...]:
    """Return the only answer of a route that is not refused."""
    return (Answer(description=description, kind=kind),)


ACCEPTED: Final = ok(Accepted, "It is recorded (or, `duplicate`, had been).")
