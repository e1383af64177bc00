"""The key `fairness` of a template: read, refused with the line, the same in Python, and what it gives for an input."""

from __future__ import annotations

from typing import Any

import pytest

from tasker import Fairness, Template
from tasker.errors import InputInvalid, TemplateInvalid
from tasker.templates import canonical_bytes, compile_template, document_of, from_canonical, load_yaml, validate
from tasker.templates.fairness import Share, share_of
from tests.runs import Run, raw

YAML = """
name: reports
fairness: {key: input.customer, weight: "input.plan == 'pro' ? 3 : 1"}
steps:
  - name: render
"""


def test_yaml_and_python_say_the_same() -> None:
    made = Template("reports", fairness=Fairness(key="input.customer", weight="input.plan == 'pro' ? 3 : 1"))

    @made.step
    def render() -> None: ...

    spec = load_yaml(YAML)
    assert made.spec() == spec
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec
    assert compile_template(spec).is_shared
    assert b"fairness" not in canonical_bytes(validate({"name": "t", "steps": [{"name": "a"}]}))
    number = load_yaml(YAML.replace("\"input.plan == 'pro' ? 3 : 1\"", "2.5"))
    assert number.fairness == Fairness(key="input.customer", weight=2.5)
    assert from_canonical(canonical_bytes(number)) == number


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("key: input.customer, ", "", "line 3: 'key' is missing"),
        ("key: input", "key: results", "line 3: no usable expression"),
        ("\"input.plan == 'pro' ? 3 : 1\"", "0", "line 3: must be at least 0.001"),
        ("\"input.plan == 'pro' ? 3 : 1\"", "'1 +'", "line 3: no usable expression"),
        ("weight", "weigth", "line 3: unknown key 'weigth' (did you mean 'weight'?)"),
        (
            "{key: input.customer, weight: \"input.plan == 'pro' ? 3 : 1\"}",
            "input.customer",
            "line 3: fairness",
        ),
    ],
)
def test_faults_name_their_line(old: str, new: str, fault: str) -> None:
    with pytest.raises(TemplateInvalid) as refused:
        load_yaml(YAML.replace(old, new, 1))
    assert [error.detail.startswith(fault) for error in refused.value.errors] == [True]


@pytest.mark.parametrize(
    ("given", "share"),
    [
        ({"customer": "acme", "plan": "pro"}, Share('"acme"', 3.0)),
        ({"customer": 7, "plan": "free"}, Share("7", 1.0)),
        ({"customer": None, "plan": "free"}, Share(None, 1.0)),
    ],
)
def test_an_input_gives_key_and_weight(given: Any, share: Share) -> None:
    fairness = load_yaml(YAML).fairness
    assert fairness is not None
    assert share_of(fairness, raw(given)) == share


@pytest.mark.parametrize(
    ("weight", "given"),
    [
        ("input.w", {"customer": "a", "w": "much"}),
        ("input.w", {"customer": "a", "w": 0}),
        ("input.w", {"customer": "a", "w": True}),
        ("input.w", {"customer": "a"}),
        ("input.w", {"customer": ["a"], "w": 1}),
    ],
)
def test_an_input_without_a_usable_one_is_refused_at_the_door(weight: str, given: Any) -> None:
    fairness = {"key": "input.customer", "weight": weight}
    run = Run(compile_template(validate({"name": "t", "steps": [{"name": "a"}], "fairness": fairness})))
    with pytest.raises(InputInvalid, match="fairness"):
        run.create(input=raw(given))
    assert run.create(input=raw({"customer": "a", "w": 2}))
