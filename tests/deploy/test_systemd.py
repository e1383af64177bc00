"""The systemd units, as systemd itself reads them, and the environment that they are given."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasker.settings.keys import variables
from tests.architecture.tree import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
EXAMPLES = {name: ROOT / "deploy" / f"{name}.env.example" for name in ("tasker", "worker")}
"""Of the service and of workers, by the name of the file that the units read."""
PAGE = ROOT / "docs" / "howto" / "deploy-systemd.md"
EXPOSURE_MAX = {
    "tasker.service": 20,
    "tasker-migrate.service": 20,
    "nats-server.service": 20,
    "tasker-worker@.service": 60,
}
"""Tenths of systemd's own measure of exposure, which goes to 10."""

pytestmark = [
    pytest.mark.linux,
    pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"),
]


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The units as they are on a machine where the programs they name are installed: here those of this environment."""
    programs = tmp_path / "bin"  # a unit's command has no place for a path with spaces
    programs.symlink_to(Path(sys.executable).parent)
    found = []
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        text = text.replace("/usr/local/lib/tasker/bin/", f"{programs}/").replace("/usr/local/bin/", f"{programs}/")
        place = tmp_path / unit.name
        place.write_text(text, encoding="utf-8")
        found.append(place)
    return found


def verify(units: list[Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=one", *map(str, units)],  # noqa: S607 where it is
        capture_output=True,
        text=True,
        check=False,
    )


def test_systemd_finds_nothing_wrong(installed: list[Path]) -> None:
    units = [
        unit.rename(unit.with_name("tasker-worker@shop.service")) if "@" in unit.name else unit for unit in installed
    ]
    done = verify(units)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mistake_would_be_found(installed: list[Path]) -> None:
    unit = next(unit for unit in installed if unit.name == "tasker.service")
    unit.write_text(unit.read_text(encoding="utf-8").replace("TimeoutStopSec", "TimeoutStop"), encoding="utf-8")
    assert "TimeoutStop" in verify([unit]).stderr


@pytest.mark.parametrize("name", EXPOSURE_MAX)
def test_little_is_exposed(installed: list[Path], name: str) -> None:
    unit = next(unit for unit in installed if unit.name == name)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX[name]}", "--no-pager", str(unit)],  # noqa: S607 where it is
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_units_wait_longer_than_what_they_start_drains() -> None:
    worker = (ROOT / "deploy" / "systemd" / "tasker-worker@.service").read_text(encoding="utf-8")
    drain = re.search(r"--drain-s (\d+)", worker)
    stop = re.search(r"^TimeoutStopSec=(\d+)", worker, re.MULTILINE)
    assert drain is not None
    assert stop is not None
    assert int(stop[1]) > int(drain[1])


def values_of(example: Path) -> dict[str, str]:
    return dict(re.findall(r"^#?(TASKER_\w+)=(.*)$", example.read_text(encoding="utf-8"), re.MULTILINE))


def values_in(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_examples_name_variables_that_are_read() -> None:
    service, worker = values_of(EXAMPLES["tasker"]), values_of(EXAMPLES["worker"])
    assert {"TASKER_DATABASE_URL", "TASKER_NATS_URL"} <= set(service)
    assert [name for name in service if name not in variables()] == []
    assert service == worker | {"TASKER_DATABASE_URL": service["TASKER_DATABASE_URL"]}


def test_handlers_see_nothing_of_the_database() -> None:
    page, own = PAGE.read_text(encoding="utf-8"), {unit.name: unit for unit in UNITS if unit.name.startswith("tasker")}
    for name, unit in own.items():
        part = "worker" if "worker" in name else "tasker"
        assert values_in(unit, "EnvironmentFile") == [f"/etc/tasker/{part}.env"]
        assert f"install -m 0600 deploy/{part}.env.example /etc/tasker/{part}.env" in page
    # Whoever has the same user reads /proc/PID/environ of the service, whatever its own environment says.
    users = {name: values_in(unit, "User") for name, unit in own.items()}
    assert users.pop("tasker-worker@.service") == ["tasker-worker"]
    assert list(users.values()) == [["tasker"]] * len(users)
    assert "DATABASE" not in EXAMPLES["worker"].read_text(encoding="utf-8")


def test_the_page_makes_the_users_of_the_units_without_a_home_in_reach_of_protect_home() -> None:
    texts = [unit.read_text(encoding="utf-8") for unit in UNITS]
    page = PAGE.read_text(encoding="utf-8")
    made = re.findall(r"^useradd .*--home-dir /nonexistent .*?([\w-]+)$", page, re.MULTILINE)
    assert {found for text in texts for found in re.findall(r"^User=([\w-]+)$", text, re.MULTILINE)} == set(made)
    # asyncpg looks for keys in the home folder: `yes` would let it see a closed one, and nothing would connect.
    assert [text for text in texts if "bin/tasker " in text and "\nProtectHome=tmpfs\n" not in text] == []


def test_the_passwords_of_the_examples_fit() -> None:
    nats = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / "deploy/nats.env.example").read_text("utf-8"), re.MULTILINE))
    for example in EXAMPLES.values():
        assert f"nats://tasker:{nats['NATS_PASSWORD']}@" in values_of(example)["TASKER_NATS_URL"]
    conf = (ROOT / "deploy" / "nats.conf").read_text(encoding="utf-8")
    assert set(nats) == set(re.findall(r"\$(\w+)", conf))
