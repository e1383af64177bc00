"""What is the same however things happened to run: the guarantees of `docs/explanation/determinism.md`."""

import asyncio
import random
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tasker import Decision, RetryableError, StepContext, Template
from tasker.errors import Busy
from tasker.events.codec import canonical, hash_of
from tasker.events.messages import Work
from tasker.events.task_events import StepItemsHeld
from tasker.service.domain.state import TaskStatus
from tasker.service.domain.state_document import state_document, state_hash
from tasker.templates.instances import Instance, parse_instance
from tasker.templates.model import StatePolicy
from tasker.testing import TaskerTest
from tests.runs import DIAMOND, Run, template

TASK = UUID(int=7)
EDGES = ["e", "b", "d", "a", "c"]
"""The parents of the join as the template declares them: not the order of names, nor that of the steps."""


def branches() -> Template:
    found = Template("branches")

    async def branch(ctx: StepContext, input: int) -> str:
        await asyncio.sleep(random.Random(f"{input} {ctx.step}").uniform(0.01, 5.0))
        return ctx.step

    for name in sorted(EDGES):
        found.step(name=name)(branch)

    @found.step(after=EDGES)
    def join() -> None:
        """Its work message is what is looked at."""

    return found


async def test_results_merge_in_edge_order_whatever_finished_first(monkeypatch: pytest.MonkeyPatch) -> None:
    merged: list[list[str]] = []

    def work(**facts: Any) -> Work:
        if facts["step"] == "join":
            merged.append(list(facts["results"]))
        return Work(**facts)

    monkeypatch.setattr("tasker.service.actors.dispatch.dispatcher.Work", work)
    finished = set()
    async with TaskerTest(branches(), slots=1000) as tasker:
        runs = [await tasker.start(number) for number in range(200)]
        for run in runs:
            await run.wait()
            assert run.state == "completed"
            finished.add(tuple(event.step for event in run.events_of("step_completed")))
    assert len(finished) > 50, "the branches finished in too few orders to show anything"
    assert len(merged) >= 200
    assert all(order == EDGES for order in merged)


async def test_the_state_merges_in_edge_order_whatever_finished_first() -> None:
    policies: dict[str, StatePolicy | dict[str, str]] = {
        "all": "append",
        "last": "last_edge_wins",
        "n": "sum",
        "text": {"using": "left + right"},
    }
    writing = Template("writing", state=policies)

    async def branch(ctx: StepContext, input: int) -> None:
        draw = random.Random(f"{input} {ctx.step}")
        await asyncio.sleep(draw.uniform(0.01, 5.0))
        ctx.state["all"] = ctx.state["last"] = ctx.state["text"] = ctx.step
        ctx.state["n"] = EDGES.index(ctx.step) + 0.1

    for name in sorted(EDGES):
        writing.step(name=name)(branch)

    @writing.step(after=EDGES)
    def join(ctx: StepContext) -> dict[str, Any]:
        return dict(ctx.state)

    states: set[bytes] = set()
    finished = set()
    async with TaskerTest(writing, slots=1000) as tasker:
        runs = [await tasker.start(number) for number in range(200)]
        for run in runs:
            await run.wait()
            [end] = run.events_of("task_completed")
            assert end.state == end.result, "the join saw what the task ends with"
            states.add(canonical(end.state))
            finished.add(tuple(event.step for event in run.events_of("step_completed")))
    assert len(finished) > 50, "the branches finished in too few orders to show anything"
    assert len({hash_of(state) for state in states}) == 1
    [state] = states
    assert msgspec.json.decode(state) == {
        "all": EDGES,
        "last": "c",
        "n": sum(at + 0.1 for at in range(5)),
        "text": "ebdac",
    }


def mapped(seed: int, *, in_order: bool) -> Run:
    """One task: a map of five items behind a step, then a join; items finish in an order of the seed."""
    shape = {"a": [], "each": ["a"], "last": ["each"]}
    run = Run(template(shape, steps={"each": {"each": "[1, 2, 3, 4, 5]"}}), task_id=TASK)
    run.create()
    draw = random.Random(seed)
    while offered := run.offered():
        name = offered[0] if in_order else draw.choice(offered)
        run.wait(0.001)
        run.complete(name, result=f"of {name}")
    assert run.state.status is TaskStatus.COMPLETED
    return run


def test_the_same_commands_give_the_same_bytes_and_the_same_hash() -> None:
    runs = [mapped(3, in_order=False) for _ in range(100)]
    assert len({state_hash(run.state) for run in runs}) == 1
    assert len({repr(state_document(run.state)) for run in runs}) == 1
    assert len({b"".join(event.payload for unit in run.units for event in unit) for run in runs}) == 1


def test_results_do_not_depend_on_the_order_of_finishing() -> None:
    runs = [mapped(seed, in_order=False) for seed in range(100)]
    orders = {tuple(getattr(event, "step", "") for event in run.events) for run in runs}
    assert len(orders) > 20, "the items finished in too few orders to show anything"
    assert {bytes(run.state.result_of("each") or b"") for run in runs} == {
        bytes(mapped(0, in_order=True).state.result_of("each") or b"")
    }


def test_ten_thousand_instances_have_ten_thousand_ids() -> None:
    keys = [None, *(str(index) for index in range(24)), "a.b", "a-b", "a_b", "A", "1.0"]
    instances = [
        Instance(name, visit, key)
        for name in ("check", "check2", "check-2", "check_2", "c")
        for visit in range(1, 70)
        for key in keys
    ]
    assert len(instances) > 10_000
    assert len({str(one) for one in instances}) == len(instances)
    assert [parse_instance(str(one)) for one in instances] == instances


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_tasks_at_once_have_one_outcome_a_step(seed: int) -> None:
    shape = template(DIAMOND)
    runs = [Run(shape) for _ in range(1000)]
    for run in runs:
        run.create()
    draw = random.Random(seed)
    going = list(runs)
    while going:
        draw.shuffle(going)
        for run in going:
            name = draw.choice(run.offered())
            run.complete(name, worker="w1")
            assert run.complete(name, worker="w2") == (), "a second outcome of one attempt"
        going = [run for run in going if not run.state.ended]
    for run in runs:
        types = [event.type for unit in run.units for event in unit]
        assert types.count("step_completed") == len(DIAMOND)
        assert types.count("task_completed") == 1


def test_the_second_of_three_items_waits_and_nothing_deadlocks() -> None:
    """An event says, once, that items wait, for which limit; the next begins as soon as one has ended."""
    shape = {"each": [], "last": ["each"]}
    run = Run(template(shape, steps={"each": {"each": "[1, 2, 3]", "max_parallel": 1}}))
    run.create()
    for index in range(3):
        assert run.offered() == [f"each[{index}]"]
        run.complete(f"each[{index}]", result=index)
    assert run.offered() == ["last"]
    run.complete("last")
    assert run.state.status is TaskStatus.COMPLETED
    held = [event for event in run.events if isinstance(event, StepItemsHeld)]
    assert held == [StepItemsHeld(step="each", limit=1, waiting=2)]


async def test_a_queue_of_depth_one_holds_back_new_tasks_and_no_step_of_those_that_run() -> None:
    """Items, and the step behind them, go on in the very queue whose line is full: only who comes anew is refused."""
    packing = Template("packing", queue="narrow", max_ready=1)

    @packing.step(each="[1, 2, 3]", start_to_close_s=300)
    async def pack(item: int) -> int:
        await asyncio.sleep(60)
        return item

    @packing.step
    def ship(pack: list[int]) -> int:
        return sum(pack)

    async with TaskerTest(packing, slots=1) as tasker:
        run = await tasker.start()
        await tasker.advance(1)
        with pytest.raises(Busy) as refused:
            await tasker.start(idempotency_key="another")
        assert refused.value.context == {"cap": "max_ready", "queue": "narrow"}
        await tasker.advance(300)
        assert (run.state, run.result) == ("completed", 6)
        assert (await tasker.start(idempotency_key="another")).state == "running"


async def test_random_numbers_are_those_of_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that is offered twice, and run twice, draws once more what it drew."""
    drawing = Template("drawing")
    drawn: dict[tuple[str, int], list[float]] = {}
    seeds: list[tuple[str, int]] = []

    def work(**facts: Any) -> Work:
        seeds.append((facts["idempotency_key"], facts["attempt"]))
        return Work(**facts)

    monkeypatch.setattr("tasker.service.actors.dispatch.dispatcher.Work", work)

    @drawing.step(each="[1, 2, 3]")
    def number(ctx: StepContext) -> int:
        drawn.setdefault((ctx.step, ctx.attempt), []).append(ctx.random.random())
        again = StepContext.of(ctx.facts(), deadline_s=0.0, port=None)  # type: ignore[arg-type] # it is not asked
        drawn[ctx.step, ctx.attempt].append(again.random.random())
        if ctx.index == 1 and ctx.attempt == 1:
            raise RetryableError("once more")
        return 0

    @drawing.step(after="number", max_visits=3)
    def check(ctx: StepContext) -> int:
        drawn.setdefault((ctx.step, ctx.attempt), []).append(ctx.random.random())
        return 0

    @drawing.step(after="check", routes=["again", "done"])
    def turn(ctx: StepContext) -> Any:
        return Decision.route("again" if "#" not in ctx.step else "done")

    @drawing.step(after="turn", back_to="check")
    def again() -> None:
        """Lead back."""

    @drawing.step(after="turn")
    def done() -> None:
        """Lead on."""

    async with TaskerTest(drawing) as tasker:
        tasker.crash_worker_in("check")
        run = await tasker.run()
    assert run.state == "completed"
    assert {step for step, _ in drawn} == {"number[0]", "number[1]", "number[2]", "check", "check#2"}
    assert all(len(set(numbers)) == 1 for numbers in drawn.values()), "an attempt run again draws the same"
    assert {("number[1]", 1), ("number[1]", 2), ("check", 1), ("check", 2)} <= set(drawn)
    assert len({numbers[0] for numbers in drawn.values()}) == len(drawn), "attempts, visits and items draw others"
    assert len(set(seeds)) == len(seeds)
