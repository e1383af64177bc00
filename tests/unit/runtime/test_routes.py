"""Questions between nodes: one whose answer is not understood is over, as one that nobody answers."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tasker.bus.bus import Message
from tasker.bus.memory_bus import MemoryBroker
from tasker.clock import SystemClock
from tasker.events.envelope import Meta
from tasker.events.memory_log import MemoryLog
from tasker.events.places import KeyName, request_of
from tasker.events.subjects import Subjects
from tasker.service.actors.children.standing import Standings
from tasker.service.actors.dispatch.hands import Hands
from tasker.service.actors.limits.places import Places
from tasker.service.actors.limits.postponing import Postponed, Postponing
from tasker.service.domain.commands import PostponeTask
from tasker.service.domain.limits.concurrency import Ask
from tasker.service.runtime.committer import Committer
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards
from tests.unit.runtime.committing import Listener

TASK_ID = str(uuid4())
REQUEST = request_of(TASK_ID, "s", 1)
POSTPONE = PostponeTask(at_us=1, start=TASK_ID, request_hash="", input=b"{}", not_before_us=1, timeout_s=None)  # type: ignore[arg-type]

Asks = Callable[[Shards, Routes, Callable[..., None]], None]


def stands(shards: Shards, routes: Routes, done: Callable[..., None]) -> None:
    Standings(shards, routes).ask("t", TASK_ID, done)


def postpones(shards: Shards, routes: Routes, done: Callable[..., None]) -> None:
    Postponing(shards, routes).ask("t", REQUEST, POSTPONE, Meta(), done)


def takes_a_place(shards: Shards, routes: Routes, done: Callable[..., None]) -> None:
    key = KeyName(tenant="t", namespace="n", template="x", step="s", key="k")
    places = Places(shards, routes, NodeClock())
    places.ask_key(key, Ask(request=REQUEST, limit=1, strategy="queue"), lambda verdict, _: done(verdict))


def counts(shards: Shards, routes: Routes, done: Callable[..., None]) -> None:
    Hands(shards, routes, "here", 1, [lambda _: 0]).count(("t", "n", "q"), done)


@pytest.mark.parametrize(
    ("asks", "nothing"), [(stands, None), (postpones, Postponed()), (takes_a_place, None), (counts, None)]
)
async def test_an_answer_that_is_not_understood_is_none(asks: Asks, nothing: object) -> None:
    """A newer node may say what this one does not know; who asked must not wait for ever."""
    log, broker, subjects = MemoryLog(clock=SystemClock(), shards=1), MemoryBroker(), Subjects("t")
    bus, other = broker.connect(), broker.connect()
    shards = Shards(log, Committer(log, "o", Listener([])), None, NodeClock().now_us)  # type: ignore[arg-type]
    routes = Routes(await log.info(), bus, subjects)
    strange = b'{"standing":"so so","position":{},"verdict":"maybe","node":1}'

    def answers(message: Message) -> None:
        other.publish(message.reply, strange)

    other.subscribe(subjects.node_shard(0, "*"), answers)
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    asks(shards, routes, answer.set_result)
    async with asyncio.timeout(1):
        assert await answer == nothing
    await bus.close()
    await other.close()
