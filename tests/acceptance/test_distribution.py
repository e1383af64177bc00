"""The wheel and the sdist that a release uploads: built here, tried where nothing of the checkout is."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

APP = """
from tasker import Template

hello = Template("hello")


@hello.step
def greet(input: str) -> str:
    return f"Hello, {input}"
"""

IMPORTS = """
import importlib, pkgutil, sys, tasker, tasker.client
assert not tasker.__file__.startswith(sys.argv[1]), tasker.__file__
for module in (tasker, tasker.client):
    for name in module.__all__:
        getattr(module, name)
for found in pkgutil.walk_packages(tasker.__path__, "tasker."):
    if found.name.rpartition(".")[2] != "__main__":
        importlib.import_module(found.name)
print("all of it")
"""


class Built:
    def __init__(self, folder: Path) -> None:
        (self.wheel,) = folder.glob("*.whl")
        (self.sdist,) = folder.glob("*.tar.gz")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both, as `python -m build` makes them: the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Built(folder)


class Elsewhere:
    """A new environment with the wheel, outside of the checkout, that borrows the dependencies installed here."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        run([sys.executable, "-m", "venv", str(folder / "venv")], folder, dict(os.environ))
        programs = folder / "venv" / "bin"
        self.python = str(programs / "python")
        self._tasker = str(programs / "tasker")
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
        run([self.python, *pip, str(wheel)], folder, dict(os.environ))
        (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        # Behind its own packages. A .pth below such a path is not read, so the editable checkout stays out.
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKER_", "PYTHON"))}
        self.environ = kept | {"TASKER_DATA": str(folder / "data")}

    def tasker(self, *arguments: str) -> str:
        return run([self._tasker, *arguments], self.folder, self.environ)

    @contextmanager
    def up(self, app: Path) -> Iterator[None]:
        process = subprocess.Popen(
            [self._tasker, "up", str(app)],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline().startswith("export "), process.stderr.read()
            yield
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0


def run(command: list[str], folder: Path, environ: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def elsewhere(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    return Elsewhere(tmp_path_factory.mktemp("else where"), built.wheel)


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"tasker", "tasker_service"}
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tasker").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("tasker/")} == tracked
    assert {"LICENSE", "THIRD_PARTY.md"} <= {name.rpartition("/")[2] for name in names}


def test_the_sdist_is_enough_to_work_with(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = [
        "Makefile",
        "pyproject.toml",
        "requirements.lock",
        "zensical.toml",
        "tests/conftest.py",
        "deploy/Dockerfile",
    ]
    wanted += ["scripts/make-venv", "docs/index.md", "CONTRIBUTING.md", "LICENSE", "examples/hello.py"]
    assert [name for name in wanted if name not in names] == []
    assert [name for name in names if name.startswith((".venv", "build/", "data/"))] == []


def test_everything_can_be_imported(elsewhere: Elsewhere) -> None:
    said = run([elsewhere.python, "-c", IMPORTS, str(ROOT)], elsewhere.folder, elsewhere.environ)
    assert said == "all of it\n"


def test_it_runs_a_task(elsewhere: Elsewhere) -> None:
    assert elsewhere.tasker("--version").startswith("tasker ")
    app = elsewhere.folder / "app.py"
    app.write_text(APP)
    with elsewhere.up(app):
        result = elsewhere.tasker("task", "create", "hello", "--input", '"Ada"', "--wait", "30")
        assert json.loads(result) == "Hello, Ada"
