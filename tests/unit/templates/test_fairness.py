"""The key `fairness` of a template: read, refused with the line, the same in Python, and what it gives for an input."""

from __future__ import annotations

from typing import Any

import pytest

from tasker import Fairness, Template
from tasker.errors import InputInvalid, TemplateInvalid
from tasker.templates import canonical_bytes, compile_template, document_of, from_canonical, load_yaml, validate
from tasker.templates.fairness import Share, share_of
from tests.runs import Run, raw
from tests.unit.templates.faults import check_only_fault

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
    check_only_fault(YAML.replace(old, new, 1), fault)


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


STEPS = """
name: reports
fairness: {key: input.customer}
steps:
  - name: render
  - name: send
    after: [render]
    priority: 20
    fairness: {key: input.region, weight: 2}
    compensate: recall
"""


def test_steps_may_have_a_priority_and_shares_of_their_own() -> None:
    made = Template("reports", fairness=Fairness(key="input.customer"))

    @made.step
    def render() -> None: ...

    @made.step(after="render", priority=20, fairness=Fairness(key="input.region", weight=2.0))
    def send() -> None: ...

    @made.compensation("send")
    def recall() -> None: ...

    spec = load_yaml(STEPS)
    assert made.spec() == spec
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec
    compiled = compile_template(spec)
    assert compiled.fairness_of("render") == Fairness(key="input.customer")
    for step in ("send", "send#2", "send[1]", "send~undo"):
        assert compiled.fairness_of(step) == Fairness(key="input.region", weight=2.0)
        assert compiled.step(step).priority == 20


@pytest.mark.parametrize(
    ("key", "is_shared", "is_ordered"),
    [({"priority": 1}, False, True), ({"fairness": {"key": "input.x"}}, True, True), ({}, False, False)],
)
def test_what_waits_of_a_template_has_its_place_when_one_of_its_steps_asks_for_it(
    key: dict[str, Any],
    *,
    is_shared: bool,
    is_ordered: bool,
) -> None:
    compiled = compile_template(validate({"name": "t", "steps": [{"name": "a"}, {"name": "b", **key}]}))
    assert (compiled.is_shared, compiled.is_ordered) == (is_shared, is_ordered)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("priority: 20", "priority: 101", "line 8: "),
        ("priority: 20", "priority: high", "line 8: "),
        ("input.region, weight: 2", "input.region +", "line 9: "),
        ("    compensate: recall\n", "    delay_s: 3\n", "does nothing beside delay_s"),
    ],
)
def test_faults_of_steps_name_their_line(old: str, new: str, fault: str) -> None:
    with pytest.raises(TemplateInvalid) as refused:
        load_yaml(STEPS.replace(old, new, 1))
    assert all(fault in error.detail for error in refused.value.errors), refused.value.errors


def test_an_input_without_a_value_for_a_steps_key_is_refused() -> None:
    run = Run(compile_template(load_yaml(STEPS)))
    with pytest.raises(InputInvalid, match="fairness"):
        run.create(input=raw({"customer": "a"}))
    assert run.create(input=raw({"customer": "a", "region": "eu"}))
