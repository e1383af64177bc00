"""Coverage-guided fuzzing of every door with atheris: it keeps what reaches new code, and grows from there.

    python -m tests.properties.fuzz              each door for FUZZ_S seconds (60), one after another
    python -m tests.properties.fuzz yaml         one door, until it is stopped

What it found stays in `.fuzz/`; a crash is a file there, and its bytes belong into a test. Needs `pip install atheris`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

FOUND: Final = Path(".fuzz")
INPUT_BYTES_MAX: Final = 4096
ONE_S_MAX: Final = 5
RSS_MB_MAX: Final = 1024


def main(arguments: list[str]) -> int:
    try:
        import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        print("SKIPPED: atheris is not installed (it has wheels for Linux): pip install atheris", file=sys.stderr)
        return 0
    with atheris.instrument_imports(include=["tasker"]):
        from tests.properties.doors import DOORS, pushed
    if not arguments:
        failed = [name for name in DOORS if not _fuzzed(name)]
        print(f"{len(DOORS)} doors, failures: {', '.join(failed) or 'none'}", file=sys.stderr)
        return 1 if failed else 0
    name, *options = arguments
    corpus = FOUND / re.sub(r"\W+", "_", name)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(DOORS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_len={INPUT_BYTES_MAX}", f"-timeout={ONE_S_MAX}", f"-rss_limit_mb={RSS_MB_MAX}"]

    def one(data: bytes) -> None:
        pushed(name, data)

    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={corpus}/", *options, str(corpus)], one)
    atheris.Fuzz()
    return 0


def _fuzzed(name: str) -> bool:
    """Fuzz one door in a process of its own, which the fuzzer ends; returns whether nothing was found."""
    seconds = os.environ.get("FUZZ_S", "60")
    command = [sys.executable, "-m", "tests.properties.fuzz", name, f"-max_total_time={seconds}", "-verbosity=0"]
    print(f"{name}: {seconds} s", file=sys.stderr)
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
