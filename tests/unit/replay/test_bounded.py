"""I11: caps hold, and a refusal is typed and says when to ask again; on a node with low caps, and on planted bugs."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from tasker.bus.memory_bus import MemoryBroker
from tasker.errors import Busy, InputInvalid, OutcomeUnknown, Problem, TaskerError
from tasker.events.memory_log import MemoryLog
from tasker.events.subjects import Subjects
from tasker.metrics import Samples
from tasker.replay.findings import Finding, Invariant
from tasker.service.actors.entrances import entrance
from tasker.settings import Limits
from tests.bounded import BoundedChecker
from tests.contracts.pair import SHARDS, Pair

BURST = 120
LOW = Limits(commands_pending_max=20, backlog_units_max=40, mailbox_messages_max=5)


def checked(caps: dict[str, float], *samples: dict[str, float], refusals: tuple[Problem, ...] = ()) -> list[str]:
    found: list[Finding] = []
    checker = BoundedChecker(caps, found.append)
    for sample in samples:
        checker.take(sample)
    for problem in refusals:
        checker.take_refusal(problem)
    checker.close()
    assert {one.invariant for one in found} <= {Invariant.BOUNDED}
    return [one.detail for one in found]


def test_what_stays_under_its_cap_is_no_finding() -> None:
    assert checked({"rss": 10.0}, {"rss": 3.0, "other": 99.0}, {"rss": 10.0}) == []


def test_a_number_over_its_cap_is_found_once_with_its_peak() -> None:
    assert checked({"rss": 10.0}, {"rss": 11.0}, {"rss": 12.0}, {"rss": 1.0}) == ["rss rose to 12, over its cap of 10"]


def test_a_cap_that_nobody_looked_at_is_found() -> None:
    assert checked({"rss": 10.0}, {"other": 1.0}) == ["rss was never sampled"]


def test_a_refusal_says_what_it_is_and_when_to_ask_again() -> None:
    busy = Busy("full").problem()
    assert checked({}, refusals=(busy, OutcomeUnknown().problem())) == []
    assert checked({}, refusals=(msgspec.structs.replace(busy, retry_after_s=None),)) == [
        "busy does not say when to ask again: full"
    ]
    assert "which nobody documents" in checked({}, refusals=(msgspec.structs.replace(busy, code="oops"),))[0]
    assert "the same may succeed later" in checked({}, refusals=(InputInvalid("no").problem(),))[0]


# -------------------------------------------------------------------- on a node


async def flooded(limits: Limits) -> tuple[list[str], int]:
    """Ask a node for more than it takes at once; returns what was found, and how many were refused."""
    broker = MemoryBroker()
    bus = broker.connect()
    pair = Pair(MemoryLog(shards=SHARDS), bus, Subjects("flooded"))
    await pair.start(broker.connect(), limits)
    await pair.registered()
    found: list[Finding] = []
    caps = {
        "tasker_mailbox_messages": LOW.commands_pending_max,
        "tasker_append_backlog_units": LOW.backlog_units_max + LOW.commands_pending_max,
    }
    checker = BoundedChecker(caps, found.append)

    async def sample() -> None:
        while True:
            samples = Samples("write")
            pair.sides[0].tell(samples)
            checker.take({one.name: one.value for one in samples.found})
            await asyncio.sleep(0)

    sampling = asyncio.create_task(sample())
    body = json.dumps({"template": "t", "input": {}})
    answers = await asyncio.gather(*(pair.ask("task.create", body.encode()) for _ in range(BURST)))
    sampling.cancel()
    refusals = [msgspec.convert(one["error"], Problem) for one in answers if not one["ok"]]
    for problem in refusals:
        checker.take_refusal(problem)
    checker.close()
    await pair.stop()
    return [one.detail for one in found], len(refusals)


async def test_a_node_under_its_caps() -> None:
    found, refused = await flooded(LOW)
    assert found == []
    assert 0 < refused < BURST


async def test_a_cap_that_is_not_looked_at_is_found() -> None:
    found, refused = await flooded(Limits())
    assert any("over its cap" in one for one in found)
    assert not refused


async def test_a_refusal_without_a_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(TaskerError):
        code = "careless"

    monkeypatch.setattr(entrance, "Busy", lambda _detail, **_: Careless("too much"))
    found, _ = await flooded(LOW)
    assert any("careless" in one for one in found)
    TaskerError.leaves.pop("careless")
