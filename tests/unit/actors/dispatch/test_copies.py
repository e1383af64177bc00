"""What a node remembers of the messages that the work stream has of its attempts."""

from uuid import UUID

import pytest

from tasker.bus.memory_bus import MemoryBroker
from tasker.events.subjects import Subjects
from tasker.service.actors.dispatch import copies
from tasker.service.actors.dispatch.copies import Copies, Copy


async def test_a_stream_that_is_another_one_has_nothing_of_what_was_known() -> None:
    known = Copies(MemoryBroker().connect(), Subjects())
    for number in range(4):
        known.keep(number % 2, (UUID(int=number), "only", 1), Copy(number, 0))
    assert len(known) == 4
    known.close_shard(0)
    assert len(known) == 2
    assert known.forget(1, (UUID(int=3), "only", 1)) == Copy(3, 0)
    assert known.find(1, (UUID(int=1), "only", 1)) == Copy(1, 0)
    known.clear()
    assert len(known) == 0
    assert known.find(1, (UUID(int=1), "only", 1)) is None


async def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "COPIES_MAX", 2)
    known = Copies(MemoryBroker().connect(), Subjects())
    keys = [(UUID(int=number), "only", 1) for number in range(3)]
    for seq, key in enumerate(keys):
        known.keep(0, key, Copy(seq, 0))
    known.keep(0, keys[1], Copy(9, 0))
    assert [known.find(0, key) for key in keys] == [Copy(0, 0), Copy(9, 0), None]
