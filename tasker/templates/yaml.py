"""YAML text to a document, with the line of every value.

A subset that reads as people mean it. Scalars follow the core schema of YAML 1.2: only `true`, `false`,
`null` and numbers are more than text, so `on`, `no`, `12:30` and `2026-11-21` are text. Refused are
duplicate keys, tags, merge keys, keys that are not text, a second document, and an anchor that holds
itself. A duplicate key is named beside all other faults, as the last of its values; the others end the
reading. Aliases work; what a document amounts to with all of them written out is bounded.

The document is built from the parser's events: the library's own composer recurses with the text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import yaml
from yaml import events

from tasker.errors import FieldError, TemplateInvalid
from tasker.events.codec import DEPTH_MAX, DIGITS_MAX
from tasker.templates.input_schema import pointer_of
from tasker.templates.model import TemplateSpec
from tasker.templates.reading import FAULTS_MAX, Faults
from tasker.templates.validate import validate

YAML_BYTES_MAX: Final = 512 * 1024
VALUES_MAX: Final = 100_000
"""Most values of a document, aliases written out."""

CHARS_MAX: Final = 1024 * 1024
"""Most characters of keys and text, aliases written out: more than a text without them can have."""

POINTER_CHARS_MAX: Final = 32 * 1024 * 1024
"""Most characters of the pointers of all values together: their lines are kept by them."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_integer = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_float = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_constants: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAG: Final = "tag:yaml.org,2002:"


def load_yaml(text: str) -> TemplateSpec:
    """Return the template that the YAML `text` spells.

    Raises:
        TemplateInvalid: it is no such YAML, or the template has faults; each names its line.
    """
    document, lines, faults = _read(text)
    return validate(document, lines=lines, found=faults)


def parse_yaml(text: str) -> tuple[Any, dict[str, int]]:
    """Return the document of `text`, and the line (from 1) of every value by its RFC 6901 pointer.

    Raises:
        TemplateInvalid: `text` is not the YAML that we take.
    """
    document, lines, faults = _read(text)
    Faults(found=faults).refuse()
    return document, lines


def _read(text: str) -> tuple[Any, dict[str, int], list[FieldError]]:
    """Return the document, the lines, and the faults in spite of which it could be read.

    Raises:
        TemplateInvalid: it could not.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        _refuse("the text has a lone surrogate", None)
    if size > YAML_BYTES_MAX:
        _refuse(f"{size} bytes are more than the {YAML_BYTES_MAX} allowed", None)
    try:
        return _Builder().build(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        detail = " ".join(part for part in (error.context, error.problem) if part)
        _refuse(f"not YAML: {detail}", None if mark is None else mark.line + 1)
    except yaml.YAMLError as error:
        _refuse(f"not YAML: {error}", None)


@dataclasses.dataclass(slots=True)
class _Open:
    """A list or object that is being read."""

    value: Any
    path: tuple[str | int, ...]
    anchor: str | None
    key: str | None = None
    size: int = 1
    chars: int = 0


class _Builder:
    def __init__(self) -> None:
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._lines: dict[str, int] = {}
        self._pointer_chars = 0
        self._document: Any = None
        self._documents = 0
        self._faults: list[FieldError] = []

    def build(self, parsed: Iterator[Any]) -> tuple[Any, dict[str, int], list[FieldError]]:
        for event in parsed:
            line = event.start_mark.line + 1
            match event:
                case events.DocumentStartEvent():
                    self._documents += 1
                    if self._documents > 1:
                        _refuse("a second document begins; a file holds one template", line)
                case events.MappingStartEvent() | events.SequenceStartEvent():
                    self._open(event, line)
                case events.MappingEndEvent() | events.SequenceEndEvent():
                    self._close(line)
                case events.ScalarEvent():
                    self._add_scalar(event, line)
                case events.AliasEvent():
                    self._add_alias(event.anchor or "", line)
                case _:
                    pass
        return self._document, self._lines, self._faults

    def _open(self, event: Any, line: int) -> None:
        is_object = isinstance(event, events.MappingStartEvent)
        if event.tag not in {None, "!", _TAG + ("map" if is_object else "seq")}:
            _refuse(f"the tag {event.tag!r} is not known", line)
        if len(self._stack) >= DEPTH_MAX:
            _refuse(f"nested deeper than {DEPTH_MAX}", line)
        if self._awaits_key():
            _refuse("a key must be text", line)
        path = self._next_path(line)
        self._forget(event.anchor)
        self._stack.append(_Open({} if is_object else [], path, event.anchor))

    def _close(self, line: int) -> None:
        done = self._stack.pop()
        if done.anchor is not None:
            self._anchors[done.anchor] = (done.value, done.size, done.chars)
        self._put(done.value, done.size, done.chars, line)

    def _add_scalar(self, event: Any, line: int) -> None:
        if self._awaits_key():
            self._add_key(event, line)
            return
        value = _scalar(event, line)
        self._forget(event.anchor)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1, len(event.value))
        self._next_path(line)
        self._put(value, 1, len(event.value), line)

    def _add_key(self, event: Any, line: int) -> None:
        top = self._stack[-1]
        if event.tag not in {None, "!", _TAG + "str"}:
            _refuse(f"the tag {event.tag!r} is not known", line)
        if event.value == "<<" and event.implicit[0]:
            _refuse("merge keys (<<) are not known; repeat the keys or use an alias for a whole value", line)
        if event.value in top.value and len(self._faults) < FAULTS_MAX:
            detail = f"line {line}: the key {event.value[:80]!r} stands twice in one object"
            self._faults.append(FieldError(pointer_of((*top.path, event.value)), detail))
        if event.anchor is not None:
            self._anchors[event.anchor] = (event.value, 1, len(event.value))
        top.key = event.value
        top.chars += len(event.value)

    def _add_alias(self, anchor: str, line: int) -> None:
        if anchor not in self._anchors:
            _refuse(f"the alias *{anchor[:80]} is inside its own anchor, or has none", line)
        if self._awaits_key():
            _refuse("a key must be text, not an alias", line)
        value, size, chars = self._anchors[anchor]
        self._next_path(line)
        self._put(value, size, chars, line)

    def _awaits_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None

    def _forget(self, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors.pop(anchor, None)

    def _next_path(self, line: int) -> tuple[str | int, ...]:
        """Return the path of the value that comes now, and note its line."""
        path: tuple[str | int, ...] = ()
        if self._stack:
            top = self._stack[-1]
            path = (*top.path, len(top.value) if top.key is None else top.key)
        pointer = pointer_of(path)
        self._pointer_chars += len(pointer)
        if self._pointer_chars > POINTER_CHARS_MAX:
            _refuse("the keys are too long, or nested too deep, for so many values", line)
        self._lines[pointer] = line
        return path

    def _put(self, value: Any, size: int, chars: int, line: int) -> None:
        if not self._stack:
            self._document = value
            return
        top = self._stack[-1]
        top.size += size
        if top.size > VALUES_MAX:
            _refuse(f"more than {VALUES_MAX} values, aliases written out", line)
        top.chars += chars
        if top.chars > CHARS_MAX:
            _refuse(f"more than {CHARS_MAX} characters, aliases written out", line)
        if top.key is None:
            top.value.append(value)
        else:
            top.value[top.key] = value
            top.key = None


def _scalar(event: Any, line: int) -> Any:
    text: str = event.value
    if event.tag in {"!", _TAG + "str"}:
        return text
    if event.tag is not None:
        _refuse(f"the tag {event.tag!r} is not known", line)
    if not event.implicit[0]:  # quoted or a block
        return text
    if text in _constants:
        return _constants[text]
    if _integer.fullmatch(text):
        if len(text) > DIGITS_MAX:
            _refuse(f"a number has more than {DIGITS_MAX} digits", line)
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _float.fullmatch(text):
        return float(text)
    return text


def _refuse(detail: str, line: int | None) -> NoReturn:
    place = detail if line is None else f"line {line}: {detail}"
    raise TemplateInvalid(place, errors=(FieldError("", place),))
