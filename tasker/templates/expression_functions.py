"""The functions that expressions may call, and what each pays."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tasker.events import codec
from tasker.events.codec import DIGITS_MAX, KEYS_MAX, JsonValue
from tasker.templates.expression_values import (
    CHARS_A_UNIT,
    KINDS,
    Fault,
    Meter,
    Optional,
    add,
    is_comparable,
    is_number,
    kept_number,
    kind_of,
    text_of_size,
)

_DIGITS_A_UNIT: Final = 16
"""Of integers that are read or written out."""

_MATCHED_CHAR_UNITS: Final = 2
_integer_text = re.compile(rf"[+-]?[0-9]{{1,{DIGITS_MAX}}}")
_float_text = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_FLOAT_CHARS_MAX: Final = 400


def _asked(value: JsonValue, kind: type, what: str) -> None:
    if type(value) is not kind:
        raise Fault(f"{what} asks for a {KINDS[kind]}, not {kind_of(value)}")


def _size(_meter: Meter, value: JsonValue) -> int:
    if type(value) not in {str, list, dict}:
        raise Fault(f"size() asks for a string, a list or a map, not {kind_of(value)}")
    return len(value)


def _string(meter: Meter, value: JsonValue) -> str:
    if type(value) is str:
        return value
    if type(value) not in {bool, int, float}:
        raise Fault(f"string() asks for a bool, a number or a string, not {kind_of(value)}")
    if type(value) is not int:
        meter.spend(1)
        return codec.canonical(value).decode()
    meter.spend(1 + value.bit_length() // (3 * _DIGITS_A_UNIT))
    return str(value)


def _int(meter: Meter, value: JsonValue) -> int:
    if type(value) is str:
        meter.spend(1 + len(value) // _DIGITS_A_UNIT)
        if _integer_text.fullmatch(value) is None:
            raise Fault(f"int() finds no integer in {value[:40]!r}")
        return int(value)
    if not is_number(value):
        raise Fault(f"int() asks for a number or a string, not {kind_of(value)}")
    return int(value)


def _double(_meter: Meter, value: JsonValue) -> float:
    if type(value) is str:
        if len(value) > _FLOAT_CHARS_MAX or _float_text.fullmatch(value) is None:
            raise Fault(f"double() finds no number in {value[:40]!r}")
    elif not is_number(value):
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
        meter.spend(1 + len(text) // CHARS_A_UNIT)
        return test(text, part)

    return tested


def _text_change(name: str, change: Callable[[str], str]) -> Callable[[Meter, JsonValue], str]:
    def changed(meter: Meter, text: JsonValue) -> str:
        _asked(text, str, f".{name}()")
        return text_of_size(meter, len(text), lambda: change(text))

    return changed


def _lower_ascii(text: str) -> str:
    """Change ASCII letters alone, which bytes do; a table for `str.translate` costs 40 ns for each other character."""
    return text.encode().lower().decode()


def _upper_ascii(text: str) -> str:
    return text.encode().upper().decode()


def _split(meter: Meter, text: JsonValue, separator: JsonValue) -> list[str]:
    _asked(text, str, ".split()")
    _asked(separator, str, ".split()")
    meter.spend(1 + len(text) // CHARS_A_UNIT + (text.count(separator) if separator else len(text)))
    return text.split(separator) if separator else list(text)


def _join(meter: Meter, items: JsonValue, separator: JsonValue = "") -> str:
    _asked(items, list, ".join()")
    _asked(separator, str, ".join()")
    meter.spend(1 + len(items))
    for item in items:
        _asked(item, str, ".join() of the items")
    chars = sum(map(len, items)) + len(separator) * max(len(items) - 1, 0)
    return text_of_size(meter, chars, lambda: separator.join(items))


def _replace(meter: Meter, text: JsonValue, old: JsonValue, new: JsonValue) -> str:
    for value in (text, old, new):
        _asked(value, str, ".replace()")
    meter.spend(1 + len(text) // CHARS_A_UNIT)
    chars = len(text) + text.count(old) * (len(new) - len(old))
    return text_of_size(meter, chars, lambda: text.replace(old, new))


def _substring(meter: Meter, text: JsonValue, start: JsonValue, end: JsonValue = None) -> str:
    _asked(text, str, ".substring()")
    stop = len(text) if end is None else end
    _asked(start, int, ".substring()")
    _asked(stop, int, ".substring()")
    if not 0 <= start <= stop <= len(text):
        raise Fault(f"a string of {len(text)} characters has no part from {start} to {stop}"[:200])
    return text_of_size(meter, stop - start, lambda: text[start:stop])


def _sum(meter: Meter, items: JsonValue) -> JsonValue:
    _asked(items, list, ".sum()")
    meter.spend(1 + len(items))
    total: JsonValue = 0
    for item in items:
        if not is_number(item):
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
        if not is_comparable(items[0], item):
            raise Fault(f"{name} cannot compare {kind_of(items[0])} with {kind_of(item)}")
        if type(item) is str:
            meter.spend(len(item) // CHARS_A_UNIT)


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
        if not is_number(value):
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
    "lowerAscii": _one(_text_change("lowerAscii", _lower_ascii)),
    "upperAscii": _one(_text_change("upperAscii", _upper_ascii)),
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
