"""Adapters and drivers are named only where parts are put together.

An adapter is a module with `postgres` or `nats` in its name; `tasker.embedded` starts servers and is none.
The rule goes by name, so that a new adapter stands under it from its first line.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import modules

ADAPTER = re.compile(r"^tasker\.(?!embedded\b).*(postgres|nats)")
COMPOSERS = ("tasker.service.compose", "tasker.cli")
# Who else may name an adapter, and which: (importer, adapter).
ALSO = (
    ("tasker.replay", "tasker.events.postgres_log"),
    ("tasker.replay", "tasker.projections.postgres_store"),
    ("tasker.doctor", "tasker.doctor"),
    ("tasker.doctor", "tasker.events.postgres_log"),
    ("tasker.doctor", "tasker.events.postgres_schema"),
    ("tasker.doctor", "tasker.bus.nats_bus"),
    ("tasker.handlers", "tasker.bus.nats_bus"),
    ("tasker.client", "tasker.bus.nats_bus"),
    ("tasker.handlers", "tasker.handlers.nats_worker"),
    ("tasker.testing", "tasker.bus.nats_bus"),
    ("tasker.testing", "tasker.testing.postgres_databases"),
)
DRIVERS = {"asyncpg": "postgres", "nats": "nats"}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(path: Path, names: set[str]) -> Iterator[str]:
    """Yield the full name of every module that the file imports, late imports included."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (member if member in names else node.module for member in members)


def may_name(importer: str, adapter: str) -> bool:
    if any(within(importer, composer) for composer in COMPOSERS) or ADAPTER.match(importer):
        return True
    return any(within(importer, who) and within(adapter, what) for who, what in ALSO)


def test_only_composition_roots_name_adapters() -> None:
    names = {name for name, _ in modules()}
    found = [
        f"{name} imports {imported}"
        for name, path in modules()
        for imported in imports(path, names)
        if ADAPTER.match(imported) and not may_name(name, imported)
    ]
    assert found == []


def test_only_adapters_name_drivers() -> None:
    names = {name for name, _ in modules()}
    found = [
        f"{name} imports {imported}"
        for name, path in modules()
        for imported in imports(path, names)
        for driver, word in DRIVERS.items()
        if within(imported, driver) and not (ADAPTER.match(name) and word in name)
    ]
    assert found == []
