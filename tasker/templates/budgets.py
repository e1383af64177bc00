"""The key `budget` of a template is read: what the attempts of one task may use together, how long they may run."""

from __future__ import annotations

from typing import cast

from tasker.errors import UsageInvalid
from tasker.events.usage import CURRENCY_DEFAULT, amount_of, amount_text, is_currency
from tasker.templates import model
from tasker.templates.model import Budget
from tasker.templates.reading import Faults, ObjectReader, quoted


def budget_of(template: ObjectReader, faults: Faults) -> Budget | None:
    """Return the budget that a template's document spells; None: none, or a faulty one."""
    value = template.get("budget")
    if value is None:
        return None
    read = ObjectReader(value, (*template.path, "budget"), "a budget", Budget.__struct_fields__, faults)
    if not isinstance(value, dict):
        return None
    cost_max: str | None = None
    if "cost_max" in read:
        try:
            cost_max = amount_text(amount_of(read.get("cost_max"), "cost_max", money=True))
        except UsageInvalid as error:
            read.fault("cost_max", error.detail)
    currency = read.get("currency")
    if currency is not None and (not isinstance(currency, str) or not is_currency(currency)):
        read.fault("currency", f"must be a code such as 'USD', not {quoted(currency)}")
        currency = None
    if currency is not None and "cost_max" not in read:
        read.fault("currency", "does nothing without cost_max")
    if not any(key in read for key in ("cost_max", "tokens_max", "running_s_max")):
        template.fault("budget", "does nothing without cost_max, tokens_max or running_s_max")
    return Budget(
        cost_max=cost_max,
        currency=currency or CURRENCY_DEFAULT,
        tokens_max=read.optional_whole("tokens_max", high=model.TOKENS_MAX),
        on_exceeded=cast("model.OnFailure", read.choice("on_exceeded", model.OnFailure, "block")),
        running_s_max=read.optional_seconds("running_s_max"),
    )
