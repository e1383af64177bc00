"""The settings as keys: the model read as a list, with a name for each place that may set one.

A key is named `part.key`, as in the TOML file; its variable is `TASKER_PART_KEY` unless its rule names another.
"""

from __future__ import annotations

import difflib
from functools import cache
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from tasker.settings.model import Settings

PREFIX: Final = "TASKER_"

CONFIG: Final = "TASKER_CONFIG"
"""Names the TOML file."""

OTHER_VARIABLES: Final = {
    CONFIG: "path of the TOML file, instead of `tasker.toml` in the working directory; `--config` on a command line",
    "TASKER_FAILPOINT": "kills a process of the service or of a worker at a named place, for tests of recovery",
    "TASKER_FAILPOINT_HIT": "names the file that says that the failpoint was hit",
    "TASKER_FAULT_ROUNDS": "rounds of `make faults`",
    "TASKER_SEED": "seed of `make faults`, to run a round again",
    "TASKER_PYTHON": "the Python of which `make setup` makes the environment",
}
"""Variables of ours that are no settings."""

_UNITS: Final = {
    "s": "seconds",
    "bytes": "bytes",
    "events": "events",
    "messages": "messages",
    "units": "units",
    "commands": "commands",
    "share": "share of 1",
}
_BOUNDS: Final = (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
_OTHER_NAMES: Final = {"max_tasks": "steps_max", "max_rss_mib": "rss_mib_max"}
_HIDDEN: Final = "***"
_SECRET_PARAMETERS: Final = frozenset({"password", "sslpassword", "token"})


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One setting.

    Attributes:
        name: `part.key`; without a part: for every command.
        variable: of the environment. flag: of a command, or "".
        type: to which a value is brought; its bounds stand in it.
        form: the type in words. unit: of the value, or "".
    """

    name: str
    variable: str
    flag: str
    type: Any
    form: str
    unit: str
    bounds: str
    default: Any
    doc: str
    secret: bool

    @property
    def part(self) -> str:
        """The part that the key belongs to, or ""."""
        return self.name.rpartition(".")[0]

    @property
    def is_list(self) -> bool:
        """Whether its value is several, separated by commas in a text."""
        return get_origin(_plain(self.type)) is tuple


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Some keys of one subject; `kind` is their struct."""

    name: str
    kind: type[msgspec.Struct]
    doc: str
    keys: tuple[Key, ...]


@cache
def parts() -> tuple[Part, ...]:
    """Return all keys by part, those of every command first, else in the model's order."""
    plain = []
    found = []
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        kind = hints[field.name]
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            inner = get_type_hints(kind, include_extras=True)
            keys = tuple(_key(field.name, one, inner[one.name]) for one in msgspec.structs.fields(kind))
            found.append(Part(name=field.name, kind=kind, doc=_doc(kind), keys=keys))
        else:
            plain.append(_key("", field, kind))
    return (Part(name="", kind=Settings, doc="For every command.", keys=tuple(plain)), *found)


@cache
def keys() -> dict[str, Key]:
    """Return all keys by name, in the model's order."""
    return {key.name: key for part in parts() for key in part.keys}


@cache
def variables() -> dict[str, Key]:
    """Return all keys by their variable."""
    return {key.variable: key for key in keys().values()}


def suggestion(wrong: str, names: list[str]) -> str:
    """Return `; did you mean X?` for the name that comes near, or is meant but in another part; else ""."""
    for other, key in _OTHER_NAMES.items():
        renamed = wrong.replace(other, key).replace(other.upper(), key.upper())
        if renamed != wrong and renamed in names:
            return f"; did you mean {renamed}?"
    last = wrong.rpartition(".")[2]
    moved = [name for name in names if name.rpartition(".")[2] == last]
    near = moved[:1] or difflib.get_close_matches(wrong, names, n=1, cutoff=0.75)
    return f"; did you mean {near[0]}?" if near else ""


def shown(key: Key, value: Any) -> Any:
    """Return the value as it may be shown: a secret without what is secret in it."""
    if not key.secret:
        return value
    if isinstance(value, str):
        return ",".join(_without_secret(one) for one in value.split(","))
    return value if value is None or isinstance(value, (bool, int, float)) else _HIDDEN


def _without_secret(text: str) -> str:
    if "://" not in text:  # what stands before a colon need not be a scheme
        return _HIDDEN
    url = urlsplit(text)
    user, at, host = url.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    if colon:
        user = f"{name}:{_HIDDEN}"
    elif user and not url.scheme.startswith("postgres"):
        # A user without a password is a token.
        user = _HIDDEN
    query = url.query
    parameters = parse_qsl(query, keep_blank_values=True)
    if any(name in _SECRET_PARAMETERS for name, _ in parameters):
        hidden = [(name, _HIDDEN if name in _SECRET_PARAMETERS else value) for name, value in parameters]
        query = urlencode(hidden, safe="/*")
    return url._replace(netloc=f"{user}{at}{host}", query=query).geturl()


def _key(part: str, field: msgspec.structs.FieldInfo, kind: Any) -> Key:
    kind = next(one for one in (kind, *get_args(kind)) if get_origin(one) is Annotated)
    rule = get_args(kind)[1]
    name = f"{part}.{field.name}" if part else field.name
    return Key(
        name=name,
        variable=rule.extra["env"] or PREFIX + name.replace(".", "_").upper(),
        flag=rule.extra["flag"],
        type=kind,
        form=_form(kind),
        unit=_unit(field.name),
        bounds=", ".join(f"{word} {bound}" for name, word in _BOUNDS if (bound := getattr(rule, name)) is not None),
        default=field.default,
        doc=rule.description,
        secret=rule.extra["secret"],
    )


def _plain(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _form(kind: Any) -> str:
    """Return a type in words."""
    kind = _plain(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    arguments = [one for one in get_args(kind) if one not in (type(None), Ellipsis)]
    if get_origin(kind) is tuple:
        return f"list of {_form(arguments[0])}"
    if arguments and all(isinstance(one, str) for one in arguments):
        return " | ".join(arguments)
    return _form(arguments[0])


_WORDS: Final[dict[Any, str]] = {str: "text", int: "integer", float: "number", bool: "true | false"}


def _unit(name: str) -> str:
    """Return the unit that a name carries."""
    return next((_UNITS[word] for word in reversed(name.split("_")) if word in _UNITS), "")


def _doc(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split())
