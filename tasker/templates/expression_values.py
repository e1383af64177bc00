"""What expressions do with values: equality, order, arithmetic and the functions that they may call.

Values are JSON's own, so nothing is converted on the way in or out and integers stay exact. Every operation whose work
grows with its operands pays for it from a `Meter`, before it does it; a value too large to be kept is refused before it
is built. Nothing here reads a clock, a source of chance or the machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tasker.events import codec
from tasker.events.codec import DIGITS_MAX, KEYS_MAX, STRING_CHARS_MAX, JsonValue

WORK_MAX: Final = 250_000
"""Most work of one evaluation: about one a node visited, a list cell made, 64 characters, or half one for a pattern."""

_CHARS_A_UNIT: Final = 64
_MATCHED_CHAR_UNITS: Final = 2
_INT_LIMIT: Final = 10**DIGITS_MAX
_integer_text = re.compile(rf"[+-]?[0-9]{{1,{DIGITS_MAX}}}")
_float_text = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_FLOAT_CHARS_MAX: Final = 400

_KINDS: Final = {
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
    return _KINDS.get(type(value), "optional (end it with .orValue(default))")


# ---- equality and order


def equal(meter: Meter, left: JsonValue, right: JsonValue) -> bool:
    """Say whether two values are equal: numbers by value, whatever their type; a bool is no number."""
    meter.spend(1)
    kind = type(left)
    if kind is not type(right):
        _refuse_optional(left, right)
        return _is_number(left) and _is_number(right) and bool(left == right)
    if kind is list:
        return len(left) == len(right) and all(equal(meter, one, other) for one, other in zip(left, right, strict=True))
    if kind is dict:
        if len(left) != len(right):
            return False
        return all(key in right and equal(meter, value, right[key]) for key, value in left.items())
    _refuse_optional(left, right)
    if kind is str:
        meter.spend(len(left) // _CHARS_A_UNIT)
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
        if not _is_comparable(left, right):
            raise Fault(f"{kind_of(left)} {sign} {kind_of(right)} has no meaning")
        if type(left) is str:
            meter.spend(1 + min(len(left), len(right)) // _CHARS_A_UNIT)
        return test(left, right)

    return ordered


def _is_comparable(left: JsonValue, right: JsonValue) -> bool:
    return (_is_number(left) and _is_number(right)) or (type(left) is type(right) and type(left) in {str, bool})


def _is_number(value: object) -> bool:
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
            return _text(meter, len(left) + len(right), lambda: left + right)
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


def divide(_meter: Meter, left: JsonValue, right: JsonValue) -> JsonValue:
    """Return the quotient of numbers; of integers, without its fraction."""
    if type(left) is int and type(right) is int:
        if right == 0:
            raise Fault("division by zero")
        return _quotient(left, right)
    return _number(left, "/", right, lambda: left / right)


def remainder(_meter: Meter, left: JsonValue, right: JsonValue) -> JsonValue:
    """Return what an integer division leaves; it has the sign of the dividend."""
    if type(left) is not int or type(right) is not int:
        raise Fault(f"{kind_of(left)} % {kind_of(right)} has no meaning")
    if right == 0:
        raise Fault("division by zero")
    return left - right * _quotient(left, right)


def negate(_meter: Meter, value: JsonValue) -> JsonValue:
    """Return the number with the other sign."""
    if not _is_number(value):
        raise Fault(f"-{kind_of(value)} has no meaning")
    return -value


def _quotient(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _number(left: JsonValue, sign: str, right: JsonValue, compute: Callable[[], JsonValue]) -> JsonValue:
    if not (_is_number(left) and _is_number(right)):
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


def _text(meter: Meter, chars: int, make: Callable[[], str]) -> str:
    if chars > STRING_CHARS_MAX:
        raise Fault(f"a string gets {chars} characters, more than the {STRING_CHARS_MAX} allowed")
    meter.spend(1 + chars // _CHARS_A_UNIT)
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


# ---- functions


def _asked(value: JsonValue, kind: type, what: str) -> None:
    if type(value) is not kind:
        raise Fault(f"{what} asks for a {_KINDS[kind]}, not {kind_of(value)}")


def _size(_meter: Meter, value: JsonValue) -> int:
    if type(value) not in {str, list, dict}:
        raise Fault(f"size() asks for a string, a list or a map, not {kind_of(value)}")
    return len(value)


def _string(meter: Meter, value: JsonValue) -> str:
    if type(value) is str:
        return value
    if type(value) not in {bool, int, float}:
        raise Fault(f"string() asks for a bool, a number or a string, not {kind_of(value)}")
    meter.spend(1)
    return codec.canonical(value).decode() if type(value) is not int else str(value)


def _int(_meter: Meter, value: JsonValue) -> int:
    if type(value) is str:
        if _integer_text.fullmatch(value) is None:
            raise Fault(f"int() finds no integer in {value[:40]!r}")
        return int(value)
    if not _is_number(value):
        raise Fault(f"int() asks for a number or a string, not {kind_of(value)}")
    return int(value)


def _double(_meter: Meter, value: JsonValue) -> float:
    if type(value) is str:
        if len(value) > _FLOAT_CHARS_MAX or _float_text.fullmatch(value) is None:
            raise Fault(f"double() finds no number in {value[:40]!r}")
    elif not _is_number(value):
        raise Fault(f"double() asks for a number or a string, not {kind_of(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise Fault("an integer is too large for a double") from None
    kept_number(number)
    return number


def _part_test(name: str, test: Callable[[str, str], bool]) -> Callable[[Meter, JsonValue, JsonValue], bool]:
    def tested(meter: Meter, text: JsonValue, part: JsonValue) -> bool:
        _asked(text, str, f".{name}()")
        _asked(part, str, f".{name}()")
        meter.spend(1 + len(text) // _CHARS_A_UNIT)
        return test(text, part)

    return tested


def _text_change(name: str, change: Callable[[str], str]) -> Callable[[Meter, JsonValue], str]:
    def changed(meter: Meter, text: JsonValue) -> str:
        _asked(text, str, f".{name}()")
        return _text(meter, len(text), lambda: change(text))

    return changed


_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_UPPER: Final = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}


def _split(meter: Meter, text: JsonValue, separator: JsonValue) -> list[str]:
    _asked(text, str, ".split()")
    _asked(separator, str, ".split()")
    meter.spend(1 + len(text) // _CHARS_A_UNIT + (text.count(separator) if separator else len(text)))
    return text.split(separator) if separator else list(text)


def _join(meter: Meter, items: JsonValue, separator: JsonValue = "") -> str:
    _asked(items, list, ".join()")
    _asked(separator, str, ".join()")
    meter.spend(1 + len(items))
    for item in items:
        _asked(item, str, ".join() of the items")
    chars = sum(map(len, items)) + len(separator) * max(len(items) - 1, 0)
    return _text(meter, chars, lambda: separator.join(items))


def _replace(meter: Meter, text: JsonValue, old: JsonValue, new: JsonValue) -> str:
    for value in (text, old, new):
        _asked(value, str, ".replace()")
    meter.spend(1 + len(text) // _CHARS_A_UNIT)
    chars = len(text) + text.count(old) * (len(new) - len(old))
    return _text(meter, chars, lambda: text.replace(old, new))


def _substring(meter: Meter, text: JsonValue, start: JsonValue, end: JsonValue = None) -> str:
    _asked(text, str, ".substring()")
    stop = len(text) if end is None else end
    _asked(start, int, ".substring()")
    _asked(stop, int, ".substring()")
    if not 0 <= start <= stop <= len(text):
        raise Fault(f"a string of {len(text)} characters has no part from {start} to {stop}"[:200])
    return _text(meter, stop - start, lambda: text[start:stop])


def _sum(meter: Meter, items: JsonValue) -> JsonValue:
    _asked(items, list, ".sum()")
    meter.spend(1 + len(items))
    total: JsonValue = 0
    for item in items:
        if not _is_number(item):
            raise Fault(f".sum() asks for numbers, not {kind_of(item)}")
        total = add(meter, total, item)
    return total


def _extreme(name: str, choose: Callable[[Any], Any]) -> Callable[[Meter, JsonValue], JsonValue]:
    def chosen(meter: Meter, items: JsonValue) -> JsonValue:
        _check_order(meter, items, name)
        if not items:
            raise Fault(f"{name} of an empty list")
        return choose(items)

    return chosen


def _extreme_argument(name: str, choose: Callable[[Any], Any]) -> Callable[..., JsonValue]:
    chosen = _extreme(name, choose)
    return lambda meter, *items: chosen(meter, list(items))


def _sort(meter: Meter, items: JsonValue) -> list[JsonValue]:
    _check_order(meter, items, ".sort()")
    meter.spend(len(items) * len(items).bit_length())
    return sorted(items)


def _check_order(meter: Meter, items: JsonValue, name: str) -> None:
    _asked(items, list, name)
    meter.spend(1 + len(items))
    for item in items:
        if not _is_comparable(items[0], item):
            raise Fault(f"{name} cannot compare {kind_of(items[0])} with {kind_of(item)}")
        if type(item) is str:
            meter.spend(len(item) // _CHARS_A_UNIT)


def _flatten(meter: Meter, items: JsonValue) -> list[JsonValue]:
    _asked(items, list, ".flatten()")
    flat: list[JsonValue] = []
    for item in items:
        meter.spend(1 + (len(item) if type(item) is list else 0))
        if type(item) is list:
            flat.extend(item)
        else:
            flat.append(item)
    return flat


def _range(meter: Meter, count: JsonValue) -> list[int]:
    _asked(count, int, "lists.range()")
    meter.spend(1 + max(count, 0))
    return list(range(count))


def _rounding(name: str, change: Callable[[Any], Any]) -> Callable[[Meter, JsonValue], JsonValue]:
    def rounded(_meter: Meter, value: JsonValue) -> JsonValue:
        if not _is_number(value):
            raise Fault(f"{name} asks for a number, not {kind_of(value)}")
        return change(value)

    return rounded


def _round(value: float) -> float:
    """Half away from zero, as CEL rounds."""
    if type(value) is int:
        return value
    whole = math.trunc(value)
    return float(whole + (int(math.copysign(1, value)) if abs(value - whole) >= 0.5 else 0))  # noqa: PLR2004 # a half


def _or_value(_meter: Meter, value: JsonValue, default: JsonValue) -> JsonValue:
    if type(value) is not Optional:
        raise Fault(f".orValue() asks for what .? or [?] gives, not {kind_of(value)}")
    return value.value if value.is_present else default


def _has_value(_meter: Meter, value: JsonValue) -> bool:
    if type(value) is not Optional:
        raise Fault(f".hasValue() asks for what .? or [?] gives, not {kind_of(value)}")
    return bool(value.is_present)


class Function(msgspec.Struct, frozen=True):
    """A function: how many arguments it takes (the operand before the dot is one), and what it does."""

    run: Callable[..., JsonValue]
    count_min: int
    count_max: int


def _one(run: Callable[..., JsonValue], count_min: int = 1, count_max: int | None = None) -> Function:
    return Function(run, count_min, count_max if count_max is not None else count_min)


FUNCTIONS: Final = {
    "size": _one(_size),
    "string": _one(_string),
    "int": _one(_int),
    "double": _one(_double),
    "lists.range": _one(_range),
    "math.abs": _one(_rounding("math.abs()", abs)),
    "math.ceil": _one(_rounding("math.ceil()", lambda value: value if type(value) is int else float(math.ceil(value)))),
    "math.floor": _one(
        _rounding("math.floor()", lambda value: value if type(value) is int else float(math.floor(value)))
    ),
    "math.round": _one(_rounding("math.round()", _round)),
    "math.greatest": _one(_extreme_argument("math.greatest()", max), 1, KEYS_MAX),
    "math.least": _one(_extreme_argument("math.least()", min), 1, KEYS_MAX),
}
"""By name, with its namespace."""

METHODS: Final = {
    "size": _one(_size),
    "contains": _one(_part_test("contains", lambda text, part: part in text), 2),
    "startsWith": _one(_part_test("startsWith", str.startswith), 2),
    "endsWith": _one(_part_test("endsWith", str.endswith), 2),
    "lowerAscii": _one(_text_change("lowerAscii", lambda text: text.translate(_LOWER))),
    "upperAscii": _one(_text_change("upperAscii", lambda text: text.translate(_UPPER))),
    "trim": _one(_text_change("trim", str.strip)),
    "split": _one(_split, 2),
    "join": _one(_join, 1, 2),
    "replace": _one(_replace, 3),
    "substring": _one(_substring, 2, 3),
    "sum": _one(_sum),
    "min": _one(_extreme(".min()", min)),
    "max": _one(_extreme(".max()", max)),
    "sort": _one(_sort),
    "flatten": _one(_flatten),
    "orValue": _one(_or_value, 2),
    "hasValue": _one(_has_value),
}
"""By name; the operand before the dot is the first argument."""


def spend_match(meter: Meter, text: JsonValue) -> None:
    """Pay for one run of a pattern over `text`.

    Raises:
        Fault: it is no text.
    """
    _asked(text, str, ".matches()")
    meter.spend(1 + len(text) * _MATCHED_CHAR_UNITS)
