"""What is wrong with this machine: files, packages, disk; and that every finding there is has its test."""

import os
from pathlib import Path

import pytest

from tasker.doctor.finding import CATALOGUE
from tasker.doctor.machine import examine_files, examine_settings, examine_versions
from tasker.settings import read_settings
from tests.architecture.tree import ROOT

pytestmark = pytest.mark.linux


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


def of_files(data: Path, *, free_bytes_min: int = 1) -> list[str]:
    return [found.code for found in examine_files(data, "stack.json", free_bytes_min=free_bytes_min)]


def install(folder: Path, name: str, version: str, *requires: str) -> None:
    """Leave in `folder` what pip leaves of a package."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = [f"Requires-Dist: {line}" for line in requires]
    (info / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines, ""])
    )


def test_what_is_installed_here_fits() -> None:
    assert list(examine_versions()) == []


def test_packages_that_are_missing_old_or_in_the_way(tmp_path: Path) -> None:
    install(
        tmp_path,
        "tasker-service",
        "1.0",
        "msgspec>=0.19",
        "nats-py>=2.16",
        'uvloop>=9; sys_platform == "win32"',
        'x>=1; extra == "embedded"',
    )
    install(tmp_path, "msgspec", "0.18.6")
    install(tmp_path, "tasker", "3.0")
    found = list(examine_versions([str(tmp_path)]))
    assert [one.code for one in found] == ["package_rival", "package_version", "package_version"]
    assert found[1].detail == "msgspec is 0.18.6; this build needs msgspec>=0.19"
    assert found[2].detail == "nats-py is missing; this build needs nats-py>=2.16"


def test_a_python_that_nobody_tested() -> None:
    assert [one.code for one in examine_versions(python=(3, 99))] == ["python_untested"]


def test_a_data_directory_that_is_in_order_or_not_there(data: Path, tmp_path: Path) -> None:
    (data / "stack.json").touch(0o600)
    assert of_files(data) == of_files(tmp_path / "not" / "there") == []


def test_a_data_directory_that_others_may_read(data: Path) -> None:
    data.chmod(0o711)
    assert of_files(data) == [], "root's is passed through by PostgreSQL's user"
    data.chmod(0o750)
    assert of_files(data) == ["data_open"]


def test_secrets_of_a_stack_that_others_may_read(data: Path) -> None:
    (data / "stack.json").touch()
    (data / "stack.json").chmod(0o644)
    [found] = examine_files(data, "stack.json", free_bytes_min=1)
    assert found.code == "stack_file_open"
    assert found.remedy.startswith(f"chmod 600 {data}/stack.json")


def test_a_data_directory_of_another_user(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(data, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert of_files(data) == ["data_foreign"]


def test_little_space(data: Path) -> None:
    assert of_files(data, free_bytes_min=1 << 62) == of_files(data / "not-yet", free_bytes_min=1 << 62) == ["disk_full"]


def test_a_settings_file_with_a_password(tmp_path: Path) -> None:
    file = tmp_path / "tasker.toml"
    file.write_text('[nats]\nurl = "nats://u:secret@h"')
    file.chmod(0o640)
    [found] = examine_settings(read_settings({}, file=file))
    assert found.code == "settings_file_open"
    assert "nats.url" in found.detail
    assert "secret" not in found.detail
    file.chmod(0o600)
    assert list(examine_settings(read_settings({}, file=file))) == []
    file.write_text('tenant = "acme"')
    file.chmod(0o644)
    assert list(examine_settings(read_settings({}, file=file))) == []


def test_every_finding_has_its_test() -> None:
    folders = (ROOT / "tests/integration/doctor", ROOT / "tests/unit/doctor")
    tests = "".join(path.read_text() for folder in folders for path in folder.glob("test_*.py"))
    assert [code for code in CATALOGUE if f'"{code}"' not in tests] == []
