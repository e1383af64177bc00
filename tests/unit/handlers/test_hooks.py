"""Hooks see how a handler ends; they change nothing, whatever they do."""

import asyncio
import threading
import time
from typing import Any

import pytest

from tasker.errors import ConfigurationError
from tasker.handlers import Outcome, StepContext, middleware
from tasker.handlers.hooks import around, around_blocking
from tests.unit.handlers.test_context import context

seen: list[Any] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    seen.clear()


@middleware
async def outer(ctx: StepContext) -> Any:
    seen.append(f"outer {ctx.step}")
    outcome: Outcome = yield
    seen.append(("outer", outcome.result, type(outcome.error)))


@middleware
def inner(ctx: StepContext) -> Any:
    seen.append("inner")
    outcome: Outcome = yield
    seen.append(("inner", outcome.result, type(outcome.error)))


@middleware
def breaks_before(ctx: StepContext) -> Any:
    if ctx.step:
        raise ValueError(ctx.step)
    yield


@middleware
async def breaks_behind(ctx: StepContext) -> Any:
    yield
    raise SystemExit(3)


@middleware
async def yields_twice(ctx: StepContext) -> Any:
    yield
    yield


@middleware
def does_not_yield(ctx: StepContext) -> Any:
    if ctx.attempt > 1:
        return
    yield


async def test_they_are_entered_in_order_and_left_the_other_way_round() -> None:
    async def call() -> int:
        seen.append("call")
        return 1

    assert await around([outer, inner], context(), call) == 1
    assert seen == ["outer charge", "inner", "call", ("inner", 1, type(None)), ("outer", 1, type(None))]


async def test_an_error_is_seen_and_goes_on() -> None:
    async def call() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await around([outer, inner], context(), call)
    assert seen[-2:] == [("inner", None, KeyError), ("outer", None, KeyError)]


async def test_a_cancellation_is_seen_and_goes_on() -> None:
    running = asyncio.ensure_future(around([outer], context(), asyncio.Event().wait))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen[-1] == ("outer", None, asyncio.CancelledError)


async def test_a_hook_that_breaks_changes_nothing() -> None:
    async def call() -> int:
        return 1

    hooks = [breaks_before, outer, breaks_behind, yields_twice, does_not_yield]
    assert await around(hooks, context(), call) == 1
    assert seen[-1] == ("outer", 1, type(None))


@middleware
async def ends_its_ticker(ctx: StepContext) -> Any:
    ticker = asyncio.ensure_future(asyncio.Event().wait())
    await asyncio.sleep(0)
    yield
    ticker.cancel()
    await ticker


@middleware
async def begins_badly(ctx: StepContext) -> Any:
    ticker = asyncio.ensure_future(asyncio.Event().wait())
    ticker.cancel()
    await ticker
    yield


@pytest.mark.parametrize("hook", [ends_its_ticker, begins_badly])
async def test_a_cancellation_of_a_hooks_own_is_one_that_breaks(hook) -> None:
    async def call() -> int:
        return 1

    assert await around([outer, hook], context(), call) == 1
    assert seen[-1] == ("outer", 1, type(None))
    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(around_blocking, [inner, hook], context(), lambda: 5, loop) == 5
    assert seen[-1] == ("inner", 5, type(None))


async def test_a_hook_that_breaks_when_the_attempt_is_stopped_keeps_no_other_from_its_end() -> None:
    running = asyncio.ensure_future(around([outer, ends_its_ticker], context(), asyncio.Event().wait))
    for _ in range(5):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen[-1] == ("outer", None, asyncio.CancelledError)


async def test_beside_a_sync_handler_async_hooks_run_on_the_loop() -> None:
    threads: list[int] = []

    @middleware
    async def where(ctx: StepContext) -> Any:
        threads.append(threading.get_ident())
        yield
        threads.append(threading.get_ident())

    loop = asyncio.get_running_loop()
    hooks = [where, inner, breaks_before, breaks_behind]
    result = await asyncio.to_thread(around_blocking, hooks, context(), lambda: 5, loop)
    assert result == 5
    assert threads == [threading.get_ident()] * 2
    assert seen[-1] == ("inner", 5, type(None))


async def test_a_slow_async_hook_does_not_hold_a_sync_handler_for_ever(monkeypatch) -> None:
    monkeypatch.setattr("tasker.handlers.hooks.HOOK_S", 0.05)

    @middleware
    async def slow(ctx: StepContext) -> Any:
        await asyncio.Event().wait()
        yield

    loop = asyncio.get_running_loop()
    began_s = time.monotonic()
    assert await asyncio.to_thread(around_blocking, [slow], context(), lambda: 5, loop) == 5
    assert time.monotonic() - began_s < 5


def test_it_must_be_a_generator_function() -> None:
    def plain(ctx: StepContext) -> None: ...

    with pytest.raises(ConfigurationError, match="yields once"):
        middleware(plain)  # type: ignore[arg-type]


def test_an_order_that_is_no_number_is_refused_where_it_is_declared() -> None:
    """Planted bug: a TypeError of the sorting, once the app was loaded."""
    order: Any = "first"
    with pytest.raises(ConfigurationError, match=r"test_hooks\.py:\d+: middleware: order is a whole number, not the"):
        middleware(order=order)
