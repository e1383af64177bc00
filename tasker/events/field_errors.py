"""A wrong field of a body, as people read it: where it stands, what is wrong, and what may stand there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
import msgspec.inspect as types

from tasker.errors import FieldError
from tasker.suggestions import did_you_mean

_TOLD_CHARS_MAX: Final = 60

_place = re.compile(r"^(?P<detail>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_step = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_unknown_field = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_missing_field = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_unknown_value = re.compile(r"Invalid enum value '(.*)'", re.DOTALL)


def field_error(error: msgspec.ValidationError, kind: Any) -> FieldError:
    """Return msgspec's message on a `kind` as a pointer and a detail ("... - at `$.a[0]`" -> "/a/0").

    A field or a word that there is not is told with those that there are.
    """
    found = _place.match(str(error))
    assert found is not None  # noqa: S101 - any text matches
    steps = [name or index for name, index in _step.findall(found["path"] or "")]
    pointer = "".join(f"/{pointer_step(step)}" for step in steps)
    detail = found["detail"]
    if (unknown := _unknown_field.match(detail)) is not None:
        what = f"there is no field '{unknown[1][:_TOLD_CHARS_MAX]}'"
        return FieldError(pointer, _no_such(what, unknown[1], _fields_at(kind, steps)))
    if (missing := _missing_field.match(detail)) is not None:
        fields = _fields_at(kind, steps)
        return FieldError(pointer, f"the field '{missing[1]}' is missing; there are {', '.join(fields)}")
    if (unknown := _unknown_value.match(detail)) is not None:
        words = [word for one in _types_at(kind, steps) for word in _words(one)]
        return FieldError(pointer, _no_such(f"there is no '{unknown[1][:_TOLD_CHARS_MAX]}'", unknown[1], words))
    return FieldError(pointer, detail)


def pointer_step(key: object) -> str:
    """Return a key as a pointer spells it (RFC 6901, section 3)."""
    return str(key).replace("~", "~0").replace("/", "~1")


def _no_such(what: str, given: str, known: list[str]) -> str:
    return f"{what}{did_you_mean(given, known)}; there are {', '.join(known)}" if known else what


def _fields_at(kind: Any, steps: Iterable[str]) -> list[str]:
    """Return the fields of the structs that may stand at a place within a `kind`."""
    return [field.encode_name for one in _types_at(kind, steps) for field in getattr(one, "fields", ())]


def _types_at(kind: Any, steps: Iterable[str]) -> list[types.Type]:
    """Return the types that a value may have at a place within a `kind`; a union's are one by one."""
    here = list(_alternatives(types.type_info(kind)))
    for step in steps:
        here = [one for above in here for inner in _inner(above, step) for one in _alternatives(inner)]
    return here


def _alternatives(one: types.Type) -> Iterator[types.Type]:
    if isinstance(one, types.Metadata):
        yield from _alternatives(one.type)
    elif isinstance(one, types.UnionType):
        for alternative in one.types:
            yield from _alternatives(alternative)
    else:
        yield one


def _inner(above: types.Type, step: str) -> Iterator[types.Type]:
    """Return what stands at a step below a type: a field's name, an index, or "..." in an object of any keys."""
    match above:
        case types.StructType(fields=fields):
            yield from (field.type for field in fields if field.encode_name == step)
        case types.DictType(value_type=value_type):
            yield value_type
        case types.ListType(item_type=item_type) | types.VarTupleType(item_type=item_type):
            yield item_type
        case _:
            pass


def _words(one: types.Type) -> list[str]:
    match one:
        case types.LiteralType(values=values):
            return [str(value) for value in values]
        case types.EnumType(cls=cls):
            return [str(member.value) for member in cls]
        case _:
            return []
