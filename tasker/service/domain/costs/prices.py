"""A price table: what a unit of a meter costs. Data with a version, which is recorded with each cost that it gave.

```toml
version = "2026-11"
currency = "USD"

[models."claude-opus"]
tokens_in = "0.000015"
tokens_out = "0.000075"

[meters]
pages = "0.01"
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tasker.errors import ConfigurationError, UsageInvalid
from tasker.events.messages import UsageLine
from tasker.events.usage import CURRENCY_DEFAULT, MODEL_CHARS_MAX, amount_of, amount_text, is_currency
from tasker.ids import is_name

VERSION_CHARS_MAX: Final = 64


class PriceTable(msgspec.Struct, frozen=True, kw_only=True):
    """Prices of units, as decimal text.

    Attributes:
        version: names this content: other prices need another one.
        models: model -> meter -> price. meters: meter -> price, of what is of no model.
    """

    version: str
    currency: str = CURRENCY_DEFAULT
    models: Mapping[str, Mapping[str, str]] = {}
    meters: Mapping[str, str] = {}

    def price_of(self, line: UsageLine) -> str | None:
        """Return what a unit of `line` costs; None: this table does not say."""
        return (self.models.get(line.model, {}) if line.model else self.meters).get(line.meter)


def price_table(document: object) -> PriceTable:
    """Return the table that a document spells.

    Raises:
        ConfigurationError: it spells none.
    """
    if not isinstance(document, dict):
        raise ConfigurationError("prices: a table has the keys version, currency, models, meters")
    unknown = sorted(set(document) - {"version", "currency", "models", "meters"})
    if unknown:
        raise ConfigurationError(f"prices: unknown key {unknown[0]!r}; known are version, currency, models, meters")
    version = document.get("version")
    if not isinstance(version, str) or not 1 <= len(version) <= VERSION_CHARS_MAX or not version.isprintable():
        raise ConfigurationError(f"prices: version must be text of 1 to {VERSION_CHARS_MAX} characters")
    currency = document.get("currency", CURRENCY_DEFAULT)
    if not isinstance(currency, str) or not is_currency(currency):
        raise ConfigurationError(f"prices: currency must be a code such as 'USD', not {currency!r}")
    models = document.get("models", {})
    if not isinstance(models, dict) or any(not name or len(name) > MODEL_CHARS_MAX for name in models):
        raise ConfigurationError("prices: models must be tables of meters and their prices, by the name of the model")
    return PriceTable(
        version=version,
        currency=currency,
        models={name: _prices(f"models.{name}", prices) for name, prices in models.items()},
        meters=_prices("meters", document.get("meters", {})),
    )


def _prices(place: str, prices: Any) -> dict[str, str]:
    if not isinstance(prices, dict):
        raise ConfigurationError(f"prices: {place} must be a table of meters and their prices")
    found = {}
    for meter, price in prices.items():
        if not is_name(meter):
            raise ConfigurationError(f"prices: {place}: {meter!r} is no name of a meter")
        try:
            found[meter] = amount_text(amount_of(price, f"{place}.{meter}", money=True))
        except UsageInvalid as error:
            raise ConfigurationError(f"prices: {error.detail}") from error
    return found
