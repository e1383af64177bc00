r"""The only JSON door: bytes to values and back, and the canonical form.

A value that we take is one that every reader gets back exactly: null, booleans, strings without
U+0000 or lone surrogates, integers of up to 1000 digits, finite floats, arrays, and objects with
distinct string keys, nested at most 64 deep, all within the limits below. Anything else is
`value_invalid` with its place, where msgspec alone would turn NaN into null, bytes into base64 and
integer keys into strings.

The canonical form has UTF-8, keys in code point order, no white space, exact integers and the
shortest floats. Equal values have equal bytes, so a hash or a comparison of bytes is one of values.

The checks cost little because they run on bytes in C: the number of colons tells duplicate keys
(the canonical form has fewer when a key was dropped) and that no object can have too many, brackets
alone tell the depth. Only a body
with `\u` escapes or very long digits is walked in Python. So is one that msgspec does not parse although it
is JSON by its grammar: half of a surrogate pair, which is refused with its place.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from tasker.errors import BodyInvalid, BodyTooLarge, FieldError, Undecodable, ValueInvalid
from tasker.events.field_errors import field_error, pointer_step

T = TypeVar("T")

JsonValue = Any
"""null, bool, int, float, str, list or dict of str, as json and msgspec give them."""

INPUT_BYTES_MAX: Final = 64 * 1024
"""Largest input or result, in canonical bytes."""

META_BYTES_MAX: Final = 4 * 1024
BODY_BYTES_MAX: Final = 512 * 1024
BATCH_ITEMS_MAX: Final = 500
DEPTH_MAX: Final = 64
DIGITS_MAX: Final = 1000
KEYS_MAX: Final = 4096
"""Most keys of one object."""

UNDECODABLE_CHARS_MAX: Final = 300
"""Longest detail of a message that cannot be read."""

STRING_CHARS_MAX: Final = 128 * 1024
"""Longest string. An input or a result is bounded below that, a template is not."""


_canonical_encoder = msgspec.json.Encoder(order="deterministic")
_message_encoder = msgspec.json.Encoder()
_any_decoder = msgspec.json.Decoder()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}

_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_long_digits = re.compile(rb"(?<![0-9])[0-9]{%d}" % (DIGITS_MAX + 1))  # looks at each run of digits once
_TEXT_SCALARS = (datetime, date, time, timedelta, UUID, Decimal)
_SPACE: Final = b" \t\n\r"
_tokens = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
"""A text (one without an end goes to the end of all: so no byte is looked at twice), a bracket, a comma."""

_field = re.compile(rb'"([a-z_]+)"[ \t\n\r]*:[ \t\n\r]*')
_INT_LIMIT = 10**DIGITS_MAX


def canonical(value: JsonValue) -> bytes:
    """Return the canonical form of a checked `value`."""
    return _canonical_encoder.encode(value)


def canonicalize(data: bytes, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Return the canonical form of the JSON text `data`, checked in full.

    Raises:
        BodyTooLarge: `data` has more than `bytes_max` bytes.
        BodyInvalid: it is not one JSON text in UTF-8.
        ValueInvalid: a value in it cannot be kept exactly; `errors` names the place.
    """
    if len(data) > bytes_max:
        detail = f"{len(data)} bytes are more than the {bytes_max} allowed"
        raise BodyTooLarge(detail)
    return _checked(data)[1]


def decode_value(data: bytes, *, bytes_max: int = BODY_BYTES_MAX) -> JsonValue:
    """Return the value of the JSON text `data`, checked as `canonicalize` checks it."""
    if len(data) > bytes_max:
        detail = f"{len(data)} bytes are more than the {bytes_max} allowed"
        raise BodyTooLarge(detail)
    return _checked(data)[0]


def encode_value(value: object, *, bytes_max: int = INPUT_BYTES_MAX) -> bytes:
    """Return the canonical form of any Python `value` that has one.

    Takes what JSON has, and msgspec structs, dataclasses, attrs classes (by field), Pydantic models (as they dump
    themselves), enums (by value), datetimes, UUIDs and decimals (as text).

    Raises:
        ValueInvalid: something in it has no exact JSON form (NaN, bytes, sets, an integer key, ...).
        BodyTooLarge: the form has more than `bytes_max` bytes.
    """
    data = canonical(_plain(value, "", 0))
    if len(data) > bytes_max:
        detail = f"{len(data)} bytes are more than the {bytes_max} allowed"
        raise BodyTooLarge(detail)
    return data


def decode_command(data: bytes, kind: type[T]) -> T:
    """Return the struct `kind` (or a list of such) that the caller's `data` spells.

    Unknown fields are refused where `kind` forbids them. For bytes from outside.

    Raises:
        BodyTooLarge, BodyInvalid, ValueInvalid: as `canonicalize`; `BodyInvalid` also for a wrong field.
    """
    return decode_checked(canonicalize(data), kind)


def split_array(data: bytes) -> list[bytes]:
    """Return the items of the JSON array `data`, each as it was sent: to be decoded, and refused, by itself.

    Raises:
        BodyInvalid: `data` is no array.
    """
    try:
        return [bytes(item) for item in decoder_of(list[msgspec.Raw]).decode(data)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        slow = b"\\u" in data or isinstance(error, RecursionError)
        items = _split_walked(data, b"[]") if slow else None
        if items is None:
            raise BodyInvalid(f"not an array: {error}") from error
        return items


def split_field(data: bytes, name: str) -> tuple[bytes, bytes] | None:
    """Return the JSON object `data` without its field `name`, and that field's value; None: it has no such field.

    For text that msgspec does not parse: what is bad in the one may leave the other good. Neither is checked.
    """
    parts = _split_walked(data, b"{}")
    value: bytes | None = None
    rest = []
    for part in parts or ():
        found = _field.match(part)
        if found is not None and found[1] == name.encode():
            value = part[found.end() :]
        else:
            rest.append(part)
    return None if value is None else (b"{" + b",".join(rest) + b"}", value)


def decode_checked(data: bytes, kind: type[T]) -> T:
    """Return the struct `kind` from bytes that `canonicalize` gave, or a part of such bytes.

    Raises:
        BodyInvalid: they do not spell it.
    """
    try:
        return decoder_of(kind).decode(data)
    except msgspec.ValidationError as error:
        fault = field_error(error, kind)
        detail = f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail
        raise BodyInvalid(detail, errors=(fault,)) from error


def decode_message(data: bytes, kind: type[T]) -> T:
    """Return the struct `kind` from bytes that a part of ours wrote; unknown fields are ignored.

    Raises:
        Undecodable: they are not that.
    """
    try:
        return decoder_of(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # It may quote what came, and lands in logs.
        raise Undecodable(f"{getattr(kind, '__name__', kind)}: {error}"[:UNDECODABLE_CHARS_MAX]) from error


def encode_message(message: object) -> bytes:
    """Return the JSON text of a struct of ours."""
    return _message_encoder.encode(message)


def hash_of(data: bytes) -> str:
    """Return the sha256 of canonical bytes, in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def is_text(text: str) -> bool:
    """Return whether `text` has only characters that every reader and store takes: no U+0000, no lone surrogate."""
    if "\0" in text:
        return False
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def decoder_of(kind: type[T]) -> msgspec.json.Decoder[T]:
    """Return the one decoder of `kind`."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder


def _checked(data: bytes) -> tuple[JsonValue, bytes]:
    """Return the value of `data` and its canonical form."""
    _check_depth(data)
    if len(data) > DIGITS_MAX and _long_digits.search(data) is not None:
        _parse_walked(data)
    try:
        value = _any_decoder.decode(data)
    except msgspec.DecodeError as error:
        if b"\\u" in data:
            _parse_walked(data)
        raise BodyInvalid(f"not JSON: {_why_not_json(data, error)}") from error
    except UnicodeDecodeError as error:
        raise BodyInvalid(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except (RecursionError, ValueError, OverflowError) as error:
        raise BodyInvalid(f"not JSON: {error}") from error
    form = canonical(value)
    colons = data.count(b":")
    if b"\\u" in data or colons != form.count(b":"):
        value = _parse_walked(data)
        return value, canonical(value)
    if colons > KEYS_MAX or len(data) > STRING_CHARS_MAX:
        _plain(value, "", 0)
    return value, form


def _why_not_json(data: bytes, error: msgspec.DecodeError) -> str:
    """Return in words what the decoder found wrong."""
    if not data.strip(_SPACE):
        return "it is empty"
    what = str(error).removeprefix("JSON is malformed: ")
    return "it ends in the middle of a value" if "truncated" in what else what


def _check_depth(data: bytes) -> None:
    """Refuse nesting deeper than `DEPTH_MAX`: each pass takes away one level of brackets, in C."""
    if data.count(b"[") + data.count(b"{") <= DEPTH_MAX:
        return
    brackets = data.translate(_ONE_KIND, _NOT_BRACKETS)
    for _level in range(DEPTH_MAX):
        fewer = brackets.replace(b"[]", b"")
        if not fewer:
            return
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    if _depth_outside_strings(data) > DEPTH_MAX:
        detail = f"nested deeper than {DEPTH_MAX}"
        raise ValueInvalid(detail)


def _depth_outside_strings(data: bytes) -> int:
    """Return how deep brackets nest; just above `DEPTH_MAX` where it is more."""
    depth = deepest = 0
    for token in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', data, re.DOTALL):
        if token[0] in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
            if deepest > DEPTH_MAX:
                break
        elif token[0] in (b"]", b"}"):
            depth -= 1
    return deepest


def _parse_walked(data: bytes) -> JsonValue:
    """Return the value by the slow way, which sees duplicate keys, escapes and long numbers."""
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_distinct,
            parse_constant=_refuse_constant,
            parse_int=_bounded_int,
        )
    except UnicodeDecodeError as error:
        raise BodyInvalid(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise BodyInvalid(f"not JSON: {error}") from error
    return _plain(value, "", 0)


def _split_walked(data: bytes, brackets: bytes) -> list[bytes] | None:
    """Return what stands between the commas of one array or object, as it was sent; None when it is none.

    The slow way, which takes half a surrogate pair and any depth. Its time grows with the length alone.
    """
    data = data.strip(_SPACE)
    if data[:1] != brackets[:1] or data[-1:] != brackets[1:]:
        return None
    parts: list[bytes] = []
    depth, start = 0, 1
    for token in _tokens.finditer(data):
        mark = token[0][:1]
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
            if not depth and token.end() < len(data):
                return None
        elif mark == b"," and depth == 1:
            parts.append(data[start : token.start()].strip(_SPACE))
            start = token.end()
    parts.append(data[start:-1].strip(_SPACE))
    if depth:
        return None
    if parts == [b""]:
        return []
    return parts if all(parts) else None


def _distinct(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _invalid("", f"the key {twice[:80]!r} stands twice in one object")
    return found


def _refuse_constant(name: str) -> JsonValue:
    raise BodyInvalid(f"not JSON: {name} is no JSON value")


def _bounded_int(text: str) -> int:
    if len(text.lstrip("-")) > DIGITS_MAX:
        raise _invalid("", f"an integer has more than {DIGITS_MAX} digits")
    return int(text)


def _plain(value: object, path: str, depth: int) -> JsonValue:
    """Return `value` made of JSON's own types, each checked; `path` is its RFC 6901 pointer."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return _text(value, path)  # type: ignore[arg-type]
    if kind is int:
        if not -_INT_LIMIT < value < _INT_LIMIT:  # type: ignore[operator]
            raise _invalid(path, f"an integer has more than {DIGITS_MAX} digits")
        return value
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise _invalid(path, f"{value} is no JSON number")
        return value
    if depth >= DEPTH_MAX:
        raise _invalid(path[:80], f"nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        if len(value) > KEYS_MAX:
            raise _invalid(path, f"an object has {len(value)} keys, more than the {KEYS_MAX} allowed")
        return {_key(key, path): _plain(item, f"{path}/{pointer_step(key)}", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}/{index}", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, enum.Enum):
        return _plain(value.value, path, depth)
    if isinstance(value, msgspec.Raw):
        return _plain(decode_value(bytes(value)), path, depth)
    if isinstance(value, msgspec.Struct):
        fields = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return {
            name: _plain(getattr(value, attribute), f"{path}/{name}", depth + 1)
            for name, attribute in fields
            if getattr(value, attribute) is not msgspec.UNSET
        }
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name), f"{path}/{field.name}", depth + 1)
            for field in dataclasses.fields(value)
        }
    attributes = getattr(kind, "__attrs_attrs__", None)
    if attributes is not None:
        return {
            attribute.name: _plain(getattr(value, attribute.name), f"{path}/{attribute.name}", depth + 1)
            for attribute in attributes
        }
    if hasattr(kind, "__pydantic_validator__") and hasattr(value, "model_dump"):  # so nobody needs to import Pydantic
        return _plain(value.model_dump(mode="json"), path, depth)
    if isinstance(value, _TEXT_SCALARS):
        return msgspec.to_builtins(value)
    for base in (str, int, float):
        if isinstance(value, base):
            return _plain(base(value), path, depth)
    raise _invalid(path, f"{kind.__module__}.{kind.__qualname__} has no JSON form")


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise _invalid(path, f"the key {key!r:.80} is no string")
    return _text(str(key), path)


def _text(text: str, path: str) -> str:
    if len(text) > STRING_CHARS_MAX:
        raise _invalid(path, f"a string has {len(text)} characters, more than the {STRING_CHARS_MAX} allowed")
    if "\0" in text:
        raise _invalid(path, "a string has U+0000")
    if not is_text(text):
        raise _invalid(path, "a string has a lone surrogate")
    return text


def _invalid(path: str, detail: str) -> ValueInvalid:
    place = path.encode("utf-8", "replace").decode()[:200]
    return ValueInvalid(f"{place or 'the value'}: {detail}", errors=(FieldError(place, detail),))
