"""The pytest plugin, in a pytest of its own: found by its entry point, and quiet where nobody asks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ASKS = """
import pytest
from tasker import Template

hello = Template("hello")

@hello.step
async def greet(input: str) -> str:
    return f"Hello, {input}!"

@pytest.mark.tasker(hello, seed=3)
def test_marked(sync_tasker):
    assert sync_tasker.seed == 3
    assert sync_tasker.run("Ada").result == "Hello, Ada!"

def test_says_no_template(sync_tasker):
    pass

@pytest.mark.tasker(hello)
def test_is_not_async(tasker):
    pass
"""

ASKS_NOT = """
import sys

def test_alone():
    assert [name for name in sys.modules if name.startswith("tasker.")] == [
        "tasker.version", "tasker.testing", "tasker.testing.pytest_plugin"
    ]
"""


def run_pytest(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a test module in a pytest with no other plugin than ours."""
    (folder / "test_it.py").write_text(code)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--strict-markers",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            "test_it.py",
        ],
        cwd=folder,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "tasker.testing.pytest_plugin",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_test_asks_for_the_kit_by_name(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, ASKS).stdout
    assert "1 passed, 2 errors" in said, said
    assert "say" in said
    assert "mark it @pytest.mark.tasker(my_template)" in said
    assert "use sync_tasker" in said


def test_a_test_that_does_not_ask_pays_nothing(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, ASKS_NOT)
    assert done.returncode == 0, done.stdout


def test_the_plugin_is_registered_for_every_pytest(pytestconfig) -> None:
    assert pytestconfig.pluginmanager.has_plugin("tasker")
