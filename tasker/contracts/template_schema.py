"""The JSON Schema of a template's document, YAML or JSON, for editors.

It says of each key what `templates.validate` checks of it by itself, and which keys do nothing beside others. What
joins several places (unknown parents, cycles, a `result` that is no step) only `validate` can tell. What `validate`
takes, the schema takes: null means the same as a key that is left out.
"""

from __future__ import annotations

from typing import Any, Final, get_args

from tasker.contracts.schemas import Schema, Schemas
from tasker.events.messages import TemplateRegister
from tasker.ids import NAME_PATTERN
from tasker.templates.hash import VERSION_PATTERN
from tasker.templates.model import (
    EMITS_MAX,
    ERROR_TYPES_MAX,
    PERSONS_MAX,
    ROUTES_MAX,
    STATE_KEYS_MAX,
    STEPS_MAX,
    UNUSED_RETRY_KEYS,
    VERSION_CHARS_MAX,
    Approval,
    Backoff,
    Budget,
    CircuitBreaker,
    Concurrency,
    Debounce,
    Emit,
    Fairness,
    OnTimeout,
    RateLimit,
    Retry,
    StaleAfter,
    StepSpec,
    TemplateSpec,
    Using,
)
from tasker.templates.state_keys import STATE_KEY_PATTERN

SCHEMA_MEDIA_TYPE: Final = "application/schema+json"
SCHEMA_ID: Final = "urn:tasker:schema:template"

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_NAMES: Final[dict[type, str]] = {
    TemplateSpec: "TemplateDocument",
    StepSpec: "StepDocument",
    Retry: "RetryDocument",
    Emit: "EmitDocument",
    Approval: "ApprovalDocument",
    Budget: "BudgetDocument",
    CircuitBreaker: "CircuitBreakerDocument",
    Concurrency: "ConcurrencyDocument",
    Debounce: "DebounceDocument",
    OnTimeout: "OnTimeoutDocument",
    RateLimit: "RateLimitDocument",
    Fairness: "FairnessDocument",
    StaleAfter: "StaleAfterDocument",
    Using: "UsingDocument",
}
_REQUIRED: Final[dict[type, tuple[str, ...]]] = {
    TemplateSpec: ("name", "steps"),
    StepSpec: ("name",),
    Retry: (),
    Emit: ("name",),
    Approval: (),
    Budget: (),
    CircuitBreaker: (),
    Concurrency: ("key",),
    Debounce: ("key", "for_s"),
    StaleAfter: (),
    OnTimeout: (),
    RateLimit: ("per_s",),
    Fairness: ("key",),
    Using: ("using",),
}


def template_schema() -> dict[str, Any]:
    """Return the schema as JSON values."""
    forms = _forms("#/$defs/")
    template = forms.pop(_NAMES[TemplateSpec])
    return {"$schema": _DIALECT, "$id": SCHEMA_ID, **template, "title": "Tasker template", "$defs": forms}


def describe_documents(schemas: Schemas) -> None:
    """Say in `schemas` what form the document of a `template.register` has."""
    register = schemas.of(TemplateRegister)["$ref"]
    document = schemas.components[TemplateRegister.__name__]["properties"]["template"]
    document.clear()
    document["$ref"] = register.removesuffix(TemplateRegister.__name__) + _NAMES[TemplateSpec]
    schemas.components.update(_forms(schemas.place))


def _forms(place: str) -> dict[str, Schema]:
    """Return the schemas of a document and its parts, by name; references lead to `place`."""
    schemas = Schemas(place)
    schemas.of(TemplateSpec)
    found = {kind: _document_form(schemas.components[kind.__name__], required) for kind, required in _REQUIRED.items()}
    template, step, retry = found[TemplateSpec], found[StepSpec], found[Retry]

    keys = template["properties"]
    keys["version"] |= {"pattern": f"^(?:{VERSION_PATTERN.pattern})$", "maxLength": VERSION_CHARS_MAX}
    keys["input_schema"] = _any_schema(keys["input_schema"])
    keys["steps"] |= {
        "description": "in declared order: results and lists of steps follow it.",
        "type": "array",
        "minItems": 1,
        "maxItems": STEPS_MAX,
    }
    template["allOf"] = [
        {
            "if": {"properties": {"identity_bucket_s": {"not": {"type": "null"}}}, "required": ["identity_bucket_s"]},
            "then": {"properties": {"identity": {"const": "strict"}}, "required": ["identity"]},
        }
    ]

    keys_of_step = step["properties"]
    del keys_of_step["after_when"]  # it is spelled within `after`
    name = keys_of_step["after"]["items"]
    edge = {
        "type": "object",
        "properties": {"step": name, "when": _given(keys_of_step["when"])},
        "required": ["step"],
        "additionalProperties": False,
    }
    keys_of_step["after"] |= {"maxItems": STEPS_MAX, "uniqueItems": True, "items": {"anyOf": [name, edge]}}
    keys_of_step["routes"] |= {"maxItems": ROUTES_MAX, "uniqueItems": True}
    keys_of_step["handler"] = _or_null(
        schemas.components[StepSpec.__name__]["properties"]["name"]
        | {"description": keys_of_step["handler"]["description"]}
    )
    keys_of_step["requires"] |= {"minProperties": 1, "propertyNames": {"pattern": f"^{NAME_PATTERN}$"}}
    step["properties"]["retry"]["description"] = "when a failed attempt is followed by another."

    retry["properties"]["non_retryable"] |= {"maxItems": ERROR_TYPES_MAX}
    retry["allOf"] = [
        _never_retries(),
        *(_unused(backoff) for backoff in get_args(Backoff) if UNUSED_RETRY_KEYS[backoff]),
    ]

    emit = found[Emit]
    emit["properties"]["schema"] = _any_schema(emit["properties"]["schema"])
    emit["allOf"] = [_unused_schema()]
    step["properties"]["emits"] |= {"maxItems": EMITS_MAX, "items": {"$ref": place + _NAMES[Emit]}}

    keys_of_step["signal_schema"] = _any_schema(keys_of_step["signal_schema"])
    keys_of_step["approval"] = {
        "description": keys_of_step["approval"]["description"],
        "anyOf": [{"$ref": place + _NAMES[Approval]}, {"type": "null"}],
    }
    keys_of_approval = found[Approval]["properties"]
    keys_of_approval["form"] = _any_schema(keys_of_approval["form"])
    for key in ("assignees", "roles", "escalate_to", "escalate_roles"):
        keys_of_approval[key] |= {"maxItems": PERSONS_MAX, "uniqueItems": True}

    budget = found[Budget]
    money = budget["properties"]["cost_max"]
    whole = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
    budget["properties"]["cost_max"] = {"description": money.pop("description"), "anyOf": [money, whole]}
    budget["anyOf"] = [
        {"required": [key], "properties": {key: {"not": {"type": "null"}}}}
        for key in ("cost_max", "tokens_max", "running_s_max")
    ]
    budget["allOf"] = [
        {
            "if": {"required": ["currency"], "properties": {"currency": {"not": {"type": "null"}}}},
            "then": {"required": ["cost_max"], "properties": {"cost_max": {"not": {"type": "null"}}}},
        }
    ]
    keys["budget"]["anyOf"][0] = {"$ref": place + _NAMES[Budget]}
    found[StaleAfter]["minProperties"] = 1
    found[OnTimeout]["minProperties"] = 1
    for key, kind in (("debounce", Debounce), ("fairness", Fairness), ("stale_after", StaleAfter)):
        keys[key]["anyOf"][:] = [{"$ref": place + _NAMES[kind]}, {"type": "null"}]
    for key, name_of_form in (
        ("circuit_breaker", _NAMES[CircuitBreaker]),
        ("fairness", _NAMES[Fairness]),
        ("on_timeout", _NAMES[OnTimeout]),
        ("rate_limit", _NAMES[RateLimit]),
    ):
        keys_of_step[key]["anyOf"][:] = [{"$ref": place + name_of_form}, {"type": "null"}]
    one_of = keys["state"]["additionalProperties"]["anyOf"]
    one_of[:] = [one for one in one_of if "$ref" not in one] + [{"$ref": place + _NAMES[Using]}]
    keys["state"] |= {"maxProperties": STATE_KEYS_MAX, "propertyNames": {"pattern": f"^{STATE_KEY_PATTERN}$"}}

    keys["steps"]["items"] = {"$ref": place + _NAMES[StepSpec]}
    for key in ("retry", "compensate_retry"):
        one_of = step["properties"][key]["anyOf"]
        one_of[:] = [{"$ref": place + _NAMES[Retry]}, {"type": "null"}]
    for owner in (template, step):
        owner["properties"]["concurrency"]["anyOf"] = [{"$ref": place + _NAMES[Concurrency]}, {"type": "null"}]
    return {_NAMES[kind]: form | {"title": _NAMES[kind]} for kind, form in found.items()}


def _document_form(component: Schema, required: tuple[str, ...]) -> Schema:
    """Return a struct's schema as a document spells it: what is not `required` may be left out, or be null."""
    keys = {name: schema if name in required else _or_null(schema) for name, schema in component["properties"].items()}
    form = component | {"properties": keys, "required": list(required)}
    if not required:
        del form["required"]
    return form


def _given(schema: Schema) -> Schema:
    """Return the schema of a key that may be null, for where it is given."""
    found: Schema = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    return found


def _or_null(schema: Schema) -> Schema:
    kind = schema.get("type")
    if "enum" in schema:
        return schema | {"type": [kind, "null"], "enum": [*schema["enum"], None]}
    if isinstance(kind, str):
        return schema | {"type": [kind, "null"]}
    if "$ref" in schema:
        others = {key: value for key, value in schema.items() if key != "$ref"}
        return {"anyOf": [{"$ref": schema["$ref"]}, {"type": "null"}], **others}
    return schema


def _any_schema(described: Schema) -> Schema:
    """Return the schema of a key that holds a JSON Schema or null."""
    return {"description": described["description"], "anyOf": [{"type": "object", "$ref": _DIALECT}, {"type": "null"}]}


def _unused_schema() -> Schema:
    """Say that the schema of a domain event does nothing where its data is no result."""
    on = {"properties": {"on": {"enum": ["success", None]}}}
    return {
        "if": {"properties": {"auto": {"const": True}}, "required": ["auto"], "not": on},
        "then": {"properties": {"schema": {"type": "null"}}},
    }


def _never_retries() -> Schema:
    others = [name for name in Retry.__struct_fields__ if name != "max_attempts"]
    return {
        "if": {"properties": {"max_attempts": {"const": 1}}, "required": ["max_attempts"]},
        "then": {"properties": {key: {"type": "null"} for key in others}},
    }


def _unused(backoff: Backoff) -> Schema:
    return {
        "if": {"properties": {"backoff": {"const": backoff}}, "required": ["backoff"]},
        "then": {"properties": {key: {"type": "null"} for key in sorted(UNUSED_RETRY_KEYS[backoff])}},
    }
