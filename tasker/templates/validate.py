"""A document becomes a `TemplateSpec`, or every one of its faults is named at once.

A key must do something: one that would have no effect beside the others is a fault, since whoever
wrote it expects otherwise. So `factor` belongs to exponential backoff only, no other key of `retry`
stands beside `max_attempts: 1`, and a `heartbeat_s` that is written but not shorter than
`start_to_close_s` is refused (the default may be longer: a short step simply never gets to it).

In a DAG where a step waits for all its parents, a step cannot be reached when it is in a cycle or
behind one; a step behind an unknown parent is not told twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar, cast, get_args

import msgspec

from tasker.errors import FieldError, NameInvalid, TemplateInvalid
from tasker.events import codec
from tasker.ids import check_name
from tasker.templates import model
from tasker.templates.graph import cycles, topological
from tasker.templates.hash import VERSION_PATTERN
from tasker.templates.input_schema import pointer_of, schema_faults
from tasker.templates.model import UNUSED_RETRY_KEYS, Retry, StepSpec, TemplateSpec

T = TypeVar("T")

Path = tuple[str | int, ...]
Lines = Mapping[str, int]
"""The line, counted from 1, on which the value at an RFC 6901 pointer begins."""

FAULTS_MAX: Final = 100
"""Most faults that are named; more are counted."""

_COMPARED_MAX: Final = 1_000  # names compared for suggestions; a long name costs up to half a millisecond each
_QUOTED_CHARS_MAX: Final = 60
_CYCLE_STEPS_MAX: Final = 20


def validate(document: object, *, lines: Lines | None = None) -> TemplateSpec:
    """Return the spec that `document` spells, defaults filled in.

    Args:
        document: what JSON or YAML gave. Anything at all may be given.
        lines: where the document came from a text; then each fault names its line.

    Raises:
        TemplateInvalid: it has faults; `errors` has all of them.
    """
    faults = Faults(lines)
    spec = _template(document, faults)
    faults.refuse()
    return spec


class Faults:
    """The faults found so far, in the order they were found."""

    def __init__(self, lines: Lines | None = None, found: Iterable[FieldError] = ()) -> None:
        self._lines = lines or {}
        self._found = list(found)
        self._more = 0
        self._compared = 0

    def add(self, path: Path, detail: str) -> None:
        """Note that the value at `path` has a fault."""
        if len(self._found) >= FAULTS_MAX:
            self._more += 1
            return
        line = self._line_of(path)
        self._found.append(FieldError(pointer_of(path), detail if line is None else f"line {line}: {detail}"))

    def add_unknown(self, path: Path, what: str, name: object, known: Iterable[str]) -> None:
        """Note that `name` is no known `what`, with the one that was probably meant."""
        self.add(path, f"unknown {what} {_quoted(name)}{self._suggestion(name, known)}")

    def refuse(self) -> None:
        """Return when there is no fault.

        Raises:
            TemplateInvalid: there is one.
        """
        if not self._found:
            return
        first = self._found[0]
        count = len(self._found) + self._more
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

    def _suggestion(self, name: object, known: Iterable[str]) -> str:
        if not isinstance(name, str) or self._compared >= _COMPARED_MAX:
            return ""
        candidates = list(known)
        self._compared += len(candidates)
        return did_you_mean(name, candidates)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" with the closest of `known`, or "" when none is close."""
    close = difflib.get_close_matches(name[:_QUOTED_CHARS_MAX], list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class _Object:
    """An object of the document, read key by key; a key that no one asks for is a fault.

    Each reader returns the default when the value is missing or faulty: the faults are kept aside.
    """

    def __init__(self, value: object, path: Path, what: str, keys: tuple[str, ...], faults: Faults) -> None:
        self.path = path
        self.faults = faults
        self._values: dict[Any, Any] = {}
        if not isinstance(value, dict):
            faults.add(path, f"{what} must be an object, not {_kind(value)}")
            return
        self._values = value
        for key in value:
            if key not in keys:
                faults.add_unknown((*path, str(key)), "key", key, keys)

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def fault(self, key: str, detail: str) -> None:
        self.faults.add((*self.path, key), detail)

    def name(self, key: str, *, default: str | None = None, required: bool = False) -> str | None:
        value = self.get(key)
        if value is None:
            if required:
                self.faults.add(self.path, f"{key!r} is missing")
            return default
        if not isinstance(value, str):
            self.fault(key, f"must be a name, not {_kind(value)}")
            return default
        try:
            return check_name(value, key)
        except NameInvalid as error:
            self.fault(key, error.detail)
            return default

    def choice(self, key: str, kind: Any, default: str) -> str:
        value = self.get(key)
        known = get_args(kind)
        if value is None:
            return default
        if isinstance(value, str) and value in known:
            return value
        wanted = ", ".join(known)
        hint = did_you_mean(value, known) if isinstance(value, str) else ""
        self.fault(key, f"must be one of {wanted}, not {_quoted(value)}{hint}")
        return default

    def number(self, key: str, default: float, *, low: float, high: float, above: bool = False) -> float:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fault(key, f"must be a number, not {_kind(value)}")
            return default
        if not low <= value <= high or (above and value == low):
            self.fault(
                key, f"must be {'above' if above else 'at least'} {low:g} and at most {high:g}, not {_quoted(value)}"
            )
            return default
        return float(value)

    def seconds(self, key: str, default: float) -> float:
        return self.number(key, default, low=0, high=model.SECONDS_MAX, above=True)

    def optional_seconds(self, key: str) -> float | None:
        return self.seconds(key, 1.0) if key in self else None

    def whole(self, key: str, default: int, *, low: int, high: int) -> int:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.fault(key, f"must be a whole number, not {_kind(value)}")
            return default
        if not low <= value <= high:
            self.fault(key, f"must be at least {low} and at most {high}, not {_quoted(value)}")
            return default
        return value

    def items(self, key: str, what: str, *, at_most: int, read: Callable[[Path, object], T | None]) -> tuple[T, ...]:
        """Return what `read` made of each item; None: the item had a fault."""
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            self.fault(key, f"must be a list of {what}, not {_kind(value)}")
            return ()
        if len(value) > at_most:
            self.fault(key, f"{len(value)} {what} are more than the {at_most} allowed")
            return ()
        found = (read((*self.path, key, index), item) for index, item in enumerate(value))
        return tuple(item for item in found if item is not None)


def _template(document: object, faults: Faults) -> TemplateSpec:
    read = _Object(document, (), "a template", TemplateSpec.__struct_fields__, faults)
    name = read.name("name", required=True) if isinstance(document, dict) else None
    version = _version(read)
    input_schema = _input_schema(read)
    steps = read.items("steps", "steps", at_most=model.STEPS_MAX, read=lambda path, item: _step(path, item, faults))
    if isinstance(document, dict) and not document.get("steps"):
        faults.add(("steps",) if "steps" in document else (), "a template needs at least one step")
    _check_steps(read, faults)
    identity = cast("model.Identity", read.choice("identity", model.Identity, "key"))
    if "identity_bucket_s" in read and identity != "strict":
        read.fault("identity_bucket_s", "does nothing without identity 'strict'")
    return TemplateSpec(
        name=name or "",
        namespace=read.name("namespace") or "default",
        version=version,
        input_schema=input_schema,
        steps=steps,
        queue=read.name("queue"),
        timeout_s=read.optional_seconds("timeout_s"),
        on_failure=cast("model.OnFailure", read.choice("on_failure", model.OnFailure, "block")),
        result=_result(read, faults),
        identity=identity,
        identity_bucket_s=read.optional_seconds("identity_bucket_s"),
    )


def _version(read: _Object) -> str | None:
    value = read.get("version")
    if value is None:
        return None
    if not isinstance(value, str):
        read.fault("version", f"must be text such as '1.0.0', not {_kind(value)}; put it in quotes")
        return None
    if len(value) > model.VERSION_CHARS_MAX or VERSION_PATTERN.fullmatch(value) is None:
        read.fault("version", f"must be a semantic version such as '1.0.0', not {_quoted(value)}")
        return None
    return value


def _input_schema(read: _Object) -> dict[str, Any] | None:
    value = read.get("input_schema")
    if value is None:
        return None
    if not isinstance(value, dict):
        read.fault("input_schema", f"must be a JSON Schema object, not {_kind(value)}")
        return None
    found = schema_faults(value)
    for fault in found:
        inner = [part.replace("~1", "/").replace("~0", "~") for part in fault.pointer.split("/")[1:]]
        read.faults.add((*read.path, "input_schema", *inner), f"not a usable JSON Schema: {fault.detail}")
    if found:
        return None
    schema: dict[str, Any] = codec.decode_value(codec.encode_value(value))
    return schema


def _result(read: _Object, faults: Faults) -> str | None:
    result = read.name("result")
    known = [name for _, name, _ in _outlines(read)]
    if result is not None and result not in known:
        faults.add_unknown(("result",), "step", result, known)
        return None
    return result


def _step(path: Path, value: object, faults: Faults) -> StepSpec | None:
    read = _Object(value, path, "a step", StepSpec.__struct_fields__, faults)
    if not isinstance(value, dict):
        return None
    name = read.name("name", required=True)
    start_to_close_s = read.seconds("start_to_close_s", 30.0)
    heartbeat_s = read.seconds("heartbeat_s", 10.0)
    if "heartbeat_s" in read and heartbeat_s >= start_to_close_s:
        read.fault(
            "heartbeat_s",
            f"does nothing: the attempt is over after {start_to_close_s:g} s (start_to_close_s), "
            f"before {heartbeat_s:g} s of silence",
        )
    step = StepSpec(
        name=name or "",
        handler=read.name("handler") or name or "",
        after=read.items("after", "steps", at_most=model.STEPS_MAX, read=lambda at, item: _text(at, item, faults)),
        queue=read.name("queue"),
        retry=_retry(read, faults),
        start_to_close_s=start_to_close_s,
        schedule_to_start_s=read.optional_seconds("schedule_to_start_s"),
        heartbeat_s=heartbeat_s,
    )
    return step if name is not None else None


def _retry(step: _Object, faults: Faults) -> Retry:
    default = Retry()
    if "retry" not in step:
        return default
    read = _Object(step.get("retry"), (*step.path, "retry"), "retry", Retry.__struct_fields__, faults)
    backoff = cast("model.Backoff", read.choice("backoff", model.Backoff, default.backoff))
    retry = Retry(
        max_attempts=read.whole("max_attempts", default.max_attempts, low=1, high=model.ATTEMPTS_MAX),
        backoff=backoff,
        delay_s=read.seconds("delay_s", default.delay_s),
        factor=read.number("factor", default.factor, low=1, high=model.FACTOR_MAX),
        delay_s_max=read.seconds("delay_s_max", default.delay_s_max),
        jitter=read.number("jitter", default.jitter, low=0, high=1),
        non_retryable=read.items(
            "non_retryable",
            "error types",
            at_most=model.ERROR_TYPES_MAX,
            read=lambda path, item: _error_type(path, item, faults),
        ),
    )
    unused = [key for key in Retry.__struct_fields__ if key in read]
    if retry.max_attempts == 1 and "max_attempts" in read:
        for key in unused:
            if key != "max_attempts":
                read.fault(key, "does nothing beside max_attempts 1, which never retries")
        return retry
    for key in unused:
        if key in UNUSED_RETRY_KEYS[backoff]:
            read.fault(key, f"does nothing with backoff {backoff!r}")
    grows = "delay_s_max" not in UNUSED_RETRY_KEYS[backoff]
    if grows and retry.delay_s > retry.delay_s_max:
        key = "delay_s_max" if "delay_s_max" in read else "delay_s"
        read.fault(
            key, f"delay_s {retry.delay_s:g} is above delay_s_max {retry.delay_s_max:g}, so that no wait would be it"
        )
    if backoff == "constant":
        return msgspec.structs.replace(retry, delay_s_max=max(default.delay_s_max, retry.delay_s))
    return retry


def _text(path: Path, value: object, faults: Faults) -> str | None:
    if isinstance(value, str):
        return value
    faults.add(path, f"must be the name of a step, not {_kind(value)}")
    return None


def _error_type(path: Path, value: object, faults: Faults) -> str | None:
    if not isinstance(value, str) or not value:
        faults.add(path, f"must be the name of an error type, not {_kind(value) if value != '' else 'empty'}")
        return None
    if len(value) > model.ERROR_TYPE_CHARS_MAX or not value.isprintable():
        faults.add(path, f"must be at most {model.ERROR_TYPE_CHARS_MAX} printable characters")
        return None
    return value


def _outlines(read: _Object) -> list[tuple[int, str, list[tuple[int, str]]]]:
    """Return (index, name, parents) of each step that has a name, right or wrong in other ways."""
    steps = read.get("steps")
    if not isinstance(steps, (list, tuple)) or len(steps) > model.STEPS_MAX:
        return []
    found = []
    for index, step in enumerate(steps):
        if isinstance(step, dict) and isinstance(step.get("name"), str):
            after = step.get("after")
            parents = list(enumerate(after)) if isinstance(after, (list, tuple)) else []
            found.append((index, step["name"], [(at, name) for at, name in parents if isinstance(name, str)]))
    return found


def _check_steps(read: _Object, faults: Faults) -> None:
    """Note what is wrong with the steps together: names, parents, cycles."""
    outlines = _outlines(read)
    edges = sum(len(after) for _, _, after in outlines)
    if edges > model.EDGES_MAX:
        faults.add(("steps",), f"{edges} dependencies are more than the {model.EDGES_MAX} allowed")
        return
    first: dict[str, int] = {}
    parents: dict[str, list[str]] = {}
    for index, name, _ in outlines:
        if name in first:
            faults.add(("steps", index, "name"), f"duplicate step {_quoted(name)}: it is also step {first[name] + 1}")
        else:
            first[name] = index
            parents[name] = []
    for index, name, after in outlines:
        if first[name] != index:
            continue
        for at, parent in after:
            path = ("steps", index, "after", at)
            if parent not in first:
                faults.add_unknown(path, "step", parent, (known for known in first if known != name))
            elif parent in parents[name]:
                faults.add(path, f"{_quoted(parent)} stands twice in one list")
            else:
                parents[name].append(parent)
    _check_reach(first, parents, faults)


def _check_reach(index: dict[str, int], parents: dict[str, list[str]], faults: Faults) -> None:
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, after in parents.items():
        for parent in after:
            children[parent].append(name)
    stuck = dict.fromkeys(parents)
    for name in topological(parents, children):
        del stuck[name]
    if not stuck:
        return
    knots = cycles({name: [parent for parent in parents[name] if parent in stuck] for name in stuck})
    told: set[str] = set()
    for cycle in knots:
        told.update(cycle)
        shown = [*cycle[:_CYCLE_STEPS_MAX], *(["..."] if len(cycle) > _CYCLE_STEPS_MAX else []), cycle[0]]
        faults.add(("steps", index[cycle[0]], "after"), f"cycle: {' -> '.join(name[:63] for name in shown)}")
    for name in stuck:
        if name not in told:
            behind = next(parent for parent in parents[name] if parent in stuck)
            faults.add(
                ("steps", index[name], "after"),
                f"step {_quoted(name)} can never start: it waits for {_quoted(behind)}, which is in or behind a cycle",
            )


def _quoted(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:  # noqa: PLR2004 - about 60 digits
        return "a number of very many digits"
    text = repr(value if not isinstance(value, str) else value[:_QUOTED_CHARS_MAX])
    return text if len(text) <= 2 * _QUOTED_CHARS_MAX else text[: 2 * _QUOTED_CHARS_MAX] + "..."


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {_quoted(value)}"
        case str():
            return f"the text {_quoted(value)}"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"
