"""What attempts use, metered exactly: lines of an amount and a cost, as decimal text.

One rule for both ends: the worker holds what a handler meters to it early, the owner bindingly. Amounts and costs are
never floats in here: they are `Decimal` while they are added up, and text wherever they are sent or stored. Additions
and products are exact: bounds of the numbers keep them far below the context's precision, and rounding is an error.

A *line* is one meter of one model (or none): all of it that an attempt used, in one sum. A line of which the handler
told the cost is another one than a line of which the price table gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final

from tasker.errors import UsageInvalid, UsageTooMany
from tasker.events.codec import is_text
from tasker.events.messages import UsageLine
from tasker.ids import is_name

TOKENS_IN: Final = "tokens_in"
TOKENS_OUT: Final = "tokens_out"
CALLS: Final = "calls"
TOKEN_METERS: Final = frozenset({TOKENS_IN, TOKENS_OUT})
CURRENCY_DEFAULT: Final = "USD"

LINES_MAX: Final = 100
"""Lines of one attempt."""

DIGITS_WHOLE_MAX: Final = 18
DIGITS_FRACTION_MAX: Final = 12
UNIT_CHARS_MAX: Final = 32
MODEL_CHARS_MAX: Final = 128
CURRENCY_PATTERN: Final = r"[A-Z]{3}"

_exact = Context(prec=200, traps=[Inexact, InvalidOperation])
_number = re.compile(rf"(\d{{1,{DIGITS_WHOLE_MAX}}})(\.\d{{1,{DIGITS_FRACTION_MAX}}})?", re.ASCII)
_currency = re.compile(CURRENCY_PATTERN)


def added(one: Decimal, other: Decimal) -> Decimal:
    """Return the exact sum."""
    return _exact.add(one, other)


def multiplied(one: Decimal, other: Decimal) -> Decimal:
    """Return the exact product."""
    return _exact.multiply(one, other)


def amount_text(amount: Decimal) -> str:
    """Return the one text of an amount: no exponent, no zeros that say nothing."""
    text = format(amount, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text or "0"


def amount_of(value: object, what: str, *, money: bool = False) -> Decimal:
    """Return the amount that a handler gave as an int, a `Decimal`, or decimal text.

    A float is taken as the shortest text that spells it, unless it is `money`.

    Raises:
        UsageInvalid: it is negative, too long, no number, or a float where none may be.
    """
    if isinstance(value, bool):
        text = ""
    elif isinstance(value, float):
        if money:
            raise UsageInvalid(f"{what} is the float {value!r}: money is an int, a Decimal, or text such as '0.015'")
        text = _plain(Decimal(repr(value)))
    elif isinstance(value, Decimal):
        text = _plain(value)
    elif isinstance(value, (int, str)):
        text = str(value)
    else:
        text = ""
    if _number.fullmatch(text) is None:
        raise UsageInvalid(
            f"{what} is {str(value)[:60]!r}: give a number from 0 on, with at most {DIGITS_WHOLE_MAX} digits before "
            f"the point and {DIGITS_FRACTION_MAX} behind it"
        )
    return Decimal(text)


def is_currency(text: object) -> bool:
    """Return whether `text` has the form of an ISO 4217 code."""
    return isinstance(text, str) and _currency.fullmatch(text) is not None


def excess_tokens(used: Decimal, most: int) -> str:
    """Return in words how a task went over its budget of tokens; it is recorded, and read by `budget_remedy`."""
    return f"its budget: {amount_text(used)} tokens of at most {most}"


def excess_cost(used: Decimal, most: str, currency: str) -> str:
    """Return the same of its costs."""
    return f"its budget: {amount_text(used)} {currency} of at most {most}"


def excess_running(used_s: float, most_s: float) -> str:
    """Return the same of how long its steps ran."""
    return f"{_RAN}{used_s:g} s of at most {most_s:g}"


_RAN: Final = "its budget: its steps ran for "


def budget_remedy(task_id: str, excess: str | None) -> str:
    """Return the command that lets a task go on which has used up its budget, as `excess` says in words."""
    words = excess or ""
    if words.startswith(_RAN):
        option = "--running-s-max SECONDS"
    elif " tokens of at most " in words:
        option = "--tokens-max TOKENS"
    else:
        option = "--cost-max COST"
    return f"tasker task budget {task_id} {option}"


def deadline_remedy(task_id: str) -> str:
    """Return the command that lets a task go on whose deadline has passed."""
    return f"tasker task deadline {task_id} --within-s SECONDS"


def usage_lines(
    model: str, *, tokens_in: object, tokens_out: object, cost: object, currency: str
) -> tuple[UsageLine, ...]:
    """Return the lines of one call of a model.

    When its cost is told it stands on the line of the call, and its tokens cost nothing more.

    Raises:
        UsageInvalid: a number or a name is not what it has to be.
    """
    told = None if cost is None else "0"
    own = currency if cost is not None else ""
    tokens = ((TOKENS_IN, tokens_in), (TOKENS_OUT, tokens_out))
    lines = [usage_line(name, amount, unit="token", model=model, cost=told, currency=own) for name, amount in tokens]
    lines.append(usage_line(CALLS, 1, unit="call", model=model, cost=cost, currency=own))
    return tuple(line for line in lines if line.amount != "0")


def usage_line(
    meter: str, amount: object, *, unit: str = "", model: str = "", cost: object = None, currency: str = ""
) -> UsageLine:
    """Return one line, checked.

    Raises:
        UsageInvalid: a number or a name is not what it has to be.
    """
    if not is_name(meter):
        raise UsageInvalid(f"a meter is a name such as 'pages', not {str(meter)[:60]!r}")
    for what, text, most in (("unit", unit, UNIT_CHARS_MAX), ("model", model, MODEL_CHARS_MAX)):
        if not _is_printable(text, most):
            raise UsageInvalid(f"the {what} of {meter} has at most {most} printable characters, not {str(text)[:60]!r}")
    if cost is not None and not is_currency(currency):
        raise UsageInvalid(f"the currency of {meter} is a code such as 'USD', not {str(currency)[:60]!r}")
    return UsageLine(
        meter=meter,
        amount=amount_text(amount_of(amount, f"the amount of {meter}")),
        unit=unit,
        model=model,
        cost=None if cost is None else amount_text(amount_of(cost, f"the cost of {meter}", money=True)),
        currency="" if cost is None else currency,
    )


def _is_printable(text: object, chars_max: int) -> bool:
    return isinstance(text, str) and len(text) <= chars_max and is_text(text) and text.isprintable()


class Metering:
    """What one attempt has used so far, a sum a line."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str, str, bool], tuple[Decimal, Decimal]] = {}

    def add(self, lines: Iterable[UsageLine]) -> None:
        """Add checked `lines`.

        Raises:
            UsageTooMany: they are of too many meters. Those before are added.
        """
        for line in lines:
            key = (line.meter, line.unit, line.model, line.currency, line.cost is not None)
            amount, cost = self._sums.get(key, (Decimal(0), Decimal(0)))
            if key not in self._sums and len(self._sums) >= LINES_MAX:
                raise UsageTooMany(f"an attempt may use {LINES_MAX} meters of models; {line.meter} is one more")
            self._sums[key] = added(amount, Decimal(line.amount)), added(cost, Decimal(line.cost or "0"))

    def lines(self) -> tuple[UsageLine, ...]:
        """Return the sums, in the order in which they began."""
        return tuple(
            UsageLine(
                meter=meter,
                amount=amount_text(amount),
                unit=unit,
                model=model,
                cost=amount_text(cost) if told else None,
                currency=currency,
            )
            for (meter, unit, model, currency, told), (amount, cost) in self._sums.items()
        )


def _plain(value: Decimal) -> str:
    """Return a decimal without an exponent; "" when it is no number, or one that is too long to be written out."""
    if not value.is_finite() or abs(value.adjusted()) > DIGITS_WHOLE_MAX + DIGITS_FRACTION_MAX:
        return "0" if value.is_finite() and not value else ""
    return amount_text(value)
