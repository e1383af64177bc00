"""Checks of the documents by others' rules: OpenAPI 3.1 and AsyncAPI 3.0."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs

ASYNCAPI_FILE = Path(__file__).parent / "vendor" / "asyncapi-3.0.0.json"


def openapi_faults(document: dict[str, Any]) -> Iterator[str]:
    """Yield what makes `document` no OpenAPI 3.1 document."""
    import schemathesis

    try:
        schemathesis.openapi.from_dict(document).validate()
    except (jsonschema_rs.ValidationError, schemathesis.errors.InvalidSchema, schemathesis.errors.LoaderError) as fault:
        yield str(fault)


def asyncapi_faults(document: dict[str, Any]) -> Iterator[str]:
    """Yield what makes `document` no AsyncAPI 3.0 document."""
    validator = jsonschema_rs.validator_for(json.loads(ASYNCAPI_FILE.read_text(encoding="utf-8")))
    for fault in validator.iter_errors(document):
        yield f"{list(fault.instance_path)}: {fault.message[:400]}"
