"""Schemas of inputs: which are taken, and what an input's faults look like."""

from typing import Any

import pytest

from tasker.errors import InputInvalid, TemplateInvalid
from tasker.templates import InputSchema, compile_template, validate
from tasker.templates.input_schema import schema_faults


def pointers(schema: dict[str, Any]) -> list[str]:
    return [fault.pointer for fault in schema_faults(schema)]


ORDER = {
    "type": "object",
    "required": ["id", "items"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": "^o-[0-9]+$"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "mail": {"type": "string", "format": "email"},
    },
    "$defs": {"item": {"type": "object", "properties": {"qty": {"type": "integer", "minimum": 1}}}},
}


def test_every_fault_of_an_input_has_its_place() -> None:
    faults = InputSchema(ORDER).faults({"id": "x", "items": [{"qty": 0}, {"qty": "1"}], "mail": "no", "a/b": 1})
    assert sorted(fault.pointer for fault in faults) == ["", "/id", "/items/0/qty", "/items/1/qty", "/mail"]


def test_a_template_checks_its_input() -> None:
    template = compile_template(validate({"name": "t", "steps": [{"name": "a"}], "input_schema": ORDER}))
    template.check_input({"id": "o-1", "items": []})
    with pytest.raises(InputInvalid, match=r"'id'|\"id\"") as caught:
        template.check_input({})
    assert len(caught.value.errors) == 2


def test_without_a_schema_any_value_is_an_input() -> None:
    compile_template(validate({"name": "t", "steps": [{"name": "a"}]})).check_input([None, 10**300])


def test_faults_are_bounded() -> None:
    faults = InputSchema({"items": {"type": "string"}}).faults(list(range(1000)))
    assert len(faults) == 50


def test_big_integers_are_exact() -> None:
    schema = InputSchema({"type": "integer", "maximum": 10**20})
    assert schema.faults(10**20) == ()
    assert len(schema.faults(10**20 + 1)) == 1


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "intege"}, ["/type"]),
        ({"properties": 3, "required": "a"}, ["/properties", "/required"]),
        ({"$ref": "https://example.com/schema"}, ["/$ref"]),
        ({"properties": {"a": {"$ref": "other.json#/x"}}}, ["/properties/a/$ref"]),
        ({"properties": {"a": {"$dynamicRef": "other#x"}}}, ["/properties/a/$dynamicRef"]),
        ({"$defs": {"a": {"$id": "https://example.com/a"}}}, ["/$defs/a/$id"]),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, ["/$schema"]),
        ({"pattern": "("}, ["/pattern"]),
        ({"pattern": "(?=a)"}, ["/pattern"]),
        ({"pattern": "((a{100}){100}){100}"}, ["/pattern"]),
        ({"patternProperties": {f"a{n}": {} for n in range(101)}}, [""]),
        ({"const": float("nan")}, ["/const"]),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], expected: list[str]) -> None:
    assert sorted(pointers(schema)) == expected


def test_a_reference_that_points_nowhere_is_refused() -> None:
    assert schema_faults({"$ref": "#/$defs/none"})


@pytest.mark.parametrize(
    "schema",
    [
        {},
        ORDER,
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"properties": {"$ref": {"type": "string"}, "const": {"$ref": "#/$defs/a"}}, "$defs": {"a": True}},
        {"properties": {"x": {"$ref": "#/$defs/a%20b"}}, "$defs": {"a b": True}},
        {"enum": [{"$ref": "https://example.com/"}]},
        {"$ref": "#node", "$defs": {"n": {"$anchor": "node", "properties": {"next": {"$ref": "#node"}}}}},
        {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}},
    ],
)
def test_a_sound_schema_is_taken(schema: dict[str, Any]) -> None:
    assert schema_faults(schema) == ()


def test_a_schema_that_refers_to_itself_ends() -> None:
    assert schema_faults({"$ref": "#"}) == ()
    assert InputSchema({"$ref": "#"}).faults(1) == ()


def test_a_pattern_takes_linear_time() -> None:
    assert len(InputSchema({"pattern": "^(a+)+$"}).faults("a" * 10_000 + "b")) == 1


def test_a_schema_that_unfolds_without_end_is_refused() -> None:
    """Forty levels of two references each are a million million checks of one value."""
    levels: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    assert pointers({"$defs": {**levels, "a40": True}, "$ref": "#/$defs/a0"}) == [""]


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_a_doubly_recursive_schema_does_not_take_for_ever(keyword: str) -> None:
    """Forty levels would be a million million faults; the answer is one."""
    schema = {"type": ["array", "integer"], "items": {keyword: [{"$ref": "#"}, {"$ref": "#"}]}}
    assert schema_faults(schema) == ()
    nested: Any = "no integer"
    for _ in range(40):
        nested = [nested]
    assert [fault.pointer for fault in InputSchema(schema).faults(nested)] == [""]


def test_a_recursive_schema_names_the_place() -> None:
    tree = {"properties": {"size": {"type": "integer"}, "children": {"items": {"$ref": "#"}}}}
    faults = InputSchema(tree).faults({"size": 1, "children": [{"size": 2}, {"children": [{"size": "x"}]}]})
    assert [fault.pointer for fault in faults] == ["/children/1/children/0/size"]


def test_a_long_input_still_has_its_faults_listed() -> None:
    items = [{"qty": n} for n in range(3000)]
    assert [fault.pointer for fault in InputSchema(ORDER).faults({"id": "o-1", "items": items})] == ["/items/0/qty"]


def test_a_fault_of_a_schema_is_a_fault_of_its_template() -> None:
    with pytest.raises(TemplateInvalid) as caught:
        validate({"name": "t", "steps": [{"name": "a"}], "input_schema": {"properties": {"a/b": {"type": "x"}}}})
    assert [fault.pointer for fault in caught.value.errors] == ["/input_schema/properties/a~1b/type"]
