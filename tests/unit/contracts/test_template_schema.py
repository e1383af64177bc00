"""The schema that editors get and `validate` agree, as far as a schema can tell."""

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings

from tasker import Template
from tasker.contracts.template_schema import SCHEMA_ID, template_schema
from tasker.errors import TemplateInvalid
from tasker.templates import document_of, validate
from tasker.templates.dynamic import STEP_KEYS
from tasker.templates.model import Retry, StepSpec, TemplateSpec
from tasker.templates.yaml import parse_yaml
from tests.acceptance import all_examples
from tests.properties.test_templates import documents

SCHEMA = template_schema()
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)
ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = [value for value in vars(all_examples).values() if isinstance(value, Template)]


def document(*steps: Any, **keys: Any) -> dict[str, Any]:
    return {"name": "t", "steps": list(steps) or [{"name": "a"}], **keys}


def retry(**keys: Any) -> dict[str, Any]:
    return document({"name": "a", "retry": keys})


def test_it_is_a_schema_and_every_key_is_described() -> None:
    jsonschema_rs.meta.validate(SCHEMA)
    assert SCHEMA["$id"] == SCHEMA_ID
    forms = {TemplateSpec: SCHEMA, StepSpec: SCHEMA["$defs"]["StepDocument"], Retry: SCHEMA["$defs"]["RetryDocument"]}
    for kind, form in forms.items():
        assert tuple(form["properties"]) == (STEP_KEYS if kind is StepSpec else kind.__struct_fields__)
        assert [name for name, key in form["properties"].items() if not key.get("description")] == []


@pytest.mark.parametrize("template", EXAMPLES, ids=lambda template: template.name)
def test_every_example_matches(template: Template) -> None:
    VALIDATOR.validate(document_of(template.spec()))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda path: path.name)
def test_every_example_in_yaml_matches(path: Path) -> None:
    parsed, _ = parse_yaml(path.read_text(encoding="utf-8"))
    validate(parsed)
    VALIDATOR.validate(parsed)


def test_the_template_of_the_reference_page_matches() -> None:
    page = (ROOT / "docs" / "reference" / "contracts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    parsed, _ = parse_yaml(blocks[0])
    validate(parsed)
    VALIDATOR.validate(parsed)


@settings(deadline=None)  # the first expression builds the grammar
@given(documents())
def test_what_validate_takes_the_schema_takes(value: dict[str, Any]) -> None:
    validate(value)
    VALIDATOR.validate(value)


def test_null_is_like_a_key_that_is_left_out() -> None:
    nulls = {name: None for name in TemplateSpec.__struct_fields__ if name not in ("name", "steps")}
    step = {"name": "a", **{name: None for name in STEP_KEYS if name != "name"}}
    empty = {"name": "b", "retry": dict.fromkeys(Retry.__struct_fields__)}
    value = document(step, empty, **nulls)
    assert document_of(validate(value)) == document({"name": "a"}, {"name": "b"})
    VALIDATOR.validate(value)


FAULTS: dict[str, Any] = {
    "no object": [],
    "no name": {"steps": [{"name": "a"}]},
    "name of another form": document(name="Bad"),
    "name that is no text": document(name=7),
    "no steps": {"name": "t"},
    "no step": {"name": "t", "steps": []},
    "steps that are no list": {"name": "t", "steps": {"a": {}}},
    "too many steps": document(*({"name": f"s{n}"} for n in range(1001))),
    "unknown key": document(vesion="1.0.0"),
    "unknown key of a step": document({"name": "a", "handlr": "b"}),
    "unknown key of a retry": retry(max_attempt=1),
    "step that is no object": document(7),
    "step without a name": document({}),
    "version that is a number": document(version=1.0),
    "version that is none": document(version="1.0"),
    "version that is too long": document(version=f"1.0.0-{'a' * 128}"),
    "input_schema that is no object": document(input_schema=[]),
    "input_schema that is no schema": document(input_schema={"type": "objekt"}),
    "queue of another form": document(queue="A"),
    "timeout of nothing": document(timeout_s=0),
    "timeout beyond the bound": document(timeout_s=1e9),
    "timeout that is text": document(timeout_s="1"),
    "timeout that is true": document(timeout_s=True),
    "choice that is none": document(on_failure="ignore"),
    "identity that is none": document(identity="none"),
    "bucket without strict": document(identity_bucket_s=60),
    "state that is a list": document(state=[]),
    "key of the state of another form": document(state={"a b": "sum"}),
    "policy that is none": document(state={"n": "sums"}),
    "policy without its expression": document(state={"n": {}}),
    "too many keys of the state": document(state={f"k{number}": "sum" for number in range(101)}),
    "handler of another form": document({"name": "a", "handler": "a.b"}),
    "after that is no list": document({"name": "a", "after": "b"}),
    "after with what is no name": document({"name": "a", "after": [7]}),
    "parent twice": document({"name": "a"}, {"name": "b", "after": ["a", "a"]}),
    "attempt timeout of nothing": document({"name": "a", "start_to_close_s": 0}),
    "start timeout of nothing": document({"name": "a", "schedule_to_start_s": -1}),
    "heartbeat of nothing": document({"name": "a", "heartbeat_s": 0}),
    "retry that is no object": document({"name": "a", "retry": 3}),
    "no attempt": retry(max_attempts=0),
    "too many attempts": retry(max_attempts=1001),
    "half an attempt": retry(max_attempts=1.5),
    "backoff that is none": retry(backoff="exponetial"),
    "delay of nothing": retry(delay_s=0),
    "factor below 1": retry(factor=0.5),
    "factor beyond the bound": retry(factor=101),
    "jitter beyond 1": retry(jitter=1.1),
    "error types that are no list": retry(non_retryable="E"),
    "error type without a name": retry(non_retryable=[""]),
    "error type that is too long": retry(non_retryable=["E" * 201]),
    "too many error types": retry(non_retryable=[f"E{n}" for n in range(101)]),
    "key beside one attempt": retry(max_attempts=1, delay_s=1),
    "delay beside none": retry(backoff="none", delay_s=1),
    "jitter beside none": retry(backoff="none", jitter=0.1),
    "factor beside constant": retry(backoff="constant", factor=2),
    "bound beside constant": retry(backoff="constant", delay_s_max=2),
    "factor beside linear": retry(backoff="linear", factor=2),
    "factor beside fibonacci": retry(backoff="fibonacci", factor=2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_form_is_refused_by_both(fault: str) -> None:
    with pytest.raises(TemplateInvalid):
        validate(FAULTS[fault])
    assert not VALIDATOR.is_valid(FAULTS[fault])


@pytest.mark.parametrize(
    "value",
    [
        document(result="b"),
        document({"name": "a", "after": ["b"]}),
        document({"name": "a", "after": ["b"]}, {"name": "b", "after": ["a"]}),
        document({"name": "a", "heartbeat_s": 60}),
        retry(delay_s=60),
    ],
)
def test_what_joins_several_places_only_validate_tells(value: dict[str, Any]) -> None:
    with pytest.raises(TemplateInvalid):
        validate(value)
    assert VALIDATOR.is_valid(value)
