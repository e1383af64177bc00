"""The reference of the Python SDK, from signatures and docstrings: what `tasker` and `tasker.client` hand out."""  # noqa: INP001 - a folder of scripts

from __future__ import annotations

import importlib
import logging
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import griffe

ROOT: Final = Path(__file__).resolve().parents[1]
VOCABULARIES: Final = ("tasker", "tasker.client")
"""Modules whose `__all__` is the SDK; a name stands under the first that has it."""

_SUBJECTS: Final = ("Writing workflows", "Starting and following them")
_CODE_COLUMNS: Final = 100
_NAMES: Final = re.compile(r"^ +\w+(?:, \w+)+: ", re.MULTILINE)


def sdk_reference() -> str:
    """Return a section a vocabulary, a heading a name, its signature, and what its docstring says."""
    logging.getLogger("griffe").setLevel(logging.ERROR)  # style of docstrings is ruff's business
    package = griffe.load("tasker", search_paths=[ROOT], docstring_parser="google")
    seen: set[str] = set()
    parts = []
    for vocabulary, subject in zip(VOCABULARIES, _SUBJECTS, strict=True):
        module = importlib.import_module(vocabulary)
        parts.append(f"## {subject}: `from {vocabulary} import ...`")
        for name in sorted(set(module.__all__) - seen - {"__version__"}, key=str.lower):
            seen.add(name)
            thing = getattr(module, name)
            if not hasattr(thing, "__qualname__"):
                continue  # an alias of types
            found = package[f"{thing.__module__}.{thing.__qualname__}".removeprefix("tasker.")]
            parts += _class(name, found) if isinstance(found, griffe.Class) else _function(name, found, level=3)
    return "\n\n".join(parts)


def _class(name: str, found: griffe.Class) -> Iterator[str]:
    yield f"### `{name}`"
    made = found.members.get("__init__")
    if isinstance(made, griffe.Function):
        # Who reads only attributes is given one, and never makes it.
        if "Args:" in (found.docstring.value if found.docstring else ""):
            yield _code(_signature(name, made, returns=False))
    elif fields := _fields(name, found):
        yield _code(fields)
    yield from _docstring(found)
    for member in (*found.members.values(), *_inherited(found)):
        if member.name.startswith("_") or not member.docstring:
            continue
        if isinstance(member, griffe.Function):
            yield from _function(f"{name}.{member.name}", member, level=4)
        elif isinstance(member, griffe.Attribute) and "property" in member.labels:
            yield f"#### `{name}.{member.name}`"
            yield from _docstring(member)


def _inherited(found: griffe.Class) -> Iterator[griffe.Object]:
    """Yield what a class has from its bases, save the generated ones: their docstrings stand at the async client."""
    for member in found.inherited_members.values():
        assert isinstance(member, griffe.Alias)  # noqa: S101 - so griffe has what is inherited
        origin = member.final_target
        if origin.module.name != "sync_calls":
            yield origin


def _function(name: str, found: griffe.Object, *, level: int) -> Iterator[str]:
    assert isinstance(found, griffe.Function), f"{name} is neither class nor function"  # noqa: S101 - our own names
    yield f"{'#' * level} `{name}`"
    yield _code(_signature(name.rpartition(".")[2], found, returns=True))
    yield from _docstring(found)


def _signature(name: str, found: griffe.Function, *, returns: bool) -> str:
    lead = "async def " if "async" in found.labels else ("def " if returns else "")
    text = found.signature(return_type=returns, name=name)
    for bound in ("self, ", "self", "cls, ", "cls"):
        text = text.replace(f"{name}({bound}", f"{name}(", 1) if text.startswith(f"{name}({bound}") else text
    text = text.replace("(/, ", "(", 1)
    if len(lead + text) <= _CODE_COLUMNS:
        return lead + text
    inside, behind = _split(text[len(name) + 1 :])
    arguments = textwrap.indent(",\n".join(_arguments(inside)), "    ")
    return f"{lead}{name}(\n{arguments},\n){behind}"


def _split(text: str) -> tuple[str, str]:
    """Return what is inside the parentheses that end at depth 0, and what follows."""
    depth = 1
    for index, character in enumerate(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if depth == 0:
            return text[:index], text[index + 1 :]
    return text, ""


def _arguments(text: str) -> Iterator[str]:
    depth, begin = 0, 0
    for index, character in enumerate(text):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            yield text[begin:index].strip()
            begin = index + 1
    if text[begin:].strip():
        yield text[begin:].strip()


def _fields(name: str, found: griffe.Class) -> str:
    """Return how a struct or dataclass is made: its fields with types and defaults."""
    fields = [
        f"{member.name}: {member.annotation}" + (f" = {member.value}" if member.value is not None else "")
        for member in found.members.values()
        if isinstance(member, griffe.Attribute)
        and member.annotation is not None
        and not member.name.startswith("_")
        and "property" not in member.labels
    ]
    inside = textwrap.indent(",\n".join(fields), "    ")
    return f"{name}(\n{inside},\n)" if fields else ""


def _docstring(found: griffe.Object | griffe.Attribute) -> Iterator[str]:
    if found.docstring is None:
        return
    # Several names on one line: the parser takes a name without spaces.
    found.docstring.value = _NAMES.sub(lambda line: line[0].replace(", ", ","), found.docstring.value)
    for section in found.docstring.parse("google", warnings=False):
        if section.kind is griffe.DocstringSectionKind.text:
            yield section.value.strip()
        elif section.kind is griffe.DocstringSectionKind.raises:
            yield "Raises:"
            yield "\n".join(f"- {_named(item.annotation)}: {_line(item.description)}" for item in section.value)
        elif isinstance(section.value, list):
            yield "\n".join(f"- {_named(item.name)}: {_line(item.description)}" for item in section.value)


def _named(names: object) -> str:
    return ", ".join(f"`{name.strip()}`" for name in str(names).strip("()").split(","))


def _line(text: str) -> str:
    return " ".join(text.split())


def _code(text: str) -> str:
    return f"```python\n{text}\n```"
