"""A worker that may not begin what it holds a message of is done with that message: the work has to come in another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import ensure_work_consumer
from tasker.service.actors.dispatch import reservations
from tests.contracts.pair import STREAMS, Pair
from tests.contracts.test_controls import WHO, known


class Messages:
    """What the work stream holds of the one task, taken and acked as workers do."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._taken: asyncio.Queue[Delivery] = asyncio.Queue()
        names = {"tenant": "default", "namespace": "default", "queue": "t"}
        self._ensured = ensure_work_consumer(pair.bus, pair.subjects, STREAMS, **names)
        self._consumer = pair.subjects.work_consumer(**names)
        self._task_id = ""
        self._shard = 0

    async def open(self) -> None:
        """Create the task, and look for its work."""
        await self._ensured
        subjects = self.pair.subjects
        self._pull = PullLoop(self.pair.bus, subjects.work_stream, self._consumer, self._taken.put_nowait, lambda: 100)
        made = await self.pair.ask("task.create", {"template": "t"})
        self._task_id, self._shard = made["task_id"], int(made["position"].partition(":")[0])

    async def close(self) -> None:
        await self._pull.stop()

    async def take(self) -> None:
        """Return when there is a message of the task, which is acked."""
        async with asyncio.timeout(15):
            delivery = await self._taken.get()
        assert json.loads(delivery.data)["task_id"] == self._task_id
        self._pull.ack(delivery)

    async def ask(self, kind: str, worker: str = "w") -> bool:
        """Return whether a worker may begin the attempt."""
        report = {"kind": kind, "task_id": self._task_id, "step": "only", "attempt": 1, "worker": worker}
        answer = await self.pair.report(self._shard, json.dumps(report).encode())
        assert answer["ok"]
        return bool(answer.get("run", False))

    async def hand_over(self) -> None:
        """Give the task's shard to the other node."""
        await self.pair.hand_over(self._shard, *self.pair.sides)

    async def command(self, verb: str) -> None:
        """Pause or resume the task."""
        assert (await self.pair.ask(f"task.{verb}", {"task_id": self._task_id} | WHO))["ok"]


@pytest.fixture
async def messages(pair: Pair) -> AsyncIterator[Messages]:
    messages = Messages(pair)
    await messages.open()
    await messages.take()
    yield messages
    await messages.close()


@pytest.mark.parametrize("kind", ["claim", "reserve"])
async def test_what_was_promised_to_a_worker_that_died(messages, monkeypatch, kind) -> None:
    monkeypatch.setattr(reservations, "RESERVED_US", 1_000_000)
    assert await messages.ask("reserve", "dead")
    assert not await messages.ask(kind, "w")
    await messages.take()
    assert await messages.ask("claim", "w")


@pytest.mark.parametrize("kind", ["claim", "reserve"])
async def test_what_an_operator_held_back(messages, kind) -> None:
    pair = messages.pair
    template = {"scope": "template", "name": "t"} | WHO
    await pair.ask("control.pause", template)
    await known(pair.sides[0], 1)
    assert not await messages.ask(kind)
    await pair.ask("control.resume", template)
    await messages.take()
    assert await messages.ask("claim")


@pytest.mark.parametrize("kind", ["claim", "reserve"])
async def test_what_a_paused_task_held_back(messages, kind) -> None:
    await messages.command("pause")
    assert not await messages.ask(kind)
    await messages.command("resume")
    await messages.take()
    assert await messages.ask("claim")


async def test_what_was_denied_by_an_owner_that_lost_the_shard(messages) -> None:
    """The next owner offers it under the id that the stream knows; the one message under it is done with."""
    assert await messages.ask("reserve", "dead")
    assert not await messages.ask("claim", "w")
    await messages.hand_over()
    await messages.take()
    assert await messages.ask("claim")
