"""Writes deploy/runtime.lock and deploy/build.lock: the parts of requirements.lock that an image needs.

`runtime` is what the service needs, with the extra `credentials`, `build` what makes its wheel. Both are entries of
requirements.lock, chosen by walking the requirements of the installed distributions; no network is asked. A test fails
when one is stale.

    python scripts/generate_deploy_locks.py
"""  # noqa: INP001 - a folder of scripts

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"\bextra\s*==")


def locks(root: Path = ROOT) -> dict[Path, str]:
    """Return the text of each lock by its path."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    entries = _entries((root / "requirements.lock").read_text(encoding="utf-8"))
    of_project = project["project"]
    runtime = [*of_project["dependencies"], *of_project["optional-dependencies"]["credentials"]]
    wanted = {"runtime": runtime, "build": project["build-system"]["requires"]}
    return {
        root / "deploy" / f"{name}.lock": "".join(
            text for package, text in entries if package in _closure(requirements)
        )
        for name, requirements in wanted.items()
    }


def _closure(requirements: list[str]) -> set[str]:
    """Return the names of all that is needed, extras left out; what another platform needs is kept, with its marker."""
    found: set[str] = set()
    waiting = [_name(requirement) for requirement in requirements]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform or Python: the lock's entry has the marker
        waiting += [_name(one) for one in needed if not _EXTRA.search(one)]
    return found


def _entries(lock: str) -> list[tuple[str, str]]:
    """Return the entries of a lock in order, each with the name of its package."""
    texts = re.findall(r"^[A-Za-z0-9].*\n(?:    .*\n)*", lock, re.MULTILINE)
    return [(_name(text), text) for text in texts]


def _name(requirement: str) -> str:
    match = _NAME.match(requirement)
    assert match is not None, f"no name in {requirement!r}"  # noqa: S101 - both files are our own
    return re.sub(r"[._-]+", "-", match[0]).lower()


def main() -> int:
    """Write both locks."""
    for path, text in locks().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
