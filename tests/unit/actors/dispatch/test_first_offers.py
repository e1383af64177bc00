"""A first offer is run without a question, so it leaves only while nobody else can own the shard."""

import msgspec
import pytest
import structlog

from tasker.bus.bus import Message
from tasker.bus.memory_bus import MemoryBroker
from tasker.bus.publish import AckedPublisher
from tasker.events.history import History
from tasker.events.memory_log import MemoryLog
from tasker.events.subjects import Subjects
from tasker.service.actors.children.standing import Standings
from tasker.service.actors.directory import TemplateDirectory
from tasker.service.actors.dispatch.dispatcher import FAILED_OFFER_S, Dispatcher
from tasker.service.actors.dispatch.first_offers import UNASKED_S, FirstOffers
from tasker.service.actors.dispatch.gate import Gate
from tasker.service.actors.dispatch.lines import Offered
from tasker.service.actors.entrances.own_commands import OwnCommands
from tasker.service.actors.factory import Factory
from tasker.service.actors.limits.places import Places
from tasker.service.actors.schedules.schedule_effects import ScheduleEffects
from tasker.service.actors.task_actor import TaskActor
from tasker.service.runtime.actor import Turn
from tasker.service.runtime.committer import Committer
from tasker.service.runtime.due import DueBook
from tasker.service.runtime.node import Wake
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards
from tasker.templates import canonical_bytes
from tests.runs import T0_US, Run, linear
from tests.unit.actors.test_factory import recorded
from tests.unit.runtime.committing import Listener


class Owner:
    """The dispatcher of a node with one task, whose one step is on offer, and what reaches the workers."""

    async def begin(self) -> None:
        self.now_s = 0.0
        self.clock = NodeClock(lambda: self.now_s)
        self.clock.set(T0_US)
        self.clock.lease(10.0, asked_s=0.0)
        log, self.bus, subjects = MemoryLog(shards=1), MemoryBroker().connect(), Subjects("t")
        self.shards = Shards(log, Committer(log, "o", Listener([])), None, self.clock.now_us)  # type: ignore[arg-type]
        self.book = DueBook(0)
        self.shards.open(0, self.book, 0)
        self.shards.serve(0)
        gate = Gate(log, self.shards, self.clock, lambda *_: None)
        self.dispatcher = Dispatcher(self.bus, AckedPublisher(self.bus), subjects, self.shards, self.clock, gate)
        routes = Routes(await log.info(), self.bus, subjects)
        schedules = ScheduleEffects(self.shards, self.clock, Standings(self.shards, routes), OwnCommands())
        directory = TemplateDirectory(log, self.shards, routes, self.clock)
        places = Places(self.shards, routes, self.clock)
        factory = Factory(directory, self.dispatcher, routes, schedules, places, lambda: None)
        self.run = Run(linear(1))
        await log.put_blob(bytes.fromhex(self.run.template.hash), canonical_bytes(self.run.template.spec))
        self.run.create()
        actor = await factory.revive(self.run.task_id, History.of(recorded(self.run)), "task")
        assert isinstance(actor, TaskActor)
        self.actor = actor
        self.book.adopt(self.run.task_id, actor.owes(), written=False)
        self.book.pop_due(T0_US, 10)
        self.work: list[Message] = []
        self.bus.subscribe(subjects.work_all, self.work.append)

    async def offered(self, offer: int) -> int:
        """Offer the step; returns how many messages left."""
        self.dispatcher.offer(self.actor, "s1", 1, offer=offer)
        await self.bus.flush()
        return len(self.work)

    def encoded(self, offer: int = 0) -> bytes | None:
        return self.dispatcher.encoded(Offered(self.actor, "s1", 1, 0.0, offer))

    def reoffer(self) -> Turn | None:
        """Wake the actor for its offer."""
        now_us = self.clock.now_us()
        return self.actor.receive(Wake(self.book, self.run.task_id, "offer:s1:1", now_us), now_us)

    def due_again(self) -> list[str]:
        """Return what wakes the actor when a failed offer is due again."""
        later_us = self.clock.now_us() + round(FAILED_OFFER_S * 1e6)
        return [obligation for _, obligation in self.book.pop_due(later_us, 10)]


@pytest.fixture
async def owner() -> Owner:
    owner = Owner()
    await owner.begin()
    return owner


async def test_it_leaves_while_the_lease_holds(owner: Owner) -> None:
    assert owner.encoded() is not None
    assert await owner.offered(0) == 1


async def test_a_store_of_nats_that_takes_no_work_is_told_of_until_it_does(owner: Owner) -> None:
    """With its disk full, work waited beside free workers, and nothing said why."""

    async def answered(body: bytes) -> list[str]:
        with structlog.testing.capture_logs() as lines:
            await owner.offered(1)
            owner.bus.publish(owner.work[-1].reply, body)
            await owner.bus.flush()
        return [str(one.get("error", "")) for one in lines if one["event"] in {"work_not_published", "outage_over"}]

    owner.now_s = 11.0
    owner.actor.repeats.at_least_one("s1")
    full = b'{"error":{"code":503,"err_code":10077,"description":"no space left on device"},"stream":"W","seq":0}'
    [told] = await answered(full)
    assert "no space left on device" in told
    assert owner.due_again() == ["offer:s1:1"]
    assert await answered(full) == [], "not each time"
    assert await answered(b'{"stream":"W","seq":1}') == [""]


async def test_what_waits_for_the_stream_leaves_in_turn_of_the_tenants(owner: Owner) -> None:
    line = owner.dispatcher._waiting
    for tenant, offer in (*(("acme", number) for number in range(1, 5)), ("bolt", 9)):
        owner.actor.tenant = tenant
        assert line.add(tenant, (owner.actor, "s1", 1, offer), 100)
    left: list[int] = []
    owner.dispatcher._publish = lambda *offered: left.append(offered[-1])  # type: ignore[method-assign]
    owner.dispatcher._pump()
    assert left == [1, 9, 2, 3, 4]


async def test_without_the_lease_the_actor_is_woken_again(owner: Owner) -> None:
    """To the stream and straight to a worker alike; the owner of then offers it."""
    owner.now_s = 11.0
    assert owner.encoded() is None
    assert owner.due_again() == ["offer:s1:1"]
    assert await owner.offered(0) == 0
    assert owner.due_again() == ["offer:s1:1"]


async def test_a_repeated_offer_needs_no_lease(owner: Owner) -> None:
    """Its worker asks before it runs."""
    owner.now_s = 11.0
    assert await owner.offered(1) == 1


async def test_what_is_begun_leaves_no_more(owner: Owner) -> None:
    owner.actor.state.steps["s1"].attempt = 2
    assert owner.encoded() is None
    assert await owner.offered(0) == 0
    assert owner.due_again() == []


async def test_a_shard_that_is_not_served_gives_nothing_to_workers(owner: Owner) -> None:
    owner.shards.pause(0)
    owner.shards.close(0)
    assert owner.encoded() is None
    assert await owner.offered(0) == 0


async def test_a_further_one_waits_until_the_first_cannot_be_begun_without_a_question(owner: Owner) -> None:
    """Straight to a worker and to the stream alike; its actor is woken then."""
    owner.now_s = 1.0
    assert owner.encoded() is not None  # it waited for a slot for a second
    owner.now_s = 1.0 + UNASKED_S - 0.1
    assert owner.reoffer() is None
    await owner.bus.flush()
    assert (owner.work, owner.actor.repeats.of("s1")) == ([], 0)
    assert owner.due_again() == ["offer:s1:1"]
    assert owner.encoded(1) is None
    assert owner.due_again() == ["offer:s1:1"]
    owner.now_s = 1.0 + UNASKED_S
    assert owner.encoded(1) is not None
    assert await owner.offered(1) == 1


async def test_what_a_worker_gave_back_waits_for_nothing(owner: Owner) -> None:
    assert owner.encoded() is not None
    owner.dispatcher.first_offers.returned(owner.actor.task_id, "s1", 1)
    assert await owner.offered(1) == 1


async def test_what_another_owner_offered_may_have_left_at_its_dispatch(owner: Owner) -> None:
    owner.now_s = UNASKED_S - 0.1
    assert owner.encoded(1) is None
    owner.now_s = UNASKED_S
    assert owner.encoded(1) is not None


async def test_a_first_one_that_leaves_behind_a_further_one_is_none(owner: Owner) -> None:
    """It waited for so long, as while NATS is gone: whoever gets it asks."""
    owner.now_s = 9.0
    owner.reoffer()
    for encoded in (owner.encoded(0), owner.encoded(1)):
        assert encoded is not None
        assert msgspec.json.decode(encoded)["offer"] == 1


async def test_what_is_known_of_first_ones_is_forgotten(owner: Owner) -> None:
    offers = FirstOffers(owner.clock.now_us)
    for number in range(5):
        offers.left("t", f"s{number}", 1)
        owner.now_s += UNASKED_S / 2
    assert len(offers) == 2
    assert offers.until_us("t", "s0", 1, T0_US) < owner.clock.now_us()
