"""What tests of a worker share: the owner of its tasks, which says what they script, and what starts one."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.scripted_owner import ScriptedOwner, owning
from tests.integration.serving import Serve, serving


@pytest.fixture
async def owner(nats_url: str, nats_prefix: str) -> AsyncIterator[ScriptedOwner]:
    async with owning(ScriptedOwner, nats_url, nats_prefix) as owner:
        yield owner


@pytest.fixture
async def serve(nats_url: str, owner: ScriptedOwner) -> AsyncIterator[Serve]:
    async with serving(nats_url, owner) as start:
        yield start
