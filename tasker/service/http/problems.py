"""Every error as an RFC 9457 problem document, whoever raised it."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web

from tasker.errors import (
    BodyInvalid,
    BodyTooLarge,
    EndpointUnknown,
    MethodNotAllowed,
    ParameterInvalid,
    Problem,
    TaskerError,
)
from tasker.events.codec import encode_message
from tasker.outages import Repetition

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"

_RETRY_AFTER_S: Final = 1.0
RETRIED_STATUS: Final = frozenset({429, 503})
"""Problems of these have a `Retry-After`."""

_ERROR_STATUS_MIN: Final = 400
_SERVER_STATUS_MIN: Final = 500

_log = structlog.get_logger(__name__)

ERRORS_TOLD: Final = web.AppKey("errors_told", defaultdict[str, Repetition])
"""Per code of an error, of which there are few."""

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


def errors_told() -> defaultdict[str, Repetition]:
    """Return what an application keeps at `ERRORS_TOLD`."""
    return defaultdict(lambda: Repetition(_log, "http_error", time.monotonic))


def problem_response(problem: Problem, *, headers: dict[str, str] | None = None) -> web.Response:
    """Return the response that carries `problem`."""
    sent = dict(headers or {})
    if problem.status in RETRIED_STATUS:
        wait_s = _RETRY_AFTER_S if problem.retry_after_s is None else problem.retry_after_s
        sent["Retry-After"] = str(max(1, math.ceil(wait_s)))
    return web.Response(
        status=problem.status, body=encode_message(problem), content_type=PROBLEM_MEDIA_TYPE, headers=sent
    )


@web.middleware
async def errors_to_problems(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    """Answer what an endpoint raises. The outermost of all, so that nothing else forms an error."""
    try:
        return await handler(request)
    except TaskerError as error:
        return _answer(request, error)
    except web.HTTPException as raised:
        if raised.status < _ERROR_STATUS_MIN:
            raise
        return _answer_framework(request, raised)
    except ConnectionError:
        raise  # the caller is gone: there is nobody to answer
    except Exception as error:  # noqa: BLE001 - the last line: a bug is logged here and told without its internals
        _log.exception("http_failed", method=request.method, path=request.path, exc_info=error)
        return problem_response(TaskerError("something failed inside; the service's log has it").problem())


def _answer(request: web.Request, error: TaskerError) -> web.Response:
    if error.status >= _SERVER_STATUS_MIN:
        told = request.app[ERRORS_TOLD][error.code]
        told.tell(method=request.method, path=request.path, code=error.code, error=error.detail)
    return problem_response(error.problem())


def _answer_framework(request: web.Request, raised: web.HTTPException) -> web.Response:
    """Answer what the framework itself raises, with our codes."""
    if isinstance(raised, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(raised.allowed_methods))
        error: TaskerError = MethodNotAllowed(f"{request.path[:200]!a} takes {allowed}, not {request.method[:20]!a}")
        return problem_response(error.problem(), headers={"Allow": allowed})
    match raised.status:
        case 404:
            error = EndpointUnknown(
                f"there is nothing at {request.path[:200]!a}; GET /v1/openapi.json tells what there is"
            )
        case 413:
            error = BodyTooLarge(f"the body has more than the {request.client_max_size} bytes allowed")
        case 400:
            error = BodyInvalid(raised.reason)
        case _:
            error = ParameterInvalid(raised.reason)
    return problem_response(error.problem())
