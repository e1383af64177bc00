"""Nothing in the tree names a package registry or a path of somebody's machine."""

import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, project_files

# Each pattern is put together here, so that this file does not contain what it forbids.
_HOSTS = [
    ("py" + "pi", "org"),
    ("files.python" + "hosted", "org"),
    ("npm" + "js", "org"),
    ("npm" + "js", "com"),
    ("cra" + "tes", "io"),
    ("proxy.gol" + "ang", "org"),
    ("docker" + "hub", "com"),
    ("hub.doc" + "ker", "com"),
    ("qu" + "ay", "io"),
    ("gh" + "cr", "io"),
]
_FOLDERS = ["ro" + "ot", "wo" + "rk", "op" + "t", "ho" + "me", "Us" + "ers", "tmp/" + "bash_jobs"]
FORBIDDEN = re.compile(
    "|".join(
        [
            *(re.escape(f"{name}.{zone}") for name, zone in _HOSTS),
            *(rf"(?<![\w.~$}}<>)*/-])/{folder}/[\w.]" for folder in _FOLDERS),
            r"file:/" + r"//",
            r"\.lib" + r"rary\b",
            r"--(extra-)?index" + r"-url[ =]\S",
            r"--find" + r"-links[ =]\S",
        ],
    ),
)


def test_no_registry_host_nor_machine_path_in_the_tree() -> None:
    found = []
    for path in project_files():
        text = path.read_bytes().decode(errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            if match := FORBIDDEN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "see https://py" + "pi.org/simple",
        'DATA = "/ro' + 'ot/x"',
        "cd /wo" + "rk/main",
        "in /op" + "t/wheels",
        "--index" + "-url x",
        "/ho" + "me/someone/x",
    ],
)
def test_the_check_finds_a_planted_one(text: str) -> None:
    assert FORBIDDEN.search(text)


@pytest.mark.parametrize(
    "text", ["PyPI's package", "docs/wo" + "rk/x", "tests/op" + "t/x", "framework/", "{path}/ho" + "me/a"]
)
def test_the_check_lets_plain_text_pass(text: str) -> None:
    assert not FORBIDDEN.search(text)


def test_files_are_found_without_git(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("x")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "c.pyc").write_text("x")
    assert project_files(tmp_path) == [tmp_path / "a" / "b.txt"]
