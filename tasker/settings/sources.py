"""Where settings come from: defaults < a running stack < TOML file < environment < flags.

Everything is read once, and every fault is told at once. An unknown key of the file is refused: it would do
nothing. An unknown `TASKER_*` variable is only warned of, as it need not be meant for us: Kubernetes, for one,
gives every container `<NAME>_SERVICE_HOST` and `<NAME>_PORT_...` for each Service beside it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tasker.errors import ConfigurationError, FieldError
from tasker.settings.keys import CONFIG, OTHER_VARIABLES, PREFIX, Key, keys, parts, shown, suggestion, variables
from tasker.settings.model import Settings, contradictions

FILE_NAME: Final = "tasker.toml"
DEFAULT: Final = "default"


class SettingsInvalid(ConfigurationError):
    """Settings are unknown, do not fit, or contradict each other; `errors` has them all."""

    code = "settings_invalid"
    title = "The settings have faults"


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """What holds, and since when.

    Attributes:
        sources: key -> where it is set: "default", "environment TASKER_...", the path of a file, a flag.
        file: the file that was read, or None.
        warnings: what is odd and changes nothing.
    """

    settings: Settings
    sources: dict[str, str]
    file: str | None = None
    warnings: tuple[str, ...] = ()

    def value(self, key: Key) -> Any:
        """Return the value of a key."""
        part = getattr(self.settings, key.part) if key.part else self.settings
        return getattr(part, key.name.rpartition(".")[2])

    def is_set(self, name: str) -> bool:
        """Return whether anything but the default says it."""
        return self.sources[name] != DEFAULT


class _Layer(msgspec.Struct, frozen=True):
    """What one source sets: key -> (value, where). `exact`: values have their types, else they are texts."""

    values: dict[str, tuple[Any, str]]
    exact: bool


def read_settings(
    environ: Mapping[str, str] = os.environ,
    *,
    flags: Mapping[str, Any] | None = None,
    stack: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Effective:
    """Return the settings that hold.

    Args:
        environ: the environment; an empty variable is none.
        flags: key -> value, of the options that were given; None: not given.
        stack: variables of a running stack, for what nothing else names.
        file: the TOML file, instead of what `TASKER_CONFIG` or the working directory names.

    Raises:
        SettingsInvalid: with every fault.
    """
    faults: list[FieldError] = []
    path = file or find_file(environ)
    of_file = _Layer({}, exact=True) if path is None else _read_file(path, faults)
    of_environment, warnings = _read_environment(environ)
    named = {variables()[name].name: (value, "the stack that runs here") for name, value in (stack or {}).items()}
    given = {name: (value, keys()[name].flag or "--data") for name, value in (flags or {}).items() if value is not None}
    layers = (_Layer(named, exact=False), of_file, of_environment, _Layer(given, exact=False))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, key in keys().items():
        values[name], sources[name] = key.default, DEFAULT
        for layer in layers:
            if name in layer.values:
                value, where = layer.values[name]
                converted = _convert(key, value, where, exact=layer.exact, faults=faults)
                if converted is not _FAULTY:
                    values[name], sources[name] = converted, where
    settings = _build(values, sources, faults)
    if faults:
        raise SettingsInvalid(
            f"{len(faults)} of the settings cannot be used" if len(faults) > 1 else "a setting cannot be used",
            errors=tuple(faults),
            remedy="`tasker config explain KEY` says what a key takes",
        )
    return Effective(settings=settings, sources=sources, file=None if path is None else str(path), warnings=warnings)


def find_file(environ: Mapping[str, str]) -> Path | None:
    """Return the TOML file that the environment names, else the one of the working directory, if there is one."""
    if named := environ.get(CONFIG):
        return Path(named)
    here = Path(FILE_NAME)
    return here if here.is_file() else None


def _read_file(path: Path, faults: list[FieldError]) -> _Layer:
    import tomllib

    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        faults.append(FieldError(str(path), f"cannot be read: {error.strerror}"))
        return _Layer({}, exact=True)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(FieldError(str(path), f"is no TOML: {error}"))
        return _Layer({}, exact=True)
    values: dict[str, tuple[Any, str]] = {}
    tables = {part.name for part in parts() if part.name}
    for name, value in document.items():
        if name in tables and not isinstance(value, dict):
            faults.append(FieldError(f"{path}: {name}", f"is a part: write [{name}] and its keys below"))
            continue
        if name not in tables and isinstance(value, dict):
            hint = suggestion(name, sorted(tables))
            faults.append(FieldError(f"{path}: [{name}]", f"there is no such part{hint}"))
            continue
        flat = {f"{name}.{inner}": one for inner, one in value.items()} if name in tables else {name: value}
        for key, one in flat.items():
            if key in keys():
                values[key] = (one, str(path))
            else:
                faults.append(FieldError(f"{path}: {key}", f"there is no such key{suggestion(key, list(keys()))}"))
    return _Layer(values, exact=True)


def _read_environment(environ: Mapping[str, str]) -> tuple[_Layer, tuple[str, ...]]:
    known = variables()
    values = {key.name: (environ[name], f"environment {name}") for name, key in known.items() if environ.get(name)}
    warnings = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and environ[name] and name not in known and name not in OTHER_VARIABLES:
            hint = suggestion(name, [*known, *OTHER_VARIABLES])
            warnings.append(f"{name} is set in the environment and does nothing{hint}")
    return _Layer(values, exact=False), tuple(warnings)


_FAULTY: Final = object()


def _convert(key: Key, value: Any, where: str, *, exact: bool, faults: list[FieldError]) -> Any:
    if not exact and key.is_list and isinstance(value, str):
        value = [item.strip() for item in value.split(",") if item.strip()]
    try:
        converted = msgspec.convert(value, key.type, strict=exact)
    except msgspec.ValidationError as error:
        text = str(error).replace("`str`", "a text").replace("`int`", "an integer").replace("`float`", "a number")
        if key.form not in {"text", "integer", "number"}:
            text = f"{text} ({key.form})"
        told = shown(key, value)
        faults.append(FieldError(_place(key, where), f"{told!r}: {text[:1].lower()}{text[1:]}"))
        return _FAULTY
    if isinstance(converted, float) and not math.isfinite(converted):
        faults.append(FieldError(_place(key, where), f"{value!r}: expected a number that is finite"))
        return _FAULTY
    return converted


def _place(key: Key, where: str) -> str:
    """Return where a person looks to change a value."""
    if where.startswith(("environment ", "-")):
        return where.removeprefix("environment ")
    return f"{where}: {key.name}"


def _build(values: dict[str, Any], sources: dict[str, str], faults: list[FieldError]) -> Settings:
    """Return the settings, after a look at what contradicts what."""
    of_parts: dict[str, Any] = {}
    for part in parts():
        given = {key.name.rpartition(".")[2]: values[key.name] for key in part.keys}
        of_parts |= {part.name: part.kind(**given)} if part.name else given
    settings = Settings(**of_parts)
    for name, why in contradictions(settings):
        faults.append(FieldError(_place(keys()[name], sources[name]), why))
    return settings
