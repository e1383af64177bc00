"""The write side: shards with their actors, the committer and the publisher, wired together.

    bus -> entrance, reports -> actors -> committer -> log
                                              |-> effects: work to the work stream, answers
                                              |-> publisher -> event stream
                                              `-> due book -> due rows

It names no adapter: the log and the bus are handed in.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

import structlog

from tasker.bus.bus import Bus, Message, Subscription
from tasker.bus.publish import AckedPublisher
from tasker.bus.pull import PullLoop
from tasker.errors import Unavailable
from tasker.events.codec import encode_message
from tasker.events.envelope import US_PER_S, NewEvent
from tasker.events.log import EventLog, LogInfo
from tasker.events.messages import ShardStanding
from tasker.events.places import LOOK_AT as PLACE_LOOK
from tasker.events.subjects import Subjects
from tasker.events.task_events import ENDING_TYPES
from tasker.events.turns import LOOK_AT as TURN_LOOK
from tasker.ids import IdSource, SystemIds
from tasker.metrics import Samples
from tasker.service.actors.children.child_tasks import WHAT as CHILD_ENDED
from tasker.service.actors.children.child_tasks import ChildTasks
from tasker.service.actors.children.standing import WHAT as STANDING
from tasker.service.actors.children.standing import Standings
from tasker.service.actors.directory import TemplateDirectory
from tasker.service.actors.dispatch.backlogs import Backlogs
from tasker.service.actors.dispatch.circuit_words import CIRCUIT, CircuitWords
from tasker.service.actors.dispatch.direct import DirectWork
from tasker.service.actors.dispatch.dispatcher import Dispatcher
from tasker.service.actors.dispatch.gate import Gate
from tasker.service.actors.dispatch.hands import HANDS, Hands
from tasker.service.actors.dispatch.turn_looks import TurnLooks
from tasker.service.actors.entrances.entrance import Entrance
from tasker.service.actors.entrances.own_commands import OwnCommands
from tasker.service.actors.entrances.reports import Reports
from tasker.service.actors.entrances.submissions import Submissions
from tasker.service.actors.factory import Factory
from tasker.service.actors.limits.admissions import Admissions
from tasker.service.actors.limits.places import ASK as PLACE_ASK
from tasker.service.actors.limits.places import LEAVE as PLACE_LEAVE
from tasker.service.actors.limits.places import OFFER as PLACE_OFFER
from tasker.service.actors.limits.places import Places
from tasker.service.actors.limits.postponing import POSTPONE, Postponing
from tasker.service.actors.lost_message import LostObligations
from tasker.service.actors.publication.publisher import Publisher
from tasker.service.actors.publication.stream_keeper import StreamKeeper
from tasker.service.actors.repeats import OFFER
from tasker.service.actors.schedules.schedule_effects import ScheduleEffects
from tasker.service.actors.waits.event_watch import EventWatch
from tasker.service.domain.costs.prices import PriceTable
from tasker.service.runtime.actor import ActorFactory
from tasker.service.runtime.commit_counts import CommitCounts
from tasker.service.runtime.committer import CommitListener, Committer
from tasker.service.runtime.head_notifier import HeadNotifier
from tasker.service.runtime.node import Node
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.reconciler import Reconciler
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards
from tasker.settings import DirectSettings, Limits, Pace, StreamSettings
from tasker.templates import canonical_bytes
from tasker.templates.built_in import BUILT_IN
from tasker.weights import weights_of

COMMAND_QUEUE = "commands"
DRAIN_S = 10.0

_log = structlog.get_logger(__name__)


class Fanout:
    """Hands what the committer tells to everyone who listens."""

    def __init__(self) -> None:
        self.listeners: list[CommitListener] = []

    def on_committed(self, shard: int, first_position: int, events: Sequence[NewEvent]) -> None:
        """Tell all."""
        for listener in self.listeners:
            listener.on_committed(shard, first_position, events)

    def on_fenced(self, shard: int) -> None:
        """Tell all."""
        for listener in self.listeners:
            listener.on_fenced(shard)


class Intake:
    """A shard's subscriptions: reports of workers, and what other nodes hand on. A `ShardService`."""

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        bus: Bus,
        subjects: Subjects,
        entrance: Entrance,
        reports: Reports,
        directory: TemplateDirectory,
        standings: Standings,
        children: ChildTasks,
        places: Places,
        postponing: Postponing,
        hands: Hands,
        circuits: CircuitWords,
        turns: TurnLooks,
        trouble_of: Callable[[int], str | None],
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._handlers = (
            (subjects.reports_of_shard, reports.on_report),
            (lambda shard: subjects.node_shard(shard, "cmd"), entrance.on_forwarded),
            (lambda shard: subjects.node_shard(shard, "registry"), directory.on_registry_asked),
            (lambda shard: subjects.node_shard(shard, STANDING), standings.on_asked),
            (lambda shard: subjects.node_shard(shard, CHILD_ENDED), children.on_told),
            (lambda shard: subjects.node_shard(shard, PLACE_ASK), places.on_asked),
            (lambda shard: subjects.node_shard(shard, PLACE_LEAVE), places.on_left),
            (lambda shard: subjects.node_shard(shard, PLACE_LOOK), places.on_looked),
            (lambda shard: subjects.node_shard(shard, PLACE_OFFER), places.on_offered),
            (lambda shard: subjects.node_shard(shard, POSTPONE), postponing.on_asked),
            (lambda shard: subjects.node_shard(shard, HANDS), hands.on_asked),
            (lambda shard: subjects.node_shard(shard, CIRCUIT), circuits.on_told),
            (lambda shard: subjects.node_shard(shard, TURN_LOOK), turns.on_asked),
        )
        self._open: dict[int, list[Subscription]] = {}
        self._trouble_of = trouble_of

    def _on_ping(self, shard: int, message: Message) -> None:
        self._bus.publish(message.reply, encode_message(ShardStanding(trouble=self._trouble_of(shard))))

    async def open_shard(self, shard: int, epoch: int) -> None:  # noqa: ARG002 - the protocol's
        """Subscribe."""
        self._open[shard] = [self._bus.subscribe(subject(shard), handler) for subject, handler in self._handlers]
        ping = self._subjects.node_shard(shard, "ping")
        self._open[shard].append(self._bus.subscribe(ping, partial(self._on_ping, shard)))

    def close_shard(self, shard: int) -> None:
        """Unsubscribe at once."""
        for subscription in self._open.pop(shard, ()):
            subscription.unsubscribe()


class LateFactory:
    """Stands for the actor factory while the parts it needs are made."""

    def __init__(self) -> None:
        self.factory: ActorFactory | None = None

    def new(self, shard, stream_id, kind):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Return the actor of a stream that the log does not have."""
        assert self.factory is not None  # noqa: S101 - set before any shard is taken
        return self.factory.new(shard, stream_id, kind)

    async def revive(self, stream_id, history, kind):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Return the actor of a stream."""
        assert self.factory is not None  # noqa: S101 - set before any shard is taken
        return await self.factory.revive(stream_id, history, kind)


class WriteSide:
    """All of it, with start, ready, drain and stop."""

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        log: EventLog,
        info: LogInfo,
        bus: Bus,
        subjects: Subjects,
        streams: StreamSettings,
        pace: Pace,
        limits: Limits | None = None,
        *,
        direct: DirectSettings | None = None,
        committers: int = 2,
        drain_s: float = DRAIN_S,
        ids: IdSource | None = None,
        clock: NodeClock | None = None,
        draw: Callable[[], float] = random.random,
        pull: Callable[..., PullLoop] = PullLoop,
        prices: PriceTable | None = None,
    ) -> None:
        self._log = log
        self._bus = bus
        self._subjects = subjects
        ids = ids or SystemIds()
        clock = clock or NodeClock()
        owner = ids.token()
        weights = None if limits is None else weights_of(limits.tenant_weights)
        fanout = Fanout()
        self._clock = clock
        self._drain_s = drain_s
        self._committer = Committer(log, owner, fanout, committers=committers, limits=limits)
        late = LateFactory()
        self._shards = Shards(log, self._committer, late, clock.now_us, limits)
        routes = Routes(info, bus, subjects)
        directory = TemplateDirectory(log, self._shards, routes, clock)
        self._name = f"node-{owner}"
        self._direct = DirectWork(bus, subjects, self._name, clock, direct)
        circuits = CircuitWords(self._shards, routes)
        self._gate = Gate(log, self._shards, clock, circuits.tell, shard_count=info.shards)
        dispatcher = Dispatcher(
            bus, AckedPublisher(bus), subjects, self._shards, clock, self._gate, self._direct, draw, prices, weights
        )
        self._step_times = dispatcher.step_times
        self._own_queues = dispatcher.own_queues
        self._copies = dispatcher.copies
        standings = Standings(self._shards, routes)
        commands = OwnCommands()
        children = ChildTasks(self._shards, routes, standings, commands)
        dispatcher.children = children
        self._every_shard = range(info.shards)
        self._event_watch = EventWatch(log, self._shards, self._every_shard, clock.now_us, clock.monotonic_s)
        dispatcher.events = self._event_watch
        schedules = ScheduleEffects(self._shards, clock, standings, commands)
        places = Places(self._shards, routes, clock)
        dispatcher.places = places
        hands = Hands(
            self._shards,
            routes,
            self._name,
            info.shards,
            (self._direct.waiting_in, dispatcher.leaving_in, self._gate.held_in),
        )
        backlogs = Backlogs(bus, subjects, clock.monotonic_s, hands.count)
        postponing = Postponing(self._shards, routes)
        self._admissions = dispatcher.admissions = Admissions(self._shards, places, backlogs, standings, postponing)
        late.factory = Factory(directory, dispatcher, routes, schedules, places, self._gate.on_recorded)
        self._entrance = Entrance(subjects, self._shards, routes, directory, log.put_blob, ids, clock, limits)
        commands.attach(self._entrance)
        self._submissions = Submissions(bus, subjects, streams, self._entrance, pull, weights)
        self._reports = Reports(
            subjects,
            self._shards,
            routes,
            self._direct,
            dispatcher.own_queues,
            dispatcher.first_offers,
            dispatcher.copies,
        )
        intake = Intake(
            bus,
            subjects,
            self._entrance,
            self._reports,
            directory,
            standings,
            children,
            places,
            postponing,
            hands,
            circuits,
            TurnLooks(self._gate, routes),
            self._committer.trouble,
        )
        self._publisher = Publisher(
            log,
            info,
            bus,
            subjects,
            epoch_of=self._epoch_of,
            position_of=self._committer.position_of,
            now_us=clock.now_us,
            window_s=streams.events_age_s_max,
            limits=limits,
            monotonic_s=clock.monotonic_s,
        )
        self._keeper = StreamKeeper(
            bus,
            subjects,
            streams,
            on_new_work=self._on_new_work,
            offer_at_rest=lambda shards, age_s: self._node.offer_at_rest(shards, older_than_s=age_s),
            rest_s_max=OFFER.most_us / US_PER_S,
            on_new_events=self._publisher.refill,
            monotonic_s=clock.monotonic_s,
        )
        self._node = Node(
            log=log,
            clock=clock,
            owner=owner,
            shards=self._shards,
            committer=self._committer,
            services=(
                self._publisher,
                intake,
                directory,
                self._gate,
                self._event_watch,
                self._direct,
                self._keeper,
                dispatcher.copies,
            ),
            shard_numbers=range(info.shards),
            pace=pace,
        )
        self._reconciler = Reconciler(
            log, self._shards, late, clock, message=LostObligations, ending_types=ENDING_TYPES
        )
        self._counts = CommitCounts()
        fanout.listeners += (self._node, self._publisher, HeadNotifier(bus, subjects), self._counts, self._event_watch)
        self._commands: Subscription | None = None

    @property
    def shards_served(self) -> int:
        """Return how many shards are served here."""
        return len(self._shards.owned)

    def next_due_us(self) -> int | None:
        """Return the earliest time at which an obligation in memory wakes its actor, or a circuit is looked at."""
        books = [self._shards.book_of(shard) for shard in self._shards.owned]
        times = [self._gate.next_due_us(), *(book.next_us() for book in books if book is not None)]
        return min((at_us for at_us in times if at_us is not None), default=None)

    async def _on_new_work(self) -> None:
        self._copies.clear()
        await self._node.offer_again()

    def _epoch_of(self, shard: int) -> int | None:
        queue = self._committer.queue_of(shard)
        return None if queue is None else queue.epoch

    def tell(self, samples: Samples) -> None:
        """Add what is so now to a scrape."""
        committer, shards, direct = self._committer, self._shards, self._direct
        samples.add_histogram("tasker_append_duration_seconds", committer.append_durations)
        samples.add_histogram("tasker_append_batch_events", committer.append_sizes)
        samples.add("tasker_append_backlog_units", committer.backlog)
        samples.add_counts("tasker_events_committed_total", self._counts.types.items())
        samples.add("tasker_fence_rejections_total", committer.fenced)
        samples.add("tasker_shards_owned", len(shards.owned))
        samples.add("tasker_lease_expirations_total", self._node.placement.expired)
        samples.add("tasker_actors", shards.actors())
        samples.add("tasker_mailbox_messages", shards.waiting)
        samples.add_histogram("tasker_timer_delay_seconds", self._node.timer_delays)
        samples.add_histogram("tasker_step_schedule_to_start_seconds", self._step_times.starts)
        for outcome, times in self._step_times.outcomes.items():
            samples.add_histogram("tasker_step_latency_seconds", times, outcome)
        samples.add_counts("tasker_step_retries_total", self._counts.retries.items())
        samples.add_counts("tasker_reports_unrecorded_total", self._reports.unrecorded.items())
        samples.add_counts("tasker_usage_tokens_total", self._counts.tokens.items())
        samples.add_counts("tasker_usage_cost_total", self._counts.costs.items())
        samples.add("tasker_direct_workers", direct.workers)
        samples.add("tasker_direct_items_waiting", direct.waiting)
        samples.add("tasker_direct_items_sent_total", direct.sent)
        samples.add("tasker_direct_items_returned_total", direct.returned)
        samples.add("tasker_direct_items_lost_total", direct.lost)
        samples.add_counts("tasker_obligations_reconciled_total", self._reconciler.repaired.items())
        samples.add("tasker_attempts_held", self._gate.held)
        samples.add("tasker_pauses", self._gate.pauses)
        samples.add("tasker_circuits_open", self._gate.circuits)
        samples.add("tasker_circuit_probes_total", self._gate.probes)
        samples.add_counts("tasker_admissions_refused_total", self._admissions.refused.items())
        samples.add("tasker_publisher_lag_events", self._publisher.lag_events)

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Serve until `stop`, then drain: answer what is under way, record what is queued, give the shards up.

        Raises:
            ConfigurationError: the log was restored to an earlier time.
            Unavailable: the servers did not answer at the start.
        """
        await self._keeper.ensure()
        await self._publisher.check_log(self._every_shard)
        for _, compiled in BUILT_IN.values():
            await self._log.put_blob(bytes.fromhex(compiled.hash), canonical_bytes(compiled.spec))
        await self._gate.begin()
        async with asyncio.TaskGroup() as duties, AsyncExitStack() as ends:
            ends.callback(self._node.stop_opening)
            self._committer.start(paused=lambda: not self._clock.trusted())
            running = [
                duties.create_task(duty, name=name)
                for name, duty in (
                    ("placement", self._node.placement.run()),
                    ("event-watch", self._event_watch.run()),
                    ("loader", self._shards.run_loader()),
                    ("timers", self._node.run_timers()),
                    ("due-writer", self._node.run_due_writer()),
                    ("passivation", self._node.run_passivation()),
                    ("partitions", self._node.run_partitions()),
                    ("reconciler", self._reconciler.run()),
                    ("publisher", self._publisher.run()),
                    ("cursors", self._publisher.run_cursors()),
                    ("streams", self._keeper.run()),
                    ("direct", self._direct.run()),
                    ("direct-feeding", self._direct.run_feeding()),
                    ("own-queues", self._own_queues.run()),
                    ("gate", self._gate.run(self._node.offer_again)),
                    ("committer", self._committer.watch()),
                )
            ]
            await self._node.ready.wait()
            self._bus.subscribe(self._subjects.reports_of_node(self._name), self._reports.on_report)
            self._bus.subscribe(self._subjects.slots_all, self._direct.on_slots)
            self._commands = self._bus.subscribe(
                self._subjects.commands_all, self._entrance.on_command, queue=COMMAND_QUEUE
            )
            await self._bus.flush()
            running.append(duties.create_task(self._submissions.run(), name="submissions"))
            on_ready()
            await stop.wait()
            await self._drain()
            for duty in running:
                duty.cancel()

    async def _drain(self) -> None:
        if self._commands is not None:
            await self._commands.drain()
        await self._submissions.stop()
        try:
            async with asyncio.timeout(self._drain_s):
                await self._entrance.drain()
                await self._submissions.drain()
        except TimeoutError:
            _log.warning("commands_not_answered_in_time")
        self._direct.close()
        for shard in self._shards.owned:
            self._shards.pause(shard)
        await self._committer.stop()
        try:
            await self._node.write_due()
            await self._publisher.stop(timeout_s=self._drain_s)
        except Unavailable as error:
            # Both are behind the log on purpose; the next owner continues from there.
            _log.warning("not_written_at_the_end", error=error.detail)
        try:
            await self._node.placement.release()
        except Unavailable as error:
            # The leases run out by themselves.
            _log.warning("leases_not_given_up", error=error.detail)
