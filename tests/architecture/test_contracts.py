"""The import contracts cover every module: a stray package or module fails."""

import re
import tomllib
from typing import Any

from tests.architecture.tree import ROOT, modules


def contracts() -> list[dict[str, Any]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return project["tool"]["importlinter"]["contracts"]


def named_in(contract: dict[str, Any]) -> set[str]:
    """Return the modules that a contract of layers names, without their container."""
    return {name for layer in contract["layers"] for name in re.findall(r"\w+", layer)}


def test_every_top_module_stands_in_a_layer() -> None:
    layered = next(one for one in contracts() if one["id"] == "layers")
    tops = {name.split(".")[1] for name, _ in modules() if "." in name}
    assert tops - named_in(layered) == set()


def test_every_part_of_the_service_stands_in_a_layer() -> None:
    layered = next(one for one in contracts() if one["id"] == "service-layers")
    parts = {name.split(".")[2] for name, _ in modules() if name.startswith("tasker.service.")}
    assert parts - named_in(layered) == set()


def test_layers_are_exhaustive() -> None:
    layered = [one for one in contracts() if one["type"] == "layers"]
    assert all(one["exhaustive"] for one in layered)


def test_every_folder_of_modules_is_a_package() -> None:
    bare = {path.parent for _, path in modules() if not (path.parent / "__init__.py").exists()}
    assert {str(folder.relative_to(ROOT)) for folder in bare} == set()


def test_every_view_stands_apart() -> None:
    apart = set(next(one for one in contracts() if one["id"] == "views")["modules"])
    views = {
        name
        for name, path in modules()
        if name.startswith("tasker.projections.views.")
        and re.search(r"^class \w+Projection:", path.read_text(), re.MULTILINE)
    }
    assert views == apart
