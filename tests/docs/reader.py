"""Somebody who follows a page: copies its files, types its commands, compares what is printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import yaml

from tasker.events import messages
from tasker.templates import load_yaml
from tests.architecture.tree import ROOT
from tests.docs.pages import Block

BLOCK_S_MAX = 90.0
READY_S_MAX = 60.0
STOP_S_MAX = 45.0
_READY = {
    "tasker up": ("tasker is up", "worker_ready"),
    "tasker serve": ('"side":"read","http_url"', '"side":"write","event":"ready"'),
    "tasker worker": ("worker_ready",),
}
"""All that a command that stays has said once it can be used."""

_POLL_S = 0.05
_STATE = ".shell"


class Terminal:
    """A command of a page that stays until it is stopped."""

    def __init__(self, block: Block, folder: Path, environ: Mapping[str, str]) -> None:
        self.name = " ".join(block.text.split()[:2])
        assert self.name in _READY, f"{block.place}: it is not known when `{self.name}` is ready"
        self._block = block
        self._log = folder / f"{self.name.replace(' ', '-')}-{block.line}.log"
        command = block.text.strip()
        # The shell stays as long as what it started, so that waiting for the one waits for the other.
        stays = f"{command}\nwhile kill -0 $!; do wait $!; done" if "&" in command else f"exec {command}"
        command = f"trap : TERM\n{_with_state(folder)}\n{stays}"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", command],  # noqa: S607 where its user has it
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def await_ready(self) -> None:
        """Return once the command says that it can be used."""
        until_s = time.monotonic() + READY_S_MAX
        while not all(mark in self.said() for mark in _READY[self.name]):
            assert self._process.poll() is None, f"{self._block.place} ended:\n{self.said()}"
            assert time.monotonic() < until_s, f"{self._block.place} was not ready in time:\n{self.said()}"
            time.sleep(_POLL_S)

    def exports(self) -> dict[str, str]:
        """Return the variables that it says other programs need."""
        found = re.findall(r"^export (TASKER_\w+)=(.+)$", self.said(), re.MULTILINE)
        return {name: shlex.split(value)[0] for name, value in found}

    def stop(self) -> None:
        """Ask all that it started to drain, and wait for that. Twice is fine."""
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        self._process.wait(STOP_S_MAX)

    def said(self) -> str:
        """Return what it has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")


class Reader:
    """Follows pages in a folder. A context manager: on leaving, whatever still runs is drained."""

    def __init__(self, folder: Path, environ: Mapping[str, str], replaced: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._replaced = replaced or {}
        programs = Path(sys.executable).parent
        self._environ = {**environ, "PATH": f"{programs}{os.pathsep}{environ['PATH']}", "TASKER_OUTPUT": "table"}
        self._terminals: dict[str, Terminal] = {}
        self._printed = ""
        self._written: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The one that was started last is what depends on the others.
        for terminal in reversed(list(self._terminals.values())):
            terminal.stop()

    def follow(self, block: Block) -> None:
        """Do with a block what its kind says; fails when it does not hold."""
        text = block.text
        for shown, used in self._replaced.items():
            text = text.replace(shown, used)
        match block.kind:
            case "run" | "fails":
                self._run(block, text, code=int(block.argument or 0))
            case "background":
                self._start(msgspec.structs.replace(block, text=text))
            case "file" | "copy of":
                if block.kind == "copy of":
                    original = (ROOT / block.argument).read_text(encoding="utf-8")
                    assert block.text == original, f"{block.place} is not what {block.argument} says"
                place = self.folder / block.argument
                place.parent.mkdir(parents=True, exist_ok=True)
                # A second block of the same name goes on with the file.
                with place.open("a" if block.argument in self._written else "w", encoding="utf-8") as file:
                    file.write(("\n\n" if block.argument in self._written else "") + text)
                self._written.add(block.argument)
            case "output":
                assert matches(block.text, self._printed), (
                    f"{block.place} shows\n{block.text}\nwhere this was printed\n{self._printed}"
                )
            case _:
                check_text(block)

    def _run(self, block: Block, text: str, *, code: int) -> None:
        if block.language == "python":
            script = self.folder / f"block_{block.line}.py"
            script.write_text(text, encoding="utf-8")
            command = [sys.executable, str(script)]
        else:
            # What a block exports or sets is there in the next one, as in a terminal.
            keep = f"export -p > {shlex.quote(str(self.folder / _STATE))}"
            command = ["sh", "-euac", f"{_with_state(self.folder)}\n{text}\n{keep}"]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=BLOCK_S_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with what it started
            out, err = process.communicate()
        self._printed = out if code == 0 else out + err
        assert process.returncode == code, f"{block.place} ended with {process.returncode}\n{out}{err}\n" + "\n".join(
            terminal.said()[-3000:] for terminal in self._terminals.values()
        )

    def _start(self, block: Block) -> None:
        name = " ".join(block.text.split()[:2])
        if (former := self._terminals.pop(name, None)) is not None:
            former.stop()
        self._terminals[name] = Terminal(block, self.folder, self._environ)
        self._terminals[name].await_ready()
        exports = self._terminals[name].exports()
        self._environ |= exports
        with (self.folder / _STATE).open("a", encoding="utf-8") as state:
            state.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in exports.items())


def _with_state(folder: Path) -> str:
    """Return the line that brings back what earlier blocks of the page have set."""
    state = shlex.quote(str(folder / _STATE))
    return f"[ ! -e {state} ] || . {state}"


def check_text(block: Block) -> None:
    """Hold a block that is not run against what it claims to be."""
    match block.kind:
        case "same as":
            text = (ROOT / block.argument).read_text(encoding="utf-8")
            assert block.text in text, f"{block.place} is not what {block.argument} says"
        case "json of":
            kind = getattr(messages, block.argument)
            for value in values_of(block.text):
                # Decoded as the door does it: unknown fields, missing fields and wrong types are seen.
                msgspec.json.decode(json.dumps(value), type=kind)
        case "template":
            load_yaml(block.text)
        case "parse":
            _parse(block)
        case "shown" | "generated":
            pass
        case _:
            raise AssertionError(f"{block.place}: {block.kind!r} is not checked by anything")


def matches(shown: str, printed: str) -> bool:
    """Say whether `printed` is what a page shows, where `...` stands for anything, lines included."""
    pattern = r"\s+".join(".*?".join(map(re.escape, word.split("..."))) for word in shown.split())
    return re.fullmatch(rf"\s*{pattern}\s*", printed, re.DOTALL) is not None


def values_of(text: str) -> list[Any]:
    """Return the JSON values of a text, one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        while text[at].isspace():
            at += 1
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found


def _parse(block: Block) -> None:
    match block.language:
        case "json":
            values_of(block.text)
        case "yaml":
            yaml.safe_load(block.text)
        case "toml":
            tomllib.loads(block.text)
        case other:
            raise AssertionError(f"{block.place}: nothing parses {other!r}")
