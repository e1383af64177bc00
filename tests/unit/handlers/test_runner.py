"""Handlers on their own loop and threads: nothing they do harms the worker."""

import asyncio
import contextlib
import functools
import math
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from tasker.events.messages import EmittedEvent, Progress, UsageLine
from tasker.events.usage import Metering
from tasker.handlers import runner as runner_module
from tasker.handlers.context import StepContext
from tasker.handlers.outcome import AttemptCancelled, PermanentError
from tasker.handlers.runner import Job, Runner


class Port:
    def __init__(self) -> None:
        self.metering = Metering()
        self.chunks: list[bytes] = []

    def ask_result(self, step: str) -> Any:
        raise NotImplementedError

    def tell_progress(self, progress: Progress) -> None:
        self.told = progress

    def stream(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def tell_usage(self, lines: Sequence[UsageLine]) -> None:
        self.metering.add(lines)

    def tell_written(self, key: str, value: msgspec.Raw) -> None:
        self.written = (key, bytes(value))

    def tell_emitted(self, event: EmittedEvent) -> None:
        self.emitted = event

    def now_us(self) -> int:
        return 1_700_000_000_000_000

    def beat(self) -> None: ...


class Called:
    """A handler that is called with its context."""

    def __init__(self, function: Callable[[StepContext], Any]) -> None:
        self.function = function
        self.is_async = asyncio.iscoroutinefunction(function)

    def bind(self, context: StepContext, input_bytes: bytes, results: Mapping[str, bytes]) -> Callable[[], Any]:
        if input_bytes == b"bad":
            raise ValueError("does not fit")
        return functools.partial(self.function, context)


class Bench:
    """A runner whose ended jobs can be awaited."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[Job] = asyncio.Queue()
        self.runner = Runner(self.ended.put_nowait)
        self.runner.start()

    def begin(self, function: Callable[[StepContext], Any], data: bytes = b"null") -> Job:
        context = StepContext(
            task_id="t",
            step="s",
            attempt=1,
            tenant="default",
            namespace="default",
            template="x",
            idempotency_key="k",
            worker="w",
            deadline_s=time.monotonic() + 30,
            port=Port(),
        )
        handler = Called(function)
        job = Job(handler, context, data, {}, is_async=handler.is_async)
        self.runner.submit(job)
        return job

    async def end(self, job: Job) -> Job:
        async with asyncio.timeout(10):
            while not job.ended:
                await self.ended.get()
        return job

    async def run(self, function: Callable[[StepContext], Any], data: bytes = b"null") -> Job:
        return await self.end(self.begin(function, data))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.runner.stop()
    await bench.runner.stop()


class Held:
    """What an app made; it takes half of the time that there is for it to be given back."""

    def __init__(self) -> None:
        self.is_given_back = False

    def open(self, loop: asyncio.AbstractEventLoop) -> None: ...

    async def close(self, timeout_s: float) -> None:
        await asyncio.sleep(timeout_s / 2)
        self.is_given_back = True


@pytest.mark.parametrize("pinged", [False, True])
async def test_what_an_app_made_has_its_time_to_be_given_back(monkeypatch: pytest.MonkeyPatch, *, pinged: bool) -> None:
    """Planted bugs: eight seconds for any number of resources; none at all just after a look at the vitals."""
    monkeypatch.setattr(runner_module, "GIVE_BACK_S", 1.0)
    monkeypatch.setattr(runner_module, "_STOP_WAIT_S", 0.05)
    held = Held()
    runner = Runner(lambda _job: None, life=held)
    runner.start()
    if pinged:
        runner.ping()
    await runner.stop()
    assert held.is_given_back


def raiser(error: BaseException, *, is_async: bool) -> Callable[[StepContext], Any]:
    async def raises(ctx: StepContext) -> None:
        await asyncio.sleep(0)
        raise error

    def raises_sync(ctx: StepContext) -> None:
        raise error

    return raises if is_async else raises_sync


async def test_async_and_sync_handlers_run_apart_from_the_io_loop(bench: Bench) -> None:
    async def where(ctx: StepContext) -> str:
        return threading.current_thread().name

    def where_sync(ctx: StepContext) -> str:
        return threading.current_thread().name

    assert (await bench.run(where)).result == b'"tasker-handlers"'
    # Whether a second one finds the first one's thread idle already is a matter of a moment.
    assert str((await bench.run(where_sync)).result).startswith("b'\"tasker-sync-")


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(2), KeyboardInterrupt(), GeneratorExit(), BaseException("odd")]
)
async def test_whatever_a_handler_raises_fails_its_step_and_others_go_on(bench: Bench, error, is_async) -> None:
    job = await bench.run(raiser(error, is_async=is_async))
    assert job.error is not None
    assert job.error.type == type(error).__name__
    assert job.error.retryable is isinstance(error, Exception)

    async def fine(ctx: StepContext) -> int:
        return 1

    assert (await bench.run(fine)).result == b"1"


async def test_sys_exit_in_a_task_left_behind_does_not_end_the_loop(bench: Bench) -> None:
    left = []

    async def leaves(ctx: StepContext) -> int:
        left.append(asyncio.create_task(exits()))
        return 1

    async def exits() -> None:
        sys.exit(9)

    async def fine(ctx: StepContext) -> int:
        for one in left:
            with contextlib.suppress(BaseException):
                one.exception()
        return 2

    assert (await bench.run(leaves)).result == b"1"
    assert (await bench.run(fine)).result == b"2"


@pytest.mark.parametrize(
    ("value", "words"),
    [(math.nan, "JSON number"), ({"a": {"b": b"x"}}, "/a/b"), ({"a": "x" * 70_000}, "bytes"), ({2: 3}, "key")],
)
async def test_a_result_that_cannot_be_json_fails_the_step(bench: Bench, value, words) -> None:
    async def returns(ctx: StepContext) -> Any:
        return value

    error = (await bench.run(returns)).error
    assert error is not None
    assert (error.type, error.retryable) == ("result_invalid", False)
    assert words in error.message


async def test_a_result_nested_in_itself_fails_the_step(bench: Bench) -> None:
    async def returns(ctx: StepContext) -> Any:
        value: list[Any] = []
        value.append(value)
        return value

    error = (await bench.run(returns)).error
    assert error is not None
    assert error.type == "result_invalid"


async def test_arguments_that_do_not_fit_fail_the_step_for_good(bench: Bench) -> None:
    async def never(ctx: StepContext) -> None:
        raise AssertionError

    error = (await bench.run(never, b"bad")).error
    assert error is not None
    assert (error.type, error.retryable) == ("input_invalid", False)
    assert "does not fit" in error.message


async def test_an_interrupted_async_handler_is_cancelled_where_it_waits(bench: Bench) -> None:
    waiting = asyncio.Event()
    home = asyncio.get_running_loop()

    async def waits(ctx: StepContext) -> None:
        asyncio.get_running_loop().call_soon(home.call_soon_threadsafe, waiting.set)  # once it waits
        await inner()

    async def inner() -> None:
        await asyncio.sleep(60)

    job = bench.begin(waits)
    await waiting.wait()
    bench.runner.interrupt(job)
    await bench.end(job)
    assert job.interrupted
    assert job.error is None
    assert job.stack is not None
    assert "await inner()" in job.stack
    assert "asyncio.sleep(60)" in job.stack


async def test_a_handler_interrupted_before_it_began_does_not_run(bench: Bench) -> None:
    async def never(ctx: StepContext) -> None:
        raise AssertionError

    job = bench.begin(never)
    bench.runner.interrupt(job)
    await bench.end(job)
    assert job.interrupted


async def test_a_handler_may_end_in_its_own_way_after_the_interruption(bench: Bench) -> None:
    waiting = asyncio.Event()
    home = asyncio.get_running_loop()

    async def tidy(ctx: StepContext) -> str:
        home.call_soon_threadsafe(waiting.set)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return f"tidy, cancelled={ctx.cancelled}"
        return ""

    job = bench.begin(tidy)
    await waiting.wait()
    bench.runner.interrupt(job)
    await bench.end(job)
    assert job.result == b'"tidy, cancelled=True"'


async def test_a_sync_handler_polls_for_its_cancellation(bench: Bench) -> None:
    begun = threading.Event()

    def polls(ctx: StepContext) -> None:
        begun.set()
        while True:
            ctx.raise_if_cancelled()
            time.sleep(0.002)

    job = bench.begin(polls)
    await asyncio.to_thread(begun.wait)
    bench.runner.interrupt(job)
    await bench.end(job)
    assert job.interrupted
    with pytest.raises(AttemptCancelled):
        job.context.raise_if_cancelled()  # type: ignore[union-attr]


async def test_an_own_cancellation_is_no_interruption(bench: Bench) -> None:
    async def confused(ctx: StepContext) -> None:
        raise asyncio.CancelledError

    job = await bench.run(confused)
    assert not job.interrupted
    assert job.error is not None
    assert job.error.retryable


async def test_who_blocks_the_loop_is_found_with_its_line(bench: Bench) -> None:
    begun, go = threading.Event(), threading.Event()

    async def blocks(ctx: StepContext) -> None:
        begun.set()
        go.wait(10)  # the blocking line

    job = bench.begin(blocks)
    await asyncio.to_thread(begun.wait)
    bench.runner.ping()
    assert bench.runner.is_blocking(job)
    assert bench.runner.silent_s > 0
    stack = bench.runner.stack_of(job)
    assert stack is not None
    assert "the blocking line" in stack
    go.set()
    await bench.end(job)
    assert not bench.runner.is_blocking(job)

    async def fine(ctx: StepContext) -> None: ...

    await bench.run(fine)
    assert bench.runner.silent_s == 0


async def test_a_stuck_thread_keeps_nobody_waiting(bench: Bench) -> None:
    go = threading.Event()

    def stuck(ctx: StepContext) -> None:
        go.wait(10)

    def fine(ctx: StepContext) -> int:
        return 1

    held = [bench.begin(stuck) for _ in range(5)]
    assert (await bench.run(fine)).result == b"1"
    go.set()
    for job in held:
        await bench.end(job)


async def test_contextvars_of_one_sync_handler_are_not_seen_by_the_next(bench: Bench) -> None:
    import contextvars

    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)

    def counts(ctx: StepContext) -> int:
        var.set(var.get() + 1)
        return var.get()

    assert [(await bench.run(counts)).result for _ in range(2)] == [b"1", b"1"]


async def test_permanent_errors_say_so(bench: Bench) -> None:
    job = await bench.run(raiser(PermanentError("no"), is_async=True))
    assert job.error is not None
    assert not job.error.retryable
    assert job.error.stack is not None
    assert "tasker/handlers/runner.py" not in job.error.stack


async def test_stop_before_start_is_fine() -> None:
    runner = Runner(lambda _: None)
    await runner.stop()
