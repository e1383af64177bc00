"""The containers under a real engine, started by the blocks of their own page, in a project of their own."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.tree import ROOT, project_files
from tests.docs.pages import blocks_of


def engine() -> bool:
    asked = (["docker", "info"], ["docker", "compose", "version"])
    return all(
        shutil.which(argv[0]) and not subprocess.run(argv, capture_output=True, check=False).returncode
        for argv in asked
    )


TRIED = "TASKER_DEPLOY_TRY" in os.environ

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not TRIED, reason="runs in `make deploy-try`"),
    pytest.mark.skipif(
        TRIED and not engine(), reason="the containers were NOT started: no Docker with compose answers"
    ),
]

APP = """
import asyncio
from tasker import Template

hello = Template("hello")

@hello.step
async def compose(input: dict[str, str]) -> str:
    await asyncio.sleep(float(input.get("pause_s", 0)))
    return "Hello, " + input["name"]

@hello.step(process=True)
def shout(compose: str) -> str:
    return compose.upper()
"""


class Checkout:
    """A copy of the project, and its containers; not those of a project `tasker` that may run here for its own sake."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environ = os.environ | {"COMPOSE_PROJECT_NAME": f"tasker-deploy-try-{os.getpid()}", "EDITOR": "true"}

    def run(self, script: str) -> str:
        done = subprocess.run(
            ["sh", "-euc", script],  # noqa: S607 where it is
            cwd=self.folder,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def compose(self, command: str) -> str:
        return self.run(f"docker compose -f deploy/compose.yaml {command}")

    def tasker(self, command: str) -> str:
        return self.compose(f"exec -T service tasker {command}")

    def container(self, service: str) -> dict[str, Any]:
        (found,) = json.loads(
            self.run(f"docker inspect $(docker compose -f deploy/compose.yaml ps --all --quiet {service})")
        )
        return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A checkout in which somebody has followed the page."""
    folder = tmp_path_factory.mktemp("checkout")
    for file in project_files():
        place = folder / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    (folder / "examples" / "hello.py").write_text(APP, encoding="utf-8")
    for path in folder.parent, folder, folder / "examples":
        path.chmod(0o755)  # the image's user reads it
    start = next(block.text for block in blocks_of(ROOT / "docs/howto/deploy-containers.md") if block.language == "sh")
    checkout = Checkout(folder)
    try:
        checkout.run(start)
        yield checkout
    finally:
        checkout.compose("down --volumes --timeout 40")


def test_a_task_goes_all_the_way_and_the_log_is_sound(checkout: Checkout) -> None:
    assert checkout.tasker("""task create hello --input '{"name": "Ada"}' --wait 60""").strip() == '"HELLO, ADA"'
    assert "findings  0" in checkout.tasker("log verify")
    assert checkout.container("migrate")["State"]["ExitCode"] == 0


def test_ours_have_no_rights(checkout: Checkout) -> None:
    status = checkout.compose("exec -T service cat /proc/1/status")
    assert "NoNewPrivs:\t1" in status
    assert "CapBnd:\t0000000000000000" in status
    assert "Uid:\t10001\t" in status
    checkout.compose("exec -T service sh -c '! touch /srv/x 2>/dev/null && touch /tmp/x'")


def test_stopping_drains_and_ends_with_nothing_wrong(checkout: Checkout) -> None:
    task = checkout.tasker(
        """task create hello --input '{"name": "Bob", "pause_s": "3"}' --idempotency-key drained -o json"""
    )
    checkout.compose("stop worker service")
    assert [checkout.container(name)["State"]["ExitCode"] for name in ("worker", "service")] == [0, 0]
    checkout.compose("up --detach --wait --no-build")
    again = checkout.tasker(
        """task create hello --input '{"name": "Bob", "pause_s": "3"}' --idempotency-key drained --wait 60"""
    )
    assert again.strip() == '"HELLO, BOB"', task


def test_what_a_crashed_process_leaves_behind_is_reaped(checkout: Checkout) -> None:
    checkout.tasker("""task create hello --input '{"name": "Eve"}' --wait 60""")
    # Its supervisor holds no user code; this is the process that does.
    kill = "import os, glob; [os.kill(int(p.split('/')[2]), 9) for p in glob.glob('/proc/[0-9]*/cmdline') "
    kill += "if b'\\0--child' in open(p, 'rb').read()]"
    checkout.compose(f'exec -T worker python -c "{kill}"')
    assert checkout.tasker("""task create hello --input '{"name": "Joe"}' --wait 60""").strip() == '"HELLO, JOE"'
    states = checkout.compose("exec -T worker sh -c 'cat /proc/[0-9]*/stat'")
    assert [line for line in states.splitlines() if ") Z " in line] == []
