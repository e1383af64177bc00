"""The units under a real systemd, installed and started by the blocks of their own page."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasker.embedded._binaries import find_nats
from tests.architecture.tree import ROOT
from tests.deploy.machine import Machine, missing
from tests.docs.pages import blocks_of

pytestmark = [
    pytest.mark.linux,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif("TASKER_DEPLOY_TRY" not in os.environ, reason="runs in `make deploy-try`"),
    pytest.mark.skipif(missing() != "", reason=f"the units were NOT started: this machine lacks {missing()}"),
]

BEGUN = "/var/lib/tasker-worker/shop/begun"
APP = """
import asyncio, os, pathlib
from tasker import Template

shop = Template("shop")

@shop.step
async def pack(input: float) -> str:
    pathlib.Path(os.environ["STATE_DIRECTORY"], "begun").touch()
    await asyncio.sleep(input)
    return "packed"

@shop.step(process=True)
def send(pack: str) -> str:
    return pack + " and sent"
"""
TASKER = "set -a; . /etc/tasker/tasker.env; /usr/local/lib/tasker/bin/tasker"
READY_S_MAX = 30.0


def shell_blocks(page: str) -> list[str]:
    return [block.text for block in blocks_of(ROOT / "docs" / "howto" / page) if block.language == "sh"]


INSTALL, NATS, START, READY, WORK, RELOAD = shell_blocks("deploy-systemd.md")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which somebody has followed the page."""
    folder = tmp_path_factory.mktemp("machine")
    machine = Machine(folder / "root")
    try:
        machine.make()
        checkout = machine.root / "srv" / "tasker"
        shutil.copytree(ROOT / "deploy", checkout / "deploy")
        (checkout / "dist").mkdir()
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(ROOT)],
            cwd=checkout / "dist",
            check=True,
        )
        shutil.copy(find_nats(None), machine.root / "usr" / "local" / "bin" / "nats-server")
        machine.prepare(f"cd /srv/tasker\n{INSTALL}\n{NATS}")
        (machine.root / "etc" / "tasker" / "apps" / "shop.py").write_text(APP, encoding="utf-8")
        machine.boot()
        (sql,) = [block.text for block in blocks_of(ROOT / "docs" / "howto" / "deploy.md") if block.language == "sql"]
        (machine.root / "srv" / "role.sql").write_text(sql.replace("'secret'", "'changeMe'"), encoding="utf-8")
        machine.run("cd /srv; su postgres -c 'psql -v ON_ERROR_STOP=1 -f role.sql'")
        machine.run(f"{START}\n{READY}\n{WORK}")
        wait_until(machine, f"{TASKER} template list | grep shop")
        yield machine
    finally:
        machine.stop()
        shutil.rmtree(machine.root, ignore_errors=True)


def wait_until(machine: Machine, question: str) -> None:
    machine.run(f"i=0; until ({question}) >/dev/null 2>&1; do i=$((i+1)); test $i -lt 150; sleep 0.2; done")


def create(machine: Machine, pack_s: float) -> str:
    return machine.run(
        f"({TASKER} task create shop --input {pack_s} -o json) | grep -o '[0-9a-f-]\\{{36\\}}' | head -1"
    ).strip()


def ended(machine: Machine, task: str) -> str:
    """Return the task as a document, once it has ended."""
    wait_until(machine, f'{TASKER} task show {task} -o json | grep -E \'"state": ?"(completed|failed|cancelled)"\'')
    return machine.run(f"{TASKER} task show {task} -o json")


def shown(machine: Machine, unit: str, name: str) -> str:
    return machine.run(f"systemctl show --value --property={name} {unit}").strip()


def test_a_task_goes_all_the_way_and_the_log_is_sound(machine: Machine) -> None:
    assert machine.run(f"{TASKER} task create shop --input 0 --wait").strip() == '"packed and sent"'
    assert re.search(r"findings +0", machine.run(f"{TASKER} log verify"))
    assert machine.run("systemctl --failed --plain --no-legend").strip() == ""
    assert "nothing found" in machine.run(f"({TASKER} doctor) 2>&1")


def test_a_service_that_is_killed_is_started_again_and_loses_nothing(machine: Machine) -> None:
    task, restarts = create(machine, 1.0), int(shown(machine, "tasker", "NRestarts"))
    machine.run("systemctl kill --signal=KILL tasker")
    wait_until(machine, f"test $(systemctl show --value --property=NRestarts tasker) -gt {restarts}")
    machine.run(READY)
    assert '"completed"' in ended(machine, task)


def test_stopping_drains_and_ends_with_nothing_wrong(machine: Machine) -> None:
    machine.run(f"rm -f {BEGUN}")
    task = create(machine, 3.0)
    wait_until(machine, f"test -e {BEGUN}")
    began_s = time.monotonic()
    machine.run("systemctl stop tasker-worker@shop tasker")
    assert time.monotonic() - began_s < READY_S_MAX
    for unit in ("tasker-worker@shop", "tasker"):
        assert (shown(machine, unit, "Result"), shown(machine, unit, "ExecMainStatus")) == ("success", "0")
    machine.run(f"{START}\n{READY}\n{WORK}")
    assert '"completed"' in ended(machine, task)


def test_a_reload_takes_new_code_and_keeps_the_process(machine: Machine) -> None:
    pid = shown(machine, "tasker-worker@shop", "MainPID")
    Path(machine.root / "etc/tasker/apps/shop.py").write_text(APP.replace("and sent", "and shipped"), encoding="utf-8")
    machine.run(RELOAD)
    wait_until(machine, f"{TASKER} task create shop --input 0 --wait | grep shipped")
    assert shown(machine, "tasker-worker@shop", "MainPID") == pid
    Path(machine.root / "etc/tasker/apps/shop.py").write_text(APP, encoding="utf-8")
    machine.run(RELOAD)
    wait_until(machine, f"{TASKER} task create shop --input 0 --wait | grep sent")


def test_an_app_that_does_not_load_is_not_started_again(machine: Machine) -> None:
    Path(machine.root / "etc/tasker/apps/bad.py").write_text("import nothing_of_that_name\n", encoding="utf-8")
    machine.run("systemctl start tasker-worker@bad")
    wait_until(machine, "systemctl is-failed tasker-worker@bad")
    assert shown(machine, "tasker-worker@bad", "ExecMainStatus") == "2"
    assert shown(machine, "tasker-worker@bad", "NRestarts") == "0"
    assert "nothing_of_that_name" in machine.run("journalctl --unit tasker-worker@bad --output cat")
    machine.run("systemctl reset-failed tasker-worker@bad")


def test_nats_can_be_restarted_under_work(machine: Machine) -> None:
    task = create(machine, 1.0)
    began_s = time.monotonic()
    machine.run("systemctl restart nats-server")
    assert time.monotonic() - began_s < 5
    assert '"completed"' in ended(machine, task)


def test_only_a_worker_can_write_and_only_where_it_says(machine: Machine) -> None:
    assert machine.run("stat --format '%U %a' /var/lib/tasker-worker/shop").split() == ["tasker", "700"]
    pid = shown(machine, "tasker", "MainPID")
    assert re.search(r"CapEff:\s+0+$", machine.run(f"cat /proc/{pid}/status"), re.MULTILINE)
    assert " ro," in machine.run(f"grep ' / / ' /proc/{pid}/mountinfo || grep ' / ' /proc/{pid}/mountinfo")
