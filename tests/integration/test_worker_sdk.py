"""What handlers run with: processes, resources, hooks, limits, progress. A scripted owner, a real nats-server."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import work_consumers
from tasker.events.messages import DeclaredEvent, ReportReply, Work
from tasker.handlers import handler
from tasker.handlers.app_module import load_app
from tasker.handlers.equipment import Equipment
from tasker.handlers.handler import plain_handlers_of
from tasker.handlers.nats_worker import serve as serve_app
from tasker.handlers.options import WorkerOptions
from tasker.handlers.registry import Registry
from tasker.handlers.worker import Worker
from tests.integration.scripted_owner import ScriptedOwner, friendly, seen

pytestmark = pytest.mark.linux
APP = str(Path(__file__).with_name("sdk_app.py"))
Serve = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def serve(nats_url: str, owner: ScriptedOwner, tmp_path, monkeypatch) -> AsyncIterator[Serve]:
    """Start a worker with an app, or with functions as handlers of the queue `flow`."""
    monkeypatch.setenv("WORKER_APP_FOLDER", str(tmp_path))
    stops: list[Callable[[], Awaitable[Any]]] = []

    async def start(*functions: Callable[..., Any], start_method: str = "spawn", **options: Any) -> Worker:
        bus = await NatsBus.connect(nats_url, name="worker")
        if functions:
            equipment = Equipment(Registry(handlers=[spec for one in functions for spec in plain_handlers_of(one)]))
        else:
            equipment = Equipment(load_app(APP), app=APP, processes=2, start_method=start_method)
        worker = Worker(bus, equipment, subjects=owner.subjects, limits=equipment.limits, life=equipment, **options)
        stops.extend([bus.close, worker.drain])
        await worker.start()
        await worker.ready()
        return worker

    yield start
    for stop in reversed(stops):
        await stop()


def notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


async def noted(folder: Path, beginning: str) -> str:
    """Return the note that begins so, once it is there."""
    return await seen(lambda: next((note for note in notes(folder) if note.startswith(beginning)), ""))


async def result(owner: ScriptedOwner, step: str, **fields: Any) -> Any:
    work = await owner.offer(step, **fields)
    await owner.until_ended(work)
    report = owner.outcome(work)
    assert report.error is None, report.error
    return json.loads(bytes(report.result))


async def test_resources_are_made_once_shared_and_torn_down_at_the_drain_inside_hooks(owner, serve, tmp_path) -> None:
    worker = await serve()
    assert await result(owner, "adds", input=2) == 42
    assert await result(owner, "adds_sync", input=1) == 41
    assert notes(tmp_path) == [f"base made {os.getpid()}", "adds 42 None", "adds_sync 41 None"]
    await worker.drain()
    assert notes(tmp_path)[3:] == [f"pool gone {os.getpid()}", f"base gone {os.getpid()}"]


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
async def test_a_handler_runs_in_a_process_which_a_timeout_kills_without_harm_to_others(
    owner, serve, tmp_path, start_method
) -> None:
    await serve(start_method=start_method)
    squared, first = await result(owner, "squares", input=7)
    assert squared == 49
    assert first != os.getpid()
    burning = await owner.offer("burns", start_to_close_s=1.0, heartbeat_s=0.6)
    await owner.until_begun(burning)
    burner = int((await noted(tmp_path, "burns in")).split()[-1])  # any process of the pool may have it
    other = await owner.offer("squares", input=3)
    await owner.until_ended(burning, other)
    assert owner.outcome(burning).error.type == "timeout"
    assert 'sdk_app.py", line' in owner.outcome(burning).error.stack
    assert "heartbeat" in owner.kinds(burning)
    assert json.loads(bytes(owner.outcome(other).result))[0] == 9
    assert burner not in [process.pid for process in psutil.Process().children(recursive=True)]
    assert (await result(owner, "squares", input=4))[0] == 16


async def test_a_cancellation_kills_the_process(owner, serve, tmp_path) -> None:
    worker = await serve()
    work = await owner.offer("burns")
    pid = int((await noted(tmp_path, "burns in")).split()[-1])
    process = psutil.Process(pid)
    owner.cancel(worker.id, work, grace_s=5.0)
    await owner.until_ended(work)
    assert owner.outcome(work).error.type == "cancelled"
    assert not process.is_running()


async def test_how_a_process_fails_is_told(owner, serve) -> None:
    await serve()
    dead, refused, invalid = [
        await owner.offer("kills_itself"),
        await owner.offer("refuses"),
        await owner.offer("squares", input="seven"),
    ]
    await owner.until_ended(dead, refused, invalid)
    error = owner.outcome(dead).error
    assert (error.type, error.retryable) == ("ProcessLost", True)
    assert "killed by SIGKILL" in error.message
    error = owner.outcome(refused).error
    assert (error.type, error.retryable, error.message) == ("PermanentError", False, "never")
    assert "sdk_app.py" in error.stack
    assert owner.outcome(invalid).error.type == "input_invalid"


async def test_a_process_has_resources_of_its_own_and_a_context(owner, serve, tmp_path) -> None:
    worker = await serve()
    multiplied, pid = await result(owner, "squares_with_pool", input=2)
    assert multiplied == 80

    def answer(report: Any) -> ReportReply:
        if report.kind == "result":
            return ReportReply(ok=True, recorded=False, result=msgspec.Raw(b'"of squares"'))
        return friendly(report)

    owner.answer = answer
    first = await result(owner, "tells", attempt=1)
    second = await result(owner, "tells", attempt=2)
    assert first[0] == "of squares"
    assert first[1] != second[1]
    assert [first[2], second[2], first[3]] == [1, 2, False]
    told = [report.progress for report in owner.reports if report.progress is not None]
    assert (told[0].done, told[0].total, told[0].message) == (3, 4, "nearly")
    await worker.drain()
    assert f"base gone {pid}" in notes(tmp_path)
    assert not psutil.pid_exists(pid)


async def test_the_trace_goes_on_in_a_process(owner, serve, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORKER_APP_TRACES", "1")
    in_memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(in_memory))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    worker = await serve()
    caused_by = f"00-{'a1' * 16}-{'b2' * 8}-01"
    told = await result(owner, "traces", traceparent=caused_by)
    again = await result(owner, "traces", traceparent=caused_by)
    await worker.drain()
    handled = [span for span in in_memory.get_finished_spans() if span.name == "tasker.handler traces"]
    below = [json.loads(line) for line in (tmp_path / "spans").read_text().splitlines()]
    assert [span["name"] for span in below] == ["of the handler"] * 2
    for span, own, (context, variable) in zip(handled, below, (told, again), strict=True):
        assert span.context is not None
        assert own["parent_id"] == f"0x{span.context.span_id:016x}"
        assert own["context"]["trace_id"] == f"0x{'a1' * 16}"
        assert context == variable == f"00-{'a1' * 16}-{span.context.span_id:016x}-01"


async def test_a_process_without_a_provider_is_told_the_trace_all_the_same(owner, serve) -> None:
    await serve()
    caused_by = f"00-{'a1' * 16}-{'b2' * 8}-01"
    assert await result(owner, "traces", traceparent=caused_by) == [caused_by, caused_by]
    assert await result(owner, "traces") == [None, None]


async def test_a_handler_at_its_limit_keeps_no_other_of_its_queue_waiting(owner, serve) -> None:
    home = asyncio.get_running_loop()
    go = asyncio.Event()
    running: list[int] = []
    most: list[int] = []

    @handler("limited", queue="flow", concurrency=2)
    async def limited() -> None:
        running.append(1)
        most.append(len(running))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go.wait(), home))
        running.pop()

    @handler("quick", queue="flow")
    async def quick() -> int:
        return 1

    worker = await serve(limited, quick, slots=4)
    works: list[Work] = [await owner.offer("limited") for _ in range(8)]
    await owner.until(lambda: sum("started" in owner.kinds(work) for work in works) == 2)
    others = [await owner.offer("quick") for _ in range(6)]
    await owner.until_ended(*others)
    assert max(most) == 2
    assert worker.vitals().waiting == 2
    go.set()
    await owner.until_ended(*works)
    assert max(most) == 2


async def test_what_waits_for_a_place_goes_back_at_the_drain(owner, serve) -> None:
    home = asyncio.get_running_loop()
    go = asyncio.Event()

    @handler("limited", queue="flow", concurrency=1)
    async def limited() -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go.wait(), home))

    @handler("other", queue="flow")
    async def other() -> None: ...

    worker = await serve(limited, other)
    first = await owner.offer("limited")
    await owner.until_begun(first)
    second = await owner.offer("limited")
    await seen(lambda: worker.vitals().waiting)
    draining = asyncio.create_task(worker.drain())
    await owner.until(lambda: "-NAK" in owner.acks)
    go.set()
    await draining
    assert owner.kinds(first)[-1] == "completed"
    assert owner.kinds(second) == []


async def test_a_worker_takes_the_work_that_its_labels_allow(owner, nats_url, nats_prefix, tmp_path) -> None:
    app = tmp_path / "labelled_app.py"
    app.write_text(
        "from tasker.handlers import handler\n"
        "@handler('draw', queue='flow', requires={'gpu': 'a100', 'zone': 'eu'})\n"
        "@handler('draw', queue='flow', requires={'gpu': 'h100'})\n"
        "def draw() -> str: return 'drawn'\n"
    )
    others = await owner.offer("draw", queue="flow~gpu=h100")
    options = WorkerOptions(
        app=str(app), nats_url=nats_url, prefix=nats_prefix, labels=("zone=eu", "gpu=a100", "disk=ssd")
    )
    stop, begun = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(serve_app(options, stop=stop, quit_now=asyncio.Event(), watch=lambda *_: begun.set()))
    await asyncio.wait_for(begun.wait(), 20)
    mine = await owner.offer("draw", queue="flow~gpu=a100~zone=eu")
    await owner.until_ended(mine)
    stop.set()
    await serving
    consumers = {one.queue for one in await work_consumers(owner.bus, owner.subjects)}
    assert consumers == {"flow", "flow~gpu=a100~zone=eu"}
    assert (owner.outcome(mine).error, owner.kinds(others)) == (None, [])


async def test_domain_events_and_usage_of_a_process_go_with_its_outcome(owner, serve) -> None:
    """What a process emitted before it failed is told, too; what it may not emit fails it there."""
    await serve()
    declared = (DeclaredEvent(name="box.packed"),)
    done = await owner.offer("packs", input=2, emits=declared, state=msgspec.Raw(b'{"packed":40}'))
    failed = await owner.offer("packs", input=3, emits=declared)
    await owner.until_ended(done, failed)
    outcome = owner.outcome(done)
    assert [json.loads(bytes(event.data))["number"] for event in outcome.emitted] == [0, 1]
    assert json.loads(bytes(outcome.emitted[0].data))["pid"] != os.getpid()
    assert {key: bytes(value) for key, value in outcome.writes.items()} == {"packed": b"42"}
    outcome = owner.outcome(failed)
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.retryable, len(outcome.emitted)) == ("EventUnknown", False, 3)
    assert [(line.meter, line.amount, line.cost) for line in outcome.usage] == [
        ("tokens_in", "3", "0"),
        ("calls", "1", "0.5"),
        ("boxes", "3", None),
    ]
    assert outcome.writes == {}, "a failed attempt writes nothing"
