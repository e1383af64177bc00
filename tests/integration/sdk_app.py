"""The app of the SDK's tests: what runs in processes, with resources and hooks; traced where a test wants that."""

import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from tasker import Outcome, PermanentError, StepContext, Template, middleware, resource

flow = Template("flow")
FOLDER = Path(os.environ.get("WORKER_APP_FOLDER", "."))

if "WORKER_APP_TRACES" in os.environ and multiprocessing.parent_process() is not None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    provider = TracerProvider()
    spans = (FOLDER / "spans").open("a")
    exporter = ConsoleSpanExporter(out=spans, formatter=lambda span: span.to_json(indent=None) + "\n")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def note(text: str) -> None:
    with (FOLDER / "notes").open("a") as file:
        file.write(f"{text}\n")


@resource
def base() -> Iterator[int]:
    note(f"base made {os.getpid()}")
    yield 40
    note(f"base gone {os.getpid()}")


@resource
async def pool(base: int) -> AsyncIterator[list[int]]:
    yield [base]
    note(f"pool gone {os.getpid()}")


@middleware
async def traced(ctx: StepContext) -> Any:
    outcome: Outcome = yield
    error = type(outcome.error).__name__ if outcome.error else None
    note(f"{ctx.step} {outcome.result!r} {error}")


@middleware(order=1)
def broken(ctx: StepContext) -> Any:
    yield
    raise ValueError("a hook's own fault")


@flow.step
async def adds(input: int, pool: list[int]) -> int:
    return input + pool[0]


@flow.step
def adds_sync(input: int, things: Annotated[list[int], pool]) -> int:
    return input + things[0]


@flow.step(process=True)
def squares(ctx: StepContext, input: int) -> list[int]:
    return [input * input, os.getpid()]


@flow.step(process=True)
def squares_with_pool(input: int, pool: list[int]) -> list[int]:
    return [input * pool[0], os.getpid()]


@flow.step(process=True)
def burns() -> None:
    end_s = time.monotonic() + 60
    note(f"burns in {os.getpid()}")
    while time.monotonic() < end_s:
        sum(range(1000))


@flow.step(process=True)
def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@flow.step(process=True)
def refuses() -> None:
    raise PermanentError("never")


@flow.step(process=True)
def tells(ctx: StepContext) -> list[Any]:
    ctx.progress(3, 4, "nearly")
    ctx.stream("nearly")
    time.sleep(1.3)
    ctx.progress(4, 4)
    ctx.stream("there")
    return [ctx.result_sync("squares"), ctx.random.random(), ctx.attempt, ctx.cancelled]


@flow.step(process=True, emits=["box.packed"])
def packs(ctx: StepContext, input: int) -> int:
    for number in range(input):
        ctx.emit("box.packed", {"number": number, "pid": os.getpid()})
    ctx.usage(model="m", tokens_in=input, cost="0.5")
    ctx.meter("boxes", input)
    ctx.state["packed"] = ctx.state.get("packed", 0) + input
    if input > 2:
        ctx.emit("box.lost")
    return input


@flow.step(process=True)
def traces(ctx: StepContext) -> list[Any]:
    from opentelemetry import trace

    with trace.get_tracer("mine").start_as_current_span("of the handler"):
        return [ctx.traceparent, os.environ.get("TRACEPARENT")]
