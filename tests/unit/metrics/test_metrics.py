"""The parts of the metrics: histograms, samples, what passes between processes, counts of commits."""

import contextlib
from pathlib import Path
from uuid import uuid4

import pytest

from tasker.bus.memory_bus import MemoryBroker
from tasker.events.envelope import NewEvent
from tasker.events.stored import to_new_event
from tasker.events.task_events import ErrorInfo, StepAttemptFailed, StepRetryScheduled, UsageRecorded
from tasker.metrics import CATALOGUE, Histogram, Kind, Samples
from tasker.metrics.exposition import render
from tasker.metrics.local import socket_of, told_at
from tasker.metrics.process import Pool, ProcessMetrics
from tasker.metrics.scrape import Scrape
from tasker.service.runtime.commit_counts import CommitCounts


def event(event: StepAttemptFailed | StepRetryScheduled | UsageRecorded) -> NewEvent:
    return to_new_event(event, stream_id=uuid4(), seq=1, tenant="default", at_us=1, meta=b"{}")


@pytest.mark.parametrize("metric", CATALOGUE.values(), ids=lambda metric: metric.name)
def test_the_catalogue_keeps_to_the_conventions(metric) -> None:
    assert metric.name.startswith("tasker_")
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert bool(metric.bounds) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.bounds) == sorted(set(metric.bounds))
    assert metric.help.endswith(".")
    assert not {"id", "task", "task_id", "step", "worker", "subject"} & set(metric.labels)
    assert (metric.labels[:1] == ("process",)) == (metric.process == "both")


def test_a_histogram_counts_a_value_into_the_bucket_whose_bound_it_does_not_pass() -> None:
    histogram = Histogram("tasker_append_batch_events")
    for value in (1, 2, 3, 9_999):
        histogram.add(value)
    samples = Samples("write")
    samples.add_histogram("tasker_append_batch_events", histogram)
    lines = render(samples.found)[0].decode().splitlines()
    assert 'tasker_append_batch_events_bucket{le="1.0"} 1.0' in lines
    assert 'tasker_append_batch_events_bucket{le="2.0"} 2.0' in lines
    assert 'tasker_append_batch_events_bucket{le="5.0"} 3.0' in lines
    assert 'tasker_append_batch_events_bucket{le="5000.0"} 3.0' in lines
    assert 'tasker_append_batch_events_bucket{le="+Inf"} 4.0' in lines
    assert "tasker_append_batch_events_sum 10005.0" in lines


def test_what_is_not_in_the_catalogue_cannot_be_told() -> None:
    samples = Samples("write")
    with pytest.raises(KeyError):
        samples.add("tasker_unheard_of", 1)
    with pytest.raises(ValueError, match="has the labels reason"):
        samples.add("tasker_step_retries_total", 1)


def test_both_forms_of_the_exposition() -> None:
    samples = Samples("write")
    samples.add("tasker_fence_rejections_total", 2)
    body, content_type = render(samples.found)
    assert content_type.startswith("text/plain")
    assert b"# TYPE tasker_fence_rejections_total counter" in body
    body, content_type = render(samples.found, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


async def test_a_process_that_does_not_answer_is_down_and_the_rest_is_told(tmp_path: Path) -> None:
    read = Scrape("read", str(tmp_path), ["write"])
    read.tellers.append(lambda samples: samples.add("tasker_projection_events_total", 5))
    write = Scrape("write")
    write.tellers.append(lambda samples: samples.add("tasker_process_up", 1))

    async def up() -> dict[tuple[str, ...], float]:
        found = await read.all()
        assert ("tasker_projection_events_total", 5.0) in [(sample.name, sample.value) for sample in found]
        return {sample.labels: sample.value for sample in found if sample.name == "tasker_process_up"}

    assert await up() == {("write",): 0.0}
    async with told_at(socket_of(str(tmp_path), "write"), write.own):
        assert await up() == {("write",): 1.0}
    async with contextlib.AsyncExitStack() as stack:  # the socket of one that was killed is still there
        await stack.enter_async_context(told_at(socket_of(str(tmp_path), "write"), write.own))
        assert await up() == {("write",): 1.0}


async def test_a_connection_to_nats_that_is_made_anew_is_counted() -> None:
    broker = MemoryBroker()
    bus = broker.connect()
    process = ProcessMetrics({"log": lambda: Pool(open=3, busy=1, max=8)}, lambda: bus.connected)
    bus.on_reconnect(process.on_reconnect)
    broker.stop()
    broker.start()
    samples = Samples("write")
    process.tell(samples)
    told = {(sample.name, *sample.labels[1:]): sample.value for sample in samples.found}
    assert told["tasker_nats_connected",] == 1
    assert told["tasker_nats_reconnects_total",] == 1
    assert told["tasker_database_connections", "log", "busy"] == 1
    assert told["tasker_database_connections", "log", "idle"] == 2


def test_retries_are_counted_by_reason_and_a_user_s_exception_is_an_error() -> None:
    counts = CommitCounts()
    again = event(StepRetryScheduled(step="s", attempt=2, delay_s=0.0, retry_at_us=1))

    def failed(kind: str) -> NewEvent:
        error = ErrorInfo(type=kind, message="x" * 50, retryable=True)
        return event(StepAttemptFailed(step="s", attempt=1, error=error))

    counts.on_committed(0, 1, [failed("timeout"), again, failed("CardDeclined"), again])
    counts.on_committed(0, 5, [failed("worker_lost")])
    assert {reason: count for reason, count in counts.retries.items() if count} == {"timeout": 1, "error": 1}
    assert counts.types == {"step_attempt_failed": 3, "step_retry_scheduled": 2}


def test_usage_is_counted_with_its_commit() -> None:
    counts = CommitCounts()
    used = [
        UsageRecorded(step="a", attempt=1, meter="tokens_in", amount="10", cost="0.5", currency="USD"),
        UsageRecorded(step="a", attempt=1, meter="tokens_out", amount="4"),
        UsageRecorded(step="a", attempt=1, meter="pages", amount="2", cost="0.25", currency="USD"),
    ]
    counts.on_committed(0, 1, [event(one) for one in used])
    assert counts.tokens == {"in": 10.0, "out": 4.0}
    assert counts.costs == {"USD": 0.75}
    many = [f"{first}{second}A" for first in "ABCDE" for second in "ABCDE"]
    for currency in many:
        counts.on_committed(
            0, 1, [event(UsageRecorded(step="a", attempt=1, meter="m", amount="1", cost="1", currency=currency))]
        )
    assert len(counts.costs) == 17
    assert counts.costs["XXX"] == len(many) - 15
