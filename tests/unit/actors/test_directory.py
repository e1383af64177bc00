"""Registrations of templates that another node owns."""

import asyncio

import pytest

from tasker.bus.bus import Message
from tasker.bus.memory_bus import MemoryBroker
from tasker.errors import Unavailable
from tasker.events.memory_log import MemoryLog
from tasker.events.subjects import Subjects
from tasker.service.actors.directory import TemplateDirectory
from tasker.service.runtime.committer import Committer
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards
from tests.unit.runtime.committing import Listener


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"ok": 1}', b"\xff"])
async def test_an_answer_of_its_owner_that_cannot_be_read_is_none(answer: bytes) -> None:
    """A build that speaks otherwise owns the shard: whoever asked is told to ask again, and does not wait for ever."""
    log, bus, subjects, clock = MemoryLog(shards=1), MemoryBroker().connect(), Subjects("t"), NodeClock()
    shards = Shards(log, Committer(log, "o", Listener([])), None, clock.now_us)  # type: ignore[arg-type]
    directory = TemplateDirectory(log, shards, Routes(await log.info(), bus, subjects), clock)

    def reply(message: Message) -> None:
        bus.publish(message.reply, answer)

    bus.subscribe(subjects.node_shard(0, "registry"), reply)
    with pytest.raises(Unavailable):
        async with asyncio.timeout(2):
            await directory.registry("default", "default", "t")
    await bus.close()
