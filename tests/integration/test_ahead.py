"""A worker of quick handlers asks for a backlog ahead of its slots."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tasker.errors import BodyInvalid
from tasker.events.messages import Report, ReportReply
from tasker.handlers import ahead as module
from tasker.settings import DirectSettings
from tests.integration.scripted_owner import RECORDED, RUN, ScriptedOwner, friendly, seen

QUICK = DirectSettings(quick_s=0.1)
"""Handlers that return at once count as quick on a busy machine, too."""

GONE = ReportReply(ok=True, recorded=False, reason="gone")


class Asked:
    """Holds back the answers to what asks, until `let`."""

    def __init__(self) -> None:
        self.held: list[Report] = []
        self.let = False

    def __call__(self, report: Report) -> ReportReply | None:
        if report.kind not in ("claim", "reserve") or self.let:
            return friendly(report)
        self.held.append(report)
        return None


async def quick(worker: Any, owner: ScriptedOwner) -> None:
    """Return once the worker knows that its handlers are quick, with nothing noted yet."""
    worker._reporter._answer_timeout_s = 0.2
    while not worker._direct.ahead_share:
        owner.acks.clear()
        await owner.offer("step")
        await owner.until(lambda: "+ACK" in owner.acks)
    for noted in (owner.acks, owner.log, owner.reports):
        noted.clear()


def make_old(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker._clock, "age_us", lambda _: 2_500_000)


async def test_more_is_asked_for_than_there_are_slots_and_no_slot_is_held(owner, serve, monkeypatch) -> None:
    async def step() -> int:
        return 1

    monkeypatch.setattr(module, "_YOUNG_S", 20.0)
    worker = await serve(step, slots=2, direct=QUICK)
    await quick(worker, owner)
    make_old(worker, monkeypatch)
    asked = owner.answer = Asked()
    works = [await owner.offer("step") for _ in range(8)]
    await owner.until(lambda: len({report.task_id for report in asked.held}) >= 6)
    assert {report.kind for report in asked.held} == {"reserve"}
    assert worker.running == 0
    assert worker.vitals().ahead >= 6
    await owner.until(lambda: len(asked.held) >= 18)  # asked again and again: far longer than what counts as quick
    asked.let = True
    await owner.until_ended(*works)
    for work in works:
        kinds = owner.kinds(work)
        assert kinds[0] == "reserve"
        assert kinds.count("completed") == 1
    await owner.until(lambda: worker.running == 0)
    assert worker._direct.ahead_share > 0  # what waited for an answer was no handler's time


async def test_never_more_run_than_there_are_slots(owner, serve, monkeypatch) -> None:
    running = most = 0
    gates = threading.Event()
    slow: list[bool] = []

    async def step() -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if slow:
            await asyncio.to_thread(gates.wait, 20)
        running -= 1
        return 1

    worker = await serve(step, slots=2, direct=QUICK)
    await quick(worker, owner)
    make_old(worker, monkeypatch)
    asked = owner.answer = Asked()
    works = [await owner.offer("step") for _ in range(10)]
    await owner.until(lambda: len({report.task_id for report in asked.held}) >= 6)
    slow.append(True)
    asked.let = True
    await owner.until(lambda: most == 2)
    assert worker.running == 2
    gates.set()
    await owner.until_ended(*works)
    assert most == 2


async def test_what_finds_no_slot_in_time_goes_back_to_the_queue(owner, serve, monkeypatch) -> None:
    """Its promise is over: it is asked for once more, and runs once."""
    gates = threading.Event()
    ran: list[int] = []
    slow: list[bool] = []

    async def step() -> int:
        ran.append(1)
        if slow:
            await asyncio.to_thread(gates.wait, 20)
        return 1

    worker = await serve(step, slots=1, direct=QUICK)
    await quick(worker, owner)
    make_old(worker, monkeypatch)
    slow.append(True)
    ran.clear()
    asked = owner.answer = Asked()
    works = [await owner.offer("step") for _ in range(3)]
    await owner.until(lambda: len({report.task_id for report in asked.held}) == 3)
    asked.let = True
    await owner.until(lambda: "-NAK" in owner.acks)
    assert await seen(lambda: len(ran) == 1)
    gates.set()
    await owner.until_ended(*works)
    assert len(ran) == 3
    assert all(owner.kinds(work).count("completed") == 1 for work in works)


async def test_what_was_asked_for_ahead_and_never_came_holds_up_no_other_queue(owner, serve) -> None:
    """The backlog is gone, and pulls for more of it wait at the server for half a minute."""

    async def step() -> int:
        return 1

    worker = await serve(step, queues=("flow", "other"), slots=2, direct=QUICK)
    flow = worker._queues.by_name["default", "flow"]
    many = [await owner.offer("step") for _ in range(60)]
    await owner.until_ended(*many)
    await quick(worker, owner)
    flow.slots.backlog = True
    flow.pull.wake()
    assert await seen(lambda: flow.pull.outstanding > worker._slots.total)
    for _ in range(3):
        await owner.until_ended(await owner.offer("step", queue="other"))
    assert "-NAK" not in owner.acks


async def test_what_is_gone_is_acked_and_does_not_run(owner, serve, monkeypatch) -> None:
    ran: list[int] = []

    async def step() -> None:
        ran.append(1)

    worker = await serve(step, direct=QUICK)
    await quick(worker, owner)
    make_old(worker, monkeypatch)
    owner.answer = lambda _: GONE
    ran.clear()
    await owner.offer("step")
    await owner.until(lambda: owner.acks)
    assert owner.log == ["reserve", "answered", "+ACK"]
    assert not ran
    assert not worker._course.attempts


async def test_an_owner_of_an_earlier_version_is_asked_with_a_slot(owner, serve, monkeypatch) -> None:
    async def step() -> int:
        return 1

    def answer(report: Report) -> ReportReply:
        if report.kind == "reserve":
            return ReportReply(ok=False, recorded=False, error=BodyInvalid("the body is no report").problem())
        return RUN if report.kind == "claim" else RECORDED

    worker = await serve(step, direct=QUICK)
    await quick(worker, owner)
    make_old(worker, monkeypatch)
    owner.answer = answer
    works = [await owner.offer("step") for _ in range(2)]
    await owner.until_ended(*works)
    assert "claim" in owner.kinds()
    last = await owner.offer("step")
    await owner.until_ended(last)
    assert owner.kinds(last) == ["claim", "completed"]


async def test_a_drain_gives_back_what_is_in_hand(owner, serve, monkeypatch) -> None:
    async def step() -> int:
        return 1

    worker = await serve(step, slots=1, direct=QUICK)
    await quick(worker, owner)
    make_old(worker, monkeypatch)
    asked = owner.answer = Asked()
    for _ in range(4):
        await owner.offer("step")
    await owner.until(lambda: len({report.task_id for report in asked.held}) >= 3)
    draining = asyncio.create_task(worker.drain(5.0))
    await asyncio.sleep(0)
    asked.let = True
    await draining
    await owner.until(lambda: owner.acks.count("-NAK") >= 3)
    assert "completed" not in owner.kinds()
    assert not worker._course.attempts
