"""What tests of a worker share: the owner of its tasks, which says what they script."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.scripted_owner import ScriptedOwner, owning


@pytest.fixture
async def owner(nats_url: str, nats_prefix: str) -> AsyncIterator[ScriptedOwner]:
    async with owning(ScriptedOwner, nats_url, nats_prefix) as owner:
        yield owner
