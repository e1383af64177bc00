"""Routes of the process itself: the contracts that it keeps, and its health."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from tasker import errors
from tasker.contracts.template_schema import SCHEMA_MEDIA_TYPE
from tasker.events.reads import Health, Live
from tasker.service.http import documents, health
from tasker.service.http.operations import Answer, Operation
from tasker.service.http.routes.parts import ANY, GET, ok

SERVICE: Final[tuple[Operation, ...]] = (
    Operation(
        method=GET,
        path="/v1/openapi.json",
        id="getOpenApi",
        endpoint=documents.openapi,
        summary="The OpenAPI document: these endpoints in full.",
        tag="contracts",
        answers=ok(dict[str, Any], "OpenAPI 3.1."),
        problems=(*ANY, errors.ParameterInvalid),
    ),
    Operation(
        method=GET,
        path="/v1/asyncapi.json",
        id="getAsyncApi",
        endpoint=documents.asyncapi,
        summary="The subjects, streams and messages on NATS.",
        tag="contracts",
        answers=ok(dict[str, Any], "AsyncAPI 3.0."),
        problems=(*ANY, errors.ParameterInvalid),
    ),
    Operation(
        method=GET,
        path="/v1/template.schema.json",
        id="getTemplateSchema",
        endpoint=documents.template_schema,
        summary="The form of a template's document, for editors.",
        tag="contracts",
        answers=(Answer(description="JSON Schema, draft 2020-12.", kind=dict[str, Any], media=(SCHEMA_MEDIA_TYPE,)),),
        problems=(*ANY, errors.ParameterInvalid),
    ),
    Operation(
        method=GET,
        path="/health/live",
        id="isLive",
        endpoint=health.live,
        summary="Say that the process answers.",
        tag="service",
        answers=ok(Live, "It does."),
        problems=ANY,
    ),
    Operation(
        method=GET,
        path="/health/ready",
        id="isReady",
        endpoint=health.ready,
        summary="Say whether every check is fine.",
        tag="service",
        answers=(
            Answer(description="Ready.", kind=Health),
            Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, description="Not ready, with the reasons.", kind=Health),
        ),
        problems=ANY,
    ),
)
