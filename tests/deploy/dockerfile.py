"""A Dockerfile's steps, and how to do them in a folder instead of an image."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec


class Step(msgspec.Struct, frozen=True):
    """One instruction: its name in capitals, and the rest of its logical line."""

    name: str
    rest: str

    @property
    def flags(self) -> dict[str, str]:
        """The `--flag=value` words in front."""
        return dict(word[2:].split("=", 1) for word in self.rest.split() if word.startswith("--") and "=" in word)

    @property
    def words(self) -> list[str]:
        """The words behind the flags; of the JSON form its items."""
        if self.rest.startswith("["):
            return json.loads(self.rest)
        return [word for word in self.rest.split() if not word.startswith("--")]


def steps_of(text: str) -> list[Step]:
    """Return the steps of a Dockerfile, without comments, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Step(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def stages_of(steps: list[Step]) -> list[list[Step]]:
    """Return the steps of each stage, `FROM` first."""
    stages: list[list[Step]] = []
    for step in steps:
        if step.name == "FROM":
            stages.append([])
        stages[-1].append(step)
    return stages


class Image:
    """A folder in which steps are done as if it were `/`: the folders that the file makes, and no others."""

    def __init__(self, folder: Path, context: Path, roots: tuple[str, ...], environ: dict[str, str]) -> None:
        self.folder = folder
        self.context = context
        self.environ = environ
        self._ignored = (context / ".dockerignore").read_text(encoding="utf-8").split("\n")
        self._roots = re.compile(rf"(?<![\w.$}}-])/(?={'|'.join(roots)})(?=\w)")
        self._here = folder

    def here(self, path: str) -> str:
        """Return a command or path with its absolute folders moved into ours."""
        return self._roots.sub(f"{self.folder}/", path)

    def workdir(self, path: str) -> None:
        """Make a folder the working one."""
        self._here = Path(self.here(path))
        self._here.mkdir(parents=True, exist_ok=True)

    def copy(self, sources: list[str], target: str) -> None:
        """Copy from the context, as far as .dockerignore lets through."""
        place = Path(self.here(target)) if target.startswith("/") else self._here / target
        for source in sources:
            for path in sorted(self.context.glob(source)):
                found = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
                for file in found:
                    if self.is_ignored(file):
                        continue
                    # A folder's content goes into the target; files go below it.
                    inside = file.relative_to(path) if path.is_dir() else Path(file.name)
                    (place / inside).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, place / inside)

    def is_ignored(self, file: Path) -> bool:
        """Say whether .dockerignore keeps a file out: the last pattern that fits decides."""
        name = file.relative_to(self.context).as_posix()
        ignored = False
        for pattern in self._ignored:
            if not pattern or pattern.startswith("#"):
                continue
            bare = pattern.removeprefix("!")
            parts = [name, *(parent.as_posix() for parent in Path(name).parents if parent != Path())]
            if bare.startswith("**/"):
                fits = any(fnmatch.fnmatch(part, bare[3:]) for part in Path(name).parts)
            else:
                fits = any(fnmatch.fnmatch(part, bare) for part in parts)
            if fits:
                ignored = not pattern.startswith("!")
        return ignored

    def run(self, command: str, *, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the working folder."""
        return subprocess.run(
            ["sh", "-euc", self.here(command)],  # noqa: S607 where its user has it
            cwd=self._here,
            env=self.environ | (environ or {}),
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )


def plain_environment() -> dict[str, str]:
    """Return the environment of somebody who has neither our settings nor our environment active."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKER_", "PYTHON", "VIRTUAL_"))}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"}
