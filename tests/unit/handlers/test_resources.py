"""Resources: made once, in order, on demand; torn down the other way round."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest

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


async def test_one_that_cannot_be_made_fails_its_attempt_and_the_next_tries_again() -> None:
    tries: list[int] = []

    @resource
    async def flaky() -> AsyncIterator[int]:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionRefusedError("nobody there")
        yield len(tries)

    scope = ResourceScope()
    with pytest.raises(ResourceFailed, match="ConnectionRefusedError: nobody there"):
        await scope.get(flaky)
    assert await scope.get(flaky) == 2
    await scope.close()


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

    scope = ResourceScope()
    for one in (first, raises, hangs):
        await scope.get(one)
    await scope.close()
    assert gone == ["first"]


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
