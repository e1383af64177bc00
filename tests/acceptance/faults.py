"""A service under load whose processes are killed, and the check that nothing was lost.

async with rig.load() as load:          creates tasks one after another, and records every acknowledgement
    await load.acked(40)                a signal: so many are acknowledged
    rig.kill_write()                    a fault
await rig.check(load)                   every task ended; the checkers find nothing
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import msgspec
import nats
import psutil

from tasker.client import TaskerClient
from tasker.client.attempts import RetryPolicy
from tasker.errors import TaskerError, is_passing
from tasker.events.envelope import StreamKind
from tasker.events.postgres_log import PostgresLog
from tasker.events.subjects import Subjects
from tasker.events.task_events import ENDING_TYPES, StepCompleted, TaskReconciled
from tasker.ids import SystemIds
from tasker.projections.views import PROJECTIONS
from tasker.replay.checkers.acknowledged import AcknowledgedChecker, Acknowledgement
from tasker.replay.checkers.checker import decoded
from tasker.replay.checkers.published import PublishedChecker
from tasker.replay.findings import Finding, Findings
from tasker.replay.verify import verify
from tasker.settings import Pace
from tests.acceptance.conftest import Process, Service
from tests.effects import check_effects
from tests.proxies.proxy import Proxy, nats_proxy, postgres_proxy
from tests.timely_at_rest import TimelyAtRest

_T = TypeVar("_T")

APP = Path(__file__).with_name("load_app.py")
TEMPLATES = {"chain", "diamond", "mixed", "burst", "slow", "blocking"}
HEALED_S_MAX = 90.0
COPIES_S = 2.0
QUICK_PACE = {"lease_s": 1.5, "renew_s": 0.3}
"""Leases so short that a killed service is back soon."""

LEASE_S = QUICK_PACE["lease_s"]
ACK_WAIT_S = 2.0
"""How long NATS waits for what a killed process had taken; so short that a test can wait for it."""

UNANSWERED_MAX = 200
"""Creations that a load has under way; on a slow machine it waits before it asks more."""

ROUNDS = int(os.environ.get("TASKER_FAULT_ROUNDS", "1"))
"""How often each test runs, with a new seed each time; `make faults` sets more. TASKER_SEED repeats one."""


class Sink:
    """What the load's handlers did to the world."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "effects").mkdir(parents=True)

    def effects(self) -> list[str]:
        """Return the key of each effect that happened."""
        return [path.name for path in (self.folder / "effects").iterdir()]

    def executions(self) -> list[tuple[str, int, int, float]]:
        """Return each run of a handler: key, attempt, process, time."""
        try:
            lines = (self.folder / "executions").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(key, int(attempt), int(pid), float(at)) for key, attempt, pid, at in map(str.split, lines)]

    def repeated(self) -> list[str]:
        """Return attempts that one process ran more than once, other than as copies of one message at once."""
        seen: dict[tuple[str, int, int], float] = {}
        found = []
        for key, attempt, pid, at in self.executions():
            first = seen.setdefault((key, attempt, pid), at)
            if at - first > COPIES_S:
                found.append(f"attempt {attempt} of {key} ran again after {at - first:.1f} s")
        return found

    def go(self) -> None:
        """Let the steps that wait for it end."""
        (self.folder / "go").touch()

    async def begun(self, step: str, attempt: int = 1) -> tuple[str, int]:
        """Return key and process of an attempt of a step, once it runs."""
        while True:
            for key, number, pid, _ in self.executions():
                if key.endswith(f":{step}") and number == attempt:
                    return key, pid
            await asyncio.sleep(0.02)

    def die(self, where: str) -> None:
        """Let the next handler that comes to a place kill its process there."""
        (self.folder / f"die_{where}").touch()

    def died(self, where: str) -> bool:
        """Say whether one did."""
        return (self.folder / f"died_{where}").exists()


class Load:
    """Creates tasks at a steady pace and records what was answered."""

    def __init__(self, client: TaskerClient, *, every_s: float) -> None:
        self._client = client
        self._every_s = every_s
        self._moved = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()
        self._forgotten = False
        self._breaking = False
        self.record: list[Acknowledgement] = []
        self.refused: dict[str, TaskerError] = {}
        self.asked = 0

    @property
    def acked_count(self) -> int:
        """Return how many creations were acknowledged."""
        return sum(one.task_id is not None for one in self.record)

    async def acked(self, more: int) -> None:
        """Return when `more` creations are acknowledged than now."""
        wanted = self.acked_count + more
        async with asyncio.timeout(HEALED_S_MAX):
            while self.acked_count < wanted:
                self._moved.clear()
                await self._moved.wait()

    async def run(self) -> None:
        """Create tasks, for ever."""
        self._breaking = True
        while True:
            if len(self._asking) >= UNANSWERED_MAX:
                await asyncio.wait(self._asking, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self.ask(self.asked), name=f"create {self.asked}")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            await asyncio.sleep(self._every_s)

    def forget(self) -> None:
        """Wait for no answer: there is nobody left to give one."""
        self._forgotten = True
        for task in self._asking:
            task.cancel()

    async def finish(self) -> None:
        """Return when everything that was asked is answered; what is broken is whole from now on."""
        self._breaking = False
        await asyncio.gather(*self._asking, return_exceptions=self._forgotten)

    async def ask(self, number: int, **fields: Any) -> None:
        """Create a task and record the answer.

        Some wait for a signal, which they get at once.
        """
        self.asked += 1
        key = f"k{number}"
        template = "diamond" if number % 3 == 0 else "mixed" if number % 6 == 2 else "chain"
        try:
            handle = await self._insist(
                lambda: self._client.create(template, {"n": number}, idempotency_key=key, **fields)
            )
        except TaskerError as error:
            self.record.append(Acknowledgement(idempotency_key=key))
            self.refused[key] = error
            return
        assert handle.position is not None
        shard, _, position = handle.position.partition(":")
        self.record.append(
            Acknowledgement(idempotency_key=key, task_id=UUID(handle.task_id), shard=int(shard), position=int(position))
        )
        self._moved.set()
        if template == "mixed":
            await self._insist(lambda: self._client.signal(handle, "go", number, command_id=key))

    async def _insist(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer to what is asked.

        While the service is broken again and again, whoever asks may find it so each time: he asks on with his key, as
        a caller does. Once nothing is broken any more the client's timeout must do.
        """
        while True:
            breaking = self._breaking
            try:
                return await ask()
            except TaskerError as error:
                if not breaking or not is_passing(error):
                    raise


class Lines:
    """A proxy on each way between two of our processes and their servers."""

    def __init__(self, database: Proxy, service: Proxy, worker: Proxy) -> None:
        self.database = database
        self.service = service
        self.worker = worker

    @property
    def all(self) -> tuple[Proxy, ...]:
        """Return them all."""
        return (self.database, self.service, self.worker)

    def calm(self) -> None:
        """Let everything pass from now on."""
        for line in self.all:
            line.calm()


class Rig:
    """The processes of a test, and what to do to them."""

    def __init__(self, *, database_url: str, nats_url: str, folder: Path) -> None:
        self.service = Service(
            database_url=database_url, nats_url=nats_url, nats_prefix=f"t{uuid.uuid4().hex[:12]}", folder=folder
        )
        self.folder = folder
        self.sink = Sink(folder / "sink")
        self.service.environ["LOAD_SINK"] = str(self.sink.folder)
        self.service.environ["TASKER_STREAMS_ACK_WAIT_S"] = str(ACK_WAIT_S)
        self.pace(QUICK_PACE)
        self.subjects = Subjects(self.service.nats_prefix)
        self.worker = self.service.command("worker", str(APP))
        self.started: list[Process] = []
        seed = os.environ.get("TASKER_SEED") or str(SystemIds().uuid7().int % 10**6)
        self.random = random.Random(seed)
        print(f"TASKER_SEED={seed}")  # noqa: T201 - to run it again
        self.seed = seed

    # ---------------------------------------------------------------- processes

    def pace(self, pace: dict[str, float]) -> None:
        """Let the processes that are started from now on go at another pace."""
        for name in Pace.__struct_fields__:
            self.service.environ.pop(f"TASKER_PACE_{name.upper()}", None)
        self.service.environ.update({f"TASKER_PACE_{name.upper()}": str(value) for name, value in pace.items()})

    def dedupe(self, window_s: float) -> None:
        """Let NATS forget the ids of messages so soon."""
        for process in (self.service.process, self.worker):
            self.reach(process, TASKER_STREAMS_DEDUPE_S=str(window_s))

    async def start(self) -> None:
        """Start service and worker; return when a task can be created."""
        self.started += [self.service.process, self.worker]
        await asyncio.to_thread(self.service.start)
        self.worker.start()
        await self.registered()

    async def registered(self) -> None:
        """Return when the load's templates are known."""
        async with self.service.client() as client, asyncio.timeout(HEALED_S_MAX):
            while not {view.name async for view in client.templates()} >= TEMPLATES:
                assert self.worker.ended() is None, self.worker.said()
                await asyncio.sleep(0.05)

    async def standby(self) -> Service:
        """Start a second service on the same servers, at the same pace; return it once it stands by."""
        service = Service(
            database_url=self.service.database_url,
            nats_url=self.service.nats_url,
            nats_prefix=self.service.nats_prefix,
            folder=self.folder,
        )
        service.environ.update({name: value for name, value in self.service.environ.items() if "_PACE_" in name})
        self.started.append(service.process)
        await asyncio.to_thread(service.start)
        return service

    def serve(self, *arguments: str, **environ: str) -> Process:
        """Start one more `tasker serve`."""
        process = self.service.command("serve", *arguments)
        process._environ = self.service.environ | environ
        process.start()
        self.started.append(process)
        return process

    def stop(self) -> dict[str, int | None]:
        """Drain what still runs; returns the exit codes by what was started."""
        codes = {}
        for process in reversed(self.started):
            try:
                codes[process.log.name] = process.stop() if process.ended() is None else process.ended()
            except Exception:  # noqa: BLE001 - the others are to be stopped too
                codes[process.log.name] = None
        return codes

    @staticmethod
    def side(process: Process, name: str) -> psutil.Process:
        """Return the child of a `tasker serve` that runs the `write` or the `read` side."""
        children = psutil.Process(process.pid).children()
        return next(child for child in children if name in child.cmdline())

    def kill_write(self) -> psutil.Process:
        """Kill the process of the shards, once it is there; returns which one it was."""
        until_s = time.monotonic() + 20
        while True:
            try:
                victim = self.side(self.service.process, "write")
                victim.kill()
            except (StopIteration, psutil.NoSuchProcess):
                assert time.monotonic() < until_s, "there is no write side to kill"
                time.sleep(0.02)
            else:
                return victim

    @staticmethod
    def kill_tree(process: Process) -> None:
        """Kill a process with all its children at once; who ends by itself meanwhile is as good as killed."""
        parent = psutil.Process(process.pid)
        parent.suspend()
        stopped = [parent]
        # Who is not stopped yet may start others, as a supervisor does for one that died.
        while found := [one for one in parent.children(recursive=True) if one not in stopped]:
            for one in found:
                with suppress(psutil.NoSuchProcess):
                    one.suspend()
            stopped += found
        for one in stopped:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.kill()

    async def kill_backend(self) -> None:
        """Kill one of the service's connections in PostgreSQL."""
        connection = await asyncpg.connect(self.service.database_url)
        try:
            rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'tasker'")
            os.kill(self.random.choice([row["pid"] for row in rows]), signal.SIGKILL)
        finally:
            connection.terminate()

    async def delete_stream(self, stream: str) -> None:
        """Delete a stream behind everyone's back."""
        connection = await nats.connect(self.service.nats_url)
        try:
            assert await connection.jetstream().delete_stream(stream)
        finally:
            await connection.close()

    def reach(self, process: Process, **environ: str) -> None:
        """Let a process, from its next start on, have some variables of its own (an address that leads to a proxy)."""
        process._environ = {**process._environ, **environ}

    @asynccontextmanager
    async def lines(self) -> AsyncIterator[Lines]:
        """Lead what service and worker say to their servers through proxies; to be entered before they start."""
        async with (
            postgres_proxy(self.service.database_url, self.random) as database,
            nats_proxy(self.service.nats_url, self.random) as service,
            nats_proxy(self.service.nats_url, self.random) as worker,
        ):
            self.reach(self.service.process, TASKER_DATABASE_URL=database.url, TASKER_NATS_URL=service.url)
            self.reach(self.worker, TASKER_NATS_URL=worker.url)
            lines = Lines(database, service, worker)
            try:
                yield lines
            finally:
                lines.calm()
                # They drain through the proxies, which run in this loop.
                await asyncio.to_thread(self.stop)

    async def fetchval(self, query: str) -> Any:
        """Return what the database says."""
        connection = await asyncpg.connect(self.service.database_url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    # ---------------------------------------------------------------- load

    @asynccontextmanager
    async def load(self, *, every_s: float = 0.04, attempt_s: float = RetryPolicy().attempt_s) -> AsyncIterator[Load]:
        """Create tasks while the block runs; then wait for the answers. One that is lost is asked for again."""
        async with self.service.client(timeout_s=60.0, attempt_s=attempt_s) as client:
            load = Load(client, every_s=every_s)
            running = asyncio.create_task(load.run(), name="load")
            try:
                yield load
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            await load.finish()

    # ---------------------------------------------------------------- what must hold

    async def check(self, load: Load) -> None:
        """Wait until everything has healed, then hold it to every invariant."""
        connection = await asyncpg.connect(self.service.database_url)
        try:
            await self._until(lambda: self._not_ended(connection), "every task ends")
            await self._until(lambda: self._not_returned(connection), "every place is back")
            await self._until(lambda: self._not_published(connection), "everything is published")
            await self._until(lambda: self._not_viewed(connection), "the views have caught up")
        finally:
            await connection.close()
        findings = Findings()
        report = await verify(self.service.database_url, workers=1)
        for finding in report.findings:
            findings.add(finding)
        await self._check_record(load, findings)
        for detail in self.sink.repeated():
            findings.add(Finding(invariant="I7", detail=detail))  # type: ignore[arg-type]
        assert not findings.kept, "\n".join(str(finding) for finding in findings.kept)
        assert load.acked_count == load.asked, [(key, error.code, str(error)) for key, error in load.refused.items()]
        assert report.tasks >= load.asked

    async def _check_record(self, load: Load, findings: Findings) -> None:
        async with await PostgresLog.connect(self.service.database_url, committers=0) as log:
            info = await log.info()
            cursors = await log.publish_cursors(range(info.shards))
            heads = {head.shard: head.position for head in await log.heads(range(info.shards))}
            published = await self.published()
            record = AcknowledgedChecker(load.record, findings.add)
            stream = PublishedChecker(info.log_id, published, findings.add, cursors=heads)
            owed = []
            for shard in range(info.shards):
                timely = TimelyAtRest(shard, findings.add)
                position = 0
                while page := await log.read(shard, after=position, limit=1000):
                    position = page[-1].position
                    for recorded in page:
                        event = decoded(recorded)
                        assert not isinstance(event, TaskReconciled), f"{recorded.stream_id} lost {event.obligations}"
                        for checker in (record, stream, timely):
                            checker.take(recorded, event)
                        if isinstance(event, StepCompleted) and not event.step.startswith("q_"):
                            owed.append(f"{recorded.stream_id}:{event.step}")
                timely.close_at_rest()
                # An owner that compares the stream's marks may have gone back a little just now.
                assert cursors.get(shard, 0) <= position, f"the cursor of shard {shard} is ahead of the log"
            record.close_log()
            stream.close_log()
            check_effects(self.sink.effects(), findings.add, owed=owed)

    async def published(self) -> list[bytes]:
        """Return the bodies of all events in the event stream."""
        connection = await nats.connect(self.service.nats_url)
        try:
            stream = connection.jetstream()
            last = (await stream.stream_info(self.subjects.event_stream)).state.last_seq
            bodies: list[bytes] = []
            if not last:
                return bodies
            # Marks and events alike, so that the last message is sure to come.
            messages = await stream.subscribe(
                f"{self.service.nats_prefix}.>", stream=self.subjects.event_stream, ordered_consumer=True
            )
            while True:
                message = await messages.next_msg(timeout=20)
                if ".evt." in message.subject:
                    bodies.append(message.data)
                if message.metadata.sequence.stream >= last:
                    return bodies
        finally:
            await connection.close()

    async def until(self, found: Callable[[], Awaitable[object]], *, wanted: object) -> None:
        """Return when a look at another process gives what is wanted."""

        async def missing() -> str:
            value = await found()
            return "" if value == wanted else f"it is {value}"

        await self._until(missing, f"it is {wanted}")

    @staticmethod
    async def _until(missing: Callable[[], Awaitable[str]], what: str) -> None:
        until_s = time.monotonic() + HEALED_S_MAX
        while found := await missing():
            assert time.monotonic() < until_s, f"waited {HEALED_S_MAX} s until {what}: {found}"
            await asyncio.sleep(0.1)

    async def _not_ended(self, connection: asyncpg.Connection) -> str:
        # Asked again and again while the service heals: the story is told of one, found by its index.
        rows = await connection.fetch(
            "SELECT stream_id FROM event WHERE kind = $1 GROUP BY stream_id HAVING NOT bool_or(type = ANY ($2))",
            StreamKind.TASK,
            list(ENDING_TYPES),
        )
        if not rows:
            return ""
        story = await connection.fetchval(
            "SELECT string_agg(type || ' ' || convert_from(payload, 'UTF8'), E'\\n' ORDER BY seq)"
            " FROM event WHERE stream_id = $1",
            rows[0][0],
        )
        return f"{len(rows)} tasks have not ended, such as {rows[0][0]}:\n{story}"

    async def _not_returned(self, connection: asyncpg.Connection) -> str:
        """Tell which places under concurrency keys are still held, by the keys' own events."""
        rows = await connection.fetch(
            "SELECT type, convert_from(payload, 'UTF8')::json -> 'requests' FROM event"
            " WHERE type IN ('places_granted', 'places_returned') ORDER BY shard, position"
        )
        held: set[str] = set()
        for type_, requests in rows:
            (held.update if type_ == "places_granted" else held.difference_update)(msgspec.json.decode(requests))
        return ", ".join(sorted(held)[:5])

    async def _not_published(self, connection: asyncpg.Connection) -> str:
        rows = await connection.fetch(
            "SELECT c.shard, c.position, head FROM publish_cursor AS c,"
            " LATERAL (SELECT max(position) AS head FROM event AS e WHERE e.shard = c.shard) AS last"
            " WHERE head > c.position"
        )
        return ", ".join(f"shard {shard} at {cursor} of {head}" for shard, cursor, head in rows)

    async def _not_viewed(self, connection: asyncpg.Connection) -> str:
        heads: dict[int, int] = dict(
            map(tuple, await connection.fetch("SELECT shard, max(position) FROM event GROUP BY shard"))
        )
        rows: list[Any] = await connection.fetch(
            "SELECT c.projection, c.shard, c.position FROM checkpoint AS c"
            " JOIN projection AS p ON p.name = c.projection AND p.version = c.version"
        )
        there = {(name, shard): position for name, shard, position in rows}
        behind = Counter(
            one.name for one in PROJECTIONS for shard, head in heads.items() if there.get((one.name, shard), 0) < head
        )
        return ", ".join(f"{name} in {count} shards" for name, count in behind.items())


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


@contextmanager
def stopped(processes: Iterable[psutil.Process]) -> Iterator[None]:
    """Stop processes in their tracks while the block runs."""
    frozen = []
    try:
        for process in processes:
            process.suspend()
            frozen.append(process)
        yield
    finally:
        for process in frozen:
            with suppress(psutil.NoSuchProcess):
                process.resume()


async def until(true: Callable[[], bool]) -> None:
    """Wait for a file or a process of another process, which cannot tell us."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.02)
