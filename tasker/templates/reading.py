"""A document is read key by key, and every fault is kept with its place.

`Faults` keeps them; `ObjectReader` reads one object: each reader returns the default when the value is missing or
faulty, and a key that no one asks for is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar, get_args

from tasker.errors import ExpressionInvalid, FieldError, NameInvalid, TemplateInvalid
from tasker.events import codec
from tasker.ids import check_name
from tasker.suggestions import did_you_mean
from tasker.templates import model
from tasker.templates.expressions import compile_expression
from tasker.templates.input_schema import pointer_of, schema_faults

T = TypeVar("T")

Path = tuple[str | int, ...]
Lines = Mapping[str, int]
"""The line, counted from 1, on which the value at an RFC 6901 pointer begins."""

FAULTS_MAX: Final = 100
"""Most faults that are named; more are counted."""

VARIABLES_OF_STEP: Final = frozenset({"input", "results", "state", "task"})
"""What an expression of a step reads."""

VARIABLES_OF_ITEM: Final = VARIABLES_OF_STEP | {"item", "index"}
VARIABLES_OF_SIGNAL: Final = VARIABLES_OF_ITEM | {"signal"}
VARIABLES_OF_EVENT: Final = VARIABLES_OF_ITEM | {"event"}

_COMPARED_MAX: Final = 1_000  # names compared for suggestions; a long name costs up to half a millisecond each
_QUOTED_CHARS_MAX: Final = 60


class Faults:
    """The faults found so far, in the order they were found."""

    def __init__(self, lines: Lines | None = None, found: Iterable[FieldError] = ()) -> None:
        self._lines = lines or {}
        self._found = list(found)
        self._more = 0
        self._compared = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._found) + self._more

    def add(self, path: Path, detail: str) -> None:
        """Note that the value at `path` has a fault."""
        if len(self._found) >= FAULTS_MAX:
            self._more += 1
            return
        line = self._line_of(path)
        self._found.append(FieldError(pointer_of(path), detail if line is None else f"line {line}: {detail}"))

    def add_unknown(
        self,
        path: Path,
        what: str,
        name: object,
        known: Iterable[str],
        other_names: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Note that `name` is no known `what`, with the one that was probably meant; as `did_you_mean` takes them."""
        self.add(path, f"unknown {what} {quoted(name)}{self._suggestion(name, known, other_names)}")

    def refuse(self) -> None:
        """Return when there is no fault.

        Raises:
            TemplateInvalid: there is one.
        """
        if not self._found:
            return
        first = self._found[0]
        count = self.count
        more = f" (and {count - 1} more)" if count > 1 else ""
        if self._more:
            self._found.append(FieldError("", f"{self._more} more faults are not listed"))
        raise TemplateInvalid(f"{first.pointer or 'the template'}: {first.detail}{more}", errors=tuple(self._found))

    def _line_of(self, path: Path) -> int | None:
        for length in range(len(path), -1, -1):
            line = self._lines.get(pointer_of(path[:length]))
            if line is not None:
                return line
        return None

    def _suggestion(self, name: object, known: Iterable[str], other_names: Mapping[str, tuple[str, ...]] | None) -> str:
        if not isinstance(name, str) or self._compared >= _COMPARED_MAX:
            return ""
        candidates = list(known)
        self._compared += len(candidates)
        return did_you_mean(name, candidates, other_names)


_SAID_OF_PEOPLE: Final = ("role", "assignee", "approvers")

OTHER_STEP_NAMES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys((*(set(model.Approval.__struct_fields__) - {"title", "form"}), *_SAID_OF_PEOPLE), ("approval",)),
    "timeout": ("start_to_close_s", "wait_deadline_s"),
    "timeout_s": ("start_to_close_s", "wait_deadline_s"),
    "retries": ("retry",),
    "depends_on": ("after",),
    "needs": ("after",),
    "parents": ("after",),
    "when_after": ("after_when",),
    "seconds": ("delay_s",),
    "matching": ("signal_when", "event_when"),
    "take": ("signal_take",),
    "count": ("signal_count", "join_count"),
    "wait": ("child_wait",),
}
"""What people call keys of a step that are spelled too differently to be found by that."""


class ObjectReader:
    """An object of the document, read key by key; a key that no one asks for is a fault.

    Each reader returns the default when the value is missing or faulty: the faults are kept aside.
    """

    def __init__(
        self,
        value: object,
        path: Path,
        what: str,
        keys: tuple[str, ...],
        faults: Faults,
        *,
        other_names: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.path = path
        self.faults = faults
        self._values: dict[Any, Any] = {}
        if not isinstance(value, dict):
            faults.add(path, f"{what} must be an object, not {kind_of(value)}")
            return
        self._values = value
        for key in value:
            if key not in keys:
                faults.add_unknown((*path, str(key)), "key", key, keys, other_names)

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def get(self, key: str) -> Any:
        """Return the value of a key; None when it is missing or null."""
        return self._values.get(key)

    def fault(self, key: str, detail: str) -> None:
        """Note that the value of a key has a fault."""
        self.faults.add((*self.path, key), detail)

    def name(self, key: str, *, required: bool = False) -> str | None:
        """Return a name."""
        value = self.get(key)
        if value is None:
            if required:
                self.faults.add(self.path, f"{key!r} is missing")
            return None
        if not isinstance(value, str):
            self.fault(key, f"must be a name, not {kind_of(value)}")
            return None
        try:
            return check_name(value, key)
        except NameInvalid as error:
            self.fault(key, error.detail)
            return None

    def choice(self, key: str, kind: Any, default: str) -> str:
        """Return one of the texts that a `Literal` allows."""
        value = self.get(key)
        known = get_args(kind)
        if value is None:
            return default
        if isinstance(value, str) and value in known:
            return value
        wanted = ", ".join(known)
        hint = did_you_mean(value, known) if isinstance(value, str) else ""
        self.fault(key, f"must be one of {wanted}, not {quoted(value)}{hint}")
        return default

    def number(self, key: str, default: float, *, low: float, high: float, above: bool = False) -> float:
        """Return a number within bounds."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fault(key, f"must be a number, not {kind_of(value)}")
            return default
        if not low <= value <= high or (above and value == low):
            self.fault(
                key, f"must be {'above' if above else 'at least'} {low:g} and at most {high:g}, not {quoted(value)}"
            )
            return default
        return float(value)

    def seconds(self, key: str, default: float) -> float:
        """Return a duration."""
        return self.number(key, default, low=0, high=model.SECONDS_MAX, above=True)

    def optional_seconds(self, key: str) -> float | None:
        """Return a duration, or None."""
        return self.seconds(key, 1.0) if key in self else None

    def told_seconds(self, key: str) -> float | None:
        """Return a duration that is read, and its faults noted, elsewhere; None: it is missing or has one."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return float(value) if 0 < value <= model.SECONDS_MAX else None

    def whole(self, key: str, default: int, *, low: int, high: int) -> int:
        """Return a whole number within bounds."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.fault(key, f"must be a whole number, not {kind_of(value)}")
            return default
        if not low <= value <= high:
            self.fault(key, f"must be at least {low} and at most {high}, not {quoted(value)}")
            return default
        return value

    def optional_whole(self, key: str, *, high: int) -> int | None:
        """Return a whole number from 1 on, or None."""
        return self.whole(key, 1, low=1, high=high) if key in self else None

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self.get(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.fault(key, f"must be true or false, not {kind_of(value)}")
        return default

    def expression(self, key: str, *, variables: frozenset[str] = VARIABLES_OF_STEP) -> str | None:
        """Return an expression that can be compiled, or None."""
        return self.checked_expression((*self.path, key), self.get(key), variables=variables)

    def checked_expression(
        self, path: Path, value: object, *, variables: frozenset[str] = VARIABLES_OF_STEP
    ) -> str | None:
        """Return `value`, an expression that stands at `path`; None when it is none."""
        if value is None:
            return None
        if not isinstance(value, str):
            self.faults.add(path, f"must be an expression, as text, not {kind_of(value)}")
            return None
        if len(value) > model.EXPRESSION_CHARS_MAX:
            self.faults.add(path, f"is longer than the {model.EXPRESSION_CHARS_MAX} characters of an expression")
            return None
        try:
            compile_expression(value, variables=variables)
        except ExpressionInvalid as error:
            self.faults.add(path, f"no usable expression: {error.detail}")
            return None
        return value

    def schema(self, key: str) -> dict[str, Any] | None:
        """Return a JSON Schema that can be used, or None."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.fault(key, f"must be a JSON Schema object, not {kind_of(value)}")
            return None
        found = schema_faults(value)
        for fault in found:
            inner = [part.replace("~1", "/").replace("~0", "~") for part in fault.pointer.split("/")[1:]]
            self.faults.add((*self.path, key, *inner), f"not a usable JSON Schema: {fault.detail}")
        if found:
            return None
        schema: dict[str, Any] = codec.decode_value(codec.encode_value(value))
        return schema

    def items(self, key: str, what: str, *, at_most: int, read: Callable[[Path, object], T | None]) -> tuple[T, ...]:
        """Return what `read` made of each item; None: the item had a fault."""
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            self.fault(key, f"must be a list of {what}, not {kind_of(value)}")
            return ()
        if len(value) > at_most:
            self.fault(key, f"{len(value)} {what} are more than the {at_most} allowed")
            return ()
        found = (read((*self.path, key, index), item) for index, item in enumerate(value))
        return tuple(item for item in found if item is not None)


def quoted(value: object) -> str:
    """Return a value as a fault shows it, shortened."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:  # noqa: PLR2004 - about 60 digits
        return "a number of very many digits"
    text = repr(value if not isinstance(value, str) else value[:_QUOTED_CHARS_MAX])
    return text if len(text) <= 2 * _QUOTED_CHARS_MAX else text[: 2 * _QUOTED_CHARS_MAX] + "..."


def kind_of(value: object) -> str:
    """Return in words what a value is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {quoted(value)}"
        case str():
            return f"the text {quoted(value)}"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case type():
            return f"the class {value.__name__}"
        case _:
            return f"a {type(value).__name__}"
