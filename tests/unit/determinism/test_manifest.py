"""Every guarantee of `docs/explanation/determinism.md` has a test that exists and is never skipped."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT
from tests.unit.determinism import guarantees
from tests.unit.determinism.guarantees import HELD, MAY_NOT_BE_SKIPPED, RACES

PAGE = ROOT / "docs" / "explanation" / "determinism.md"
TEST = re.compile(r"\[`(?P<name>test_\w+)`\]\((?P<target>[^)]+)\)")
BULLET = re.compile(r"^- .*?(?=^- |\Z)", re.MULTILINE | re.DOTALL)
MAY_SKIP = re.compile(r"\b(skip|skipif|xfail|importorskip|whole)\b")

SECTIONS = {"Guarantees": HELD, "Races": RACES}


def section(title: str) -> str:
    return PAGE.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]


def faults_of(name: str, file: Path) -> list[str]:
    """Return why a test does not hold its guarantee."""
    if not file.is_file():
        return [f"{file} is missing"]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    if len(found) != 1:
        return [f"{name} is {len(found)} times in {file}"]
    # Marks of the module or a class count as well as the test's own.
    around = [
        node for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node.targets[0])
    ]
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and found[0] in node.body]
    marks = [*(ast.unparse(one) for one in around), *(ast.unparse(d) for c in classes for d in c.decorator_list)]
    marks += [ast.unparse(one) for one in found[0].decorator_list]
    called = [ast.unparse(one.func) for one in ast.walk(found[0]) if isinstance(one, ast.Call)]
    if MAY_SKIP.search(" ".join([*marks, *called])):
        return [f"{name} may be skipped"]
    return []


@pytest.mark.parametrize("title", SECTIONS)
def test_the_page_names_every_guarantee_and_nothing_else(title: str) -> None:
    assert {link["name"] for link in TEST.finditer(section(title))} == SECTIONS[title]
    assert all(TEST.search(bullet[0]) for bullet in BULLET.finditer(section(title)))


@pytest.mark.parametrize(
    ("title", "name"), [(title, name) for title, names in SECTIONS.items() for name in sorted(names)]
)
def test_a_guarantee_is_held_by_a_test_that_runs(title: str, name: str) -> None:
    [target] = {link["target"] for link in TEST.finditer(section(title)) if link["name"] == name}
    assert faults_of(name, (PAGE.parent / target).resolve()) == []


def test_a_missing_and_a_skipped_test_are_found(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    assert faults_of("test_one", file)
    file.write_text("def test_two(): ...\n")
    assert faults_of("test_one", file)
    file.write_text("@pytest.mark.skip\ndef test_one(): ...\n")
    assert faults_of("test_one", file)
    file.write_text("def test_one():\n    pytest.skip()\n")
    assert faults_of("test_one", file)
    file.write_text("pytestmark = pytest.mark.skipif(True)\ndef test_one(): ...\n")
    assert faults_of("test_one", file)
    file.write_text("def test_one(): ...\n")
    assert faults_of("test_one", file) == []


SKIPPED_BY = {
    "a mark": "@pytest.mark.skipif(True, reason='no')\ndef {name}(): ...\n",
    "a fixture": "@pytest.fixture\ndef server():\n    pytest.skip('no')\n\n\ndef {name}(server): ...\n",
    "a module": "pytest.importorskip('no_such_module')\n\n\ndef {name}(): ...\n",
    "a failure": "@pytest.mark.xfail\ndef {name}():\n    raise AssertionError\n",
}


@pytest.mark.parametrize("by", [*SKIPPED_BY, None])
def test_a_run_that_skips_a_guarantee_fails(tmp_path: Path, by: str | None) -> None:
    body = "def {name}(): ...\n" if by is None else SKIPPED_BY[by]
    file = tmp_path / "test_some.py"
    file.write_text("import pytest\n\n\n" + body.format(name=min(HELD)))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        guarantees.__name__,
        "-c",
        "pytest.ini",
        "--rootdir",
        str(tmp_path),
        "test_some.py",
    ]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode == 0) == (by is None), run.stdout
    assert (MAY_NOT_BE_SKIPPED in run.stdout) == (by is not None), run.stdout
