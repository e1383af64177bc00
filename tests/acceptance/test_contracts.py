"""The running service keeps its contracts.

Schemathesis asks over HTTP: no 5xx, and no answer that the OpenAPI document does not describe. What NATS brings are
CloudEvents by the official SDK.
"""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import nats
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tasker.contracts.schemas import closed
from tests.acceptance.conftest import ROOT, Service

MAX_EXAMPLES = int(os.environ.get("TASKER_FUZZ_EXAMPLES", "8"))
"""An operation and phase; more of them find rarer faults."""

TIMEOUT_S = 300.0 + 15 * MAX_EXAMPLES
"""Several times what it takes on two free cores: it ends a run that hangs, and says nothing of speed."""

EXCLUDED = {
    "allow_header_conformance": "`GET .../use` is the version of that name",
    "ignored_auth": "there is no authentication yet",
    "negative_data_rejection": "an array is answered 200, with a refusal for each item that is bad",
    "object_level_authorization": "as above",
    "positive_data_acceptance": "a schema cannot say all: cursors, keys that differ, steps that there are",
}


@pytest.mark.timeout(TIMEOUT_S + 60)
def test_no_request_is_answered_with_5xx_or_against_the_document(service: Service, tmp_path: Path) -> None:
    with service.worker("tests/acceptance/all_examples.py"):
        ended = service.create_when_registered("hello", {"name": "Ada"})
        blocked = service.create_when_registered("always_fails", None)
    waiting, document = asyncio.run(_prepare(service))
    tight = tmp_path / "openapi.json"
    tight.write_text(json.dumps(_tightened(document)))
    known = {
        "task_id": [ended.task_id, blocked.task_id, waiting],
        "step": ["shout", "broken", "compose", "downstream"],
        "template": ["hello", "always_fails"],
        "name": ["hello"],
        "namespace": ["default"],
        "version": [ended.version],
        "Tasker-Tenant": ["default"],
    }
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", str(tight), "--url", service.http_url),
            *("--checks", "all", "--exclude-checks", ",".join(EXCLUDED)),
            *("--max-examples", str(MAX_EXAMPLES), "--continue-on-failure", "--no-color", "--warnings", "off"),
            *("--generation-database", "none", "--request-timeout", "20"),
        ],
        cwd=tmp_path,
        # A short one: each of the ten thousand requests looks all through it for a proxy.
        env={
            "PATH": os.environ["PATH"],
            "SCHEMATHESIS_HOOKS": "tests.acceptance.fuzz_hooks",
            "PYTHONPATH": str(ROOT),
            "FUZZ_KNOWN": json.dumps(known),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis"),  # else it makes its tables of Unicode anew
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-4_000:]
    assert f"Tested: {sum(len(item) for item in document['paths'].values())}\n" in run.stdout


def test_a_live_event_is_a_cloud_event(service: Service) -> None:
    async def first_event() -> tuple[str, bytes]:
        connection = await nats.connect(service.nats_url)
        live = await connection.subscribe(f"{service.nats_prefix}.default.evt.>")
        await connection.flush()
        async with service.client() as client:
            await client.register({"name": "seen", "version": "1.0.0", "steps": [{"name": "a"}]})
        message = await live.next_msg(timeout=20)
        await connection.close()
        return message.subject, message.data

    subject, document = asyncio.run(first_event())
    event = JSONFormat().read(CloudEvent, document)
    assert subject == f"{service.nats_prefix}.default.evt.default.seen._.template_registered"
    assert (event.get_specversion(), event.get_type()) == ("1.0", "tasker.template_registered.v1")
    data = event.get_data()
    assert isinstance(data, dict)
    assert (data["name"], data["version"]) == ("seen", "1.0.0")


def _tightened(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with answers that may have no other members than it names.

    Readers must not be so strict, but what we send must be described. The meta-schema is not within the document's
    reach here.
    """
    schemas = closed(document["components"]["schemas"])
    text = json.dumps(document | {"components": {"schemas": schemas}})
    return json.loads(text.replace('"$ref": "https://json-schema.org/draft/2020-12/schema"', '"minProperties": 0'))


async def _prepare(service: Service) -> tuple[str, dict[str, Any]]:
    """Return a task that does not begin, and the document that the service serves."""
    async with service.client() as client, aiohttp.ClientSession() as session:
        handle = await client.create("hello", {"name": "Ada"}, not_before=datetime.now(UTC) + timedelta(days=1))
        async with session.get(f"{service.http_url}/v1/openapi.json") as response:
            return handle.task_id, await response.json()
