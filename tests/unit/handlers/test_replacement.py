"""When a worker asks for a successor, and how its health is judged."""

import asyncio
import itertools
from typing import Any

import pytest

from tasker.handlers import leak_guard
from tasker.handlers.leak_guard import MIB, guard, reason_to_replace
from tasker.handlers.process import options_of
from tasker.handlers.vitals import SILENT_S_MAX, Vitals, judge
from tasker.settings import read_settings

WELL: dict[str, Any] = {
    "worker": "w",
    "connected": True,
    "claiming": True,
    "slots": 4,
    "busy": 1,
    "waiting": 0,
    "ahead": 0,
    "unanswered": 0,
    "stuck": 0,
    "handlers_silent_s": 0.0,
}


def test_the_settings_of_the_worker_reach_its_process() -> None:
    flags = {
        "nats.url": "nats://h:1",
        "worker.slots": "7",
        "worker.drain_s": "2.5",
        "worker.processes": "3",
        "worker.health_port": "9300",
        "worker.steps_max": "500",
        "worker.rss_mib_max": "800",
        "worker.labels": ["gpu=a100", "zone=eu"],
    }
    options = options_of("app.py:flow", read_settings({}, flags=flags).settings)
    assert (options.app, options.nats_url) == ("app.py:flow", "nats://h:1")
    assert (options.slots, options.drain_s, options.processes) == (7, 2.5, 3)
    assert (options.health_port, options.steps_max, options.rss_mib_max) == (9300, 500, 800)
    assert options.labels == ("gpu=a100", "zone=eu")


def test_too_many_tasks_or_too_much_memory_is_a_reason() -> None:
    limits: dict[str, Any] = {"steps_max": 10, "rss_mib_max": 100}
    assert reason_to_replace(ran=9, rss_bytes=100 * MIB, **limits) is None
    assert "10 attempts" in str(reason_to_replace(ran=10, rss_bytes=0, **limits))
    assert "101 MiB" in str(reason_to_replace(ran=0, rss_bytes=101 * MIB, **limits))
    assert reason_to_replace(ran=0, rss_bytes=None, **limits) is None
    assert reason_to_replace(ran=10**9, rss_bytes=10**15, steps_max=None, rss_mib_max=None) is None


async def test_the_guard_asks_and_asks_again(monkeypatch) -> None:
    monkeypatch.setattr(leak_guard, "LOOK_S", 0.0)
    monkeypatch.setattr(leak_guard, "ASK_AGAIN_S", 0.0)
    reasons = itertools.chain([None, None, "too much"], itertools.repeat("still"))
    asked: list[str] = []
    twice = asyncio.Event()

    def ask(why: str) -> None:
        asked.append(why)
        if len(asked) == 2:
            twice.set()

    watching = asyncio.create_task(guard(lambda: next(reasons), ask))
    await twice.wait()
    watching.cancel()
    assert asked[:2] == ["too much", "still"]


@pytest.mark.parametrize(
    ("changes", "ends", "reason"),
    [
        ({}, "", None),
        ({}, "draining", "it drains"),
        ({"connected": False}, "", "no connection to NATS"),
        ({"claiming": False}, "", "too many outcomes"),
        ({"handlers_silent_s": SILENT_S_MAX + 1}, "dead", "no sign of life"),
        ({"lost_why": "it gives up"}, "dead", "it gives up"),
    ],
)
def test_reasons_are_told(changes: dict[str, Any], ends: str, reason: str | None) -> None:
    alive, ready = judge(Vitals(**WELL | changes), draining=ends == "draining", loop_lag_s=0.0)
    assert alive.ok is (ends != "dead")
    assert ready.ok is (reason is None)
    assert reason is None or reason in " ".join(ready.reasons)


def test_a_worker_that_waits_for_nats_is_live_and_not_ready() -> None:
    live, ready = judge(None, draining=False, loop_lag_s=0.0)
    assert (live.ok, ready.ok) == (True, False)
