"""The OpenAPI document and the routes are one: what is described exists, and what exists is described."""

import re

import jsonschema_rs
import pytest
from aiohttp import web

from tasker.errors import TaskerError
from tasker.events.messages import COMMANDS, SchedulePreview
from tasker.service.http import parameters
from tasker.service.http.app import add_operations
from tasker.service.http.openapi import SCHEMA_DIALECT, openapi_document
from tasker.service.http.operations import Parameter
from tasker.service.http.routes import OPERATIONS
from tests.contract_documents import openapi_faults

DOCUMENT = openapi_document(OPERATIONS)


def described() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}


def test_every_route_is_described_and_every_described_one_exists() -> None:
    app = web.Application()
    add_operations(app)
    routed = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.method != "HEAD" and route.resource is not None
    }
    assert routed == described()
    assert len(routed) == len(OPERATIONS)


def test_the_document_is_openapi_3_1() -> None:
    assert list(openapi_faults(DOCUMENT)) == []


def test_a_document_that_is_none_is_seen() -> None:
    assert list(openapi_faults(DOCUMENT | {"paths": {"/x": {"get": {"responses": {"200": {}}}}}}))


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_each_schema_is_one(name: str) -> None:
    jsonschema_rs.meta.validate({"$schema": SCHEMA_DIALECT, **DOCUMENT["components"]["schemas"][name]})


def test_every_reference_leads_somewhere() -> None:
    text = repr(DOCUMENT)
    wanted = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert wanted == set(DOCUMENT["components"]["schemas"])


def test_operations_have_ids_of_their_own_and_describe_their_paths() -> None:
    assert len({operation.id for operation in OPERATIONS}) == len(OPERATIONS)
    for operation in OPERATIONS:
        in_path = {parameter.name for parameter in operation.parameters if parameter.place == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", operation.path)), operation.id
        assert len({(one.place, one.name) for one in operation.parameters}) == len(operation.parameters)


def test_every_parameter_is_used_by_an_operation() -> None:
    known = {value.name for value in vars(parameters).values() if isinstance(value, Parameter)}
    assert known == {parameter.name for operation in OPERATIONS for parameter in operation.parameters}


def test_every_command_has_an_operation_that_takes_its_body() -> None:
    bodies = {operation.body.kind for operation in OPERATIONS if operation.body is not None}
    assert bodies - {SchedulePreview} == set(COMMANDS.values())


def test_problems_are_told_with_code_and_status() -> None:
    responses = DOCUMENT["paths"]["/v1/tasks/{task_id}"]["get"]["responses"]
    content = responses["404"]["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]
    assert content["code"] == {"enum": [TaskerError.leaves["task_unknown"].code]}
    assert responses["503"]["headers"]["Retry-After"]["required"]
