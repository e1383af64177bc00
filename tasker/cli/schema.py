"""`tasker schema`: the documents that describe the service to other programs; asks no service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclopts import App

from tasker.cli.options import Format, Output

if TYPE_CHECKING:
    from collections.abc import Mapping

app = App(name="schema", help="Print the contracts: OpenAPI, AsyncAPI, the form of templates.")


@app.command
def openapi(*, output: Output = "table") -> None:
    """Print the OpenAPI 3.1 document of the HTTP endpoints. A service has it at /v1/openapi.json.

    For example:

    $ tasker schema openapi > openapi.json

    Args:
        output: `jsonl` for one line; else it is indented.
    """
    from tasker.service.http.openapi import openapi_document
    from tasker.service.http.routes import OPERATIONS

    print_document(openapi_document(OPERATIONS), output)


@app.command
def asyncapi(*, nats_prefix: str | None = None, output: Output = "table") -> None:
    """Print the AsyncAPI 3.0 document of subjects, streams and messages. A service has it at /v1/asyncapi.json.

    Args:
        nats_prefix: what the subjects start with; else `nats.prefix`, "tasker" at first.
        output: `jsonl` for one line; else it is indented.
    """
    from tasker.contracts.asyncapi import asyncapi_document
    from tasker.settings import read_settings

    prefix = read_settings(flags={"nats.prefix": nats_prefix}).settings.nats.prefix
    print_document(asyncapi_document(prefix=prefix), output)


@app.command
def template(*, output: Output = "table") -> None:
    """Print the JSON Schema of a template's YAML or JSON document, for editors.

    A service has it at /v1/template.schema.json. `tasker template schema` is the same.

    Args:
        output: `jsonl` for one line; else it is indented.
    """
    from tasker.contracts.template_schema import template_schema

    print_document(template_schema(), output)


def print_document(document: Mapping[str, Any], output: Format) -> None:
    """Write a document to stdout, as JSON for people and programs."""
    from tasker.cli.output import document as write

    write(document, "jsonl" if output == "jsonl" else "json")
