"""How the types of annotations are decoded from JSON, and described to others.

msgspec structs, dataclasses, TypedDicts and attrs classes are msgspec's own. A Pydantic model, wherever it stands in a
type, is validated by Pydantic, by the rules that the model sets itself. `object` takes any value, like `Any`. Neither
attrs nor Pydantic is imported here before an annotation names one of its classes.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable
from typing import Any

import msgspec

Decoder = Callable[[bytes], Any]
"""Returns the value that JSON bytes spell; raises `msgspec.DecodeError` or `ValueError` where they do not fit."""


def decoder_of(kind: Any) -> Decoder:
    """Return the decoder of a type.

    Raises:
        Exception: JSON cannot give such a value.
    """
    if _is_pydantic_type(kind):
        import pydantic

        return pydantic.TypeAdapter(kind).validate_json
    # It refuses a class of which msgspec would only find that no value is one.
    msgspec.json.schema(kind, schema_hook=_schema_of_model)
    return msgspec.json.Decoder(kind, strict=True, dec_hook=_decode_model).decode


def schema_of(kind: Any) -> dict[str, Any] | None:
    """Return the JSON Schema of a record's type; None: it is no record, or holds what only its decoder can judge."""
    if not isinstance(kind, type):
        return None
    try:
        if _is_pydantic_type(kind):
            import pydantic

            return pydantic.TypeAdapter(kind).json_schema()
        is_record = issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)
        if not is_record and not hasattr(kind, "__attrs_attrs__"):
            return None
        return msgspec.json.schema(kind, schema_hook=_schema_of_object)
    except (TypeError, ValueError, RuntimeError):  # a type of its own, as msgspec and Pydantic say it
        return None


def _is_pydantic_type(kind: object) -> bool:
    return isinstance(kind, type) and (_is_model(kind) or hasattr(kind, "__pydantic_validator__"))


def _is_model(kind: object) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _decode_model(kind: type, value: object) -> object:
    if _is_model(kind):
        return kind.model_validate(value)  # type: ignore[attr-defined]
    if kind is object:
        return value
    raise NotImplementedError(f"a value of type {kind.__name__} cannot be decoded from JSON")


def _schema_of_model(kind: type) -> dict[str, Any]:
    return {"type": "object"} if _is_model(kind) else _schema_of_object(kind)


def _schema_of_object(kind: type) -> dict[str, Any]:
    if kind is object:
        return {"description": "Any value."}  # msgspec takes an empty one for none
    # With NotImplementedError msgspec would speak of its own hooks instead.
    raise TypeError(f"JSON cannot give a {kind.__name__}")
