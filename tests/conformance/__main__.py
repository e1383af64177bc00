"""`python -m tests.conformance [--excuse CHECK]... -- COMMAND...`: a worker against the suite, on a NATS of its own.

One line a check; exit code 0 when all hold, else 1.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tasker.embedded.nats import EmbeddedNats
from tests.conformance.checks import ALLOWANCES, CHECKS
from tests.conformance.direct_checks import DIRECT_CHECKS
from tests.conformance.run import conformance_service


async def run(command: list[str], excused: set[str], folder: Path, nats_url: str) -> int:
    """Return how many checks failed."""
    failed = 0
    async with conformance_service(command, nats_url=nats_url, prefix="conformance", folder=folder) as service:
        for check in (*CHECKS, *DIRECT_CHECKS):
            name = check.__name__
            if check in DIRECT_CHECKS and not service.said:
                say(f"optional {name}: the worker tells no slots, so all its work comes from the stream")
                continue
            if name in excused:
                say(f"excused  {name}: {ALLOWANCES[name]}")
                continue
            began_s = time.monotonic()
            try:
                await check(service)
            except AssertionError as fault:
                failed += 1
                service.messages = service.acked
                say(f"FAILED   {name}: {check.__doc__}\n         {fault}")
            else:
                say(f"ok       {name} ({time.monotonic() - began_s:.2f} s)")
        if service.faults:
            failed += 1
            say("FAILED   the form of messages: " + "; ".join(service.faults))
    return failed


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the suite; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--excuse", action="append", default=[], choices=sorted(ALLOWANCES), metavar="CHECK")
    parser.add_argument("command", nargs="+", help="starts the worker; finds NATS by TASKER_NATS_URL and _PREFIX")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tasker-conformance-") as name:
        folder = Path(name)
        server = EmbeddedNats(folder / "nats")
        server.start()
        try:
            failed = asyncio.run(run(asked.command, set(asked.excuse), folder, server.url))
        finally:
            server.stop()
        if failed:
            say("the worker said:\n" + (folder / "worker.log").read_text(errors="replace")[-4000:])
    say(f"{failed} failed" if failed else "all checks hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
