"""The contracts as the service serves them, and what schemathesis once found."""

from tasker.contracts.asyncapi import asyncapi_document
from tasker.contracts.template_schema import template_schema
from tasker.service.http.openapi import openapi_document
from tasker.service.http.routes import OPERATIONS
from tests.integration.http.conftest import Client, Site


async def test_the_documents_are_served(site: Site, client: Client) -> None:
    assert await client.get("/v1/openapi.json") == openapi_document(OPERATIONS)
    assert await client.get("/v1/asyncapi.json") == asyncapi_document(prefix=site.subjects.prefix)
    response, schema = await client.ask("GET", "/v1/template.schema.json", status=200)
    assert schema == template_schema()
    assert response.content_type == "application/schema+json"
    assert "Access-Control-Allow-Origin" not in response.headers  # whoever asks from another site is refused anyway


async def test_a_document_takes_no_parameter(client: Client) -> None:
    await client.problem("GET", "/v1/openapi.json?x=1", 400, "parameter_invalid")


async def test_a_route_answers_head_too(client: Client) -> None:
    response, _ = await client.ask("HEAD", "/v1/openapi.json", status=200)
    assert int(response.headers["Content-Length"]) > 10_000


async def test_an_array_of_registrations_is_refused(site: Site, client: Client) -> None:
    await client.problem("PUT", "/v1/templates", 400, "body_invalid", data=b" [{}, {}]")
    assert site.gateway.sent == []


async def test_an_empty_key_is_not_no_key(site: Site, client: Client) -> None:
    headers = {"Idempotency-Key": " "}
    await client.problem("POST", "/v1/tasks", 400, "parameter_invalid", data=b'{"template":"t"}', headers=headers)
    assert site.gateway.sent == []


async def test_an_empty_task_is_not_every_task(client: Client) -> None:
    await client.problem("GET", "/v1/events?task_id=", 400, "parameter_invalid")
