"""The values of expressions: kinds, equality, order and arithmetic.

Values are JSON's own, so nothing is converted on the way in or out and integers stay exact. Every operation whose work
grows with its operands pays for it from a `Meter`, before it does it; a value too large to be kept is refused before it
is built. Nothing here reads a clock, a source of chance or the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from tasker.events.codec import DIGITS_MAX, STRING_CHARS_MAX, JsonValue

WORK_MAX: Final = 250_000
"""Most work of one evaluation: about one a node visited, a list cell made, 64 characters, or half one for a pattern."""

CHARS_A_UNIT: Final = 64
_BITS_A_UNIT: Final = 64
"""Of integers that are divided."""

_INT_LIMIT: Final = 10**DIGITS_MAX

KINDS: Final = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    list: "list",
    dict: "map",
}


class Fault(Exception):
    """An operation cannot be done on its operands: why, and where it stands in the text."""

    def __init__(self, reason: str, offset: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


class WorkSpent(Exception):
    """The evaluation has used up its work. Not a `Fault`: no `||` passes over it."""


class Meter:
    """The work that is left."""

    __slots__ = ("left",)

    def __init__(self, work: int = WORK_MAX) -> None:
        self.left = work

    def spend(self, work: int) -> None:
        """Take `work` away.

        Raises:
            WorkSpent: so much is not left.
        """
        self.left -= work
        if self.left < 0:
            raise WorkSpent


class Optional:
    """What `.?` and `[?]` give: a value that may be absent, until `orValue` makes a value of it."""

    __slots__ = ("is_present", "value")

    def __init__(self, *, is_present: bool, value: JsonValue = None) -> None:
        self.is_present = is_present
        self.value = value


ABSENT: Final = Optional(is_present=False)


def kind_of(value: object) -> str:
    """Return the name of a value's type, as messages say it."""
    return KINDS.get(type(value), "optional (end it with .orValue(default))")


# ---- equality and order


def equal(meter: Meter, left: JsonValue, right: JsonValue) -> bool:
    """Say whether two values are equal: numbers by value, whatever their type; a bool is no number."""
    meter.spend(1)
    kind = type(left)
    if kind is not type(right):
        _refuse_optional(left, right)
        return is_number(left) and is_number(right) and bool(left == right)
    if kind is list:
        return len(left) == len(right) and all(equal(meter, one, other) for one, other in zip(left, right, strict=True))
    if kind is dict:
        if len(left) != len(right):
            return False
        return all(key in right and equal(meter, value, right[key]) for key, value in left.items())
    _refuse_optional(left, right)
    if kind is str:
        meter.spend(len(left) // CHARS_A_UNIT)
    return bool(left == right)


def unequal(meter: Meter, left: JsonValue, right: JsonValue) -> bool:
    """Say whether two values differ."""
    return not equal(meter, left, right)


def contained(meter: Meter, left: JsonValue, right: JsonValue) -> bool:
    """Say whether `left` is an item of a list or a key of a map."""
    if type(right) is dict:
        return type(left) is str and left in right
    if type(right) is list:
        return any(equal(meter, left, item) for item in right)
    hint = "; a part of a string is found by .contains()" if type(right) is str else ""
    raise Fault(f"'in' asks for a list or a map, not {kind_of(right)}{hint}")


def _order(test: Callable[[Any, Any], bool], sign: str) -> Callable[[Meter, JsonValue, JsonValue], bool]:
    def ordered(meter: Meter, left: JsonValue, right: JsonValue) -> bool:
        if not is_comparable(left, right):
            raise Fault(f"{kind_of(left)} {sign} {kind_of(right)} has no meaning")
        if type(left) is str:
            meter.spend(1 + min(len(left), len(right)) // CHARS_A_UNIT)
        return test(left, right)

    return ordered


def is_comparable(left: JsonValue, right: JsonValue) -> bool:
    """Say whether two values have an order: numbers, strings, bools."""
    return (is_number(left) and is_number(right)) or (type(left) is type(right) and type(left) in {str, bool})


def is_number(value: object) -> bool:
    """Say whether a value is an int or a double; a bool is none."""
    return type(value) is int or type(value) is float


def _refuse_optional(*values: object) -> None:
    for value in values:
        if type(value) is Optional:
            raise Fault(f"cannot compare an {kind_of(value)}")


# ---- arithmetic


def add(meter: Meter, left: JsonValue, right: JsonValue) -> JsonValue:
    """Return the sum of numbers, or texts or lists joined."""
    kind = type(left)
    if kind is type(right):
        if kind is str:
            return text_of_size(meter, len(left) + len(right), lambda: left + right)
        if kind is list:
            meter.spend(len(left) + len(right))
            return left + right
    return _number(left, "+", right, lambda: left + right)


def subtract(_meter: Meter, left: JsonValue, right: JsonValue) -> JsonValue:
    """Return the difference of numbers."""
    return _number(left, "-", right, lambda: left - right)


def multiply(_meter: Meter, left: JsonValue, right: JsonValue) -> JsonValue:
    """Return the product of numbers."""
    return _number(left, "*", right, lambda: left * right)


def divide(meter: Meter, left: JsonValue, right: JsonValue) -> JsonValue:
    """Return the quotient of numbers; of integers, without its fraction."""
    if type(left) is int and type(right) is int:
        return _quotient(meter, left, right)
    return _number(left, "/", right, lambda: left / right)


def remainder(meter: Meter, left: JsonValue, right: JsonValue) -> JsonValue:
    """Return what an integer division leaves; it has the sign of the dividend."""
    if type(left) is not int or type(right) is not int:
        raise Fault(f"{kind_of(left)} % {kind_of(right)} has no meaning")
    return left - right * _quotient(meter, left, right)


def negate(_meter: Meter, value: JsonValue) -> JsonValue:
    """Return the number with the other sign."""
    if not is_number(value):
        raise Fault(f"-{kind_of(value)} has no meaning")
    return -value


def _quotient(meter: Meter, left: int, right: int) -> int:
    if right == 0:
        raise Fault("division by zero")
    meter.spend((left.bit_length() + right.bit_length()) // _BITS_A_UNIT)
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _number(left: JsonValue, sign: str, right: JsonValue, compute: Callable[[], JsonValue]) -> JsonValue:
    if not (is_number(left) and is_number(right)):
        raise Fault(f"{kind_of(left)} {sign} {kind_of(right)} has no meaning")
    try:
        return kept_number(compute())
    except OverflowError:
        raise Fault("an integer is too large for a double") from None
    except ZeroDivisionError:
        raise Fault("division by zero") from None


def kept_number(value: JsonValue) -> JsonValue:
    """Return `value` when JSON as we keep it has such a number."""
    if type(value) is int:
        if not -_INT_LIMIT < value < _INT_LIMIT:
            raise Fault(f"an integer gets more than {DIGITS_MAX} digits")
    elif not math.isfinite(value):
        raise Fault("a double gets too large")
    return value


def text_of_size(meter: Meter, chars: int, make: Callable[[], str]) -> str:
    """Return the string of `chars` characters that `make` builds, once it is paid for.

    Raises:
        Fault: it is longer than a string may get.
    """
    if chars > STRING_CHARS_MAX:
        raise Fault(f"a string gets {chars} characters, more than the {STRING_CHARS_MAX} allowed")
    meter.spend(1 + chars // CHARS_A_UNIT)
    return make()


BINARY: Final[dict[str, Callable[[Meter, JsonValue, JsonValue], JsonValue]]] = {
    "==": equal,
    "!=": unequal,
    "<": _order(lambda left, right: left < right, "<"),
    "<=": _order(lambda left, right: left <= right, "<="),
    ">": _order(lambda left, right: left > right, ">"),
    ">=": _order(lambda left, right: left >= right, ">="),
    "in": contained,
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
}
