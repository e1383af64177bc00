"""The file of orders is what its generator makes, and says what was asked of it."""

import json
from collections import Counter

import pytest

from examples.orders.demo import HERE
from examples.orders.expected import expected, fault_of
from examples.orders.generate import SEED, rows
from examples.orders.orders import orders
from tasker.templates.input_schema import InputSchema

FILE = (HERE / "orders.jsonl").read_text(encoding="utf-8").splitlines()


def test_the_file_is_what_the_seed_gives() -> None:
    assert list(rows(SEED)) == FILE


def test_another_seed_gives_other_orders_of_the_same_kinds() -> None:
    other = list(rows(1))
    assert other != FILE
    assert Counter(expected(row).outcome for row in other) == Counter(expected(row).outcome for row in FILE)


def test_the_shares_are_as_announced() -> None:
    found = [expected(row) for row in FILE]
    assert Counter(one.outcome for one in found) == {"completed": 920, "failed": 50, "refused": 30}
    assert sum(one.charge_attempts == 3 for one in found) == 50
    assert Counter(one.error for one in found) == {None: 950, "card_declined": 20, "hazardous_goods": 30}
    assert Counter((one.code, one.pointer) for one in found if one.outcome == "refused") == {
        ("body_invalid", None): 6,
        ("input_invalid", ""): 6,
        ("input_invalid", "/lines"): 6,
        ("input_invalid", "/lines/0/qty"): 12,
    }


def test_what_is_expected_agrees_with_the_schema_that_the_template_derives() -> None:
    schema = InputSchema(orders.spec().input_schema or {})
    for row in FILE:
        try:
            order = json.loads(row)
        except ValueError:
            continue
        found = [fault.pointer for fault in schema.faults(order)]
        wanted = fault_of(order)
        assert found == ([] if wanted is None else [wanted]), row


@pytest.mark.parametrize("order", [None, [], "x", {}, {"order_id": 1, "customer": "A", "lines": [], "card": "tok_a"}])
def test_what_is_no_order_has_a_fault(order: object) -> None:
    assert fault_of(order) is not None
