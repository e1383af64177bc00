"""What each process loads: time at its start, and memory for as long as it runs."""

import subprocess
import sys

import pytest

SERVERS = {"asyncpg", "nats", "aiohttp"}

LOADS = {
    "tasker": {"msgspec", "asyncio", *SERVERS},
    "tasker.embedded.stack": {"asyncio", *SERVERS, "tasker.events", "tasker.service", "tasker.handlers"},
    "tasker.service.process": {*SERVERS, "tasker.service.compose", "tasker.events.log"},
    "tasker.service.compose, tasker.service.write_side": {
        "aiohttp.web",
        "tasker.projections",
        "tasker.service.http",
        "tasker.service.read_side",
        "tasker.contracts",
    },
    "tasker.service.compose, tasker.service.read_side": {
        "tasker.service.actors",
        "tasker.service.runtime",
        "tasker.service.domain",
        "tasker.service.write_side",
    },
    "tasker.handlers.process": {*SERVERS, "tasker.service", "tasker.projections", "tasker.client"},
    "tasker.handlers.child": {"asyncpg", "tasker.service", "tasker.projections", "tasker.client"},
}
"""What a program imports -> what it must not bring along."""


@pytest.mark.parametrize("imported", LOADS)
def test_a_process_loads_only_its_own_parts(imported: str) -> None:
    code = f"import sys, {imported}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert imported.split(", ", maxsplit=1)[0] in loaded
    assert loaded & LOADS[imported] == set()
