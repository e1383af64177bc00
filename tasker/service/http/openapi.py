"""The OpenAPI 3.1 document of a table of operations."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from tasker.contracts.schemas import Schema, Schemas
from tasker.contracts.template_schema import describe_documents
from tasker.errors import PROBLEM_TYPE_PREFIX, Problem, SiteRefused, TaskerError
from tasker.events.codec import BATCH_ITEMS_MAX
from tasker.service.http.operations import JSON, Answer, Body, Operation, Parameter
from tasker.service.http.problems import PROBLEM_MEDIA_TYPE, RETRIED_STATUS
from tasker.service.http.requests import EVENT_STREAM
from tasker.version import __version__

OPENAPI_VERSION: Final = "3.1.0"
SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_DESCRIPTION: Final = """Durable workflows. The same commands are taken over NATS: see `/v1/asyncapi.json`.

A refusal is an RFC 9457 problem document; its `code` is stable. Readers ignore members that they do not know: members
are only ever added. A request with a parameter or a member that is not known is refused."""


def openapi_document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document as JSON values."""
    schemas = Schemas()
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    describe_documents(schemas)
    used = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps([paths, schemas.components])))
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "Tasker", "version": __version__, "description": _DESCRIPTION, "license": {"name": "MIT"}},
        "jsonSchemaDialect": SCHEMA_DIALECT,
        "paths": paths,
        "components": {"schemas": {name: schemas.components[name] for name in sorted(used)}},
    }


def _operation(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for answer in operation.answers:
        responses[str(answer.status.value)] = _answer(answer, schemas)
    for status, kinds in _by_status((*operation.problems, SiteRefused)).items():
        problem = _problem(status, kinds, schemas)
        given = responses.setdefault(str(status), problem)
        given.setdefault("content", {}).update(problem["content"])
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": dict(sorted(responses.items())),
    }
    if operation.body is not None:
        in_path = {parameter.name for parameter in operation.parameters if parameter.place == "path"}
        described["requestBody"] = _body(operation.body, in_path, schemas)
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "schema": {"type": "array", "items": parameter.schema} if parameter.many else parameter.schema,
    }
    if parameter.place == "path":
        described["required"] = True
    if parameter.many:
        described |= {"style": "form", "explode": True}
    if parameter.example is not None:
        described["example"] = [parameter.example] if parameter.many else parameter.example
    return described


def _body(body: Body, in_path: set[str], schemas: Schemas) -> dict[str, Any]:
    schema = schemas.of(body.kind)
    if in_path:
        schema = _without(schemas.components[body.kind.__name__], in_path)
        name = f"{body.kind.__name__}At{''.join(word.title() for word in '_'.join(sorted(in_path)).split('_'))}"
        schemas.components[name] = schema | {"title": name}
        schema = {"$ref": f"#/components/schemas/{name}"}
    if body.array:
        schema = {"oneOf": [schema, {"type": "array", "items": schema, "maxItems": BATCH_ITEMS_MAX}]}
    return {"required": not body.optional, "content": {JSON: {"schema": schema}}}


def _without(component: Schema, names: set[str]) -> Schema:
    """Return an object's schema without the members that the path names."""
    kept = {name: schema for name, schema in component["properties"].items() if name not in names}
    required = [name for name in component.get("required", ()) if name not in names]
    less = component | {"properties": kept, "required": required}
    if not required:
        del less["required"]
    return less


def _answer(answer: Answer, schemas: Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        described["headers"] = {
            name: {"description": description, "schema": {"type": "string"}} for name, description in answer.headers
        }
    if answer.kind is not None:
        content = schemas.of(answer.kind)
        described["content"] = {
            media: {"schema": {"type": "string"} if media == EVENT_STREAM else content} for media in answer.media
        }
    return described


def _by_status(problems: Sequence[type[TaskerError]]) -> dict[int, list[type[TaskerError]]]:
    found: dict[int, list[type[TaskerError]]] = {}
    for kind in problems:
        found.setdefault(kind.status, []).append(kind)
    return found


def _problem(status: int, kinds: Sequence[type[TaskerError]], schemas: Schemas) -> dict[str, Any]:
    codes = {
        "properties": {
            "status": {"const": status},
            "code": {"enum": [kind.code for kind in kinds]},
            "type": {"enum": [PROBLEM_TYPE_PREFIX + kind.code for kind in kinds]},
        }
    }
    described: dict[str, Any] = {
        "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds) or HTTPStatus(status).phrase,
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"allOf": [schemas.of(Problem), codes]}}},
    }
    if status in RETRIED_STATUS:
        described["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}, "required": True}
        }
    return described
