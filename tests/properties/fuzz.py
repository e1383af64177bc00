"""`make fuzz`: the properties with many examples, then every door with atheris, which keeps what reaches new code.

    python -m tests.properties.fuzz                        all of it, and what came of it; about 20 minutes on 2 cores
    python -m tests.properties.fuzz yaml                   one door, until it is stopped
    python -m tests.properties.fuzz yaml .fuzz/yaml/crash-1f  one door, with the bytes of a file

FUZZ_EXAMPLES a property (2000), FUZZ_S seconds a door (20), FUZZ_JOBS processes (2). What a door was pushed with stays
in `.fuzz/`, so that the next run goes on from there. What it found is a file there too, and its bytes belong into a
test. Without atheris (`pip install atheris`; Linux and macOS) the doors are skipped, and that is said.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
FOUND: Final = Path(".fuzz")
INPUT_BYTES_MAX: Final = 4096
ONE_S_MAX: Final = 20
RSS_MB_MAX: Final = 1024
TEST_S_MAX: Final = 3600
"""A property with many examples takes minutes where it takes a second each day."""

_INPUTS = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_SAID_CHARS = 4000


class Pushed(NamedTuple):
    """What came of one door. `inputs`: None when the fuzzer did not come to its end."""

    name: str
    inputs: int | None
    said: str


def main(arguments: list[str]) -> int:
    """Run all of it, or one door."""
    if arguments:
        return _push(arguments[0], arguments[1:])
    begun_s = time.monotonic()
    seconds, jobs = int(os.environ.get("FUZZ_S", "20")), int(os.environ.get("FUZZ_JOBS", "2"))
    passed = _properties(jobs)
    doors = _doors(seconds, jobs)
    broken = [door.name for door in doors if door.inputs is None]
    print(
        f"{(time.monotonic() - begun_s) / 60:.0f} min: properties {'passed' if passed else 'FAILED'}; "
        f"{len(doors)} doors, {sum(door.inputs or 0 for door in doors):,} inputs, "
        f"failures: {', '.join(broken) or 'none'}"
    )
    return 0 if passed and not broken else 1


def _properties(jobs: int) -> bool:
    """Run the properties with the profile `long` (`conftest.py`); returns whether all hold."""
    options = ["--hypothesis-profile", "long", "-o", f"timeout={TEST_S_MAX}", "-q", "--durations", "5"]
    spread = ["-n", str(jobs), "--dist", "worksteal"]
    command = [sys.executable, "-m", "pytest", "tests/properties", *options, *spread]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def _doors(seconds: int, jobs: int) -> list[Pushed]:
    """Fuzz every door, each in a process of its own, which the fuzzer ends."""
    try:
        import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: F401
    except ImportError:
        print("SKIPPED: the doors: atheris is not installed (it has wheels for Linux): pip install atheris")
        return []
    from tests.properties.doors import DOORS

    print(f"{len(DOORS)} doors, {seconds} s each, {jobs} at a time")

    def fuzz(name: str) -> Pushed:
        limits = [f"-max_total_time={seconds}", "-print_final_stats=1", "-verbosity=0"]
        command = [sys.executable, "-m", "tests.properties.fuzz", name, *limits]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, errors="replace")
        said = done.stdout + done.stderr
        inputs = _INPUTS.search(said)
        return Pushed(name, int(inputs[1]) if inputs and not done.returncode else None, said[-_SAID_CHARS:])

    with ThreadPoolExecutor(jobs) as pool:
        pushed = []
        for door in pool.map(fuzz, DOORS):
            pushed.append(door)
            came = f"{door.inputs:,} inputs, nothing found" if door.inputs is not None else f"FAILED\n{door.said}"
            print(f"  {door.name}: {came}", flush=True)
    return pushed


def _push(name: str, options: list[str]) -> int:
    """Fuzz one door in this process, or push the files among `options` through it. Ends the process."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["tasker"]):
        from tests.properties.doors import DOORS, pushed
    corpus = FOUND / re.sub(r"\W+", "_", name)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(DOORS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_len={INPUT_BYTES_MAX}", f"-timeout={ONE_S_MAX}", f"-rss_limit_mb={RSS_MB_MAX}"]
    inputs = [] if any(Path(option).is_file() for option in options) else [str(corpus)]

    def one(data: bytes) -> None:
        pushed(name, data)

    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={corpus}/", *options, *inputs], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
