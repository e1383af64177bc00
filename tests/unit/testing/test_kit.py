"""The test kit, as its users meet it: what a test can do and see, in no time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tasker import (
    AttemptCancelled,
    Budget,
    Emits,
    Outcome,
    PermanentError,
    Retry,
    RetryableError,
    StaleAfter,
    StepContext,
    Template,
    handler,
    middleware,
    resource,
)
from tasker.errors import ConfigurationError, InputInvalid, SignalInvalid, TemplateInvalid
from tasker.events.codec import decode_message
from tasker.events.messages import LiveUpdate
from tasker.events.task_events import StepRetryScheduled
from tasker.service.domain.steps import children
from tasker.testing import NotOver, Stuck, SyncTaskerTest, TaskerTest


class Order(msgspec.Struct):
    item: str
    cents: int


class Receipt(msgspec.Struct):
    paid: int


orders = Template("orders")


@orders.step
async def reserve(input: Order) -> str:
    return f"shelf of {input.item}"


@orders.step(retry=Retry(max_attempts=3, delay_s=60.0, delay_s_max=600.0, jitter=0.5), start_to_close_s=30)
async def charge(ctx: StepContext, input: Order, reserve: str) -> Receipt:
    return Receipt(paid=input.cents)


@orders.step
def ship(charge: Receipt) -> dict[str, Any]:
    return {"shipped": True, "paid": charge.paid}


ORDER = Order("lamp", 4_200)


@pytest.fixture
def tasker_templates() -> list[Template]:
    return [orders]


async def test_a_run_shows_result_steps_and_events(tasker: TaskerTest) -> None:
    run = await tasker.run(ORDER)
    assert run.state == "completed"
    assert run.result == {"shipped": True, "paid": 4_200}
    assert run.steps["charge"].result_as(Receipt) == Receipt(paid=4_200)
    assert [step.state for step in run.steps.values()] == ["completed"] * 3
    assert run.history[0] == "task_created"
    assert run.history[-1] == "task_completed"
    [completed] = run.events_of("step_completed")[1:2]
    assert (completed.step, completed.attempt, completed.result) == ("charge", 1, {"paid": 4_200})
    assert run.error is None


async def test_a_failing_step_is_tried_again_and_the_waits_take_no_time(tasker: TaskerTest) -> None:
    began_s = time.monotonic()
    tasker.fail("charge", times=2, error=RetryableError("the bank is away"))
    run = await tasker.run(ORDER)
    assert run.state == "completed"
    assert run.steps["charge"].attempts == 3
    assert [error.message for error in run.steps["charge"].errors] == ["the bank is away"] * 2
    waits = run.steps["charge"].delays_s
    assert waits == tuple(event.delay_s for event in run.events_of(StepRetryScheduled))
    assert sum(waits) > 60
    assert tasker.now - datetime(2030, 1, 1, tzinfo=UTC) > timedelta(seconds=sum(waits))
    assert time.monotonic() - began_s < 20


async def test_a_step_without_attempts_left_blocks_and_a_person_repairs_it(tasker: TaskerTest) -> None:
    tasker.fail("charge", times=3)
    run = await tasker.run(ORDER)
    assert run.state == "blocked"
    assert run.error is not None
    assert run.error.message == "the test says so"
    assert run.steps["ship"].state == "pending"
    await run.retry()
    assert (await run.wait()).state == "completed"
    assert run.steps["charge"].attempts == 4


async def test_a_permanent_error_ends_it_at_once(tasker: TaskerTest) -> None:
    tasker.fail("charge", error=PermanentError("no such card"))
    run = await tasker.run(ORDER)
    assert (run.state, run.steps["charge"].attempts) == ("blocked", 1)


async def test_a_stub_stands_for_a_handler(tasker: TaskerTest) -> None:
    tasker.stub("charge", Receipt(paid=1))
    assert (await tasker.run(ORDER)).result == {"shipped": True, "paid": 1}

    async def dear(input: Order) -> Receipt:
        return Receipt(paid=100 * input.cents)

    tasker.stub("charge", dear)
    assert (await tasker.run(ORDER)).result == {"shipped": True, "paid": 420_000}


async def test_time_stands_still_until_it_is_advanced(tasker: TaskerTest) -> None:
    tasker.fail("charge")
    run = await tasker.start(ORDER)
    assert run.state == "running"
    assert (run.steps["charge"].state, run.steps["charge"].attempts) == ("waiting", 1)
    [scheduled] = run.events_of("step_retry_scheduled")
    await tasker.advance(scheduled.delay_s - 1)
    assert run.steps["charge"].state == "waiting"
    await tasker.advance(1)
    assert run.state == "completed"


async def test_a_task_that_begins_later_begins_then(tasker: TaskerTest) -> None:
    run = await tasker.start(ORDER, not_before=tasker.now + timedelta(days=3))
    await tasker.advance(days=2, hours=23, minutes=59)
    assert run.state == "pending"
    await tasker.advance(minutes=1)
    assert run.state == "completed"


async def test_a_worker_that_dies_after_its_work_is_found_lost_and_the_key_is_the_same(tasker: TaskerTest) -> None:
    tasker.crash_worker_in("charge")
    run = await tasker.run(ORDER)
    assert run.state == "completed"
    assert run.steps["charge"].attempts == 2
    assert [error.type for error in run.steps["charge"].errors] == ["worker_lost"]
    first, second = tasker.calls("charge")
    assert first.idempotency_key == second.idempotency_key
    assert first.worker != second.worker


async def test_a_worker_that_dies_under_a_sync_handler(tasker: TaskerTest) -> None:
    tasker.crash_worker_in("ship", when="before")
    run = await tasker.run(ORDER)
    assert (run.state, run.steps["ship"].attempts) == ("completed", 2)


async def test_a_service_that_dies_goes_on_from_the_log(tasker: TaskerTest) -> None:
    tasker.fail("charge", times=2)
    run = await tasker.start(ORDER)
    before = run.history
    await tasker.crash_service()
    assert run.history == before
    await run.wait()
    assert (run.state, run.steps["charge"].attempts) == ("completed", 3)


@pytest.mark.parametrize("kind", ["work", "started", "completed"])
async def test_what_is_delivered_twice_is_recorded_once(tasker: TaskerTest, kind: Any) -> None:
    tasker.duplicate(kind, step="charge")
    run = await tasker.run(ORDER)
    assert run.state == "completed"
    await tasker.advance(minutes=5)
    assert len(run.events_of("step_completed")) == 3
    assert {call.idempotency_key for call in tasker.calls("charge")} == {f"{run.task_id}:charge"}


@pytest.mark.parametrize("kind", ["work", "completed", "answer"])
async def test_what_is_lost_is_made_good(tasker: TaskerTest, kind: Any) -> None:
    tasker.lose(kind, step="charge", times=2)
    run = await tasker.run(ORDER)
    assert (run.state, len(run.events_of("step_completed"))) == ("completed", 3)


async def test_a_report_that_comes_after_its_attempt_was_given_up_changes_nothing(tasker: TaskerTest) -> None:
    tasker.crash_worker_in("charge", when="before")
    tasker.delay("started", step="charge", delay_s=120)
    run = await tasker.run(ORDER)
    assert run.state == "completed"
    history = run.history
    await tasker.advance(minutes=10)
    assert run.history == history


async def test_a_refused_input_is_refused_as_in_production(tasker: TaskerTest) -> None:
    with pytest.raises(InputInvalid) as refused:
        await tasker.run({"item": "lamp", "cents": "many"})
    assert [error.pointer for error in refused.value.errors] == ["/cents"]


async def test_a_key_names_a_task_for_ever(tasker: TaskerTest) -> None:
    first = await tasker.run(ORDER, idempotency_key="order-1")
    again = await tasker.run(ORDER, idempotency_key="order-1")
    assert first.task_id == again.task_id
    assert len(tasker.calls("charge")) == 1


async def test_the_same_seed_gives_the_same_events() -> None:
    async def told(seed: int) -> list[tuple[Any, ...]]:
        async with TaskerTest(orders, seed=seed) as tasker:
            tasker.fail("charge", times=2)
            tasker.crash_worker_in("ship")
            run = await tasker.run(ORDER)
            return [(run.task_id, event.seq, event.at, event.type, event.data) for event in run.events]

    assert await told(1) == await told(1)
    assert await told(1) != await told(2)


def test_a_sync_test_needs_no_loop(sync_tasker: SyncTaskerTest) -> None:
    sync_tasker.fail("charge")
    run = sync_tasker.start(ORDER)
    assert run.steps["charge"].state == "waiting"
    sync_tasker.advance(minutes=10)
    assert run.state == "completed"
    sync_tasker.crash_service()
    sync_tasker.crash_worker()
    assert sync_tasker.run(ORDER).result == {"shipped": True, "paid": 4_200}


# -------------------------------------------------------------------- handlers that take time


async def test_an_async_handler_past_its_time_is_cancelled() -> None:
    told: list[str] = []
    slow = Template("slow")

    @slow.step(start_to_close_s=3_600, heartbeat_s=600, retry=Retry(max_attempts=2, delay_s=1))
    async def think(ctx: StepContext) -> str:
        try:
            await asyncio.sleep(7_200 if ctx.attempt == 1 else 1_800)
        except asyncio.CancelledError:
            told.append(f"{ctx.remaining_s:g} s left")
            raise
        return "thought"

    async with TaskerTest(slow) as tasker:
        run = await tasker.run()
    assert run.result == "thought"
    assert told == ["0 s left"]
    [error] = run.steps["think"].errors
    assert error.type == "timeout"


def test_a_sync_handler_that_sleeps_takes_no_real_time_and_is_told_of_its_timeout() -> None:
    told: list[bool] = []
    slow = Template("slow")

    @slow.step(start_to_close_s=600, heartbeat_s=300, retry=Retry(max_attempts=2, delay_s=1))
    def poll(ctx: StepContext) -> int:
        for number in range(10_000):
            if ctx.attempt > 1 and number == 100:
                return number
            try:
                ctx.raise_if_cancelled()
            except AttemptCancelled:
                told.append(True)
                raise
            time.sleep(5)
        return -1

    with SyncTaskerTest(slow) as tasker:
        run = tasker.run()
    assert (run.state, run.result) == ("completed", 100)
    assert told == [True]
    assert [error.type for error in run.steps["poll"].errors] == ["timeout"]
    assert time.sleep.__module__ == "time", "the test's own sleep is the real one again"


async def test_a_test_may_hold_a_handler_at_a_gate() -> None:
    gate = asyncio.Event()
    held = Template("held")

    @held.step
    async def wait() -> str:
        await gate.wait()
        return "through"

    async with TaskerTest(held) as tasker:
        run = await tasker.start()
        assert run.steps["wait"].state == "running"
        assert run.steps["wait"].worker == "worker-1"
        gate.set()
        assert (await run.wait()).result == "through"


async def test_a_cancelled_task_tells_its_handler() -> None:
    told = threading.Event()
    held = Template("held")

    @held.step(start_to_close_s=86_400)
    async def wait(ctx: StepContext) -> None:
        try:
            await asyncio.sleep(80_000)
        finally:
            if ctx.cancelled:
                told.set()

    async with TaskerTest(held) as tasker:
        run = await tasker.start()
        await run.cancel()
        assert run.state == "cancelled"
        assert told.is_set()
        assert run.steps["wait"].state == "cancelled"


@pytest.mark.parametrize("on_failure", ["block", "fail"])
async def test_a_task_past_its_time_fails(on_failure: Any) -> None:
    never = Template("never", timeout_s=86_400, on_failure=on_failure)

    @never.step(start_to_close_s=7 * 86_400, heartbeat_s=3_600)
    async def wait() -> None:
        await asyncio.Event().wait()

    async with TaskerTest(never) as tasker:
        run = await tasker.run()
        assert (run.state, run.events_of("task_failed")[0].cause) == ("failed", "timeout")


async def test_work_in_a_thread_is_waited_for() -> None:
    hashing = Template("hashing")

    @hashing.step(start_to_close_s=1)
    async def digest() -> int:
        return await asyncio.to_thread(lambda: sum(range(1_000_000)))

    async with TaskerTest(hashing) as tasker:
        assert (await tasker.run()).result == sum(range(1_000_000))


# -------------------------------------------------------------------- what is wrong is told


async def test_a_task_that_does_not_end_is_told_with_where_it_stands(tasker: TaskerTest) -> None:
    tasker.fail("charge", times=2)
    with pytest.raises(NotOver, match=r"charge waiting \(attempt 1\)"):
        await tasker.run(ORDER, within_s=10)


def test_a_handler_that_blocks_for_ever_is_shown() -> None:
    gate = threading.Event()
    blocking = Template("blocking")

    @blocking.step(start_to_close_s=60)
    def wait() -> None:
        gate.wait()  # the blocking line

    with SyncTaskerTest(blocking, real_s_max=0.5) as tasker:
        with pytest.raises(Stuck, match="the blocking line"):
            tasker.run()
        gate.set()


def test_an_unknown_step_is_refused_with_those_there_are(sync_tasker: SyncTaskerTest) -> None:
    with pytest.raises(ConfigurationError, match="charge, reserve, ship"):
        sync_tasker.fail("chargee")


def test_a_faulty_template_is_refused_when_the_kit_opens() -> None:
    faulty = Template("faulty")

    @faulty.step
    def one(two: int) -> int:
        return two

    with pytest.raises(TemplateInvalid):
        SyncTaskerTest(faulty)


async def test_a_kit_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await TaskerTest(orders).run(ORDER)


# -------------------------------------------------------------------- several templates, plain handlers


@handler("double")
def double(input: int) -> int:
    return 2 * input


PLAIN = Template.from_yaml("name: plain\nsteps:\n  - name: double\n")
FOREIGN = Template.from_yaml("name: foreign\nsteps:\n  - name: predict\n")


async def test_templates_without_functions_are_stubbed() -> None:
    async with TaskerTest(PLAIN, FOREIGN, handlers=[double]) as tasker:
        assert (await tasker.run(21, template=PLAIN)).result == 42
        unknown = await tasker.run(1, template="foreign")
        assert unknown.state == "blocked"
        assert unknown.error is not None
        assert "stub it" in unknown.error.message
        tasker.stub("predict", "rain")
        assert (await tasker.run(1, template="foreign")).result == "rain"
        with pytest.raises(ConfigurationError, match="several templates"):
            await tasker.run(1)


happened: list[str] = []


@resource
async def shelf() -> AsyncIterator[str]:
    happened.append("made")
    yield "shelf"
    happened.append("given back")


async def test_handlers_have_their_resources_and_run_inside_hooks() -> None:
    """What a worker process gives to handlers the kit gives too, and takes back when it is closed."""
    happened.clear()

    @middleware
    async def watch(ctx: StepContext) -> AsyncGenerator[None, Outcome]:
        outcome = yield
        happened.append(f"{ctx.step}: {outcome.result or outcome.error}")

    stock = Template("stock")

    @stock.step
    async def take(shelf: str) -> str:
        return shelf

    @stock.step
    def put(take: str, shelf: str) -> str:
        return f"{take}, {shelf}"

    async with TaskerTest(stock, handlers=[watch]) as tasker:
        tasker.fail("take", error=RetryableError("not yet"))
        run = await tasker.run()
        assert run.result == "shelf, shelf"
        tasker.stub("take", "box")
        assert (await tasker.run()).result == "box, shelf"
        expected = ["made", "take: not yet", "take: shelf", "put: shelf, shelf", "take: box", "put: box, shelf"]
        assert happened == expected
        await tasker.crash_worker()
        assert (await tasker.run()).result == "box, shelf"
    assert happened[len(expected) :] == ["take: box", "made", "put: box, shelf", "given back", "given back"]


async def test_a_handler_at_its_limit_runs_one_after_the_other() -> None:
    flow = Template("flow")
    running: list[int] = []
    most = 0

    @flow.step(concurrency=1)
    async def slow(ctx: StepContext) -> str:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        await asyncio.sleep(10)
        running.pop()
        return f"{ctx.now.year}"

    async with TaskerTest(flow) as tasker:
        runs = [await tasker.start() for _ in range(3)]
        for run in runs:
            assert (await run.wait()).result == "2030"
    assert most == 1


async def test_a_limited_handler_and_the_others_of_its_queue_get_their_work_from_the_node_itself() -> None:
    flow = Template("flow")
    running: list[int] = []
    most: list[int] = []

    @flow.step
    async def quick() -> int:
        return 1

    @flow.step(concurrency=2)
    async def limited(quick: int) -> int:
        running.append(quick)
        most.append(len(running))
        await asyncio.sleep(0.1)
        running.pop()
        return quick

    async with TaskerTest(flow, slots=10) as tasker:
        await tasker.advance(2)
        runs = [await tasker.start() for _ in range(6)]
        for run in runs:
            assert (await run.wait()).result == 1
        side = tasker._world._side
        assert side is not None
        assert (side._direct.sent, side._direct.returned) == (12, 0)
    assert max(most) == 2


async def test_domain_events_are_recorded_with_the_outcome_that_they_wait_for() -> None:
    flow = Template("flow")

    @flow.step(
        retry=Retry(max_attempts=2),
        emits=[
            Emits("order.paid", Receipt),
            Emits("order.late", on="retryable"),
            Emits("order.lost", on="permanent", auto=True),
        ],
    )
    async def charge(ctx: StepContext, input: int) -> int:
        ctx.emit("order.paid", Receipt(paid=input))
        ctx.emit("order.late", {"attempt": ctx.attempt})
        if input < 0:
            raise ValueError("nothing to pay")
        return input

    async with TaskerTest(flow) as tasker:
        tasker.fail("charge", when="after")
        run = await tasker.run(5)
        assert [(one.name, one.attempt) for one in run.events_of("domain_event_raised")] == [
            ("order.late", 1),
            ("order.paid", 2),
        ]
        assert run.history[-3:] == ("domain_event_raised charge", "step_completed charge", "task_completed")
        await tasker.crash_service()
        run = await tasker.run(-1)
        assert [one.name for one in run.events_of("domain_event_raised")] == ["order.late", "order.lost"]
        assert run.state == "blocked"


waits = Template("waits")
waits.wait("go", "go", wait_deadline_s=3600, signal_schema={"type": "integer"})


async def test_a_signal_is_sent_and_a_wait_outlives_the_service() -> None:
    async with TaskerTest(waits) as tasker:
        run = await tasker.start()
        await tasker.advance(minutes=30)
        await tasker.crash_service(down_s=60)
        with pytest.raises(SignalInvalid):
            await run.signal("go", "no number")
        await run.signal("go", 7, command_id="once")
        assert (run.state, run.result) == ("completed", 7)
        late = await tasker.run()
        assert late.state == "blocked"
        assert late.error is not None
        assert late.error.type == "wait_expired"


def test_a_signal_is_sent_without_asyncio() -> None:
    with SyncTaskerTest(waits) as tasker:
        run = tasker.start()
        run.signal("go", 1)
        assert run.result == 1


@pytest.mark.parametrize("over", ["timed out", "resolved"])
async def test_what_an_attempt_used_that_is_over_is_recorded(over: str) -> None:
    flow = Template("flow", budget=Budget(tokens_max=1_000))

    @flow.step(start_to_close_s=5, heartbeat_s=1, retry=Retry(max_attempts=2, delay_s=1))
    async def calls(ctx: StepContext) -> int:
        ctx.usage(model="opus", tokens_in=7)
        if ctx.attempt == 1:
            await asyncio.sleep(60)
        return 1

    flow.delay("later", 600, after="calls")
    async with TaskerTest(flow) as tasker:
        run = await tasker.start()
        await tasker.advance(2)
        if over == "resolved":
            await tasker.ask(lambda client: client.step_resolve(run.task_id, "calls", 2, requested_by="ada"))
        await tasker.advance(60)
        told = [(one.attempt, one.meter, one.amount) for one in run.events_of("usage_recorded") if one.meter != "calls"]
        attempts = (1,) if over == "resolved" else (1, 2)
        assert told == [(attempt, "tokens_in", "7") for attempt in attempts]


async def test_usage_is_priced_recorded_of_failed_attempts_too_and_held_to_a_budget() -> None:
    flow = Template("flow", budget=Budget(cost_max="0.01"))

    @flow.step(retry=Retry(max_attempts=2))
    async def ask(ctx: StepContext, input: int) -> int:
        ctx.usage(model="opus", tokens_in=input, tokens_out=10)
        ctx.meter("pages", 0.5, "page")
        return input

    @flow.step
    def answer(ask: int) -> int:
        return ask

    prices = {"version": "v1", "models": {"opus": {"tokens_in": "0.00001", "tokens_out": "0.00002"}}}
    async with TaskerTest(flow, prices=prices) as tasker:
        tasker.fail("ask", when="after")
        run = await tasker.run(100)
        assert run.result == 100
        told = [(one.attempt, one.meter, one.amount, one.cost, one.prices) for one in run.events_of("usage_recorded")]
        assert told == [
            (attempt, *line)
            for attempt in (1, 2)
            for line in (
                ("tokens_in", "100", "0.001", "v1"),
                ("tokens_out", "10", "0.0002", "v1"),
                ("calls", "1", None, None),
                ("pages", "0.5", None, None),
            )
        ]
        run = await tasker.run(1_000)
        assert run.state == "blocked"
        assert run.steps["answer"].state == "pending"
        await run.set_budget(cost_max="1")
        assert (await run.wait()).result == 1_000


lasting = Template("lasting")


@lasting.step(start_to_close_s=3_600)
async def brew(input: float) -> str:
    await asyncio.sleep(input)
    return "brewed"


@pytest.mark.parametrize("tasker_templates", [[lasting]])
async def test_an_attempt_outlives_the_node_that_sent_it(tasker: TaskerTest) -> None:
    """Planted bug: its heartbeats go to that node for ever, and its task's new owner takes the worker for lost."""
    run = await tasker.start(300.0)
    await tasker.advance(40)
    await tasker.crash_service()
    await run.wait(within_s=300)
    assert (run.state, len(tasker.calls("brew"))) == ("completed", 1)


patient = Template("patient", stale_after=StaleAfter(waiting_s=3_600.0, paused_s=60.0))
patient.wait("paid", "paid", wait_deadline_s=86_400.0)


@pytest.mark.parametrize("tasker_templates", [[patient]])
async def test_a_step_that_waits_too_long_is_told_of_once_whatever_crashes(tasker: TaskerTest) -> None:
    run = await tasker.start()
    await tasker.advance(minutes=59)
    assert not run.events_of("went_stale")
    await tasker.crash_service(down_s=120)
    await tasker.advance(minutes=30)
    [stale] = run.events_of("went_stale")
    assert (stale.step, stale.at - run.events_of("step_awaited")[0].at >= timedelta(hours=1)) == ("paid", True)
    await run.signal("paid", 17)
    assert (await run.wait()).result == 17
    assert run.history[-2:] == ("stale_ended paid", "task_completed")


async def test_what_an_attempt_says_goes_out_live_and_its_last_progress_into_the_log() -> None:
    flow = Template("flow")

    @flow.step
    async def write(ctx: StepContext) -> str:
        words = ["never", " ", "again"]
        for number, word in enumerate(words, start=1):
            ctx.stream(word)
            ctx.progress(number, len(words), word)
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        ctx.stream("!")
        return "".join(words)

    async with TaskerTest(flow) as tasker:
        world = tasker._world
        said: list[LiveUpdate] = []
        subject = world.subjects.live("default", "*", "write")
        world.broker.connect().subscribe(subject, lambda message: said.append(decode_message(message.data, LiveUpdate)))
        run = await tasker.run()
        await tasker.advance(1)
        assert [msgspec.json.decode(chunk) for one in said for chunk in one.chunks] == ["never", " ", "again", "!"]
        assert [one.number for one in said] == list(range(1, len(said) + 1))
        assert len(said) <= 4, "what comes within a tenth of a second leaves together"
        assert (said[-1].ended, said[-1].dropped) == (True, 0)
        assert run.history[-3:] == ("progress_recorded write", "step_completed write", "task_completed")
        (told,) = run.events_of("progress_recorded")
        assert (told.done, told.total, told.message) == (3, 3, "again")
        assert run.result == "never again"


async def test_who_takes_over_an_attempt_speaks_as_the_next_one_and_only_its_progress_is_recorded() -> None:
    flow = Template("flow")

    @flow.step(heartbeat_s=5)
    async def write(ctx: StepContext) -> int:
        ctx.stream(f"attempt {ctx.attempt}")
        ctx.progress(ctx.attempt)
        await asyncio.sleep(1)
        return ctx.attempt

    async with TaskerTest(flow) as tasker:
        world = tasker._world
        said: list[LiveUpdate] = []
        subject = world.subjects.live("default", "*", "write")
        world.broker.connect().subscribe(subject, lambda message: said.append(decode_message(message.data, LiveUpdate)))
        tasker.crash_worker_in("write")
        run = await tasker.run()
        await tasker.advance(1)
        assert run.result == 2
        told = [(one.attempt, msgspec.json.decode(chunk)) for one in said for chunk in one.chunks]
        assert told == [(1, "attempt 1"), (2, "attempt 2")]
        assert [one.attempt for one in said if one.ended] == [2]
        assert [(one.attempt, one.done) for one in run.events_of("progress_recorded")] == [(2, 2)]


async def test_items_share_a_large_result_of_which_a_message_carries_only_a_few() -> None:
    flow = Template("flow")

    @flow.step
    def rows() -> dict[str, Any]:
        return {"rows": list(range(64)), "blob": "x" * 60_000}

    @flow.step(each="results.rows.rows", max_parallel=64)
    def row(rows: dict[str, Any], item: int) -> int:
        return item + len(rows["blob"])

    async with TaskerTest(flow) as tasker:
        run = await tasker.run()
        assert run.result == [60_000 + number for number in range(64)]
        assert run.events_of("step_attempt_failed") == ()


async def test_large_results_that_many_attempts_ask_for_at_once_come_in_several_messages() -> None:
    flow = Template("flow")

    @flow.step
    def blob() -> str:
        return "x" * 60_000

    @flow.step(after=["blob"])
    def rows() -> list[int]:
        return list(range(64))

    @flow.step(each="results.rows", after=["rows"], max_parallel=64)
    async def row(ctx: StepContext, item: int) -> int:
        return item + len(await ctx.result("blob"))

    async with TaskerTest(flow) as tasker:
        run = await tasker.run()
        assert run.result == [60_000 + number for number in range(64)]
        assert run.events_of("step_attempt_failed") == ()


async def test_a_template_that_starts_itself_for_ever_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "CHILD_DEPTH_MAX", 3)
    tower = Template("tower", on_failure="fail")
    tower.child("next", "tower")
    async with TaskerTest(tower) as kit:
        run = await kit.start()
        await run.wait()
        assert run.error is not None
        assert (run.state, run.error.type) == ("failed", "child_failed")
        task, tasks = UUID(run.task_id), 1
        while started := [one for one in kit._world.log.events_of(task) if one.type == "child_started"]:
            task, tasks = UUID(msgspec.json.decode(started[0].payload)["child"]), tasks + 1
        assert tasks == 4
