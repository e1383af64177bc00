"""What the README shows works when it is copied."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import ROOT, Service, running_service
from tests.servers import SharedCluster

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
WAYS_IN = README[README.index("## Four ways in") :]


@pytest.fixture(scope="module")
def hello(cluster: SharedCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a worker for hello.py, and one completed task."""
    with (
        running_service(cluster, tmp_path_factory.mktemp("service")) as service,
        service.worker(ROOT / "examples" / "hello.py"),
    ):
        done = service.create_when_registered("hello", {"name": "Ada"})
        assert done.state == "completed"
        yield service


def blocks(kind: str) -> list[str]:
    return [found["text"] for found in BLOCK.finditer(WAYS_IN) if found["kind"] == kind]


def test_the_workflow_shown_is_the_example() -> None:
    shown = README[README.index("<!-- examples/hello.py -->") :]
    found = BLOCK.search(shown)
    assert found is not None
    assert found["text"] == (ROOT / "examples" / "hello.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [pytest.param(text, id=text.splitlines()[0][:40]) for text in blocks("python")])
def test_a_python_block_runs(hello: Service, text: str, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(text.replace('"tasker.default.', f'"{hello.nats_prefix}.default.'))
    done = subprocess.run(
        [sys.executable, str(script)],
        env=hello.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"ok":true' in done.stdout or "tasker.task_completed.v1" in done.stdout


@pytest.mark.parametrize("text", [pytest.param(text, id=text.splitlines()[0][:40]) for text in blocks("sh")])
def test_a_shell_block_runs(hello: Service, text: str, tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    done = subprocess.run(
        ["sh", "-euc", text],  # noqa: S607 where its user has it
        env=hello.environ | {"PATH": f"{programs}:{hello.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "task" in done.stdout
    assert '"code"' not in done.stdout
