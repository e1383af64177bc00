"""Writes `tasker/client/sync_calls.py` from the async client: each of its calls, blocking.

A call of the sync client is the async one's, with the same arguments and docstring, run on the client's loop. A test
fails when the file is not what the async client says.

    python -m scripts.generate_sync_client
"""  # noqa: INP001 - a folder of scripts

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
CLIENT: Final = ROOT / "tasker" / "client"
PAGE: Final = CLIENT / "sync_calls.py"

FACADES: Final = {
    "client": {"TaskerClient": "SyncCalls"},
    "approvals": {"Approvals": "SyncApprovals"},
    "bulk": {"Bulks": "SyncBulks"},
    "controls": {"WorkControls": "SyncControls"},
    "dead_letters": {"DeadLetters": "SyncDeadLetters"},
    "schedules": {"Schedules": "SyncSchedules"},
}
"""Module of `tasker.client` -> its classes and what is made of each."""

BASES: Final = {"TaskerClient": (("service_reads", "ServiceReads"), ("task_operations", "TaskOperations"))}
"""Class -> the modules and the classes that it has more calls from."""

NO_CALLS: Final = frozenset({"close", "log_page"})
"""Async methods that are none of the facade's calls: it closes more than its client, and reads no log."""

_HEAD: Final = '''"""The calls of the async client, blocking; written by `python -m scripts.generate_sync_client`.

Each blocks until the async one is done on the client's loop; arguments, results and errors are its.
"""

from __future__ import annotations

from collections.abc import Iterator
'''
_FACADE: Final = '''
class {name}:
    """What `{source}` does, each call blocking."""

    def __init__(self, loop: LoopThread, calls: {source}) -> None:
        self._loop = loop
        self._calls = calls
'''


def render() -> str:
    """Return the file as the async client says now."""
    imports: set[str] = {"from tasker.client.loop_thread import LoopThread"}
    classes = []
    for module, facades in FACADES.items():
        origins, sources = _read(module)
        for source, name in facades.items():
            facade = _facade(sources[source], name)
            for base_module, base in BASES.get(source, ()):
                more, bases = _read(base_module)
                origins = more | origins
                facade.body += _calls(bases[base])
            classes.append(ast.unparse(facade))
            imports |= {origins[name] for name in sorted({source, *_names(facade)} & origins.keys())}
    return _formatted("\n".join([_HEAD, *sorted(imports), *classes]))


def _read(module: str) -> tuple[dict[str, str], dict[str, ast.ClassDef]]:
    """Return the import that brings each name of a module, and its classes."""
    tree = ast.parse((CLIENT / f"{module}.py").read_text(encoding="utf-8"))
    classes = {found.name: found for found in tree.body if isinstance(found, ast.ClassDef)}
    return _origins(tree, f"tasker.client.{module}"), classes


def _origins(tree: ast.Module, module: str) -> dict[str, str]:
    """Return the import that brings each name of a module."""
    origins: dict[str, str] = {}
    for statement in tree.body:
        match statement:
            case ast.ImportFrom(module=source, names=names):
                origins |= {one.asname or one.name: f"from {source} import {ast.unparse(one)}" for one in names}
            case ast.Import(names=names):
                origins |= {one.asname or one.name: f"import {ast.unparse(one)}" for one in names}
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                origins[name] = f"from {module} import {name}"
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                origins[name] = f"from {module} import {name}"
            case _:
                continue
    return origins


def _facade(source: ast.ClassDef, name: str) -> ast.ClassDef:
    """Return the blocking form of an async class."""
    (facade,) = ast.parse(_FACADE.format(name=name, source=source.name)).body
    assert isinstance(facade, ast.ClassDef)  # noqa: S101 - the text says so
    facade.body += _calls(source)
    return facade


def _calls(source: ast.ClassDef) -> list[ast.FunctionDef]:
    """Return the blocking form of each call of an async class."""
    return [
        _call(one)
        for one in source.body
        if isinstance(one, ast.AsyncFunctionDef) and not one.name.startswith("_") and one.name not in NO_CALLS
    ]


def _call(source: ast.AsyncFunctionDef) -> ast.FunctionDef:
    """Return the blocking form of an async method: it hands its arguments on."""
    told = source.args
    call = ast.Call(
        ast.parse(f"self._calls.{source.name}", mode="eval").body,
        [
            *(ast.Name(one.arg) for one in told.args[1:]),
            *([ast.Starred(ast.Name(told.vararg.arg))] if told.vararg else []),
        ],
        [
            *(ast.keyword(one.arg, ast.Name(one.arg)) for one in told.kwonlyargs),
            *([ast.keyword(value=ast.Name(told.kwarg.arg))] if told.kwarg else []),
        ],
    )
    returns = source.returns
    if isinstance(returns, ast.Subscript) and ast.unparse(returns.value) == "AsyncIterator":
        begin = f"lambda: {ast.unparse(call)}" if call.args or call.keywords else ast.unparse(call.func)
        body = f"return self._loop.iterate({begin})"
        returns = ast.Subscript(ast.Name("Iterator"), returns.slice)
    else:
        body = f"return self._loop.run({ast.unparse(call)})"
    docstring = source.body[0]  # as it stands: its lines are indented for the same place
    return ast.FunctionDef(source.name, told, [docstring, *ast.parse(body).body], [], returns, lineno=0)


def _names(facade: ast.ClassDef) -> Iterator[str]:
    """Yield the names that the signatures of a class use."""
    for one in facade.body:
        if isinstance(one, ast.FunctionDef):
            for part in (one.args, one.returns):
                yield from (name.id for name in ast.walk(part or ast.Pass()) if isinstance(name, ast.Name))


def _formatted(text: str) -> str:
    """Return Python as ruff writes it."""
    for verb in (("check", "--fix", "--select", "I"), ("format",)):
        ruff = [sys.executable, "-m", "ruff", *verb, "--quiet", "--stdin-filename", str(PAGE), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return text


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
