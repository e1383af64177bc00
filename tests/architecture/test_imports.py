"""What the package imports it declares: the environment that tests run in has more than that of a user."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions

from tests.architecture.tree import ROOT

OPTIONAL = {"nkeys", "pydantic", "pytest", "watchfiles"}
"""Imported only where a user has them: for models of his, by his tests, with the extras `credentials` and `reload`."""


def imported(source: str) -> set[str]:
    """Return the top names of what a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def undeclared(names: Iterable[str]) -> set[str]:
    """Return those of `names` that neither Python nor a declared dependency brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=!~;\[ ]", one, maxsplit=1)[0].lower() for one in project["dependencies"]}
    brought_by = packages_distributions()
    return {
        name
        for name in set(names) - sys.stdlib_module_names - OPTIONAL - {"tasker"}
        if declared.isdisjoint(one.lower().replace("_", "-") for one in brought_by.get(name, ()))
    }


def test_whatever_the_package_imports_is_a_declared_dependency() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tasker").rglob("*.py")]
    assert undeclared(name for source in sources for name in imported(source)) == set()


def test_what_only_the_tests_have_is_found() -> None:
    source = "import os\nif 1:\n    from psutil import Process\nimport nats.errors, yaml\nfrom . import x\n"
    assert undeclared(imported(source)) == {"psutil"}
