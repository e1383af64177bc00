"""JSON Schema (draft 2020-12) of a task's input: checked when a template comes, compiled once.

A schema comes from outside and runs in the process that owns tasks, so it is bounded:

- It stands alone: `$ref` and `$dynamicRef` stay inside (`#...`); nothing is ever fetched.
- Patterns run on an engine of linear time without look-around and back references; their size is
  bounded, and their number.
- References may not unfold to more than `SCHEMA_UNFOLDED_MAX` schemas (thirty nested `allOf` of
  two would be a billion). A schema that refers to itself twice for the same place of the input is
  not seen by this bound. The library's yes or no remembers such places, and so stays quick; its list
  of faults does not, so an input gets one only when `_effort` says that it is short work.

`format` is checked, where draft 2020-12 leaves it open: a key that does nothing misleads.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NoReturn
from urllib.parse import unquote

import jsonschema_rs

from tasker.errors import FieldError, InputInvalid, TaskerError
from tasker.events import codec
from tasker.events.codec import JsonValue

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FAULTS_MAX: Final = 50
"""Most faults of one input that are named."""

SCHEMA_FAULTS_MAX: Final = 20
PATTERNS_MAX: Final = 100
PATTERN_BYTES_MAX: Final = 1 << 20
"""Largest compiled pattern, in memory."""

SCHEMA_UNFOLDED_MAX: Final = 10_000
EFFORT_MAX: Final = 50_000
"""Most checks (a schema on a value) after which the faults of an input are listed one by one."""

_DETAIL_CHARS_MAX: Final = 300

_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SINGLE = frozenset(
    {
        "items",
        "additionalProperties",
        "not",
        "if",
        "then",
        "else",
        "contains",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
        "contentSchema",
    }
)
_REFERENCES = ("$ref", "$dynamicRef")


class InputSchema:
    """A compiled schema. Built from one that `schema_faults` found sound."""

    __slots__ = ("_anchors", "_schema", "_validator")

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._anchors = dict(_anchors(schema))
        self._validator = _compile(schema)

    def faults(self, value: JsonValue) -> tuple[FieldError, ...]:
        """Return what is wrong with `value`, at most `FAULTS_MAX` faults; empty when it matches."""
        if self._validator.is_valid(value):
            return ()
        if not self._is_short_work(value):
            return (FieldError("", "does not match the schema, which is too involved to say where"),)
        return tuple(
            FieldError(pointer_of(error.instance_path), _shortened(error.message))
            for error in islice(self._validator.iter_errors(value), FAULTS_MAX)
        )

    def _is_short_work(self, value: JsonValue) -> bool:
        try:
            return _effort(self._schema, value, self._schema, self._anchors, {}) <= EFFORT_MAX
        except (_TooMuch, RecursionError):
            return False

    def check(self, value: JsonValue) -> None:
        """Return when `value` matches.

        Raises:
            InputInvalid: it does not; `errors` has each fault with its place.
        """
        faults = self.faults(value)
        if faults:
            first = faults[0]
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise InputInvalid(f"{first.pointer or 'the input'}: {first.detail}{more}", errors=faults)


@functools.lru_cache(maxsize=1024)
def compiled_schema(schema: bytes) -> InputSchema:
    """Return the one compiled form of a sound schema, given in canonical bytes."""
    return InputSchema(codec.decode_value(schema))


def schema_faults(schema: dict[str, Any]) -> tuple[FieldError, ...]:
    """Return why `schema` cannot be used, with pointers into it; empty when it is sound."""
    try:
        plain = codec.decode_value(codec.encode_value(schema))
    except TaskerError as error:
        return error.errors or (FieldError("", error.detail),)
    faults = list(islice(_dialect_faults(plain), SCHEMA_FAULTS_MAX))
    if not faults:
        faults = list(islice(_bound_faults(plain), SCHEMA_FAULTS_MAX))
    if not faults:
        try:
            _compile(plain)
        except ValueError as error:  # jsonschema_rs.ValidationError is one
            place = getattr(error, "instance_path", ())
            detail = getattr(error, "message", str(error))
            faults = [FieldError(pointer_of(place), _shortened(detail))]
    return tuple(faults)


def pointer_of(path: Sequence[str | int]) -> str:
    """Return the RFC 6901 pointer of a path of keys and indexes."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _compile(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        schema,
        validate_formats=True,
        retriever=_refuse_retrieval,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES_MAX, dfa_size_limit=PATTERN_BYTES_MAX),
    )


def _refuse_retrieval(uri: str) -> NoReturn:
    message = f"{uri} is outside the schema"
    raise ValueError(message)


@functools.cache
def _dialect() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({"$ref": DIALECT}, retriever=_refuse_retrieval)


def _dialect_faults(schema: dict[str, Any]) -> Iterator[FieldError]:
    for error in _dialect().iter_errors(schema):
        yield FieldError(pointer_of(error.instance_path), _shortened(error.message))


def _bound_faults(schema: dict[str, Any]) -> Iterator[FieldError]:
    """Yield what would reach outside or cost too much. Cycles are fine: they follow the input."""
    children: dict[int, list[int]] = {}
    anchors = dict(_anchors(schema))
    patterns = 0
    ahead: list[tuple[tuple[str | int, ...], Any]] = [((), schema)]
    while ahead:
        path, node = ahead.pop()
        if id(node) in children or not isinstance(node, dict):
            children.setdefault(id(node), [])
            continue
        found = list(_subschemas(path, node))
        patterns += isinstance(node.get("pattern"), str) + len(node.get("patternProperties", ()))
        if path and "$id" in node:
            yield FieldError(pointer_of((*path, "$id")), "only the whole schema may have an $id; use $defs and $anchor")
        if str(node.get("$schema", DIALECT)).rstrip("#") != DIALECT:
            yield FieldError(pointer_of((*path, "$schema")), f"only draft 2020-12 is known ({DIALECT})")
        for key in _REFERENCES:
            reference = node.get(key)
            if isinstance(reference, str):
                if not reference.startswith("#"):
                    yield FieldError(
                        pointer_of((*path, key)),
                        f"{reference[:200]!r} is outside the schema; copy it into $defs and refer to #/$defs/...",
                    )
                else:
                    found.extend(_target(schema, anchors, reference))
        children[id(node)] = [id(child) for _, child in found]
        ahead.extend(found)
    if patterns > PATTERNS_MAX:
        yield FieldError("", f"{patterns} patterns are more than the {PATTERNS_MAX} allowed")
    if _unfolded(id(schema), children) > SCHEMA_UNFOLDED_MAX:
        yield FieldError("", f"its references unfold to more than {SCHEMA_UNFOLDED_MAX} schemas")


def _subschemas(path: tuple[str | int, ...], node: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    for key, value in node.items():
        if key in _SINGLE:
            yield (*path, key), value
        elif key in _LISTS and isinstance(value, list):
            for index, item in enumerate(value):
                yield (*path, key, index), item
        elif key in _MAPS and isinstance(value, dict):
            for name, item in value.items():
                yield (*path, key, name), item


def _anchors(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    ahead: list[Any] = [schema]
    while ahead:
        node = ahead.pop()
        if isinstance(node, dict):
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(node.get(key), str):
                    yield node[key], node
            ahead.extend(child for _, child in _subschemas((), node))


def _target(
    schema: dict[str, Any], anchors: dict[str, dict[str, Any]], reference: str
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield what `reference` points to with its path; nothing when it points nowhere (compiling says so)."""
    if reference[1:] in anchors:
        yield (reference,), anchors[reference[1:]]
        return
    node: Any = schema
    path: list[str | int] = []
    for part in unquote(reference[1:]).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and int(key[:6]) < len(node):
            node = node[int(key[:6])]
        else:
            return
        path.append(key)
    yield tuple(path), node


def _unfolded(root: int, children: dict[int, list[int]]) -> int:
    """Return how many schemas `root` is with every reference copied in, a way back into itself counted once."""
    size: dict[int, int] = {}
    is_open: set[int] = set()
    walk = [root]
    while walk:
        node = walk[-1]
        if node in size:
            walk.pop()
        elif node not in is_open:
            is_open.add(node)
            walk.extend(child for child in children[node] if child not in size and child not in is_open)
        else:
            walk.pop()
            total = 1 + sum(size.get(child, 1) for child in children[node])
            size[node] = min(total, SCHEMA_UNFOLDED_MAX + 1)
            is_open.discard(node)
    return size[root]


class _TooMuch(Exception):
    """Even counting the work is too much."""


def _effort(
    schema: Any,
    value: JsonValue,
    root: dict[str, Any],
    anchors: dict[str, dict[str, Any]],
    known: dict[tuple[int, int], int],
) -> int:
    """Return at most how many checks of `value` a full list of faults takes; equal ones are counted each time.

    The count itself visits each pair of schema and value once: `known` has those visited.
    """
    if not isinstance(schema, dict):
        return 1
    pair = (id(schema), id(value))
    if pair in known:
        return known[pair]
    if len(known) > EFFORT_MAX:
        raise _TooMuch
    known[pair] = 1  # a way back to the same pair, which the library ends too
    total = 1
    for path, child in _subschemas((), schema):
        for part in _checked_by(path, value):
            total += _effort(child, part, root, anchors, known)
    for key in _REFERENCES:
        if isinstance(schema.get(key), str):
            for _, target in _target(root, anchors, schema[key]):
                total += _effort(target, value, root, anchors, known)
    known[pair] = total
    return total


def _checked_by(path: tuple[str | int, ...], value: JsonValue) -> Iterable[JsonValue]:
    """Return the parts of `value` (or itself) that the subschema at `path` may check."""
    match path[0]:
        case "properties":
            return (value[path[1]],) if isinstance(value, dict) and path[1] in value else ()
        case "patternProperties" | "additionalProperties" | "unevaluatedProperties":
            return value.values() if isinstance(value, dict) else ()
        case "propertyNames":
            return value if isinstance(value, dict) else ()
        case "prefixItems":
            index = int(path[1])
            return value[index : index + 1] if isinstance(value, list) else ()
        case "items" | "contains" | "unevaluatedItems":
            return value if isinstance(value, list) else ()
        case "$defs" | "definitions" | "contentSchema":
            return ()
        case _:
            return (value,)


def _shortened(detail: str) -> str:
    return detail if len(detail) <= _DETAIL_CHARS_MAX else detail[: _DETAIL_CHARS_MAX - 3] + "..."
