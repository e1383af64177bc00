"""JSON Schema (draft 2020-12) of our structs, with what their docstrings say.

The library's own generator stops at a `Raw` that has a default, and knows nothing of the `Attributes` of a docstring.
A union that holds null is written as it is meant: `null` is one of the types.
"""

from __future__ import annotations

import fnmatch
import inspect
import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, Final, get_args, get_origin

import msgspec
from msgspec import inspect as types

Schema = dict[str, Any]

_attribute = re.compile(r"(?:^|(?<=[.;] ))((?:[a-z_*]+)(?:, [a-z_*]+)*): ", re.MULTILINE)
_SIMPLE: Final[dict[type, Schema]] = {
    types.AnyType: {},
    types.RawType: {},
    types.NoneType: {"type": "null"},
    types.BoolType: {"type": "boolean"},
    types.IntType: {"type": "integer"},
    types.FloatType: {"type": "number"},
    types.StrType: {"type": "string"},
}


class Schemas:
    """The schemas of structs, each once, by the name of its class.

    Attributes:
        components: name -> schema, of every struct that was asked for and of all that they hold.
        place: what references to them begin with.
    """

    def __init__(self, place: str = "#/components/schemas/") -> None:
        self.components: dict[str, Schema] = {}
        self.place = place

    def of(self, kind: Any) -> Schema:
        """Return the schema of values of `kind`; a struct is a reference to its component.

        At the top, `kind` may be a union of structs that only their members tell apart.
        """
        arguments = get_args(kind)
        if get_origin(kind) is UnionType:
            return _any_of([self.of(choice) for choice in arguments])
        if get_origin(kind) is list:
            return {"type": "array", "items": self.of(arguments[0])}
        return self._schema(types.type_info(kind))

    def _schema(self, info: types.Type) -> Schema:
        simple = _SIMPLE.get(type(info))
        if simple is not None:
            return dict(simple)
        match info:
            case types.Metadata():
                return self._schema(info.type) | (info.extra_json_schema or {})
            case types.LiteralType(values=values):
                return _literal(list(values))
            case types.ListType(item_type=item) | types.VarTupleType(item_type=item):
                return {"type": "array", "items": self._schema(item)}
            case types.TupleType(item_types=items):
                of_items = [self._schema(item) for item in items]
                return {"type": "array", "prefixItems": of_items, "minItems": len(items), "maxItems": len(items)}
            case types.DictType(key_type=key, value_type=value):
                return self._object(key, value)
            case types.UnionType(types=choices):
                return _any_of([self._schema(choice) for choice in choices])
            case types.StructType(cls=cls):
                return self._struct(cls, info)
            case _:
                raise TypeError(f"{info!r} has no JSON Schema here")

    def _object(self, key: types.Type, value: types.Type) -> Schema:
        schema: Schema = {"type": "object", "additionalProperties": self._schema(value)}
        if isinstance(key, types.IntType):  # in JSON every key is text
            schema["propertyNames"] = {"pattern": "^-?[0-9]+$"}
        return schema

    def _struct(self, cls: type, info: types.StructType) -> Schema:
        if cls.__name__ not in self.components:
            self.components[cls.__name__] = {}  # its place, should it hold itself
            self.components[cls.__name__] = self._component(cls, info)
        return {"$ref": self.place + cls.__name__}

    def _component(self, cls: type, info: types.StructType) -> Schema:
        told = attributes_of(cls, [field.name for field in info.fields])
        schema: Schema = {"title": cls.__name__, "description": summary_of(cls), "type": "object", "properties": {}}
        for field in info.fields:
            found = self._schema(field.type)
            if field.name in told:
                found["description"] = told[field.name]
            if not field.required and _is_plain(field.default):
                found["default"] = msgspec.to_builtins(field.default)
            schema["properties"][field.encode_name] = found
        required = [field.encode_name for field in info.fields if field.required]
        if required:
            schema["required"] = required
        if info.forbid_unknown_fields:
            schema["additionalProperties"] = False
        return schema


def closed(components: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the same schemas, each refusing members that it does not name: what *we* may send."""
    return {
        name: schema | {"unevaluatedProperties": False} if "properties" in schema else schema
        for name, schema in components.items()
    }


def summary_of(cls: type) -> str:
    """Return what a class's docstring says before its `Attributes` and tables, in one line a paragraph."""
    text = (inspect.getdoc(cls) or "").partition("\nAttributes:")[0].partition("\n|")[0]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def attributes_of(cls: type, names: list[str]) -> dict[str, str]:
    """Return what the docstrings of a class and those above it say of the fields `names`."""
    told: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("\nAttributes:\n")[2]
        lines = inspect.cleandoc("\n" + section.partition("\n\n")[0])
        # A line that is indented further goes on with the one above.
        text = re.sub(r"\n\s+", " ", lines)
        pieces = _attribute.split(text)
        for wanted, said in zip(pieces[1::2], pieces[2::2], strict=True):
            for pattern in wanted.split(", "):
                words = re.sub(r"\bNone\b", "null", " ".join(said.split()))
                told.update(dict.fromkeys(fnmatch.filter(names, pattern), words))
    return told


def _literal(values: list[Any]) -> Schema:
    kinds = {str: "string", int: "integer", bool: "boolean"}
    schema: Schema = {"const": values[0]} if len(values) == 1 else {"enum": values}
    return {"type": kinds[type(values[0])], **schema}


def _any_of(choices: list[Schema]) -> Schema:
    choices = [choice for choice in choices if choice != {"type": "null"}] + [
        choice for choice in choices if choice == {"type": "null"}
    ]
    first, *rest = choices
    if rest == [{"type": "null"}] and isinstance(first.get("type"), str) and not {"enum", "const"} & first.keys():
        return first | {"type": [first["type"], "null"]}
    return {"anyOf": choices}


def _is_plain(default: Any) -> bool:
    return isinstance(default, (str, int, float, bool))
