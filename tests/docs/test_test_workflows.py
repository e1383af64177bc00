"""The page on testing workflows: its files are written as it shows them, and its tests pass."""

import re
import subprocess
import sys
from pathlib import Path

from tests.servers import SharedCluster

PAGE = Path(__file__).resolve().parents[2] / "docs/howto/test-workflows.md"
BLOCK = re.compile(r"<!-- file: (?P<file>[\w.]+) -->\n```python\n(?P<code>.*?)```", re.DOTALL)

ASYNC = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")

CONFTEST = """
import pytest
from tasker.testing.servers import Servers


@pytest.fixture(scope="session")
def tasker_servers():
    return Servers({database_url!r}, {nats_url!r})
"""


def test_the_tests_of_the_page_pass(tmp_path: Path, cluster: SharedCluster) -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python"), "a block of the page names no file"
    for block in blocks:
        with (tmp_path / block["file"]).open("a", encoding="utf-8") as file:
            file.write(block["code"] + "\n\n")
    servers = cluster.addresses()
    conftest = CONFTEST.format(database_url=servers.database_url, nats_url=servers.nats_url)
    (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *ASYNC, "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert f"{text.count('def test_')} passed" in done.stdout, done.stdout[-2000:]
