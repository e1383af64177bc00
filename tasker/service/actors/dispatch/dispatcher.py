"""Effects of a task's actor: work to offer, cancels to tell, times to wake at.

A first offer goes straight to a worker with a free slot (`direct.py`), or is published to the work stream, and
tried again until the stream has it: what fails here wakes the actor again, which offers what is still open.

A first offer is run without a question, so it leaves only while nobody else can own the shard. A node that was stopped
for longer than its lease finds commits of before when it goes on; their steps are another's to offer since. And a
further offer waits until the first one cannot be begun that way any more (`first_offers.py`); a first offer that leaves
behind a further one is none.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.bus.jetstream import PubAck
from tasker.bus.publish import AckedPublisher
from tasker.errors import Busy, TaskerError
from tasker.events.codec import encode_message
from tasker.events.envelope import US_PER_S
from tasker.events.messages import CancelAttempt, Work
from tasker.events.subjects import Subjects
from tasker.events.task_events import NULL
from tasker.failpoints import failpoint
from tasker.ids import RESERVED_NAMESPACE
from tasker.outages import Outage
from tasker.service.actors import repeats
from tasker.service.actors.dispatch.copies import Answer, Copies, Copy
from tasker.service.actors.dispatch.direct import DirectWork
from tasker.service.actors.dispatch.first_offers import FirstOffers
from tasker.service.actors.dispatch.gate import Gate
from tasker.service.actors.dispatch.lines import Offered, Queue
from tasker.service.actors.dispatch.own_queues import OwnQueues
from tasker.service.actors.dispatch.step_times import StepTimes
from tasker.service.actors.dispatch.waiting_set import Waiting
from tasker.service.actors.task_actor import TaskActor
from tasker.service.actors.task_ports import AdmissionPorts, ChildPorts, CircuitPorts, EventPorts, PlacePorts
from tasker.service.actors.task_traces import TaskTraces
from tasker.service.domain.costs.prices import PriceTable
from tasker.service.domain.obligations import Kind, obligation_of
from tasker.service.domain.shared_state.shared import seen_raw
from tasker.service.domain.state import StepState
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.shards import Shards
from tasker.service.runtime.tenants import TenantLine
from tasker.templates.emits import declared_events
from tasker.templates.instances import undone_by
from tasker.tracing import tracing_of_process

WORK_RESULTS_BYTES_MAX: Final = 384 * 1024
"""Parents' results beyond this are left out of a work message; the worker asks for them."""

ITEM_SHARED_BYTES_MAX: Final = 4 * 1024
"""The same for an item of a list, and for the task's input: what all items share must not be sent once for each."""

FAILED_OFFER_S: Final = 1.0
OFFERS_WAITING_MAX: Final = 50_000

_log = structlog.get_logger(__name__)


class Dispatcher:
    """Implements `TaskPorts`."""

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        bus: Bus,
        publisher: AckedPublisher,
        subjects: Subjects,
        shards: Shards,
        clock: NodeClock,
        gate: Gate,
        direct: DirectWork | None = None,
        draw: Callable[[], float] = random.random,
        prices: PriceTable | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.step_times = StepTimes()
        self.prices = prices
        # These are set where all parts are joined, before any shard is taken.
        self.children: ChildPorts
        self.places: PlacePorts
        self.admissions: AdmissionPorts
        self.events: EventPorts
        self.circuits: CircuitPorts = gate
        tracing = tracing_of_process()
        self.traces = None if tracing is None else TaskTraces(tracing)
        self._bus = bus
        self._direct = direct
        if direct is not None:
            direct.attach(self)
        self._publisher = publisher
        self._subjects = subjects
        self._shards = shards
        self._clock = clock
        self._draw = draw
        self._gate = gate
        self._waiting: TenantLine[tuple[TaskActor, str, int, int]] = TenantLine(weights)
        self._unpublished = Outage(_log, "work_not_published", clock.monotonic_s)
        self._leaving: Counter[Queue] = Counter()
        """How many offers of each queue wait for room on their way to the stream, or for its ack."""

        self.first_offers = FirstOffers(clock.now_us)
        self.copies = Copies(bus, subjects)
        self.own_queues = OwnQueues(
            self._to_stream, self._may_leave, self.actor_of, shards.owns, clock.monotonic_s, weights
        )

    # ---------------------------------------------------------------- work

    def offer(self, actor: TaskActor, step: str, attempt: int, *, offer: int) -> None:
        """Give the attempt to a worker, or publish its work, or queue it while too much is in flight.

        What an operator holds back is put off instead.
        """
        if self._gate.asks(actor):
            admitted = self._gate.admit(actor, step, attempt, offer)
            if admitted is None:
                return
            if offer and not admitted:
                actor.repeats.begin(step)
            offer = admitted
        if offer and self._waits_for_first(actor, step, attempt):
            actor.repeats.leave_out_last(step)
            return
        if _is_own(actor):
            self.own_queues.take(actor, step, attempt, offer)
        elif not self._take(actor, step, attempt, offer):
            self._to_stream(actor, step, attempt, offer)
        elif offer:
            # It waits here: the row is due, for the next owner, and this one need not look often.
            now_us = self._clock.now_us()
            wait_us = repeats.OFFER.as_long_again_us(now_us - actor.state.steps[step].dispatched_us)
            self.later(actor, step, obligation_of(Kind.OFFER, step, attempt), now_us + wait_us, keep=False)

    def reprioritized(self, actor: TaskActor, step: str, attempt: int, *, offer: int) -> None:
        """Give an attempt on offer the place of its task's new priority; the first copy that a worker begins counts."""
        self._gate.reprioritized(actor, step, attempt)
        if not _is_own(actor) and not self.holds_back(actor, step, attempt):
            self._take(actor, step, attempt, offer)

    def taken_back(self, actor: TaskActor, step: str, attempt: int) -> None:
        """Let an attempt that has ended, or is paused, wait neither for a worker nor for what holds it back."""
        self._gate.take_back(actor, step, attempt)
        self.own_queues.let_go(actor.task_id, step, attempt)
        if self._direct is not None and actor.template is not None:
            self._direct.take_back(self._queue_of(actor, step), actor, step, attempt)
        if not actor.is_dispatched(step, attempt):
            copy = self.copies.forget(actor.shard, (actor.stream_id, step, attempt))
            if copy is not None:
                self.copies.delete(copy)

    def _take(self, actor: TaskActor, step: str, attempt: int, offer: int) -> bool:
        if self._direct is None:
            return False
        assert actor.template is not None  # noqa: S101 - a task with steps has one
        queue = self._queue_of(actor, step)
        if actor.template.is_sticky and self._keep(self._direct, queue, actor, step, attempt, offer):
            return True
        return self._direct.take(queue, actor, step, attempt, offer)

    def _queue_of(self, actor: TaskActor, step: str) -> Queue:
        assert actor.template is not None  # noqa: S101 - a task with steps has one
        return (actor.tenant, actor.template.spec.namespace, actor.template.work_queue_of(step))

    def _keep(  # noqa: PLR0917 - an offer, and where it may wait
        self, direct: DirectWork, queue: Queue, actor: TaskActor, step: str, attempt: int, offer: int
    ) -> bool:
        """Let an attempt wait for the worker that it is kept for; False: for none, or that is gone."""
        assert actor.template is not None  # noqa: S101 - a task with steps has one
        entry = actor.state.steps.get(step)
        if entry is None or entry.kept_for is None:
            return False
        wait_s = actor.template.step(step).sticky_wait_s
        return direct.keep(entry.kept_for, queue, actor, step, attempt, offer, wait_s)

    def _to_stream(self, actor: TaskActor, step: str, attempt: int, offer: int) -> None:
        copy = self.copies.find(actor.shard, (actor.stream_id, step, attempt)) if offer else None
        if copy is not None:
            if self._may_leave(actor, step, attempt, offer):
                self._look_after(actor, step, attempt, copy)
            return
        if self._publisher.room > 0 and not self._waiting:
            self._leaving[self._queue_of(actor, step)] += 1
            self._publish(actor, step, attempt, offer)
        elif self._waiting.add(actor.tenant, (actor, step, attempt, offer), OFFERS_WAITING_MAX):
            self._leaving[self._queue_of(actor, step)] += 1
        else:
            self._failed(actor, step, attempt)

    def _publish(self, actor: TaskActor, step: str, attempt: int, offer: int) -> None:
        """Publish an offer, which is counted as leaving until this has ended."""
        if not self._may_leave(actor, step, attempt, offer):
            self._has_left(actor, step)
            return
        assert actor.template is not None  # noqa: S101 - a task with steps has one
        spec = actor.template.spec
        subject = self._subjects.work(actor.tenant, spec.namespace, actor.template.work_queue_of(step))
        message_id = f"{actor.task_id}:{step}:{attempt}"
        if offer > 1:
            message_id = f"{message_id}:{self._clock.now_us()}"

        def on_ack(answer: PubAck | TaskerError) -> None:
            self._has_left(actor, step)
            if isinstance(answer, PubAck):
                self._unpublished.is_over()
                self._stream_has(actor, step, attempt, offer, answer)
            elif not isinstance(answer, Busy):
                self._unpublished.goes_on(answer.detail)
                self._failed(actor, step, attempt)
            elif not self._overflows(actor, step, attempt, offer):
                self._failed(actor, step, attempt)
            if self._waiting:
                self._pump()

        try:
            work = self._work(actor, step, attempt, _number_of(actor, step, offer))
            if self._direct is not None:
                work.node = self._direct.node
            data = encode_message(work)
            failpoint("before_dispatch")
            self._publisher.publish_acked(subject, data, on_ack, msg_id=message_id)
            failpoint("after_dispatch")
            self._note_left(work)
        except TaskerError:
            self._has_left(actor, step)
            self._failed(actor, step, attempt)

    def _overflows(self, actor: TaskActor, step: str, attempt: int, offer: int) -> bool:
        """Keep here what the stream has no room for; False: it has to be offered again."""
        if self._direct is None or _is_own(actor) or not self._may_leave(actor, step, attempt, offer):
            return False
        return self._direct.take_overflow(self._queue_of(actor, step), actor, step, attempt, offer)

    def leaving_in(self, queue: Queue) -> int:
        """Return how many offers of a queue are on their way to the stream: it may count them already, or not yet."""
        return self._leaving[queue]

    def _has_left(self, actor: TaskActor, step: str) -> None:
        queue = self._queue_of(actor, step)
        self._leaving[queue] -= 1
        if not self._leaving[queue]:
            del self._leaving[queue]

    def _stream_has(self, actor: TaskActor, step: str, attempt: int, offer: int, answer: PubAck) -> None:
        """Leave an offer to the stream; one that it had before may have been taken, and not begun, since."""
        if not self._shards.owns(actor.shard):
            return
        copy = Copy(answer.seq, self._clock.now_us())
        if actor.is_dispatched(step, attempt):
            self.copies.keep(actor.shard, (actor.stream_id, step, attempt), copy)
        elif not actor.has_begun(step, attempt):
            self.copies.delete(copy)
            return
        book = self._shards.book_of(actor.shard)
        if offer and book is not None:
            book.keep(actor.stream_id, step, obligation_of(Kind.OFFER, step, attempt))
        if offer and answer.duplicate:
            self._look(actor, step, attempt, copy, lambda: None)

    def _look_after(self, actor: TaskActor, step: str, attempt: int, copy: Copy) -> None:
        """Leave an attempt to the stream while that has its copy: each time for as long again as it had it."""

        def is_there() -> None:
            now_us = self._clock.now_us()
            at_us = now_us + repeats.OFFER.as_long_again_us(now_us - copy.since_us)
            self.later(actor, step, obligation_of(Kind.OFFER, step, attempt), at_us, keep=True)

        self._look(actor, step, attempt, copy, is_there)

    def _look(self, actor: TaskActor, step: str, attempt: int, copy: Copy, is_there: Callable[[], None]) -> None:
        """Have an attempt offered again if its copy is gone, and `is_there` called if it is not."""
        shard, key = actor.shard, (actor.stream_id, step, attempt)
        is_remembered = self.copies.find(shard, key) is copy

        def told(answer: Answer) -> None:
            if is_remembered and self.copies.find(shard, key) is not copy:
                return  # a worker has asked, or the stream is another one: what follows from that is on its way
            if answer == "there":
                is_there()
                return
            if answer == "gone":
                self.copies.forget(shard, key)
            self._failed(actor, step, attempt)

        self.copies.look(self._queue_of(actor, step), copy.seq, told)

    # ---------------------------------------------------------------- `Offers`

    def encoded(self, offered: Offered) -> bytes | None:
        """See `Offers.encoded`."""
        actor, step, attempt, offer = offered.actor, offered.step, offered.attempt, offered.offer
        if not self._may_leave(actor, step, attempt, offer):
            return None
        work = self._work(actor, step, attempt, _number_of(actor, step, offer))
        self._note_left(work)
        return encode_message(work)

    def actor_of(self, waiting: Waiting) -> TaskActor | None:
        """See `Offers.actor_of`."""
        actor = self._shards.actor_of(waiting.shard, waiting.stream_id)
        if isinstance(actor, TaskActor):
            return actor
        book = self._shards.book_of(waiting.shard)
        if book is not None:
            book.retry(
                waiting.stream_id, obligation_of(Kind.OFFER, waiting.step, waiting.attempt), self._clock.now_us()
            )
        return None

    def to_stream(self, offered: Offered) -> None:
        """See `Offers.to_stream`."""
        self._to_stream(offered.actor, offered.step, offered.attempt, offered.offer)

    def to_anybody(self, offered: Offered) -> None:
        """See `Offers.to_anybody`."""
        actor, step, attempt, offer = offered.actor, offered.step, offered.attempt, offered.offer
        if self._direct is None or not self._direct.take(self._queue_of(actor, step), actor, step, attempt, offer):
            self._to_stream(actor, step, attempt, offer)

    def again(self, offered: Offered) -> None:
        """See `Offers.again`."""
        self._failed(offered.actor, offered.step, offered.attempt)

    # ----------------------------------------------------------------

    def _may_leave(self, actor: TaskActor, step: str, attempt: int, offer: int) -> bool:
        """Return whether an offer may go out now; one that may not yet wakes its actor again."""
        if not self._shards.owns(actor.shard) or not actor.is_offered(step, attempt):
            return False
        if offer == 0 and not self._clock.leased():
            self._failed(actor, step, attempt)
            return False
        if offer and self._waits_for_first(actor, step, attempt):
            return False
        return not self.holds_back(actor, step, attempt)

    def _waits_for_first(self, actor: TaskActor, step: str, attempt: int) -> bool:
        """Return whether the first offer may yet be begun without a question; the actor is woken when it may not."""
        entry = actor.state.steps.get(step)
        dispatched_us = 0 if entry is None else entry.dispatched_us
        until_us = self.first_offers.until_us(actor.task_id, step, attempt, dispatched_us)
        if until_us <= self._clock.now_us():
            return False
        self.later(actor, step, obligation_of(Kind.OFFER, step, attempt), until_us, keep=False)
        return True

    def _note_left(self, work: Work) -> None:
        if not work.offer:
            self.first_offers.left(work.task_id, work.step, work.attempt)

    def _pump(self) -> None:
        while self._waiting and self._publisher.room > 0:
            self._publish(*self._waiting.take())

    def _failed(self, actor: TaskActor, step: str, attempt: int) -> None:
        """Wake the actor of an attempt, in memory or not, which offers it again if it is still open."""
        book = self._shards.book_of(actor.shard)
        if book is not None:
            at_us = self._clock.now_us() + round(FAILED_OFFER_S * US_PER_S)
            book.retry(actor.stream_id, obligation_of(Kind.OFFER, step, attempt), at_us)

    def _work(self, actor: TaskActor, step: str, attempt: int, offer: int) -> Work:
        template, state = actor.template, actor.state
        assert template is not None  # noqa: S101 - see _publish
        spec = template.step(step)
        results: dict[str, msgspec.Raw] = {}
        left_out: list[str] = []
        entry = state.steps[step]
        expansion = state.steps[undone_by(step)].of if entry.undoes else entry.of
        bytes_max = WORK_RESULTS_BYTES_MAX if expansion is None or entry.undoes else ITEM_SHARED_BYTES_MAX
        size = 0
        for parent in spec.after:
            result = state.result_at(undone_by(step)) if entry.undoes else state.result_of(parent)
            if result is None:
                continue
            size += len(bytes(result))
            if size > bytes_max:
                left_out.append(parent)
            else:
                results[parent] = result
        task_id = actor.task_id
        work = Work(
            task_id=task_id,
            step=step,
            attempt=attempt,
            handler=spec.handler,
            namespace=template.spec.namespace,
            queue=template.work_queue_of(step),
            template=template.spec.name,
            input=state.input,
            results=results,
            results_ref=tuple(left_out),
            idempotency_key=f"{task_id}:{step}",
            report_to=self._subjects.report(actor.tenant, actor.shard),
            start_to_close_s=spec.start_to_close_s,
            heartbeat_s=spec.heartbeat_s,
            offer=offer,
            deadline_in_s=self._deadline_in_s(state.deadline_us, entry),
            correlation_id=actor.correlation_id,
            traceparent=actor.traceparent_of(step),
            checkpoint=entry.checkpoint,
            emits=declared_events(spec),
            state=seen_raw(state, template, step),
        )
        if expansion is not None:
            work.index = expansion.index_of(step)
            work.item = expansion.items[work.index]
            if len(bytes(state.input)) > ITEM_SHARED_BYTES_MAX:
                work.input, work.input_ref = NULL, True
        return work

    def _deadline_in_s(self, deadline_us: int | None, entry: StepState) -> float | None:
        """Return how long the attempt has before its task or its step is over; None: no such limit."""
        if entry.undoes:
            return None
        limits = [at_us for at_us in (deadline_us, entry.close_by_us) if at_us is not None]
        return max(0.0, (min(limits) - self._clock.now_us()) / US_PER_S) if limits else None

    # ---------------------------------------------------------------- the rest

    def tell_cancel(self, actor: TaskActor, worker: str, step: str, attempt: int, grace_s: float) -> None:
        """Tell a worker at once; should this be lost, the next heartbeat's answer tells it again."""
        message = CancelAttempt(task_id=actor.task_id, step=step, attempt=attempt, grace_s=grace_s)
        with contextlib.suppress(TaskerError):
            self._bus.publish(self._subjects.worker_cancel(actor.tenant, worker), encode_message(message))

    def holds_back(self, actor: TaskActor, step: str, attempt: int) -> bool:
        """Return whether an attempt that a worker wants to run may not begin; it is offered again once it may."""
        return self._gate.asks(actor) and self._gate.holds_back(actor, step, attempt)

    def freed_us(self, actor: TaskActor, step: str) -> int:
        """See `TaskPorts.freed_us`."""
        return self._gate.freed_us(actor, step)

    def is_held(self, actor: TaskActor, step: str, attempt: int) -> bool:
        """See `TaskPorts.is_held`."""
        return self._gate.asks(actor) and self._gate.keeps(actor, step, attempt)

    def later(self, actor: TaskActor, step: str, obligation: str, at_us: int, *, keep: bool) -> None:
        """Wake the actor for an open obligation at `at_us`."""
        book = self._shards.book_of(actor.shard)
        if book is not None:
            book.reschedule(actor.stream_id, step, obligation, at_us, keep=keep)

    def leave_due(self, actor: TaskActor, step: str, obligation: str) -> None:
        """See `TaskPorts.leave_due`."""
        book = self._shards.book_of(actor.shard)
        if book is not None:
            book.leave_due(actor.stream_id, step, obligation, self._clock.now_us())

    def jitter(self) -> float:
        """Draw a number in [0, 1)."""
        return self._draw()

    def now_us(self) -> int:
        """Return the node's time."""
        return self._clock.now_us()


def _number_of(actor: TaskActor, step: str, offer: int) -> int:
    """Return the number with which an offer leaves: a first one behind a further one is asked for, too."""
    return offer or int(actor.repeats.of(step) > 0)


def _is_own(actor: TaskActor) -> bool:
    """Return whether the service does the task's work itself, for all tenants."""
    assert actor.template is not None  # noqa: S101 - a task with steps has one
    return actor.template.spec.namespace == RESERVED_NAMESPACE
