"""Resources: made once, in order, on demand; torn down the other way round."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
import structlog

from tasker.errors import ConfigurationError
from tasker.handlers import Template, handler, resource
from tasker.handlers.handler import plain_handlers_of
from tasker.handlers.registry import Registry
from tasker.handlers.resources import ResourceCycle, ResourceFailed, ResourceScope, ResourceUnknown, check_resources

made: list[str] = []


@resource
def settings() -> Iterator[dict[str, int]]:
    made.append("settings")
    yield {"size": 3}
    made.append("settings gone")


@resource
async def pool(settings: dict[str, int]) -> AsyncIterator[list[int]]:
    made.append("pool")
    yield [0] * settings["size"]
    made.append("pool gone")


@resource
def chicken(egg: int) -> Iterator[int]:
    yield egg


@resource
def egg(chicken: int) -> Iterator[int]:
    yield chicken


@resource
def lost(nowhere: int) -> Iterator[int]:
    yield nowhere


@pytest.fixture(autouse=True)
def _clean() -> None:
    made.clear()


async def test_it_is_made_once_with_what_it_needs_and_torn_down_the_last_first() -> None:
    scope = ResourceScope()
    first, second = await asyncio.gather(scope.get(pool), scope.get(pool))
    assert first is second
    assert first == [0, 0, 0]
    assert made == ["settings", "pool"]
    await scope.close()
    assert made == ["settings", "pool", "pool gone", "settings gone"]


async def test_who_is_cancelled_while_it_is_made_does_not_take_it_from_others() -> None:
    go = asyncio.Event()

    @resource
    async def slow() -> AsyncIterator[int]:
        await go.wait()
        yield 1

    scope = ResourceScope()
    impatient, patient = asyncio.ensure_future(scope.get(slow)), asyncio.ensure_future(scope.get(slow))
    await asyncio.sleep(0)
    impatient.cancel()
    go.set()
    assert await patient == 1
    await scope.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError("nobody there"), "ConnectionRefusedError: nobody there"),
        # As of code that cancels itself while it makes it.
        (asyncio.CancelledError(), "CancelledError"),
    ],
    ids=["fails", "cancels-itself"],
)
async def test_one_that_cannot_be_made_fails_its_attempt_and_the_next_tries_again(
    error: BaseException, words: str
) -> None:
    tries: list[int] = []

    @resource
    async def flaky() -> AsyncIterator[int]:
        tries.append(1)
        if len(tries) == 1:
            raise error
        yield len(tries)

    scope = ResourceScope()
    with pytest.raises(ResourceFailed, match=words):
        await scope.get(flaky)
    assert await scope.get(flaky) == 2
    await scope.close()


async def test_a_failure_that_nobody_waited_for_is_not_told_to_the_next() -> None:
    fail = asyncio.Event()
    tries: list[int] = []

    @resource
    async def flaky() -> AsyncIterator[int]:
        tries.append(1)
        if len(tries) == 1:
            await fail.wait()
            raise ConnectionRefusedError("long ago")
        yield len(tries)

    scope = ResourceScope()
    impatient = asyncio.ensure_future(scope.get(flaky))
    for _ in range(3):
        await asyncio.sleep(0)
    impatient.cancel()
    fail.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert await scope.get(flaky) == 2
    await scope.close()


async def test_one_that_is_made_in_a_thread_while_the_worker_ends_is_torn_down() -> None:
    entered, go = threading.Event(), threading.Event()

    @resource
    def slow() -> Iterator[int]:
        entered.set()
        go.wait(10)
        made.append("slow")
        yield 1
        made.append("slow gone")

    scope = ResourceScope()
    wanting = asyncio.ensure_future(scope.get(slow))
    await asyncio.to_thread(entered.wait, 10)
    closing = asyncio.ensure_future(scope.close())
    await asyncio.sleep(0)
    go.set()
    await closing
    await asyncio.gather(wanting, return_exceptions=True)
    assert made == ["slow", "slow gone"]


async def test_a_teardown_that_fails_or_hangs_keeps_no_other_from_its_own(monkeypatch) -> None:
    monkeypatch.setattr("tasker.handlers.resources.TEARDOWN_S", 0.05)
    gone: list[str] = []

    @resource
    async def first() -> AsyncIterator[int]:
        yield 1
        gone.append("first")

    @resource
    async def raises() -> AsyncIterator[int]:
        yield 1
        raise ValueError("not gone")

    @resource
    async def hangs() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    @resource
    async def awaits_what_it_cancelled() -> AsyncIterator[int]:
        pinger = asyncio.ensure_future(asyncio.Event().wait())
        yield 1
        pinger.cancel()
        await pinger

    scope = ResourceScope()
    for one in (first, raises, hangs, awaits_what_it_cancelled):
        await scope.get(one)
    await scope.close()
    assert gone == ["first"]


async def test_what_others_leave_no_time_for_is_told() -> None:
    """Planted bug: the process ended in the middle of it, and nobody was told."""

    @resource
    async def never() -> AsyncIterator[int]:
        yield 1
        made.append("never")

    @resource
    async def slow() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    scope = ResourceScope()
    for one in (never, slow):
        await scope.get(one)
    with structlog.testing.capture_logs() as lines:
        await scope.close(0.05)
    assert [(line["event"], line["resource"]) for line in lines] == [
        ("resource_teardown_failed", "slow"),
        ("resource_not_torn_down", "never"),
    ]
    assert made == []


def test_circles_and_gaps_are_refused() -> None:
    check_resources([pool])
    with pytest.raises(ResourceCycle, match="chicken -> egg -> chicken"):
        check_resources([chicken])
    with pytest.raises(ResourceUnknown, match="'nowhere'"):
        check_resources([lost])


def test_a_worker_refuses_them_at_its_start() -> None:
    @handler("hatch")
    def hatch(chicken: int) -> None: ...

    with pytest.raises(ResourceCycle):
        Registry(handlers=plain_handlers_of(hatch))


def test_a_parameter_takes_one_by_name_or_by_annotation_and_it_is_no_parent() -> None:
    flow = Template("flow")

    @flow.step
    def uses(input: int, pool: list[int], other: Annotated[dict[str, int], settings]) -> None: ...

    assert flow.spec().steps[0].after == ()
    (step,) = flow.handlers()
    assert step.spec.resources == (("pool", pool), ("other", settings))


def test_it_must_be_a_generator_function() -> None:
    def plain() -> Any:
        return 1

    with pytest.raises(ConfigurationError, match="yields the resource once"):
        resource(plain)
