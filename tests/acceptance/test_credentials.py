"""A password that a server refuses: each command says so at once, with the next step and an exit code of its own."""

import asyncio
from pathlib import Path

import pytest

from tasker.errors import AuthenticationFailed
from tests.acceptance.conftest import ROOT, Service
from tests.servers import SharedCluster


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--http-port", "0"],
        ["worker", str(ROOT / "examples" / "hello.py")],
        ["task", "create", "hello", "--input", "{}"],
    ],
    ids=lambda arguments: arguments[0],
)
async def test_a_wrong_password_of_nats(
    cluster: SharedCluster, database: str, tmp_path: Path, arguments: list[str]
) -> None:
    right = cluster.addresses().nats_url
    service = Service(database_url=database, nats_url=right.replace("@", "wrong@"), nats_prefix="t", folder=tmp_path)
    done = await asyncio.to_thread(service.run, *arguments)
    assert done.returncode == AuthenticationFailed.exit_code == 4, done.stderr
    assert f"({AuthenticationFailed.code})\nnext: mend user, password or credentials" in done.stderr
    assert "Traceback" not in done.stderr
