"""Showing, explaining and checking settings: `tasker config`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from tasker.cli.failures import CheckFailed
from tasker.cli.options import Format
from tasker.cli.output import Column, document, fields, line, note, rows
from tasker.cli.reach import effective, tell_warnings
from tasker.errors import TaskerError
from tasker.settings import SettingsInvalid, read_settings
from tasker.settings.keys import OTHER_VARIABLES, Key, keys, parts, shown, suggestion, variables
from tasker.settings.sources import find_file


class KeyUnknown(TaskerError):
    """There is no such setting."""

    code = "setting_unknown"
    status = 404
    exit_code = 3
    title = "There is no such setting"


class _Shown(msgspec.Struct, frozen=True):
    key: str
    value: Any
    source: str


class _Explained(msgspec.Struct, frozen=True):
    key: str
    doc: str
    value: Any
    source: str
    default: Any
    type: str
    unit: str
    bounds: str
    variable: str
    flag: str


class _Fault(msgspec.Struct, frozen=True):
    place: str
    fault: str


class _Checked(msgspec.Struct, frozen=True):
    ok: bool
    file: str | None
    faults: tuple[_Fault, ...]


_SHOWN: list[Column] = [
    ("key", lambda one: one.key),
    ("value", lambda one: as_text(one.value)),
    ("from", lambda one: one.source),
]
_FAULTS: list[Column] = [("place", lambda one: one.place), ("fault", lambda one: one.fault)]


def show_settings(part: str | None, *, data: Path | None, output: Format) -> None:
    """Print what holds; only of one part when that is named.

    Raises:
        KeyUnknown: there is no such part.
    """
    names = [one.name for one in parts() if one.name]
    if part is not None and part not in names:
        raise KeyUnknown(f"there is no part {part}{suggestion(part, names)}", remedy=f"the parts: {', '.join(names)}")
    found = effective(data)
    items = [
        _Shown(key.name, shown(key, found.value(key)), found.sources[key.name])
        for key in keys().values()
        if part in (None, key.part)
    ]
    rows(items, _SHOWN, output)
    note(f"file: {found.file or 'none'}")
    tell_warnings(found)


def explain_key(name: str, *, data: Path | None, output: Format) -> None:
    """Print everything about a key.

    Raises:
        KeyUnknown: there is no such key.
    """
    if name in OTHER_VARIABLES:
        what = {"variable": name, "doc": OTHER_VARIABLES[name]}
        fields(what, [("variable", name), ("what it does", OTHER_VARIABLES[name])], output)
        return
    key = variables().get(name.upper()) or keys().get(name.lower())
    if key is None:
        near = suggestion(name, [*keys(), *variables()])
        raise KeyUnknown(f"there is no setting {name}{near}", remedy="`tasker config show` lists them all")
    found = effective(data)
    explained = _Explained(
        key=key.name,
        doc=key.doc,
        value=shown(key, found.value(key)),
        source=found.sources[key.name],
        default=key.default,
        type=key.form,
        unit=key.unit,
        bounds=key.bounds,
        variable=key.variable,
        flag=key.flag,
    )
    if output != "table":
        document(explained, output)
        return
    line(key.doc)
    line("")
    pairs = [
        ("value", as_text(explained.value)),
        ("set by", explained.source),
        ("default", as_text(key.default)),
        ("type", ", ".join(text for text in (key.form, key.unit, key.bounds) if text)),
        ("file", _in_file(key)),
        ("environment", key.variable),
        ("option", key.flag or None),
    ]
    fields(explained, pairs, "table")


def validate_settings(file: Path | None, *, output: Format) -> None:
    """Print every fault.

    Raises:
        CheckFailed: there is one.
    """
    path = file or find_file(os.environ)
    try:
        found = read_settings({} if file else os.environ, file=file)
    except SettingsInvalid as error:
        faults = tuple(_Fault(one.pointer, one.detail) for one in error.errors)
    else:
        faults = ()
        tell_warnings(found)
    if output == "table":
        rows(faults, _FAULTS, output)
    else:
        document(_Checked(not faults, None if path is None else str(path), faults), output)
    if faults:
        raise CheckFailed(
            f"{len(faults)} faults in the settings" if len(faults) > 1 else "a fault in the settings",
            remedy="`tasker config explain KEY` says what a key takes",
        )
    note(f"no fault in {path or 'the environment; there is no tasker.toml here'}")


def as_text(value: Any) -> str:
    """Return a value as a table shows it, and as the environment would say it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) and abs(value) < _PLAIN_MAX else str(value)


_PLAIN_MAX = 1e6


def _in_file(key: Key) -> str:
    name = key.name.rpartition(".")[2]
    return f"[{key.part}] {name}" if key.part else name
