"""/metrics of a running service: every metric of the catalogue shows what was done to cause it."""

import asyncio
import contextlib
import http.client
import shutil
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Self

import asyncpg
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tasker import TaskerClient
from tasker.errors import StateForbids, TaskerError
from tasker.metrics import CATALOGUE, Kind
from tests.acceptance.conftest import Service, free_port, metric_sums

APP = Path(__file__).with_name("metrics_app.py")
WAIT_S_MAX = 30.0
NOT_CAUSED = {
    "tasker_obligations_reconciled_total",  # a healthy service loses none; see tests/unit/testing
    "tasker_nats_reconnects_total",  # the server is every test's; see tests/unit/metrics/test_metrics.py
}


def scraped(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == http.client.OK
        return answer.read().decode()
    finally:
        connection.close()


class Watch:
    """Scrapes all the time and keeps the highest that each metric was, since most gauges fall again soon."""

    def __init__(self, port: int) -> None:
        self.highest: dict[str, float] = {}
        self.text = ""
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.text = scraped(self._port)
            for name, value in metric_sums(self.text).items():
                self.highest[name] = max(value, self.highest.get(name, 0.0))

    async def saw(self, *names: str, again: Callable[[], Awaitable[object]] | None = None) -> None:
        """Return once all of these were above 0."""
        until_s = time.monotonic() + WAIT_S_MAX
        while missing := [name for name in names if not self.highest.get(name)]:
            assert time.monotonic() < until_s, f"never above 0: {missing}"
            if again is not None:
                await again()
            await asyncio.sleep(0.02)

    async def reads(self, *lines: str) -> None:
        """Return once a scrape has all of these lines."""
        until_s = time.monotonic() + WAIT_S_MAX
        while missing := [line for line in lines if line not in self.text]:
            assert time.monotonic() < until_s, f"never there: {missing}"
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def watch(service: Service) -> Iterator[Watch]:
    """A watch over a service to which everything was done that its metrics tell of."""
    with Watch(service.port) as watch:
        asyncio.run(_cause_all(service, watch))
        yield watch


async def _cause_all(service: Service, watch: Watch) -> None:
    connection = await asyncpg.connect(service.database_url)
    try:
        async with service.client() as client:
            await _lose_a_worker(service, client, watch, _hold_the_log(client, watch, connection))
            with service.worker(APP, "--slots", "1", "--drain-s", "0"):
                await _run_steps(client, watch)
                await _steal_shards(client, watch, connection)
    finally:
        await connection.close()


async def _lose_a_worker(
    service: Service, client: TaskerClient, watch: Watch, meanwhile: Coroutine[None, None, None]
) -> None:
    """Stop a worker in its tracks: what is sent to it is missed when it has been silent for a while."""
    worker = service.command("worker", str(APP))
    worker.start()
    processes: list[psutil.Process] = []
    try:
        await asyncio.to_thread(service.create_when_registered, "quick", None)
        # The child runs the handlers; the parent would give it up before the service does.
        processes = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
        for process in processes:
            process.suspend()
        await client.create("quick")
        await asyncio.gather(meanwhile, watch.saw("tasker_direct_items_lost_total"))
    finally:
        for process in processes:
            process.kill()
        worker.kill()


async def _run_steps(client: TaskerClient, watch: Watch) -> None:
    for handle in [await client.create("flaky"), *[await client.create("quick") for _ in range(60)]]:
        await client.wait(handle)
    await watch.saw("tasker_step_retries_total", "tasker_timer_delay_seconds", "tasker_publisher_lag_events")
    blocked = await client.create("doomed")
    await watch.reads('tasker_dead_letters_open{status="open"} 1.0', 'tasker_tasks_open{state="blocked"} 1.0')
    await client.cancel(blocked, requested_by="tests", reason="was seen")
    await watch.reads('tasker_dead_letters_open{status="open"} 0.0', 'tasker_tasks_open{state="blocked"} 0.0')
    await client.controls.pause("template", "quick", requested_by="tests", reason="to be seen")
    held = await client.create("quick")
    await watch.saw("tasker_pauses", "tasker_attempts_held")
    await client.controls.resume("template", "quick", requested_by="tests", reason="was seen")
    await client.wait(held)
    await client.controls.open_circuit("nothing", open_s=1, requested_by="tests", reason="to be seen")
    probe = await client.create("quick")
    await watch.saw("tasker_circuits_open", "tasker_circuit_probes_total")
    with contextlib.suppress(StateForbids):  # its trial may have closed it by now
        await client.controls.close_circuit("nothing", requested_by="tests", reason="was seen")
    await client.wait(probe)
    await client.register({"name": "narrow", "max_running": 1, "steps": [{"name": "only"}]})
    only = await client.create("narrow")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await client.create("narrow")
    await watch.saw("tasker_admissions_refused_total")
    await client.cancel(only, requested_by="tests", reason="was seen")
    # More than one slot takes: some wait here, some with the worker, which gives back what it cannot begin.
    for _ in range(12):
        await client.create("slow", 0.6)

    async def more() -> None:
        # A queue whose steps went to the stream is served by the stream alone for a while: so more of another.
        await asyncio.gather(*(client.create("quick") for _ in range(8)))

    await watch.saw("tasker_direct_items_waiting", again=more)
    await watch.saw(
        "tasker_direct_items_returned_total",
        "tasker_reports_unrecorded_total",
        "tasker_steps_in_flight",
        "tasker_queue_depth_steps",
        "tasker_queue_oldest_age_seconds",
        "tasker_projection_lag_events",
    )


async def _hold_the_log(client: TaskerClient, watch: Watch, connection: asyncpg.Connection) -> None:
    """Let loads wait (mailboxes fill), then appends (the backlog grows)."""
    for lock, sign in (
        ("LOCK TABLE stream IN ACCESS EXCLUSIVE MODE", "tasker_mailbox_messages"),
        ("LOCK TABLE event IN EXCLUSIVE MODE", "tasker_append_backlog_units"),
    ):
        async with connection.transaction():
            await connection.execute(lock)
            creating = asyncio.create_task(client.create("quick"))
            await watch.saw(sign)
        await creating


async def _steal_shards(client: TaskerClient, watch: Watch, connection: asyncpg.Connection) -> None:
    """Take all leases away: what is written meanwhile is fenced, what is quiet is missed at the next renewal."""

    async def steal() -> None:
        await connection.execute(
            "UPDATE shard_head SET owner = 'thief', epoch = epoch + 1, lease_until = clock_timestamp()"
        )
        with contextlib.suppress(TaskerError):
            await client.create("quick")

    await watch.saw("tasker_fence_rejections_total", "tasker_lease_expirations_total", again=steal)


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_metric_shows_what_caused_it(watch: Watch, name: str) -> None:
    """It is there, and above 0 after it was caused."""
    assert name in watch.highest
    assert watch.highest[name] > 0 or name in NOT_CAUSED


def test_the_exposition_is_the_catalogue(watch: Watch) -> None:
    """Kinds, labels and help are those of the catalogue; no label holds an id."""
    families = {family.name: family for family in text_string_to_metric_families(watch.text)}
    for metric in CATALOGUE.values():
        family = families[metric.name.removesuffix("_total") if metric.kind is Kind.COUNTER else metric.name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
            assert all(len(value) < 33 for value in sample.labels.values()), sample
    assert len(families) == len(CATALOGUE)


def test_both_processes_answer_one_scrape(watch: Watch) -> None:
    assert 'tasker_process_up{process="write"} 1.0' in watch.text
    assert 'tasker_process_up{process="read"} 1.0' in watch.text
    assert 'tasker_step_retries_total{reason="error"} 1.0' in watch.text


def test_a_node_without_http_serves_metrics_alone(service: Service) -> None:
    port = free_port()
    node = service.command("serve", "--roles", "shards,publisher,metrics", "--http-port", str(port))
    node.start()
    try:
        until_s = time.monotonic() + WAIT_S_MAX
        text = ""
        while not text:
            assert node.ended() is None, node.said()
            assert time.monotonic() < until_s, node.said()
            with contextlib.suppress(ConnectionError):
                text = scraped(port)
        values = metric_sums(text)
        assert values["tasker_process_up"] == 1
        assert "tasker_shards_owned" in values
        assert "tasker_projection_lag_events" not in values
    finally:
        assert node.stop() == 0, node.said()


def test_promtool_finds_nothing(watch: Watch) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: the exposition is NOT checked by it")
    check = subprocess.run(
        [promtool, "check", "metrics"], input=watch.text, capture_output=True, text=True, timeout=30, check=False
    )
    assert (check.returncode, check.stderr) == (0, "")
