"""Seeded sessions: random workflows on a world that loses, doubles, reorders and dies; then every invariant is checked.

One seed is one session, to the last event. What fails names its seed; `TASKER_SIMULATION_SEEDS=N` runs that one alone,
`TASKER_SIMULATION_SEEDS=1000-2000` many others.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from uuid import UUID

import msgspec

from tasker import Emits, PermanentError, Retry, RetryableError, StepContext, Template
from tasker.bus.bus import Message
from tasker.client.requests import TaskHandle
from tasker.errors import TaskerError, Unavailable
from tasker.events.memory_log import STRANGER, Fault
from tasker.projections.views import PROJECTIONS
from tasker.replay.checkers.acknowledged import AcknowledgedChecker, Acknowledgement
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.published import PublishedChecker
from tasker.replay.checkers.tried import read_openings, unexplained
from tasker.replay.content import Contents
from tasker.replay.findings import Findings
from tasker.replay.shard import ShardVerifier, views_at
from tasker.testing.sources import registry_of
from tasker.testing.virtual_loop import VirtualLoop
from tasker.testing.world import World

TASKS = 8
TROUBLE_S = 20.0
HEALED_S = 900.0


class Session:
    """One world and what its callers were told."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.draw = random.Random(f"session {seed}")
        self.acknowledged: list[Acknowledgement] = []
        self.handles: dict[str, TaskHandle] = {}
        self.effects: Counter[str] = Counter()
        self.runs: Counter[tuple[str, str, int]] = Counter()
        self.templates = self._templates()
        self.happened: list[str] = []
        self.recorded: set[str] = set()
        self.digest = ""

    # ---------------------------------------------------------------- the workflow

    def _templates(self) -> list[Template]:
        """A random DAG: each step has up to two of the steps before it as parents."""
        draw = self.draw
        template = Template("work", on_failure=draw.choice(["block", "fail"]))
        for number in range(draw.randint(2, 5)):
            parents = draw.sample([f"s{one}" for one in range(number)], min(number, draw.randint(0, 2)))
            retry = Retry(max_attempts=draw.randint(2, 6), delay_s=draw.choice([0.05, 1.0, 5.0]), delay_s_max=10.0)
            template.step(
                name=f"s{number}",
                after=parents,
                retry=retry,
                start_to_close_s=draw.choice([2.0, 15.0, 30.0]),
                heartbeat_s=draw.choice([0.5, 1.5]),
                emits=["work.begun", Emits("work.ended", on="always", auto=True)],
            )(self._handler())
        return [template]

    def _handler(self):
        draw = self.draw
        takes_s = draw.choice([0.0, 0.0, 0.01, 0.5, 3.0])
        fails = draw.choice([0.0, 0.1, 0.4])

        async def work(ctx: StepContext) -> str:
            self.runs[ctx.task_id, ctx.step, ctx.attempt] += 1
            ctx.emit("work.begun", ctx.attempt)
            ctx.usage(model="m", tokens_in=ctx.attempt, cost="0.1")
            if takes_s:
                await asyncio.sleep(takes_s)
            chance = draw.random()
            if chance < fails:
                raise PermanentError("never") if chance < fails / 20 else RetryableError("not yet")
            self.effects[ctx.idempotency_key] += 1
            return ctx.idempotency_key

        return work

    # ---------------------------------------------------------------- the session

    async def run(self) -> Findings:
        """Live through it, and return what the checkers found."""
        world = World(registry_of(self.templates), seed=self.seed, exact=True)
        await world.open()
        try:
            trouble = asyncio.create_task(self._trouble(world))
            callers = [asyncio.create_task(self._caller(world, number)) for number in range(TASKS)]
            await world.advance(TROUBLE_S)
            await self._until(world, trouble)
            world.network.calm()
            await self._until(world, *callers)
            await self._heal(world)
            return await self._check(world)
        finally:
            await world.close()

    @staticmethod
    async def _until(world: World, *tasks: asyncio.Task[None]) -> None:
        with world.loop.passing(world.loop.time() + HEALED_S, exactly=True):
            await asyncio.gather(*tasks)

    async def _trouble(self, world: World) -> None:
        """Do something bad every few seconds."""
        draw, network = self.draw, world.network
        network.loss = draw.choice([0.0, 0.02, 0.1])
        network.duplication = draw.choice([0.0, 0.05, 0.3])
        network.delay_s_max = draw.choice([0.0, 0.005, 0.2])
        ends_s = world.loop.time() + TROUBLE_S
        while world.loop.time() < ends_s:
            await asyncio.sleep(draw.uniform(0.1, 4.0))
            what = draw.choice(["service", "worker", "broker", "streams", "append", "append", "log"])
            self.happened.append(f"{world.loop.time():.3f} {what}")
            match what:
                case "service":
                    await world.kill_service()
                    await asyncio.sleep(draw.uniform(0.0, 2.0))
                    await self._start_service(world)
                case "worker":
                    await world.replace_worker()
                case "broker":
                    world.broker.stop()
                    await asyncio.sleep(draw.uniform(0.0, 3.0))
                    world.broker.start()
                case "streams":
                    self._drop(world, draw.choice([world.subjects.work_stream, world.subjects.event_stream]))
                case "append":
                    world.log.faults.append(draw.choice(list(Fault)))
                    await asyncio.sleep(draw.uniform(0.0, 2.0))
                    world.log.faults.clear()
                    world.log.deliver_strays()
                    await world.log.release(STRANGER)
                case _:
                    world.log.unavailable = True
                    await asyncio.sleep(draw.uniform(0.0, 3.0))
                    world.log.unavailable = False

    @staticmethod
    async def _start_service(world: World) -> None:
        """Start a service until one comes up, as a supervisor does."""
        while True:
            try:
                await world.start_service()
            except Unavailable:
                await world.kill_service()
                await asyncio.sleep(1.0)
            else:
                return

    @staticmethod
    def _drop(world: World, stream: str) -> None:
        world.broker.accept(Message(f"$JS.API.STREAM.DELETE.{stream}", b""))

    async def _caller(self, world: World, number: int) -> None:
        """Create a task, ask for it twice, perhaps cancel it; keep what was answered."""
        draw = random.Random(f"caller {self.seed} {number}")
        await asyncio.sleep(draw.uniform(0.0, 0.6 * TROUBLE_S))
        key = f"key-{number}"
        for _ in range(draw.choice([1, 1, 2])):
            try:
                handle = await world.client.create("work", {"n": number}, idempotency_key=key)
            except TaskerError:
                self.acknowledged.append(Acknowledgement(idempotency_key=key))
                continue
            shard, _, position = str(handle.position).partition(":")
            self.handles[key] = handle
            self.acknowledged.append(
                Acknowledgement(
                    idempotency_key=key, task_id=UUID(handle.task_id), shard=int(shard), position=int(position)
                )
            )
        if key in self.handles and draw.random() < 0.2:
            await asyncio.sleep(draw.uniform(0.0, 3.0))
            try:
                await world.client.cancel(self.handles[key], command_id=f"cancel-{number}")
            except TaskerError:
                self.acknowledged.append(Acknowledgement(command_id=f"cancel-{number}"))

    async def _heal(self, world: World) -> None:
        """Let every task end that no person has to help, and everything be published and shown."""
        for handle in self.handles.values():
            assert await world.until_over(handle.task_id, within_s=HEALED_S), f"{handle.task_id} is not over"
        # A stream that was dropped last is made anew, and filled again.
        await world.advance(10.0)
        for _ in range(100):
            await world.advance(2.0)
            if await self._is_published(world):
                return

    @staticmethod
    async def _is_published(world: World) -> bool:
        """Return whether the event stream has acknowledged the whole log."""
        shards = range((await world.log.info()).shards)
        heads = {head.shard: head.position for head in await world.log.heads(shards)}
        return await world.log.publish_cursors(shards) == heads

    # ---------------------------------------------------------------- the invariants

    async def _check(self, world: World) -> Findings:
        findings = Findings()
        info = await world.log.info()
        contents, openings = Contents(world.log), await read_openings(world.log)
        failures = []
        async with world.views.snapshot() as snapshot:
            views = await views_at(snapshot, PROJECTIONS)
            for shard in range(info.shards):
                verifier = ShardVerifier(
                    world.log, shard, findings.add, contents=contents, views=views, openings=openings
                )
                failures.append((await verifier.verify()).failures)
        for finding in unexplained(openings, failures):
            findings.add(finding)
        cursors = await world.log.publish_cursors(range(info.shards))
        assert await self._is_published(world), "after healing, the whole log is published"
        kept = world.broker.jetstream.stored(world.subjects.event_stream, world.subjects.evt_all)
        domain = world.broker.jetstream.stored(world.subjects.event_stream, world.subjects.domain_all)
        published = PublishedChecker(info.log_id, kept, findings.add, cursors=cursors, domain=domain)
        acknowledged = AcknowledgedChecker(self.acknowledged, findings.add)
        for shard in range(info.shards):
            events = await world.log.read(shard, after=0, limit=1_000_000)
            feed(events, [published, acknowledged])
            lost = [event.payload for event in events if event.type == "task_reconciled"]
            assert not lost, f"obligations were lost: {lost}"
            over: set[tuple[UUID, str]] = set()
            for event in events:
                self.recorded.add(event.type)
                if event.type == "step_timed_out":
                    over.add((event.stream_id, msgspec.json.decode(event.payload)["step"]))
                elif event.type == "step_completed":
                    step = msgspec.json.decode(event.payload)["step"]
                    if (event.stream_id, step) not in over:
                        self._check_effect(f"{event.stream_id}", step)
        published.close_log()
        acknowledged.close_log()
        self.digest = repr(sorted((head.shard, head.digest) for head in await world.log.heads(range(info.shards))))
        return findings

    def _check_effect(self, task_id: str, step: str) -> None:
        assert self.effects[f"{task_id}:{step}"], f"{step} is completed and never ran"


def simulate(seed: int, kind: type[Session] = Session) -> tuple[Session, Findings]:
    """Live through the session of a seed; return it, and what was found."""
    random.seed(f"process {seed}")
    session = kind(seed)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return session, runner.run(session.run())


def told(session: Session, findings: Findings) -> str:
    """Return what happened in a session and what was found, to be read by a person."""
    found = [msgspec.json.encode(one).decode() for one in findings.kept[:10]]
    return "\n".join([f"TASKER_SIMULATION_SEEDS={session.seed}", *found, *session.happened])
