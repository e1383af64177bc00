"""One trace from the client over command, commit, dispatch and handler to the result; nothing without a provider."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tasker import StepContext, TaskerClient, Template
from tasker.bus.bus import Message
from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import delete_stream
from tasker.client import NewTask
from tasker.events.memory_log import MemoryLog
from tasker.events.stored import meta_of
from tasker.events.subjects import Subjects
from tasker.handlers import Retry
from tasker.handlers.registry import Registry
from tasker.handlers.worker import Worker
from tasker.tracing import SpanKind, spanning, tracing_of_process
from tests.contracts.pair import SHARDS, STREAMS, Pair

flow = Template("flow")


@flow.step(retry=Retry(max_attempts=2, backoff="none"))
async def first(ctx: StepContext) -> int:
    """Fail once, with a span of the handler's own."""
    with trace.get_tracer("mine").start_as_current_span("mine"):
        if ctx.attempt == 1:
            raise RuntimeError("not yet")
    return 1


@flow.step
def second(ctx: StepContext, first: int) -> str | None:
    """Run in a thread; the span of a sync handler is current there as well."""
    with trace.get_tracer("mine").start_as_current_span("mine too"):
        return ctx.traceparent


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """A real provider for this test alone: OpenTelemetry takes one a process, for ever."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
async def nodes(nats_url: str, nats_prefix: str) -> AsyncIterator[Pair]:
    """Nodes that are not started yet."""
    bus = await NatsBus.connect(nats_url, name="tracing")
    subjects = Subjects(nats_prefix)
    nodes = Pair(MemoryLog(shards=SHARDS), bus, subjects)
    yield nodes
    await nodes.stop()
    for stream in (subjects.work_stream, subjects.event_stream, subjects.command_stream, subjects.refusal_stream):
        await delete_stream(bus, stream)
    await bus.close()


@pytest.fixture
def run(nats_url: str, nats_prefix: str, nodes: Pair) -> Callable:
    """Return what runs the flow once and returns its log and the task's id."""
    bus, subjects = nodes.bus, nodes.subjects

    async def run(until: str = "task_completed") -> tuple[Pair, str]:
        await nodes.start(bus)
        registry = Registry([flow])
        worker = Worker(bus, registry, subjects=subjects, streams=STREAMS)
        async with TaskerClient(nats_url, nats_prefix=nats_prefix, environ={}) as client, asyncio.timeout(60):
            await client.register(registry.documents()[0])
            await worker.start()
            ended = asyncio.Event()
            bus.subscribe(subjects.event("default", "default", "flow", "*", until), lambda _: ended.set())
            handle = await client.create("flow", None)
            await ended.wait()
        await worker.drain()
        await nodes.stop()
        return nodes, handle.task_id

    return run


def _named(spans: tuple[ReadableSpan, ...], name: str, attempt: int | None = None) -> ReadableSpan:
    (found,) = [
        span
        for span in spans
        if span.name == name and (attempt is None or (span.attributes or {}).get("tasker.attempt") == attempt)
    ]
    return found


def _id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


async def test_one_trace_goes_through_all_parts(exporter: InMemorySpanExporter, run: Callable) -> None:
    nodes, task_id = await run()
    spans = exporter.get_finished_spans()
    asked = _named(spans, "tasker task.create")
    assert asked.context is not None
    assert asked.parent is None
    ours = tuple(span for span in spans if span.context and span.context.trace_id == asked.context.trace_id)
    by_id = {_id(span): span for span in ours}

    def way(span: ReadableSpan) -> list[str]:
        names = []
        while span.parent is not None:
            span = by_id[span.parent.span_id]
            names.append(span.name)
        return names

    start = ["tasker.commit", "tasker.command task.create", "tasker task.create"]
    again = ["tasker.commit", "tasker.result first", "tasker.handler first", "tasker.dispatch first"]
    assert way(_named(ours, "tasker.dispatch first", 1)) == start
    assert way(_named(ours, "tasker.dispatch first", 2)) == again + start
    assert way(_named(ours, "tasker.handler second")) == ["tasker.dispatch second", *again, *again, *start]
    assert way(_named(ours, "mine too"))[0] == "tasker.handler second"
    last = _named(ours, "tasker.result second")
    assert (last.attributes or {})["tasker.outcome"] == "completed"
    assert any(span.parent and span.parent.span_id == _id(last) for span in ours), "its commit is below it"

    # A retry follows the attempt before: a link, since that one is over.
    links = _named(ours, "tasker.dispatch first", 2).links
    assert [link.context.span_id for link in links] == [_id(_named(ours, "tasker.dispatch first", 1))]
    failed = _named(ours, "tasker.handler first", 1)
    assert (failed.status.status_code, failed.status.description) == (trace.StatusCode.ERROR, "RuntimeError")

    # The events' metadata name the command's span, and no span holds what users gave.
    command = _named(ours, "tasker.command task.create")
    recorded = [event for shard in range(SHARDS) for event in await nodes.recorded(shard)]
    metas = {meta_of(event).traceparent for event in recorded if str(event.stream_id) == task_id}
    assert command.context is not None
    (traceparent,) = metas
    assert str(traceparent).startswith(f"00-{command.context.trace_id:032x}-{_id(command):016x}-")
    assert not [span for span in ours if span.name.startswith("tasker") and "not yet" in span.to_json()]


async def test_a_result_that_a_full_history_does_not_take_has_no_span(
    exporter: InMemorySpanExporter, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted bug: one with the worker's outcome, above a commit that says that the task is blocked."""
    monkeypatch.setattr("tasker.service.domain.decide.HISTORY_EVENTS_MAX", 3)
    monkeypatch.setattr("tasker.service.domain.decide.HISTORY_EVENTS_RESERVED", 0)
    await run(until="task_blocked")
    spans = exporter.get_finished_spans()
    assert _named(spans, "tasker.handler first", 2).attributes
    results = [span for span in spans if span.name == "tasker.result first"]
    assert [(span.attributes or {})["tasker.attempt"] for span in results] == [1]


async def test_a_task_that_is_only_submitted_is_traced_from_its_client_as_well(
    exporter: InMemorySpanExporter, nats_url: str, nodes: Pair, nats_prefix: str
) -> None:
    await nodes.start(nodes.bus)
    verdicts: asyncio.Queue[Message] = asyncio.Queue()
    nodes.bus.subscribe(f"verdicts.{nats_prefix}", verdicts.put_nowait)
    async with TaskerClient(nats_url, nats_prefix=nats_prefix, environ={}) as client, asyncio.timeout(60):
        await client.register(Registry([flow]).documents()[0])
        await client.submit(NewTask("flow"), reply_to=f"verdicts.{nats_prefix}")
        await verdicts.get()
    await nodes.stop()
    spans = exporter.get_finished_spans()
    left = _named(spans, "tasker task.create")
    command = _named(spans, "tasker.command task.create")
    assert left.kind is trace.SpanKind.PRODUCER
    assert command.parent is not None
    assert command.parent.span_id == _id(left)


async def test_without_a_provider_there_are_no_spans_and_no_traceparent(run: Callable) -> None:
    assert tracing_of_process() is None
    with spanning(None, "x", SpanKind.CLIENT) as traceparent:
        assert traceparent is None
    nodes, task_id = await run()
    recorded = [event for shard in range(SHARDS) for event in await nodes.recorded(shard)]
    assert {meta_of(event).traceparent for event in recorded if str(event.stream_id) == task_id} == {None}
