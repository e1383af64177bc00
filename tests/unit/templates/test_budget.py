"""What a template says of its budget, in a document and in Python."""

from typing import Any

import pytest

from tasker.errors import TemplateInvalid
from tasker.handlers import Budget, Template
from tasker.templates import content_hash, document_of, from_canonical, load_yaml, validate
from tasker.templates.hash import canonical_bytes

YAML = """
name: orders
budget: {cost_max: "5.50", currency: EUR, tokens_max: 100000, on_exceeded: fail}
steps:
  - name: charge
"""


def template(budget: Any) -> dict[str, Any]:
    return {"name": "t", "steps": [{"name": "a"}], "budget": budget}


def test_yaml_and_python_say_the_same() -> None:
    orders = Template("orders", budget=Budget(cost_max="5.5", currency="EUR", tokens_max=100_000, on_exceeded="fail"))

    @orders.step
    def charge() -> None: ...

    assert orders.spec() == load_yaml(YAML)
    assert orders.spec().budget == Budget(cost_max="5.5", currency="EUR", tokens_max=100_000, on_exceeded="fail")


def test_a_document_and_a_blob_give_the_same_again_and_none_is_the_content_of_always() -> None:
    spec = load_yaml(YAML)
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)).budget == spec.budget
    assert content_hash(validate(template(None))) == content_hash(validate({"name": "t", "steps": [{"name": "a"}]}))


def test_a_whole_amount_needs_no_quotes() -> None:
    assert validate(template({"cost_max": 5})).budget == Budget(cost_max="5")


@pytest.mark.parametrize(
    ("budget", "pointer", "words"),
    [
        ([], "/budget", "must be an object"),
        ({}, "/budget", "does nothing"),
        ({"cost_max": 5.5}, "/budget/cost_max", "money"),
        ({"cost_max": "much"}, "/budget/cost_max", "give a number"),
        ({"cost_max": "1", "currency": "euro"}, "/budget/currency", "USD"),
        ({"tokens_max": 1, "currency": "EUR"}, "/budget/currency", "does nothing"),
        ({"tokens_max": 0}, "/budget/tokens_max", "at least 1"),
        ({"tokens_max": 1, "on_exceeded": "stop"}, "/budget/on_exceeded", "block, fail"),
        ({"running_s_max": 0}, "/budget/running_s_max", "above 0"),
        ({"cost": "1"}, "/budget/cost", "did you mean 'cost_max'"),
    ],
)
def test_a_fault_is_told_with_its_place(budget: Any, pointer: str, words: str) -> None:
    with pytest.raises(TemplateInvalid) as caught:
        validate(template(budget))
    assert words in {fault.pointer: fault.detail for fault in caught.value.errors}[pointer]
