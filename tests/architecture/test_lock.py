"""`requirements.lock` pins names, versions and hashes, and knows no address."""

import re
import tomllib

from tests.architecture.tree import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
_ENTRY = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^\s;]+)(?P<marker> ;[^\\]+)?")


def entries() -> dict[str, str]:
    """Return the text of each pinned package by its name."""
    joined = re.sub(r"\\\n\s*", "", LOCK)
    found = {}
    for line in joined.splitlines():
        match = _ENTRY.match(line)
        assert match, f"not a pinned package: {line[:80]}"
        found[match["name"]] = line
    return found


def test_every_package_has_hashes() -> None:
    assert [name for name, line in entries().items() if "--hash=sha256:" not in line] == []


def test_no_address_and_no_option_in_the_lock() -> None:
    assert not re.search(r"https?:|file:|git\+|ssh:| @ ", LOCK)
    assert not re.search(r"^-", LOCK, re.MULTILINE)


def test_every_dependency_of_the_project_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
        *project["dependency-groups"]["dev"],
    ]
    names = {re.split(r"[<>=!~;\[ ]", one, maxsplit=1)[0].lower() for one in wanted}
    assert names <= entries().keys()


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    reasons = (ROOT / "docs/decisions/dependencies.md").read_text()
    wanted = [
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
        *project["dependency-groups"]["dev"],
    ]
    names = [re.split(r"[<>=!~;\[ ]", one, maxsplit=1)[0].lower() for one in wanted]
    assert [name for name in names if f"| {name} |" not in reasons] == []
