"""A price table, and what it says of a line."""

from typing import Any

import pytest

from tasker.errors import ConfigurationError
from tasker.events.messages import UsageLine
from tasker.service.domain.costs.prices import price_table

TABLE = {
    "version": "2026-11",
    "currency": "EUR",
    "models": {"opus": {"tokens_in": "0.000015", "tokens_out": "0.0000750"}},
    "meters": {"pages": 2},
}


def test_a_line_has_the_price_of_its_meter_and_model() -> None:
    table = price_table(TABLE)
    assert (table.version, table.currency) == ("2026-11", "EUR")
    assert table.price_of(UsageLine(meter="tokens_out", amount="1", model="opus")) == "0.000075"
    assert table.price_of(UsageLine(meter="pages", amount="1")) == "2"
    assert table.price_of(UsageLine(meter="pages", amount="1", model="opus")) is None
    assert table.price_of(UsageLine(meter="tokens_in", amount="1", model="other")) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": None}, "version"),
        ({"version": 2026}, "version"),
        ({"currency": "euro"}, "currency"),
        ({"models": []}, "models"),
        ({"models": {"opus": 1}}, "models.opus"),
        ({"models": {"opus": {"Tokens": "1"}}}, "no name"),
        ({"meters": {"pages": 0.01}}, "money"),
        ({"meters": {"pages": "-1"}}, "meters.pages"),
        ({"prices": {}}, "unknown key 'prices'"),
    ],
)
def test_a_table_with_a_fault_says_where(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        price_table(TABLE | changed)


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        price_table([])
