"""The compose file: valid, and what it names is there."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.tree import ROOT
from tests.deploy.dockerfile import stages_of, steps_of

FILE = ROOT / "deploy" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "service", "worker")


def schema_faults(file: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_it_is_what_the_compose_specification_says(tmp_path: Path) -> None:
    assert schema_faults(FILE) == ""
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text(encoding="utf-8").replace("interval:", "intervall:"), encoding="utf-8")
    assert "intervall" in schema_faults(wrong)


def test_every_image_has_a_tag_that_names_a_version() -> None:
    for name, service in SERVICES.items():
        if name not in OURS:
            assert re.fullmatch(r"[a-z]+:\d[\w.-]*(@sha256:[0-9a-f]{64})?", service["image"]), name


def test_who_is_waited_for_can_be_seen_to_be_healthy() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]
    assert {"postgres", "nats", "service", "worker"} == {name for name, one in SERVICES.items() if "healthcheck" in one}


def test_volumes_and_files_are_there() -> None:
    for service in SERVICES.values():
        for source, *_ in (volume.split(":") for volume in service.get("volumes", ())):
            if source.startswith("."):
                assert (FILE.parent / source).exists(), source
            else:
                assert source in COMPOSE["volumes"]
    build = SERVICES["service"]["build"]
    assert (FILE.parent / build["context"] / build["dockerfile"]).is_file()
    mounted = SERVICES["worker"]["volumes"][0].split(":")
    workdir = next(
        step.rest
        for step in stages_of(steps_of((ROOT / "deploy/Dockerfile").read_text()))[-1]
        if step.name == "WORKDIR"
    )
    app = Path(workdir) / SERVICES["worker"]["command"][1]
    assert (FILE.parent / mounted[0] / app.relative_to(mounted[1])).is_file()


def test_ours_run_without_rights_and_are_published_on_loopback_alone() -> None:
    for name in OURS:
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["init"] is True, "nobody would reap what crashed processes leave behind"
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_secret_is_asked_for_and_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?[^}]+\}", FILE.read_text(encoding="utf-8")))
    example = (ROOT / "deploy" / "compose.env.example").read_text(encoding="utf-8")
    assert asked == set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert "/deploy/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "$" not in re.sub(r"\$\{\w+:\?[^}]+\}", "", FILE.read_text(encoding="utf-8"))


def test_handlers_do_not_see_the_database() -> None:
    told = {name for name in OURS if "TASKER_DATABASE_URL" in SERVICES[name]["environment"]}
    assert told == {"migrate", "service"}
    assert "POSTGRES_PASSWORD" not in yaml.dump(SERVICES["worker"])
    assert all({"TASKER_NATS_URL", "TASKER_HTTP_URL"} <= set(SERVICES[name]["environment"]) for name in OURS)


@pytest.mark.parametrize("name", OURS)
def test_commands_are_commands_of_ours(name: str) -> None:
    command = SERVICES[name].get("command", ["serve"])
    done = subprocess.run(
        [sys.executable, "-m", "tasker", command[0], "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
