"""What a step says of its domain events, in a document and in Python."""

from typing import Any

import msgspec
import pytest

from tasker.errors import ConfigurationError, TemplateInvalid
from tasker.handlers import Emits, Template
from tasker.templates import content_hash, document_of, from_canonical, load_yaml, validate
from tasker.templates.emits import declared_events
from tasker.templates.hash import canonical_bytes
from tasker.templates.model import EMITS_BYTES_MAX, EMITS_MAX, Emit

YAML = """
name: orders
steps:
  - name: charge
    emits:
      - name: payment.captured
        schema: {type: object, required: [cents]}
      - {name: payment.lost, on: permanent, auto: true}
"""


class Payment(msgspec.Struct):
    cents: int


def step(*emits: Any) -> dict[str, Any]:
    return {"name": "t", "steps": [{"name": "a", "emits": list(emits)}]}


def faults(*emits: Any) -> dict[str, str]:
    with pytest.raises(TemplateInvalid) as caught:
        validate(step(*emits))
    return {fault.pointer.removeprefix("/steps/0/emits"): fault.detail for fault in caught.value.errors}


def test_yaml_and_python_say_the_same() -> None:
    orders = Template("orders")

    @orders.step(
        emits=[
            Emits("payment.captured", {"type": "object", "required": ["cents"]}),
            Emits("payment.lost", on="permanent", auto=True),
        ]
    )
    def charge() -> None: ...

    spec = load_yaml(YAML)
    assert orders.spec() == spec
    assert spec.steps[0].emits == (
        Emit(name="payment.captured", schema={"type": "object", "required": ["cents"]}),
        Emit(name="payment.lost", on="permanent", auto=True),
    )


def test_a_document_and_a_blob_give_the_same_again() -> None:
    spec = load_yaml(YAML)
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec


def test_a_step_without_them_has_the_content_that_it_always_had() -> None:
    assert b"emits" not in canonical_bytes(validate(step()))
    assert content_hash(validate(step())) == content_hash(validate({"name": "t", "steps": [{"name": "a"}]}))


def test_a_type_stands_for_its_schema_and_a_name_for_any_data() -> None:
    orders = Template("orders")

    @orders.step(emits=["kept", Emits("paid", Payment)])
    def charge() -> None: ...

    kept, paid = orders.spec().steps[0].emits
    assert (kept.schema, kept.on) == (None, "success")
    assert paid.schema is not None
    assert "cents" in str(paid.schema)
    with pytest.raises(ConfigurationError, match="no JSON Schema"):
        orders.step(emits=[Emits("paid", int)])(charge)


@pytest.mark.parametrize(
    ("emit", "pointer", "words"),
    [
        ("paid", "/0", "must be an object"),
        ({}, "/0", "'name' is missing"),
        ({"name": "Paid"}, "/0/name", "payment.captured"),
        ({"name": "a.b.c.d.e"}, "/0/name", "payment.captured"),
        ({"name": "a..b"}, "/0/name", "payment.captured"),
        ({"name": "a", "on": "sucess"}, "/0/on", "did you mean 'success'"),
        ({"name": "a", "auto": "yes"}, "/0/auto", "true or false"),
        ({"name": "a", "schema": {"type": "nothing"}}, "/0/schema/type", "not a usable JSON Schema"),
        ({"name": "a", "schema": {}, "auto": True, "on": "failure"}, "/0/schema", "does nothing"),
        ({"name": "a", "shema": {}}, "/0/shema", "did you mean 'schema'"),
    ],
)
def test_a_fault_is_told_with_its_place(emit: Any, pointer: str, words: str) -> None:
    assert words in faults(emit)[pointer]


def test_names_are_once_in_a_step_and_there_are_limits() -> None:
    assert "twice" in faults({"name": "a"}, {"name": "a", "on": "failure"})["/1/name"]
    assert "more than" in faults(*({"name": f"a{number}"} for number in range(EMITS_MAX + 1)))[""]
    assert "bytes" in faults({"name": "a", "schema": {"const": "x" * EMITS_BYTES_MAX}})[""]


def test_a_handler_is_told_of_those_that_it_may_emit() -> None:
    charge = load_yaml(YAML).steps[0]
    assert [(one.name, msgspec.json.decode(one.schema)) for one in declared_events(charge)] == [
        ("payment.captured", {"type": "object", "required": ["cents"]})
    ]


def test_a_step_without_a_handler_raises_none() -> None:
    with pytest.raises(TemplateInvalid, match="does nothing beside transform"):
        validate({"name": "t", "steps": [{"name": "a", "transform": "input", "emits": [{"name": "x"}]}]})
