"""Amounts and costs are exact, whatever they were given as."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.errors import UsageInvalid, UsageTooMany
from tasker.events.messages import UsageLine
from tasker.events.usage import LINES_MAX, Metering, amount_of, amount_text, usage_line, usage_lines


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (0, "0"),
        (1200, "1200"),
        ("0.0150", "0.015"),
        ("007", "7"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0E-20"), "0"),
        (0.1, "0.1"),
        (1e-9, "0.000000001"),
        (999_999_999_999_999_999, "999999999999999999"),
    ],
)
def test_an_amount_has_one_text(given: Any, text: str) -> None:
    assert amount_text(amount_of(given, "it")) == text


@pytest.mark.parametrize(
    "given",
    [
        -1,
        "-0.5",
        True,
        None,
        "",
        "1e3",
        "1,5",
        "١٢",
        float("nan"),
        float("inf"),
        1e30,
        Decimal("1E+999999"),
        10**18,
        "0." + "1" * 13,
        [],
    ],
)
def test_what_is_no_exact_amount_is_refused(given: Any) -> None:
    with pytest.raises(UsageInvalid):
        amount_of(given, "it")


def test_money_is_never_a_float() -> None:
    with pytest.raises(UsageInvalid, match="money"):
        amount_of(0.5, "the cost", money=True)


@pytest.mark.parametrize(
    "keys",
    [
        {"meter": "Pages"},
        {"meter": "pages", "unit": "x" * 33},
        {"meter": "pages", "model": "a\nb"},
        {"meter": "pages", "model": "\ud800"},
        {"meter": "pages", "cost": "1", "currency": "usd"},
        {"meter": "pages", "cost": "1"},
    ],
)
def test_a_line_names_what_it_is_of(keys: dict[str, Any]) -> None:
    meter = keys.pop("meter")
    with pytest.raises(UsageInvalid):
        usage_line(meter, 1, **keys)


def test_a_call_whose_cost_is_told_has_it_on_its_own_line() -> None:
    lines = usage_lines("m", tokens_in=10, tokens_out=0, cost="0.25", currency="EUR")
    assert [(one.meter, one.amount, one.cost, one.currency) for one in lines] == [
        ("tokens_in", "10", "0", "EUR"),
        ("calls", "1", "0.25", "EUR"),
    ]


@given(st.lists(st.decimals(min_value=0, max_value=10**12, places=12), min_size=1, max_size=50))
def test_sums_are_exact(amounts: list[Decimal]) -> None:
    """As whole numbers of the smallest part add up."""
    metering = Metering()
    for amount in amounts:
        metering.add((usage_line("pages", amount),))
    (line,) = metering.lines()
    assert Decimal(line.amount).scaleb(12) == sum(int(amount.scaleb(12)) for amount in amounts)


def test_meters_of_one_attempt_are_bounded() -> None:
    metering = Metering()
    metering.add(UsageLine(meter=f"m{number}", amount="1") for number in range(LINES_MAX))
    metering.add((UsageLine(meter="m0", amount="1"),))
    with pytest.raises(UsageTooMany):
        metering.add((UsageLine(meter="one_more", amount="1"),))
