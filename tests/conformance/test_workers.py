"""Workers keep their duties: ours, and one in another language with nothing but a NATS client."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.conformance import checks, direct_checks
from tests.conformance.checks import CHECKS
from tests.conformance.direct_checks import DIRECT_CHECKS
from tests.conformance.run import conformance_service

ROOT = Path(__file__).resolve().parents[2]
NODE_WORKER = ROOT / "examples" / "node-worker"
NODE_EXCUSED = {"big_integers_are_exact"}
NODE_VERSION_MIN = 20
INSTALL_S = 40.0
INSTALL_ATTEMPTS = 2
UNREACHABLE = (
    "ENOTFOUND",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "EAI_AGAIN",
    "ENETUNREACH",
    "EHOSTUNREACH",
    "E503",
)

NO_NODE = "NO NODE WORKER WAS CHECKED: "


@pytest.fixture(scope="session")
def node_worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node worker, installed; skips loudly where Node or the registry is missing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        skip_loudly("node and npm are not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < NODE_VERSION_MIN:
        skip_loudly(f"node {version} is older than {NODE_VERSION_MIN}")
    folder = tmp_path_factory.mktemp("node") / "node-worker"
    shutil.copytree(NODE_WORKER, folder, ignore=shutil.ignore_patterns("node_modules"))
    installed = None
    for _ in range(INSTALL_ATTEMPTS):
        with contextlib.suppress(subprocess.TimeoutExpired):
            installed = subprocess.run(
                [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_S,
                check=False,
            )
        if installed is not None and installed.returncode == 0:
            return folder
    said = "no answer in time" if installed is None else installed.stderr[-2000:]
    if installed is None or any(code in said for code in UNREACHABLE):
        skip_loudly(f"the packages cannot be had: {said}")
    raise AssertionError(said)


def skip_loudly(why: str) -> NoReturn:
    """Skip with a line that a reader of the run sees, also where skips are not listed."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"\n{NO_NODE}{why}\n")
    pytest.skip(NO_NODE + why)


async def run_all(
    command: Sequence[str], *, nats_url: str, prefix: str, folder: Path, excused: set[str], direct: bool = False
) -> dict[str, str]:
    """Return check -> what was wrong, of all checks that failed; `direct`: it takes work from nodes as well."""
    faults: dict[str, str] = {}
    environ = {"PYTHONPATH": str(ROOT)}
    async with conformance_service(
        command, nats_url=nats_url, prefix=prefix, folder=folder, environ=environ
    ) as service:
        for check in (*CHECKS, *(DIRECT_CHECKS if direct else ())):
            if check.__name__ in excused:
                continue
            try:
                await check(service)
            except AssertionError as fault:
                faults[check.__name__] = str(fault)
                service.messages = service.acked
        assert direct == bool(service.said), "whether it tells slots"
        if service.faults:
            faults["form"] = "; ".join(service.faults)
    if faults:
        faults["output"] = (folder / "worker.log").read_text(errors="replace")[-3000:]
    return faults


@pytest.mark.timeout(180)
async def test_our_own_worker_conforms(nats_url: str, nats_prefix: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tasker.handlers.process", str(Path(__file__).with_name("python_app.py"))]
    faults = await run_all(command, nats_url=nats_url, prefix=nats_prefix, folder=tmp_path, excused=set(), direct=True)
    assert faults == {}


@pytest.mark.timeout(240)
async def test_a_worker_in_javascript_conforms(
    node_worker: Path, nats_url: str, nats_prefix: str, tmp_path: Path
) -> None:
    command = ["node", str(node_worker / "worker.mjs"), str(node_worker / "handlers.mjs"), "flow"]
    faults = await run_all(command, nats_url=nats_url, prefix=nats_prefix, folder=tmp_path, excused=NODE_EXCUSED)
    assert faults == {}


def test_the_worker_in_javascript_is_short_and_its_lock_names_no_address() -> None:
    assert len((NODE_WORKER / "worker.mjs").read_text(encoding="utf-8").splitlines()) < 100
    lock = (NODE_WORKER / "package-lock.json").read_text(encoding="utf-8")
    assert "resolved" not in lock
    assert lock.count('"integrity"') >= 2


@pytest.mark.timeout(180)
async def test_a_worker_that_keeps_no_duty_is_seen(nats_url: str, nats_prefix: str, tmp_path: Path) -> None:
    """The suite fails a worker that runs everything unasked, says nothing twice and acks at once."""
    command = [sys.executable, str(Path(__file__).with_name("careless_worker.py"))]
    async with conformance_service(
        command, nats_url=nats_url, prefix=nats_prefix, folder=tmp_path, environ={"PYTHONPATH": str(ROOT)}
    ) as service:
        await checks.first_delivery_runs(service)
        for check in (
            checks.an_old_message_asks_first,
            checks.a_redelivered_message_asks_first,
            checks.an_offer_made_again_asks_first,
            direct_checks.old_work_from_a_node_asks_first,
            direct_checks.a_further_offer_from_a_node_asks_first,
        ):
            with pytest.raises(AssertionError):
                await check(service)
