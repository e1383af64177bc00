"""The app of the load: each step has one effect at a sink that counts, by the step's idempotency key.

`LOAD_SINK` names the sink's folder: `executions` has a line for each run of a handler, `effects/<key>` is an effect
that happened. A file `die_<where>` is taken by the first handler that comes to that place and kills its process.
"""

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path

from tasker import Concurrency, Debounce, Decision, StepContext, Template
from tasker.handlers import Retry, RetryableError

SINK = Path(os.environ["LOAD_SINK"])
AGAIN = Retry(max_attempts=30, backoff="constant", delay_s=0.2)

chain = Template("chain")
diamond = Template("diamond", concurrency=Concurrency(key="input.n % 2", limit=3))


def die(where: str) -> None:
    """Die here, when a test asked for it."""
    try:
        (SINK / f"die_{where}").rename(SINK / f"died_{where}")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


async def effect(ctx: StepContext) -> None:
    """Make the step's effect happen once, however often it runs."""
    line = f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()} {time.monotonic()}\n"
    with (SINK / "executions").open("ab", buffering=0) as executions:
        executions.write(line.encode())
    die("after_claim")
    await asyncio.sleep(0.005)
    try:
        os.close(os.open(SINK / "effects" / ctx.idempotency_key, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    die("mid_effect")


@chain.step(retry=AGAIN, heartbeat_s=2.0)
async def c1(ctx: StepContext, input: dict) -> int:
    await effect(ctx)
    return int(input["n"])


@chain.step(retry=AGAIN, heartbeat_s=2.0)
async def c2(ctx: StepContext, c1: int) -> int:
    await effect(ctx)
    if c1 % 5 == 0 and ctx.attempt == 1:
        raise RetryableError("the first time it does not work")
    asyncio.get_running_loop().call_soon(die, "before_report")
    return c1 + 1


@chain.step(retry=AGAIN, heartbeat_s=2.0)
def c3(ctx: StepContext, c2: int) -> int:
    asyncio.run(effect(ctx))
    return c2 + 1


@diamond.step(retry=AGAIN, heartbeat_s=2.0)
async def d1(ctx: StepContext, input: dict) -> int:
    await effect(ctx)
    return int(input["n"])


@diamond.step(retry=AGAIN, heartbeat_s=2.0)
async def d2(ctx: StepContext, d1: int) -> int:
    await effect(ctx)
    return d1 + 1


@diamond.step(retry=AGAIN, heartbeat_s=2.0)
async def d3(ctx: StepContext, d1: int) -> int:
    await effect(ctx)
    return d1 + 2


@diamond.step(retry=AGAIN, heartbeat_s=2.0)
async def d4(ctx: StepContext, d2: int, d3: int) -> int:
    await effect(ctx)
    return d2 + d3


# ---------------------------------------------------------------- every other kind of step; "q_": without an effect

mixed = Template("mixed", priority=10)
burst = Template("burst", debounce=Debounce(key="input.key", for_s=0.5, max_s=2.0))


@mixed.step(retry=AGAIN, heartbeat_s=2.0)
async def m1(ctx: StepContext, input: dict) -> list[int]:
    await effect(ctx)
    return [int(input["n"]), 2]


@mixed.step(
    each="results.m1",
    after="m1",
    max_parallel=1,
    retry=AGAIN,
    heartbeat_s=2.0,
    concurrency=Concurrency(key="item % 2", limit=2),
)
async def m2(ctx: StepContext, item: int) -> int:
    await effect(ctx)
    return item


@mixed.step(routes=["m4", "m5"], retry=AGAIN, heartbeat_s=2.0)
async def m3(ctx: StepContext, m2: list[int]) -> Decision:
    await effect(ctx)
    return Decision.route("m4" if m2[0] % 2 else "m5")


@mixed.step(after="m3", retry=AGAIN, heartbeat_s=2.0)
async def m4(ctx: StepContext) -> None:
    await effect(ctx)


@mixed.step(after="m3", retry=AGAIN, heartbeat_s=2.0)
async def m5(ctx: StepContext) -> None:
    await effect(ctx)


mixed.delay("q_delay", 0.3, after=["m4", "m5"], join="deferred")
mixed.child("q_child", "burst", child_input='{"key": string(input.n), "n": input.n}', after="q_delay")
mixed.wait("q_signal", "go", after="q_child")


@mixed.step(after="q_signal", retry=AGAIN, heartbeat_s=2.0)
async def m6(ctx: StepContext) -> None:
    await effect(ctx)


@burst.step(retry=AGAIN, heartbeat_s=2.0)
async def b1(ctx: StepContext, input: dict) -> int:
    await effect(ctx)
    return int(input["n"])


# ---------------------------------------------------------------- steps that take long


async def told_to_go() -> None:
    """Wait for the test."""
    while not (SINK / "go").exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)


slow = Template("slow")
blocking = Template("blocking")


@slow.step(retry=AGAIN, heartbeat_s=3.0)
async def waits(ctx: StepContext) -> int:
    await effect(ctx)
    await told_to_go()
    return ctx.attempt


@blocking.step(retry=AGAIN, heartbeat_s=1.0, start_to_close_s=2.0)
async def blocks(ctx: StepContext, input: int) -> int:
    await effect(ctx)
    if ctx.attempt == 1:
        time.sleep(input)  # noqa: ASYNC251 - it blocks the loop, that is what it is for
    return ctx.attempt


@blocking.step(retry=AGAIN, heartbeat_s=1.0)
async def locks(ctx: StepContext, blocks: int, input: int) -> int:
    await effect(ctx)
    if ctx.attempt == 1:
        await told_to_go()  # its start is known by then: else nobody misses its heartbeats
        ctypes.PyDLL(None).sleep(input)  # with the interpreter's lock: no thread of the process goes on
    return ctx.attempt + blocks
