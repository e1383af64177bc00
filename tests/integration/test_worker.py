"""The worker against a scripted owner, on a real nats-server."""

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from tasker.bus.nats_bus import NatsBus
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import delete_stream, ensure_streams, ensure_work_consumer
from tasker.errors import Unavailable, ValueInvalid
from tasker.events.messages import Report, ReportReply
from tasker.handlers import PermanentError, RetryableError, StepContext, handler, starts
from tasker.handlers.attempt import Attempt
from tasker.handlers.handler import plain_handlers_of
from tasker.handlers.registry import Registry
from tasker.handlers.worker import Worker
from tests.integration.scripted_owner import RECORDED, friendly, seen
from tests.integration.serving import STREAMS

TIMEOUT_S = 0.5
"""Of a step that is to be timed out: long enough that its handler has begun by then on a busy machine, too."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have any attempt count as a fast one, whatever else the machine does."""
    monkeypatch.setattr(starts, "STARTED_DELAY_S", 20.0)


@pytest.fixture
def calm() -> Iterator[None]:
    """Keep the cyclic collector from running."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("patient")
async def test_a_first_delivery_runs_at_once_and_a_fast_one_is_told_by_its_outcome_alone(owner, serve) -> None:
    async def square(ctx: StepContext, input: int) -> int:
        return input * input

    worker = await serve(square)
    work = await owner.offer("square", input=7)
    await owner.until(lambda: owner.acks)
    assert owner.kinds() == ["completed"]
    assert bytes(owner.outcome(work).result) == b"49"
    assert owner.outcome(work).worker == worker.id
    assert owner.acks == ["+ACK"]


async def test_a_slower_handler_is_reported_as_started_and_the_message_acked_by_that_answer(owner, serve) -> None:
    go = asyncio.Event()

    async def slow() -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go.wait(), home))

    home = asyncio.get_running_loop()
    await serve(slow)
    await owner.offer("slow")
    await owner.until(lambda: owner.acks)
    assert owner.log == ["started", "answered", "+ACK"]
    go.set()
    await owner.until(lambda: owner.kinds() == ["started", "completed"])


@pytest.mark.usefixtures("patient")
async def test_the_message_is_not_acked_before_the_owner_answers(owner, serve) -> None:
    async def quick() -> int:
        return 1

    held: list[bool] = [True]
    owner.answer = lambda report: None if held[0] else friendly(report)
    worker = await serve(quick)
    worker._reporter._answer_timeout_s = 0.2
    await owner.offer("quick")
    await owner.until(lambda: len(owner.reports) >= 3)
    assert set(owner.kinds()) == {"completed"}
    assert "+ACK" not in owner.acks
    held[0] = False
    await owner.until(lambda: "+ACK" in owner.acks)
    assert owner.acks.count("+ACK") == 1


class Crowded(PullLoop):
    """One whose bus has no room left when a message is first acked."""

    def ack(self, delivery: Delivery) -> None:
        with contextlib.suppress(Unavailable):
            while delivery.num_delivered == 1:
                self._bus.publish("crowd", b"x" * 50_000)
        super().ack(delivery)


@pytest.mark.parametrize("offer", [0, 1], ids=["ran at once", "was claimed"])
async def test_a_full_send_buffer_keeps_no_attempt(owner, serve, offer) -> None:
    """Planted bugs: outcomes that counted as unanswered for ever; a claim that was granted and never ran."""
    ran: list[int] = []

    async def step(input: int) -> None:
        ran.append(input)

    def answer(report: Report) -> ReportReply:
        """Let nothing run that has run: what could not be acked is delivered again."""
        told = [one.kind for one in owner.reports if one.task_id == report.task_id]
        has_run = report.kind in ("claim", "reserve") and "completed" in told
        return ReportReply(ok=True, recorded=False, reason="gone") if has_run else friendly(report)

    owner.answer = answer
    worker = await serve(step, pull=Crowded, pending_bytes_max=100_000)
    works = [await owner.offer("step", input=number, offer=offer) for number in range(3)]
    await owner.until_ended(*works)
    await owner.until(lambda: not worker._course.attempts)
    assert (worker.vitals().unanswered, worker.running) == (0, 0)
    assert sorted(ran) == [0, 1, 2]


async def test_a_later_offer_runs_only_after_the_owner_said_so(owner, serve) -> None:
    async def step() -> int:
        return 1

    await owner.offer("step", offer=1)
    await serve(step)
    await owner.until(lambda: "completed" in owner.kinds())
    assert owner.kinds() == ["claim", "completed"]
    assert owner.log[:3] == ["claim", "answered", "+ACK"]


async def test_a_redelivered_message_is_claimed(owner, serve) -> None:
    async def step() -> int:
        return 1

    taken = asyncio.Event()
    name = await ensure_work_consumer(
        owner.bus, owner.subjects, STREAMS, tenant="default", namespace="default", queue="flow"
    )
    pull = PullLoop(owner.bus, owner.subjects.work_stream, name, lambda _: taken.set(), lambda: int(not taken.is_set()))
    await owner.offer("step")
    await taken.wait()
    await pull.stop()
    # Nobody acks it: JetStream delivers it once more after the ack wait.
    await serve(step)
    await owner.until(lambda: "completed" in owner.kinds())
    assert owner.kinds() == ["claim", "completed"]


async def test_a_claim_that_comes_with_a_cancel_is_not_run(owner, serve) -> None:
    ran: list[int] = []

    async def step() -> None:
        ran.append(1)

    owner.answer = lambda _: ReportReply(ok=True, recorded=True, run=True, cancel=True, grace_s=0.0)
    await serve(step)
    work = await owner.offer("step", offer=1)
    await owner.until_ended(work)
    assert owner.outcome(work).error.type == "cancelled"
    assert ran == []


async def test_gone_is_acked_and_forgotten(owner, serve) -> None:
    ran: list[int] = []

    async def step() -> None:
        ran.append(1)

    owner.answer = lambda _: ReportReply(ok=True, recorded=False, reason="gone")
    worker = await serve(step)
    await owner.offer("step", offer=2)
    await owner.until(lambda: owner.acks)
    assert owner.log == ["claim", "answered", "+ACK"]
    assert ran == []
    assert worker.running == 0


async def test_an_old_message_is_claimed(owner, serve, monkeypatch) -> None:
    async def step() -> int:
        return 1

    worker = await serve(step)
    monkeypatch.setattr(worker._clock, "age_us", lambda at_us: 2_500_000)
    await owner.offer("step")
    await owner.until(lambda: "completed" in owner.kinds())
    assert owner.kinds() == ["claim", "completed"]


async def test_started_elsewhere_stops_the_handler_and_drops_its_outcome(owner, serve) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def long(ctx: StepContext) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def answer(_report):
        begun.wait(20)  # `started` is told beside the handler, which may not have begun; then it never would
        return ReportReply(ok=True, recorded=False, reason="started_elsewhere")

    owner.answer = answer
    worker = await serve(long)
    await owner.offer("long")
    await asyncio.to_thread(cancelled.wait, 20)
    assert cancelled.is_set()
    await worker.drain()
    await owner.until(lambda: "+ACK" in owner.acks)
    assert owner.kinds() == ["started"]


@pytest.mark.parametrize(
    ("reason", "kinds"),
    [("not_open", ["started", "failed"]), ("stale_attempt", ["started", "failed"]), ("started_elsewhere", ["started"])],
)
async def test_what_an_attempt_used_that_is_over_is_told(owner, serve, reason, kinds) -> None:
    """Not where another worker has it: this would be taken for the outcome of that."""
    begun = threading.Event()

    async def calls(ctx: StepContext) -> None:
        ctx.meter("pages", 3)
        begun.set()
        await asyncio.sleep(60)

    def answer(_report):
        begun.wait(20)
        return ReportReply(ok=True, recorded=False, reason=reason)

    owner.answer = answer
    worker = await serve(calls)
    work = await owner.offer("calls")
    await owner.until(lambda: "+ACK" in owner.acks)
    await worker.drain()
    assert owner.kinds() == kinds
    if "failed" in kinds:
        assert [(line.meter, line.amount) for line in owner.outcome(work).usage] == [("pages", "3")]


@pytest.mark.usefixtures("patient")
async def test_a_report_is_repeated_until_it_is_answered(owner, serve) -> None:
    async def step() -> int:
        return 1

    answers = iter(
        [
            None,
            ReportReply(ok=False, recorded=False, error=Unavailable("no owner").problem()),
            ReportReply(ok=True, recorded=True, duplicate=True),
        ]
    )
    owner.answer = lambda _: next(answers)
    worker = await serve(step)
    worker._reporter._answer_timeout_s = 0.2
    work = await owner.offer("step")
    await owner.until(lambda: "+ACK" in owner.acks)
    assert owner.kinds(work) == ["completed"] * 3
    assert len({bytes(report.result) for report in owner.reports}) == 1


@pytest.mark.usefixtures("patient")
async def test_a_refused_outcome_fails_the_step_instead_of_being_lost(owner, serve) -> None:
    async def step() -> int:
        return 1

    refusal = ReportReply(ok=False, recorded=False, error=ValueInvalid("/x: too odd").problem())
    owner.answer = lambda report: refusal if report.kind == "completed" else RECORDED
    await serve(step)
    work = await owner.offer("step")
    await owner.until(lambda: "+ACK" in owner.acks)
    assert owner.kinds(work) == ["completed", "failed"]
    assert owner.reports[-1].error.type == "result_invalid"
    assert not owner.reports[-1].error.retryable
    assert "too odd" in owner.reports[-1].error.message


async def test_errors_are_told_as_the_handler_meant_them(owner, serve) -> None:
    async def again() -> None:
        raise RetryableError("later", retry_after_s=7)

    async def never() -> None:
        raise PermanentError("no")

    def odd() -> None:
        raise KeyError("x")

    await serve(again, never, odd)
    works = [await owner.offer(name) for name in ("again", "never", "odd")]
    await owner.until_ended(*works)
    errors = [owner.outcome(work).error for work in works]
    assert [(one.type, one.retryable, one.retry_after_s) for one in errors] == [
        ("RetryableError", True, 7.0),
        ("PermanentError", False, None),
        ("KeyError", True, None),
    ]
    assert 'raise KeyError("x")' in errors[2].stack


async def test_only_as_much_is_claimed_as_there_are_slots(owner, serve) -> None:
    running = 0
    most = 0
    begun, go = threading.Semaphore(0), threading.Event()
    counting = threading.Lock()

    def hold() -> None:
        nonlocal running, most
        with counting:
            running += 1
            most = max(most, running)
        begun.release()
        go.wait(20)
        with counting:
            running -= 1

    worker = await serve(hold, slots=3)
    works = [await owner.offer("hold") for _ in range(8)]
    await owner.until(lambda: owner.kinds().count("started") == 3)
    for _ in range(3):
        await asyncio.to_thread(begun.acquire, timeout=20)
    await owner.bus.flush()
    assert worker.running == 3
    assert worker.counts.delivered == 3
    go.set()
    await owner.until_ended(*works)
    assert most == 3
    assert "-NAK" not in owner.acks


async def test_a_queue_with_a_backlog_does_not_starve_another(owner, serve) -> None:
    async def step() -> None:
        await asyncio.sleep(0.01)

    many = [await owner.offer("step") for _ in range(400)]  # a backlog however slowly they are offered
    await serve(step, queues=("flow", "other"), slots=8)
    one = await owner.offer("step", queue="other")
    await owner.until_ended(one)
    assert sum(kind == "completed" for kind in owner.kinds()) < len(many) // 4
    await owner.until_ended(*many)


@pytest.mark.usefixtures("calm")
async def test_an_attempt_is_gone_with_its_answer_and_nothing_is_left_to_the_cyclic_collector(owner, serve) -> None:
    async def waits() -> None:
        await asyncio.sleep(0.05)

    async def fails() -> None:
        raise KeyError("x")

    def blocks(ctx: StepContext) -> float:
        return ctx.remaining_s

    async def long() -> None:
        await asyncio.sleep(60)

    worker = await serve(waits, fails, blocks, long)
    works = [await owner.offer(name) for name in ("waits", "fails", "blocks", "long")]
    await owner.until_begun(works[-1])
    owner.cancel(worker.id, works[-1])
    await owner.until_ended(*works)
    ids = {work.task_id for work in works}
    assert await seen(lambda: not any(type(one) is Attempt and one.work.task_id in ids for one in gc.get_objects()))


async def test_a_running_attempt_beats_and_its_answer_can_cancel_it(owner, serve) -> None:
    async def long() -> None:
        await asyncio.sleep(60)

    def answer(report):
        beats = owner.kinds().count("heartbeat")
        return ReportReply(ok=True, recorded=True, cancel=beats >= 3, grace_s=5.0)

    owner.answer = answer
    await serve(long)
    work = await owner.offer("long", heartbeat_s=0.3)
    await owner.until_ended(work)
    error = owner.outcome(work).error
    assert (error.type, error.retryable) == ("cancelled", False)
    assert owner.kinds(work).count("heartbeat") >= 3


async def test_a_cancel_message_stops_async_and_sync_handlers(owner, serve) -> None:
    async def waits() -> None:
        await asyncio.sleep(60)

    def polls(ctx: StepContext) -> None:
        while not ctx.cancelled:
            time.sleep(0.005)
        ctx.raise_if_cancelled()

    worker = await serve(waits, polls)
    works = [await owner.offer("waits"), await owner.offer("polls")]
    await owner.until(lambda: owner.kinds().count("started") == 2)
    for work in works:
        owner.cancel(worker.id, work)
    await owner.until_ended(*works)
    assert {owner.outcome(work).error.type for work in works} == {"cancelled"}
    assert worker.running == 0


async def test_a_handler_that_ignores_its_cancellation_is_told_of_after_the_grace_and_keeps_its_slot(
    owner, serve
) -> None:
    begun, go = threading.Event(), threading.Event()

    def deaf() -> int:
        begun.set()
        go.wait(20)
        return 1

    worker = await serve(deaf)
    work = await owner.offer("deaf")
    await owner.until(lambda: "started" in owner.kinds())
    await asyncio.to_thread(begun.wait, 20)  # cancelled before, it would not run at all
    owner.cancel(worker.id, work, grace_s=0.1)
    await owner.until_ended(work)
    assert owner.outcome(work).error.type == "cancelled"
    assert "in deaf" in owner.outcome(work).error.stack
    assert worker.running == 1
    go.set()
    assert await seen(lambda: worker.running == 0)
    await worker.drain()
    assert [kind for kind in owner.kinds(work) if kind != "heartbeat"] == ["started", "failed"]


async def test_an_async_handler_past_its_time_is_cancelled_and_told_as_timeout(owner, serve) -> None:
    async def long() -> None:
        await asyncio.sleep(60)

    await serve(long)
    work = await owner.offer("long", start_to_close_s=TIMEOUT_S)
    await owner.until_ended(work)
    error = owner.outcome(work).error
    assert (error.type, error.retryable) == ("timeout", True)
    assert "asyncio.sleep(60)" in error.stack


async def test_a_sync_handler_past_its_time_is_told_with_its_threads_stack_and_keeps_its_slot(owner, serve) -> None:
    go = threading.Event()

    def long() -> None:
        go.wait(20)  # the blocking line

    worker = await serve(long)
    work = await owner.offer("long", start_to_close_s=TIMEOUT_S)
    await owner.until_ended(work)
    assert owner.outcome(work).error.type == "timeout"
    assert "the blocking line" in owner.outcome(work).error.stack
    assert worker.running == 1
    go.set()
    assert await seen(lambda: worker.running == 0)
    await worker.drain()


async def test_a_worker_whose_loop_is_blocked_says_so_and_reports_its_other_steps(owner, serve) -> None:
    go = threading.Event()

    async def blocks() -> None:
        go.wait(20)  # the blocking line

    async def innocent() -> None:
        await asyncio.sleep(60)

    worker = await serve(blocks, innocent)
    other = await owner.offer("innocent")
    await owner.until(lambda: "started" in owner.kinds(other))
    work = await owner.offer("blocks", start_to_close_s=TIMEOUT_S)
    await owner.until_ended(work, other)
    error = owner.outcome(work).error
    assert error.type == "timeout"
    assert "the blocking line" in error.stack
    assert (owner.outcome(other).error.type, owner.outcome(other).error.retryable) == ("worker_lost", True)
    await worker.lost()
    late = await owner.offer("innocent")
    await worker.retire()
    go.set()
    assert owner.kinds(late) == []


async def test_a_blocked_loop_is_told_with_its_line_also_beside_a_thread_that_is_stuck(owner, serve) -> None:
    go = threading.Event()

    def stuck() -> None:
        go.wait(20)

    async def blocks() -> None:
        go.wait(20)  # the blocking line

    worker = await serve(stuck, blocks)
    first = await owner.offer("stuck", start_to_close_s=TIMEOUT_S)
    await owner.until_ended(first)
    work = await owner.offer("blocks", start_to_close_s=1.2)
    await owner.until_ended(work)
    assert owner.outcome(work).error.type == "timeout"
    assert "the blocking line" in owner.outcome(work).error.stack
    await worker.lost()
    go.set()


async def test_a_block_shorter_than_the_grace_costs_only_its_own_attempt(owner, serve) -> None:
    async def blocks(ctx: StepContext) -> None:
        while not ctx.cancelled:
            time.sleep(0.005)  # noqa: ASYNC251 - the fault itself
        time.sleep(0.2)  # noqa: ASYNC251 - it is looked at here at the latest

    async def fine() -> int:
        return 1

    worker = await serve(blocks, fine)
    work = await owner.offer("blocks", start_to_close_s=TIMEOUT_S)
    await owner.until_ended(work)
    assert owner.outcome(work).error.type == "timeout"
    assert "in blocks" in owner.outcome(work).error.stack
    after = await owner.offer("fine")
    await owner.until_ended(after)
    assert owner.outcome(after).kind == "completed"
    assert worker.lost_why is None


async def test_half_of_the_slots_lost_is_a_lost_worker(owner, serve) -> None:
    begun, go = threading.Semaphore(0), threading.Event()

    def stuck() -> None:
        begun.release()
        go.wait(20)

    worker = await serve(stuck, slots=4)
    works = [await owner.offer("stuck") for _ in range(2)]
    for work in works:
        await asyncio.to_thread(begun.acquire, timeout=20)
        await owner.until_begun(work)
    for work in works:
        owner.cancel(worker.id, work, grace_s=0.0)
    await owner.until_ended(*works)
    await worker.lost()
    assert "2 of 4 slots" in worker.lost_why
    go.set()


async def test_unknown_handler_is_given_back_with_a_delay(owner, serve) -> None:
    async def known() -> int:
        return 1

    worker = await serve(known)
    await owner.offer("known", handler="unknown")
    await owner.until(lambda: owner.acks.count("-NAK") >= 2)
    assert worker.counts.unknown_handler <= 3
    assert owner.reports == []


async def test_undecodable_work_is_never_delivered_again(owner, serve) -> None:
    async def known() -> int:
        return 1

    worker = await serve(known)
    await owner.send(b'{"task_id": 7')
    await owner.send(b"\xff\xfe")
    await owner.until(lambda: owner.acks.count("+TERM") == 2)
    work = await owner.offer("known")
    await owner.until_ended(work)
    assert worker.counts.undecodable == 2


async def test_drain_takes_nothing_more_and_lets_what_runs_end(owner, serve) -> None:
    go = threading.Event()

    def long() -> int:
        go.wait(20)
        return 5

    worker = await serve(long)
    work = await owner.offer("long")
    await owner.until(lambda: "started" in owner.kinds())
    drainer = asyncio.create_task(worker.drain())
    await asyncio.sleep(0)  # the drain begins
    later = await owner.offer("long")
    go.set()
    await drainer
    assert bytes(owner.outcome(work).result) == b"5"
    assert "+ACK" in owner.acks
    assert owner.kinds(later) == []
    await worker.stop()
    await worker.drain()


async def test_what_outlives_the_drain_is_told_as_lost(owner, serve) -> None:
    async def long() -> None:
        await asyncio.sleep(60)

    worker = await serve(long)
    work = await owner.offer("long")
    await owner.until(lambda: "started" in owner.kinds())
    await worker.drain(0.1)
    error = owner.outcome(work).error
    assert (error.type, error.retryable) == ("worker_lost", True)


async def test_stopping_early_is_fine(nats_url, owner) -> None:
    bus = await NatsBus.connect(nats_url, name="worker")

    @handler("x")
    async def x() -> None: ...

    worker = Worker(bus, Registry(handlers=plain_handlers_of(x)), subjects=owner.subjects)
    await worker.stop()
    await worker.stop()
    await bus.close()


async def test_a_handler_can_ask_for_an_ancestors_result(owner, serve) -> None:
    async def asks(ctx: StepContext) -> int:
        return await ctx.result("first") + 1

    def asks_sync(ctx: StepContext) -> int:
        return ctx.result_sync("first", int) + 2

    def answer(report):
        if report.kind == "result":
            return ReportReply(ok=True, recorded=False, result=msgspec.Raw(b"41" if report.of == "first" else b"0"))
        return friendly(report)

    owner.answer = answer
    await serve(asks, asks_sync)
    works = [await owner.offer("asks"), await owner.offer("asks_sync")]
    await owner.until_ended(*works)
    assert [bytes(owner.outcome(work).result) for work in works] == [b"42", b"43"]


async def test_results_that_did_not_fit_are_fetched_before_the_run(owner, serve) -> None:
    async def sums(a: int, b: int) -> int:
        return a + b

    def answer(report):
        if report.kind == "result":
            return ReportReply(ok=True, recorded=False, result=msgspec.Raw(b"40"))
        return friendly(report)

    owner.answer = answer
    await serve(sums)
    work = await owner.offer("sums", results={"b": msgspec.Raw(b"2")}, results_ref=("a",))
    await owner.until_ended(work)
    assert bytes(owner.outcome(work).result) == b"42"


async def test_a_deleted_work_stream_is_made_anew_and_served(owner, serve) -> None:
    async def step() -> int:
        return 1

    await serve(step)
    await owner.until_ended(await owner.offer("step"))
    await delete_stream(owner.bus, owner.subjects.work_stream)
    await ensure_streams(owner.bus, owner.subjects, STREAMS)
    await owner.until_ended(await owner.offer("step"))


async def test_a_copy_of_a_held_attempt_is_not_run_again(owner, serve) -> None:
    runs: list[int] = []
    go = threading.Event()

    def long() -> None:
        runs.append(1)
        go.wait(20)

    held = [True]
    owner.answer = lambda report: None if held[0] else friendly(report)
    worker = await serve(long)
    worker._reporter._answer_timeout_s = 0.3
    work = await owner.offer("long")
    await owner.until(lambda: "started" in owner.kinds())
    await owner.offer("long", task_id=work.task_id, offer=1)
    await owner.until(lambda: worker.counts.delivered >= 2)
    held[0] = False
    go.set()
    await owner.until(lambda: owner.acks.count("+ACK") >= 2)
    assert runs == [1]
    assert "claim" not in owner.kinds()
