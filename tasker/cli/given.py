"""What a person gives a command as text: JSON, tags, names; and who the person is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TypeVar

from tasker.cli.failures import UsageError
from tasker.events.codec import decode_value
from tasker.ids import fault_of_tag

Named = TypeVar("Named", str, str | None)


def read_json(text: str) -> object:
    """Return the JSON value that `text` is, or that the file behind `@` or stdin (`-`) holds.

    Raises:
        BodyInvalid, ValueInvalid: it is none that can be kept. UsageError: the file cannot be read.
    """
    if text == "-":
        return decode_value(sys.stdin.buffer.read())
    if not text.startswith("@"):
        return decode_value(text.encode(errors="surrogateescape"))
    try:
        return decode_value(Path(text[1:]).read_bytes())
    except OSError as error:
        raise UsageError(f"{text[1:]}: {error.strerror}") from error


def read_text(file: Path) -> str:
    """Return the text of a file, or of stdin (`-`).

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not UTF-8 at byte {error.start}") from error


def read_object(text: str, option: str) -> dict[str, Any]:
    """Return the JSON object that the value of an option is, as `read_json` does.

    Raises:
        UsageError: it is no object.
    """
    value = read_json(text)
    if not isinstance(value, dict):
        raise UsageError(f"{option} takes a JSON object, not {text[:40]!r}")
    return value


def read_tags(pairs: list[str] | None) -> dict[str, str]:
    """Return the tags that `KEY=VALUE` texts spell.

    Raises:
        UsageError: one has no "=", no key, or too many characters.
    """
    tags = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"a tag is KEY=VALUE, not {pair!r}")
        if (fault := fault_of_tag(key, value)) is not None:
            raise UsageError(fault)
        tags[key] = value
    return tags


def place_of(name: Named, namespace: str | None) -> tuple[Named, str | None]:
    """Return name and namespace of NAME or NAMESPACE/NAME, as lists show it, beside the value of `--namespace`.

    Raises:
        UsageError: the name has another namespace than `--namespace`.
    """
    within, slash, bare = (name or "").partition("/")
    if not slash:
        return name, namespace
    if namespace not in (None, within):
        raise UsageError(f"{name!r} is not in the namespace {namespace!r}: leave out one of them")
    return bare, within


def named_place(name: str, namespace: str | None) -> tuple[str, str]:
    """Return name and namespace of the one thing that NAME or NAMESPACE/NAME names, as `place_of` does; else `default`.

    Raises:
        UsageError: as `place_of`.
    """
    bare, within = place_of(name, namespace)
    return bare, "default" if within is None else within


def asked_by(requested_by: str | None) -> str:
    """Return who asks: `requested_by`, else the user of this process.

    Raises:
        UsageError: the system knows none.
    """
    if requested_by:
        return requested_by
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise UsageError("say who asks with --requested-by: the system names no user") from error
