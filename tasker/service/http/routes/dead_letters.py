"""Routes of dead letters."""

from __future__ import annotations

from typing import Final

from tasker import errors
from tasker.events.messages import (
    DeadLetterAdd,
    DeadLetterInvestigate,
    DeadLetterReopen,
    DeadLetterResolve,
    DeadLetterRetry,
)
from tasker.events.reads import DeadLetterCount, DeadLetterGroupPage, DeadLetterPage
from tasker.service.http import dead_letters
from tasker.service.http import parameters as p
from tasker.service.http.operations import Body, Operation
from tasker.service.http.routes.parts import ACCEPTED, GET, LIST, OPERATOR, POST, SENT, VIEW, Problems, ok

_INVESTIGATION: Final[Problems] = (*OPERATOR, errors.StepUnknown, errors.DeadLetterUnknown)
_DEAD_LETTERS: Final = (
    p.DEAD_LETTER_STATE,
    p.STATUS,
    p.REASON,
    p.NAMESPACE,
    p.TEMPLATE,
    p.STEP_IN_QUERY,
    p.FINGERPRINT,
    p.OWNER,
    p.TAG,
    p.SEEN_AFTER,
    p.SEEN_BEFORE,
)

DEAD_LETTERS: Final[tuple[Operation, ...]] = (
    Operation(
        method=GET,
        path="/v1/dlq",
        id="listDeadLetters",
        endpoint=dead_letters.list_dead_letters,
        summary="List tasks and steps that need somebody's attention, the newest first.",
        tag="dlq",
        parameters=(*LIST, *_DEAD_LETTERS),
        answers=ok(DeadLetterPage, "A page of dead letters."),
        problems=VIEW,
    ),
    Operation(
        method=GET,
        path="/v1/dlq/groups",
        id="listDeadLetterGroups",
        endpoint=dead_letters.groups,
        summary="List dead letters by the fingerprint of their error, the largest group first.",
        tag="dlq",
        parameters=(*LIST, *_DEAD_LETTERS),
        answers=ok(DeadLetterGroupPage, "A page of groups."),
        problems=VIEW,
    ),
    Operation(
        method=GET,
        path="/v1/dlq/count",
        id="countDeadLetters",
        endpoint=dead_letters.count,
        summary="Count dead letters.",
        tag="dlq",
        parameters=(p.TENANT, p.AT_LEAST, *_DEAD_LETTERS),
        answers=ok(DeadLetterCount, "The count."),
        problems=VIEW,
    ),
    Operation(
        method=GET,
        path="/v1/dlq/{task_id}",
        id="getDeadLetters",
        endpoint=dead_letters.of_task,
        summary="Show every dead letter of a task, with its notes; those that left too.",
        tag="dlq",
        parameters=(p.TENANT, p.TASK_ID, p.AT_LEAST),
        answers=ok(DeadLetterPage, "The dead letters."),
        problems=(*VIEW, errors.TaskUnknown),
    ),
    Operation(
        method=POST,
        path="/v1/dlq/{task_id}/add",
        id="addDeadLetter",
        endpoint=dead_letters.add,
        summary="Put a task or a step among the dead letters.",
        tag="dlq",
        parameters=(*SENT, p.TASK_ID),
        body=Body(kind=DeadLetterAdd),
        answers=ACCEPTED,
        problems=_INVESTIGATION,
    ),
    Operation(
        method=POST,
        path="/v1/dlq/{task_id}/investigate",
        id="investigateDeadLetter",
        endpoint=dead_letters.investigate,
        summary="Look into a dead letter, give it an owner, add a note.",
        tag="dlq",
        parameters=(*SENT, p.TASK_ID),
        body=Body(kind=DeadLetterInvestigate),
        answers=ACCEPTED,
        problems=_INVESTIGATION,
    ),
    Operation(
        method=POST,
        path="/v1/dlq/{task_id}/resolve",
        id="resolveDeadLetter",
        endpoint=dead_letters.resolve,
        summary="Settle a dead letter.",
        tag="dlq",
        parameters=(*SENT, p.TASK_ID),
        body=Body(kind=DeadLetterResolve),
        answers=ACCEPTED,
        problems=_INVESTIGATION,
    ),
    Operation(
        method=POST,
        path="/v1/dlq/{task_id}/reopen",
        id="reopenDeadLetter",
        endpoint=dead_letters.reopen,
        summary="Take back that a dead letter is settled.",
        tag="dlq",
        parameters=(*SENT, p.TASK_ID),
        body=Body(kind=DeadLetterReopen),
        answers=ACCEPTED,
        problems=_INVESTIGATION,
    ),
    Operation(
        method=POST,
        path="/v1/dlq/{task_id}/retry",
        id="retryDeadLetter",
        endpoint=dead_letters.retry,
        summary="Give the step, or every failed step of the task, a fresh set of attempts.",
        tag="dlq",
        parameters=(*SENT, p.TASK_ID),
        body=Body(kind=DeadLetterRetry),
        answers=ACCEPTED,
        problems=(*OPERATOR, errors.StepUnknown),
    ),
)
