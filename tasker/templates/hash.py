"""The content of a template: its canonical bytes, their hash, and the version that stands for it.

The bytes are the blob that is stored, and tasks run by them for ever. So every default is written out:
a later build may choose other defaults without changing what an old blob says. A field that comes later
is left out at its default (else the content of every template would change under its version), and that
default is then for ever. The version is not part of the content.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tasker.events import codec
from tasker.templates.model import LATER_KEYS, TemplateSpec, defaults_of

VERSION_PATTERN: Final = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
)
"""A semantic version. Source: semver.org, "Is there a suggested regular expression"."""

HASH_VERSION_PREFIX: Final = "sha-"
"""Leads a version that stands for a content; never a semantic version, so the two cannot collide."""

_HASH_VERSION_CHARS: Final = 12


def canonical_bytes(spec: TemplateSpec) -> bytes:
    """Return the content of `spec`, as it is stored."""
    return codec.canonical(content_of(spec))


def content_of(spec: TemplateSpec) -> dict[str, Any]:
    """Return the content as builtins: every key but the version, defaults written out."""
    normal = msgspec.convert(msgspec.to_builtins(spec), TemplateSpec)  # a whole number where a float belongs
    content: dict[str, Any] = msgspec.to_builtins(normal)
    del content["version"]
    _leave_out_later(normal, content)
    for step, kept in zip(normal.steps, content["steps"], strict=True):
        _leave_out_later(step, kept)
    return content


def _leave_out_later(form: msgspec.Struct, content: dict[str, Any]) -> None:
    for name, default in defaults_of(type(form)).items():
        if name in LATER_KEYS and getattr(form, name) == default:
            del content[name]


def content_hash(spec: TemplateSpec) -> str:
    """Return the sha256 of the content, in lower-case hex."""
    return codec.hash_of(canonical_bytes(spec))


def from_canonical(blob: bytes) -> TemplateSpec:
    """Return the spec that a stored `blob` holds; its version is None.

    Raises:
        Undecodable: the blob has keys or values that this build does not know.
    """
    return codec.decode_message(blob, TemplateSpec)


def effective_version(spec: TemplateSpec) -> str:
    """Return the explicit version, or the one that stands for the content."""
    return spec.version or hash_version(content_hash(spec))


def hash_version(content_hash: str) -> str:
    """Return the version of a content without an explicit one."""
    return HASH_VERSION_PREFIX + content_hash[:_HASH_VERSION_CHARS]
