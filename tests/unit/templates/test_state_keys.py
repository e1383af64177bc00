"""The key `state` of a template: what is taken, and what each fault says."""

from typing import Any

import pytest

from tasker import Template
from tasker.errors import StateInvalid, TemplateInvalid
from tasker.templates import canonical_bytes, from_canonical, validate
from tasker.templates.model import STATE_KEYS_MAX, Using, document_of
from tasker.templates.writes import WRITTEN_BYTES_MAX, WRITTEN_KEYS_MAX, checked_writes
from tasker.templates.yaml import load_yaml


def document(state: Any) -> dict[str, Any]:
    return {"name": "t", "steps": [{"name": "a"}], "state": state}


def test_policies_are_read_and_written_back() -> None:
    spec = validate(document({"n": "sum", "best": {"using": "left > right ? left : right"}}))
    assert spec.state == {"n": "sum", "best": Using(using="left > right ? left : right")}
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec


def test_a_template_without_it_has_the_content_that_it_had() -> None:
    assert b"state" not in canonical_bytes(validate({"name": "t", "steps": [{"name": "a"}]}))


@pytest.mark.parametrize(
    ("state", "pointer", "detail"),
    [
        ([], "/state", "must be an object"),
        ({"n": "sums"}, "/state/n", "did you mean 'sum'?"),
        ({"n": 3}, "/state/n", "must be one of fail"),
        ({"1n": "sum"}, "/state/1n", "is no key"),
        ({"n": {}}, "/state/n", "'using' is missing"),
        ({"n": {"using": "left + input"}}, "/state/n/using", "input"),
        ({"n": {"using": "left +"}}, "/state/n/using", "no usable expression"),
        ({"n": {"using": "left", "with": 1}}, "/state/n/with", "unknown key"),
        ({f"k{number}": "sum" for number in range(STATE_KEYS_MAX + 1)}, "/state", "more than the 100"),
    ],
)
def test_faults_are_told_with_their_place(state: Any, pointer: str, detail: str) -> None:
    with pytest.raises(TemplateInvalid) as refused:
        validate(document(state))
    [fault] = refused.value.errors
    assert fault.pointer == pointer
    assert detail in fault.detail


def test_yaml_names_the_line() -> None:
    with pytest.raises(TemplateInvalid) as refused:
        load_yaml("name: t\nstate:\n  n: sum\n  m: most\nsteps:\n  - name: a\n")
    assert refused.value.errors[0].detail.startswith("line 4: ")


def test_python_says_the_same() -> None:
    made = Template("t", state={"n": "sum", "best": {"using": "left"}})
    made.transform("a", "1")
    assert made.spec().state == {"n": "sum", "best": Using(using="left")}


def test_steps_do_not_read_left_and_right() -> None:
    with pytest.raises(TemplateInvalid):
        validate({"name": "t", "steps": [{"name": "a", "transform": "left"}]})


@pytest.mark.parametrize(
    "writes",
    [
        {"a b": b"1"},
        {"": b"1"},
        {f"k{number}": b"1" for number in range(WRITTEN_KEYS_MAX + 1)},
        {"k": b'"' + b"x" * WRITTEN_BYTES_MAX + b'"'},
        {"k": b'"' + b"x" * (WRITTEN_BYTES_MAX - 10) + b'"', "j": b'"' + b"x" * 20 + b'"'},
    ],
)
def test_writes_over_a_limit_are_refused(writes: dict[str, bytes]) -> None:
    with pytest.raises(StateInvalid):
        checked_writes(writes)


def test_writes_are_canonical_and_by_key() -> None:
    found = checked_writes({"b": b' {"y": 1, "x": 2.0} ', "a": b"1"})
    assert [(key, bytes(value)) for key, value in found.items()] == [("a", b"1"), ("b", b'{"x":2.0,"y":1}')]
