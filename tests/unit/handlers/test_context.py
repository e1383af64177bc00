"""What a handler is told and can ask for."""

import asyncio
import concurrent.futures
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import structlog

from tasker.errors import (
    ChunkTooLarge,
    EventInvalid,
    EventsTooMany,
    EventTooLarge,
    EventUnknown,
    StateForbids,
    StateInvalid,
    UsageInvalid,
    UsageTooMany,
    ValueInvalid,
)
from tasker.events.messages import DeclaredEvent, EmittedEvent, Progress, UsageLine
from tasker.events.usage import Metering
from tasker.handlers.context import StepContext
from tasker.handlers.outcome import AttemptCancelled, error_info


class Cart(msgspec.Struct):
    total: int


class Port:
    def __init__(self) -> None:
        self.beats = 0
        self.emitted: list[EmittedEvent] = []
        self.metering = Metering()
        self.chunks: list[bytes] = []
        self.answers: dict[str, bytes | Exception] = {"cart": b'{"total": 5}', "none": StateForbids("no result")}

    def ask_result(self, step: str) -> concurrent.futures.Future[bytes]:
        future: concurrent.futures.Future[bytes] = concurrent.futures.Future()
        answer = self.answers[step]
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future

    def tell_progress(self, progress: Progress) -> None:
        self.told = progress

    def stream(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def tell_usage(self, lines: Sequence[UsageLine]) -> None:
        self.metering.add(lines)

    def tell_written(self, key: str, value: msgspec.Raw) -> None:
        self.written = (key, bytes(value))

    def tell_emitted(self, event: EmittedEvent) -> None:
        self.emitted.append(event)

    def now_us(self) -> int:
        return 1_700_000_000_000_000

    def beat(self) -> None:
        self.beats += 1


def context(
    port: Port | None = None, *, deadline_in_s: float = 30.0, emits: tuple[DeclaredEvent, ...] = ()
) -> StepContext:
    return StepContext(
        task_id="t-1",
        step="charge",
        attempt=2,
        tenant="default",
        namespace="shop",
        template="orders",
        idempotency_key="t-1:charge",
        worker="w",
        deadline_s=time.monotonic() + deadline_in_s,
        port=port or Port(),
        correlation_id="c",
        emits=emits,
    )


async def test_the_deadline_is_a_time_and_a_rest() -> None:
    ctx = context(deadline_in_s=30)
    assert 29 < ctx.remaining_s <= 30
    assert timedelta(seconds=29) < ctx.deadline - datetime.now(UTC) <= timedelta(seconds=30)
    assert context(deadline_in_s=-1).remaining_s == 0


async def test_results_are_decoded_by_type() -> None:
    ctx = context()
    assert await ctx.result("cart") == {"total": 5}
    assert await ctx.result("cart", Cart) == Cart(5)
    assert ctx.result_sync("cart", Cart) == Cart(5)
    with pytest.raises(StateForbids):
        await ctx.result("none")
    with pytest.raises(StateForbids):
        ctx.result_sync("none")
    with pytest.raises(msgspec.ValidationError):
        await ctx.result("cart", int)


async def test_a_heartbeat_beats_and_lets_a_cancellation_land() -> None:
    port = Port()
    ctx = context(port)
    await ctx.heartbeat()
    assert port.beats == 1
    ctx.mark_cancelled()
    with pytest.raises(AttemptCancelled):
        await ctx.heartbeat()


async def test_cancelled_is_a_flag_and_can_be_awaited() -> None:
    ctx = context()
    assert ctx.cancelled is False
    waiter = asyncio.create_task(ctx.wait_cancelled())
    await asyncio.sleep(0)
    assert not waiter.done()
    ctx.mark_cancelled()
    ctx.wake_cancelled()
    await waiter
    assert bool(ctx.cancelled)
    await ctx.wait_cancelled()


def test_the_logger_carries_the_ids() -> None:
    with structlog.testing.capture_logs() as logs:
        context().logger.info("hello")
    assert logs == [
        {
            "event": "hello",
            "log_level": "info",
            "task_id": "t-1",
            "step": "charge",
            "attempt": 2,
            "tenant": "default",
            "template": "shop/orders",
            "correlation_id": "c",
            "worker": "w",
        }
    ]


def test_it_says_what_it_is() -> None:
    assert repr(context()) == "StepContext(t-1/charge, attempt 2)"


def test_an_attempt_that_is_run_again_draws_the_same_numbers_and_another_does_not() -> None:
    first, second, other = context(), context(), context()
    other.attempt += 1
    drawn = [first.random.random() for _ in range(3)]
    assert drawn == [second.random.random() for _ in range(3)]
    assert len(set(drawn)) == 3
    assert drawn[0] != other.random.random()


def test_the_state_is_read_and_written() -> None:
    port = Port()
    state = context(port).state
    assert dict(state) == {}
    state["total"] = {"n": 1}
    state.set("seen", [1])
    assert port.written == ("seen", b"[1]")
    assert state["total"] == {"n": 1}
    assert state.get("none") is None
    with pytest.raises(StateInvalid):
        state["not a key"] = 1
    with pytest.raises(ValueInvalid):
        state["total"] = float("nan")
    assert sorted(state) == ["seen", "total"]


def test_now_is_the_servers_time() -> None:
    assert context().now == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_progress_is_checked_and_handed_on() -> None:
    port = Port()
    context(port).progress(1, 3, "x" * 500 + "\0")
    assert (port.told.done, port.told.total, len(port.told.message)) == (1, 3, 200)
    wrong: list[tuple[Any, Any]] = [(-1, None), (float("nan"), None), (1, float("inf")), ("half", None), (None, None)]
    for done, total in wrong:
        with pytest.raises(ValueInvalid):
            context(port).progress(done, total)


def test_progress_before_a_message_alone_is_a_share() -> None:
    port = Port()
    context(port).progress(0.4, "packing")
    assert (port.told.done, port.told.total, port.told.message) == (0.4, 1, "packing")
    context(port).progress(40, None, "parcels")
    assert (port.told.done, port.told.total, port.told.message) == (40, None, "parcels")
    with pytest.raises(ValueInvalid, match="a share is from 0 to 1, not 40"):
        context(port).progress(40, "parcels")


def test_a_domain_event_is_held_to_its_declaration_here_already() -> None:
    port = Port()
    schema = msgspec.Raw(b'{"type":"object","required":["total"]}')
    ctx = context(port, emits=(DeclaredEvent(name="paid", schema=schema), DeclaredEvent(name="kept")))
    ctx.emit("paid", Cart(5))
    ctx.emit("kept")
    assert port.emitted == [
        EmittedEvent(name="paid", data=msgspec.Raw(b'{"total":5}')),
        EmittedEvent(name="kept", data=msgspec.Raw(b"null")),
    ]
    for refused, name, data in (
        (EventUnknown, "lost", None),
        (EventInvalid, "paid", {"sum": 5}),
        (EventTooLarge, "kept", "x" * 100_000),
        (ValueInvalid, "kept", float("nan")),
    ):
        with pytest.raises(refused):
            ctx.emit(name, data)
    for _ in range(98):
        ctx.emit("kept")
    with pytest.raises(EventsTooMany):
        ctx.emit("kept")
    assert not error_info(EventInvalid(), now_us=0).retryable


def test_usage_of_calls_is_added_up_exactly_and_costs_are_never_floats() -> None:
    port = Port()
    ctx = context(port)
    for _ in range(3):
        ctx.usage(model="m", tokens_in=100, tokens_out=7)
    ctx.usage(model="m", tokens_in=1, cost="0.1")
    ctx.meter("gpu_s", 0.1, "s")
    ctx.meter("gpu_s", 0.2, "s")
    told = {(one.meter, one.cost): one.amount for one in port.metering.lines()}
    assert told == {
        ("tokens_in", None): "300",
        ("tokens_out", None): "21",
        ("calls", None): "3",
        ("tokens_in", "0"): "1",
        ("calls", "0.1"): "1",
        ("gpu_s", None): "0.3",
    }
    with pytest.raises(UsageInvalid, match="money"):
        ctx.usage(model="m", cost=0.1)  # type: ignore[arg-type]
    with pytest.raises(UsageInvalid):
        ctx.meter("pages", -1)

    def use_too_many() -> None:
        for number in range(101):
            ctx.meter(f"m{number}", 1)

    with pytest.raises(UsageTooMany):
        use_too_many()
    assert not error_info(UsageInvalid(), now_us=0).retryable


def test_a_chunk_is_json_of_a_bounded_size() -> None:
    port = Port()
    ctx = context(port)
    ctx.stream("é")
    ctx.stream({"row": 1})
    assert port.chunks == ['"é"'.encode(), b'{"row":1}']
    with pytest.raises(ChunkTooLarge):
        ctx.stream("x" * 16_384)
    with pytest.raises(ValueInvalid):
        ctx.stream({1, 2})


@pytest.mark.parametrize(
    ("say", "refusal"),
    [
        (lambda ctx: ctx.usage(model=5, tokens_in=1), UsageInvalid),
        (lambda ctx: ctx.meter(5, 1), UsageInvalid),
        (lambda ctx: ctx.meter("pages", 1, cost=1, currency=5), UsageInvalid),
        (lambda ctx: ctx.progress(0.5, message=5), ValueInvalid),
        (lambda ctx: ctx.state.set(5, 1), StateInvalid),
    ],
)
def test_what_is_no_text_is_refused_in_words(say: Any, refusal: type[Exception]) -> None:
    """Planted bug: the TypeError of what stumbled over it."""
    with pytest.raises(refusal, match="5"):
        say(context())
