"""Actors from the log: what is poison and what is only a log that does not answer."""

import msgspec
import pytest

from tasker.bus.memory_bus import MemoryBroker
from tasker.bus.publish import AckedPublisher
from tasker.clock import SystemClock
from tasker.errors import Unavailable
from tasker.events.history import History
from tasker.events.memory_log import MemoryLog
from tasker.events.subjects import Subjects
from tasker.service.actors.children.standing import Standings
from tasker.service.actors.directory import TemplateDirectory
from tasker.service.actors.dispatch.dispatcher import Dispatcher
from tasker.service.actors.dispatch.gate import Gate
from tasker.service.actors.entrances.own_commands import OwnCommands
from tasker.service.actors.factory import Factory
from tasker.service.actors.limits.places import Places
from tasker.service.actors.poisoned_task import PoisonedActor
from tasker.service.actors.schedules.schedule_effects import ScheduleEffects
from tasker.service.actors.task_actor import TaskActor
from tasker.service.runtime.committer import Committer
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards
from tasker.templates import canonical_bytes
from tests.runs import Run, linear, raw
from tests.unit.runtime.committing import Listener


class Bench:
    def __init__(self) -> None:
        self.log = MemoryLog(clock=SystemClock(), shards=1)

    async def factory(self) -> Factory:
        self.bus = MemoryBroker().connect()
        info = await self.log.info()
        subjects = Subjects("t")
        clock = NodeClock()
        shards = Shards(self.log, Committer(self.log, "o", Listener([])), None, clock.now_us)  # type: ignore[arg-type]
        routes = Routes(info, self.bus, subjects)
        directory = TemplateDirectory(self.log, shards, routes, clock)
        gate = Gate(self.log, shards, clock, lambda *_: None)
        self.dispatcher = Dispatcher(self.bus, AckedPublisher(self.bus), subjects, shards, clock, gate)
        schedules = ScheduleEffects(shards, clock, Standings(shards, routes), OwnCommands())
        return Factory(directory, self.dispatcher, routes, schedules, Places(shards, routes, clock), lambda: None)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def recorded(run: Run) -> list:
    return [event for unit in run.units for event in unit]


async def test_a_template_that_cannot_be_read_now_is_no_poison(bench: Bench) -> None:
    """A poisoned task is left alone for an hour; this one is only asked for again."""
    factory = await bench.factory()
    template = linear(2)
    run = Run(template)
    run.create()
    bench.log.unavailable = True
    with pytest.raises(Unavailable):
        await factory.revive(run.task_id, History.of(recorded(run)), "task")
    bench.log.unavailable = False
    await bench.log.put_blob(bytes.fromhex(template.hash), canonical_bytes(template.spec))
    assert isinstance(await factory.revive(run.task_id, History.of(recorded(run)), "task"), TaskActor)


async def test_a_template_that_the_log_does_not_have_is_poison(bench: Bench) -> None:
    factory = await bench.factory()
    run = Run(linear(2))
    run.create()
    actor = await factory.revive(run.task_id, History.of(recorded(run)), "task")
    assert isinstance(actor, PoisonedActor)


async def test_an_event_that_nobody_understands_is_poison(bench: Bench) -> None:
    factory = await bench.factory()
    run = Run(linear(2))
    run.create(input=raw(1))
    events = recorded(run)
    events[-1] = msgspec.structs.replace(events[-1], type="from_the_future")
    assert isinstance(await factory.revive(run.task_id, History.of(events), "task"), PoisonedActor)


async def test_a_cancel_that_cannot_be_told_now_harms_nobody(bench: Bench) -> None:
    """The next heartbeat's answer tells it; the committer that called must go on."""
    factory = await bench.factory()
    actor = await factory.revive(Run(linear(1)).task_id, History.of([]), "task")
    assert isinstance(actor, TaskActor)
    actor.tenant = "default"
    await bench.bus.close()
    bench.dispatcher.tell_cancel(actor, "w1", "s1", 1, 5.0)
