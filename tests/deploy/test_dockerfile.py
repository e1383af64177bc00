"""The image's steps are sound, and do what they are for in a clean folder."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, project_files
from tests.deploy.dockerfile import Image, Step, plain_environment, stages_of, steps_of

TEXT = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
BUILD, FINAL = stages_of(steps_of(TEXT))
ROOTS = ("app", "build", "builder", "wheels", "srv")
NO_INDEX = re.compile(r"No matching distribution|Could not fetch URL|Temporary failure in name resolution|Max retries")


def only(stage: list[Step], name: str) -> Step:
    (step,) = [step for step in stage if step.name == name]
    return step


def test_bases_are_pinned_alike_and_never_latest() -> None:
    images = [stage[0].words[0] for stage in (BUILD, FINAL)]
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", images[0])


def test_it_runs_as_a_user_without_rights_or_shell() -> None:
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", only(FINAL, "USER").rest)
    made = next(step.rest for step in FINAL if "useradd" in step.rest)
    assert f"--uid {only(FINAL, 'USER').rest.split(':')[0]} " in made
    assert "--shell /usr/sbin/nologin" in made
    names = [step.name for step in FINAL]
    assert "RUN" not in names[names.index("USER") :]


def test_nothing_is_installed_without_a_hash_nor_left_behind() -> None:
    for command in (part for step in [*BUILD, *FINAL] if step.name == "RUN" for part in step.rest.split("&&")):
        if " pip " in command:
            assert "--no-cache-dir" in command, command
        if " pip install " in command:
            assert "--require-hashes" in command or "--no-index" in command, command
    assert {step.name for step in [*BUILD, *FINAL]}.isdisjoint({"ADD", "MAINTAINER", "VOLUME"})
    assert [step.flags["from"] for step in FINAL if step.name == "COPY"] == ["build"]


def test_programs_get_signals_themselves() -> None:
    assert only(FINAL, "ENTRYPOINT").rest.startswith("[")
    assert only(FINAL, "CMD").rest.startswith("[")
    assert only(FINAL, "STOPSIGNAL").rest == "SIGTERM"


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        ["hadolint", "deploy/Dockerfile"],  # noqa: S607 where its user has it
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_context_holds_what_is_copied_and_little_else(tmp_path: Path) -> None:
    image = Image(tmp_path, ROOT, ROOTS, {})
    seen = {path.relative_to(ROOT).parts[0] for path in project_files() if not image.is_ignored(path)}
    assert image.is_ignored(ROOT / ".venv" / "bin" / "python")
    assert image.is_ignored(ROOT / "tasker" / "__pycache__" / "ids.cpython-311.pyc")
    assert seen == {"LICENSE", "README.md", "THIRD_PARTY.md", "pyproject.toml", "deploy", "tasker"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_steps_make_a_program_that_runs(tmp_path: Path) -> None:
    python = Path(sys.executable).resolve()
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python").symlink_to(python)
    environ = plain_environment()
    # Compiling ahead is for programs that are started more than twice.
    environ |= {"PATH": f"{programs}:{environ['PATH']}", "PIP_NO_COMPILE": "1"}
    image = Image(tmp_path / "root", ROOT, ROOTS, environ)
    for step in BUILD:
        match step.name:
            case "WORKDIR":
                image.workdir(step.rest)
            case "COPY":
                image.copy(step.words[:-1], step.words[-1])
            case "RUN":
                done = image.run(step.rest)
                if done.returncode and NO_INDEX.search(done.stderr):
                    pytest.skip("no package index can be reached, so the image's steps were NOT run")
                assert done.returncode == 0, done.stdout + done.stderr
            case other:
                assert other == "FROM", f"nobody has taught this test what {other} does"

    set_in_image = dict(word.split("=", 1) for word in only(FINAL, "ENV").words)
    in_image = {name: image.here(value.replace("$PATH", "/usr/bin:/bin")) for name, value in set_in_image.items()}
    image.workdir(only(FINAL, "WORKDIR").rest)
    entry, command = only(FINAL, "ENTRYPOINT").words, only(FINAL, "CMD").words

    version = image.run(" ".join([*entry, "--version"]), environ=in_image)
    assert (version.returncode, version.stdout.split()[0]) == (0, "tasker"), version.stderr
    # Its own command is understood, and says what is missing: the addresses.
    serve = image.run(" ".join([*entry, *command]), environ=in_image)
    assert serve.returncode == 2, serve.stderr
    assert "set TASKER_DATABASE_URL and TASKER_NATS_URL" in serve.stderr
    kept = {path.name for path in (tmp_path / "root" / "app" / "lib").glob("*/site-packages/*")}
    assert "tasker" in kept
    assert kept.isdisjoint({"hatchling", "pytest", "zensical", "mypy"})
