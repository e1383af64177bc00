"""The actor of a task: it joins the pure core with the runtime.

A message is turned into a command of the core; the events it decides move the pending state at once and
go to the log as one unit. Answers and effects (work to offer, a cancel to tell) wait for the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import msgspec

from tasker.errors import Busy, CommandRejected, KeyConflict, TaskerError, TaskUnknown, Unavailable
from tasker.events.codec import encode_message
from tasker.events.envelope import US_PER_S, Meta, NewEvent, RecordedEvent
from tasker.events.messages import Progress, Report, ReportReply, StepProgress
from tasker.events.stored import encode_meta, from_recorded, meta_of, to_new_event
from tasker.events.task_events import (
    AnyTaskEvent,
    ChildRequested,
    ChildStarted,
    EventAwaited,
    PlaceRequested,
    StepAttemptFailed,
    StepCancelled,
    StepCancelRequested,
    StepDispatched,
    StepResolved,
    StepSkipped,
    TaskBlocked,
    TaskEvent,
    TaskPaused,
    TaskReconciled,
    TaskStarted,
    TaskUnpaused,
    TaskUpdated,
    TemplateRef,
)
from tasker.metrics.catalogue import OUTCOMES
from tasker.service.actors.children.child_news import ChildHint, ChildNews
from tasker.service.actors.children.standing import StandingMessage
from tasker.service.actors.dispatch.outcomes import outcome_of
from tasker.service.actors.dispatch.reservations import Reservations
from tasker.service.actors.dry_runs import Planned
from tasker.service.actors.investigation_actor import SubjectMessage
from tasker.service.actors.limits.admission_news import Admission, AdmissionLook, Admitted
from tasker.service.actors.limits.place_news import PlaceNews
from tasker.service.actors.limits.postponing import PostponeMessage
from tasker.service.actors.lost_message import LostObligations
from tasker.service.actors.restarts import OriginalMessage
from tasker.service.actors.task_messages import CommandMessage, CreateMessage, Failed, ReportMessage, TaskMessage
from tasker.service.actors.task_ports import TaskPorts
from tasker.service.actors.task_traces import TaskTraces
from tasker.service.actors.waits.event_news import EventNews, Watched
from tasker.service.domain.advance import advance
from tasker.service.domain.commands import AnyTaskCommand, CreateTask, FireObligation, Reconcile, StartAttempt
from tasker.service.domain.dry_run import would_cause
from tasker.service.domain.evolve import evolve
from tasker.service.domain.limits.admission import singleton_of
from tasker.service.domain.limits.debounce import check_start, debounce_of, is_start_of, waits_for_more
from tasker.service.domain.limits.places import obligation_of, place_of
from tasker.service.domain.obligations import (
    TASK_SCOPE,
    Kind,
    obligations_of_scope,
    parse_obligation,
    scope_of,
)
from tasker.service.domain.repairs.pause import child_to_tell
from tasker.service.domain.reports import accepted, command_of
from tasker.service.domain.state import STEP_DISPATCHED, TASK_ABSENT, ChildrenTold, StepStatus, TaskState
from tasker.service.domain.steps.children import parent_of, waiting_child
from tasker.service.domain.steps.outcome_facts import settle_facts
from tasker.service.domain.waits.event_waits import fits_of, is_seen_anew, looking, waiting_for_event
from tasker.service.runtime.actor import Owed, Turn
from tasker.service.runtime.due import NEWER_BUILD_S
from tasker.service.runtime.node import Wake
from tasker.templates import CompiledTemplate
from tasker.times import to_rfc3339

REOFFER_S: Final = 30.0
"""An offered step that has not started is offered again after this, then after twice as long, and so on."""

REOFFER_S_MAX: Final = 3600.0
PROGRESS_CHARS_MAX: Final = 200
CHILD_S: Final = 6.0
"""A child that nobody told of is started or asked after again after this, then after twice as long, and so on."""

CHILD_S_MAX: Final = 60.0
PLACE_S: Final = 6.0
"""A place that nobody has heard of is asked for again after this, then after twice as long, and so on."""

PLACE_S_MAX: Final = 60.0
"""At most this long: a key that could not be reached for hours does not keep its tasks waiting once it can be."""

EVENT_S: Final = 3600.0
"""How often a task says again what event it waits for: only a new owner of its shard does not know."""

_OFFER: Final = str(Kind.OFFER)
_ASKS: Final = ("claim", "reserve")

EFFECTS: Final = frozenset(
    {
        StepDispatched,
        StepCancelRequested,
        StepCancelled,
        StepSkipped,
        StepResolved,
        StepAttemptFailed,
        ChildRequested,
        ChildStarted,
        EventAwaited,
        PlaceRequested,
        TaskStarted,
        TaskUpdated,
        TaskPaused,
        TaskUnpaused,
    }
)
"""Events that the world is told of after their commit."""

Effect = (
    StepDispatched
    | StepCancelRequested
    | StepCancelled
    | StepSkipped
    | StepResolved
    | StepAttemptFailed
    | ChildRequested
    | ChildStarted
    | EventAwaited
    | PlaceRequested
    | TaskStarted
    | TaskUpdated
    | TaskPaused
    | TaskUnpaused
)


class TaskActor:
    """One task."""

    __slots__ = (
        "_admitting",
        "_beats",
        "_children_told",
        "_is_rebuilt",
        "_meta",
        "_offers",
        "_ports",
        "_progress",
        "_reservations",
        "_traces",
        "correlation_id",
        "requested_by",
        "shard",
        "state",
        "stream_id",
        "task_id",
        "template",
        "tenant",
        "traceparent",
    )

    def __init__(self, stream_id: UUID, shard: int, ports: TaskPorts) -> None:
        self.stream_id = stream_id
        self.task_id = str(stream_id)
        self.shard = shard
        self.tenant = ""
        self.state = TaskState()
        self.template: CompiledTemplate | None = None
        self.correlation_id: str | None = None
        self.requested_by: str | None = None
        self._ports = ports
        self.traceparent: str | None = None
        self._meta = b"{}"
        self._traces: dict[str, str] = {}
        self._beats: dict[str, int] = {}
        self._reservations: Reservations | None = None
        self._progress: dict[str, StepProgress] = {}
        self._offers: dict[str, int] = {}
        self._admitting: Admission | None = None
        self._is_rebuilt = False
        self._children_told: dict[str, ChildrenTold] = {}

    # ---------------------------------------------------------------- the past

    def fold(self, events: Sequence[RecordedEvent]) -> TemplateRef:
        """Take up the task's recorded events; returns the template it started with.

        Raises:
            Undecodable: this build cannot read one of them.
        """
        self._is_rebuilt = True
        for recorded in events:
            event = from_recorded(recorded)
            assert isinstance(event, TaskEvent)  # noqa: S101 - a task's stream holds only these
            meta = meta_of(recorded)
            if recorded.seq == 1:
                self._begin(recorded.tenant, meta)
            evolve(self.state, event, at_us=recorded.at_us, command_id=meta.command_id, request=meta.request)  # type: ignore[arg-type]
        self.state.places_left.clear()  # their keys were told, or ask
        return self.state.template

    def give_grace(self, now_us: int) -> None:
        """Count silence from now on: the heartbeats of running steps went to an owner before this one."""
        for name, step in self.state.steps.items():
            if step.status is StepStatus.RUNNING:
                self._beats[name] = now_us

    def _begin(self, tenant: str, meta: Meta) -> None:
        self.tenant = tenant
        self.correlation_id = meta.correlation_id
        self.requested_by = meta.requested_by
        self.traceparent = meta.traceparent
        self._meta = encode_meta(Meta(correlation_id=meta.correlation_id, traceparent=meta.traceparent))

    def traceparent_of(self, step: str) -> str | None:
        """Return what names the step's newest dispatch in its trace; else the command that created the task."""
        return self._traces.get(step) or self.traceparent

    # ---------------------------------------------------------------- turns

    def receive(self, message: TaskMessage, now_us: int) -> Turn | None:
        """Decide on `message`; see `Actor`."""
        match message:
            case ReportMessage():
                return self._report(message, now_us)
            case CreateMessage():
                return self._create(message, now_us)
            case Wake():
                return self._wake(message, now_us)
            case CommandMessage():
                return self._command(message, now_us)
            case StandingMessage():
                return message.turn(self.tenant, self.state)
            case ChildNews():
                return self._child_news(message, now_us)
            case EventNews():
                return self._event_news(message, now_us)
            case ChildHint():
                self._child_hint(message)
                return None
            case PlaceNews():
                return self._place_news(message, now_us)
            case LostObligations():
                return self._reconcile(message, now_us)
            case Admitted():
                return self._admitted(message, now_us)
            case AdmissionLook():
                return self._admission_look(message)
            case PostponeMessage():
                return self._postpone(message, now_us)
            case SubjectMessage() | OriginalMessage():
                if self.template is None or message.tenant != self.tenant:
                    return Turn.refusal(TaskUnknown(f"there is no task {self.stream_id}"), message.fail)
                if isinstance(message, OriginalMessage):
                    return message.turn(self.state, self.template)
                return message.turn(self.state)

    def _create(self, message: CreateMessage, now_us: int) -> Turn | None:
        planned = message.planned
        if self.state.status is not TASK_ABSENT:
            if message.tenant == self.tenant and message.request_hash == self.state.request_hash:
                if planned is not None:
                    return Turn.answer(lambda position: planned(position, ()), message.fail)
                return Turn.answer(lambda position: message.answered(position, duplicate=True), message.fail)
            conflict = KeyConflict(
                "the key belongs to a task with another input or version; use a new key for another request",
                task_id=str(self.stream_id),
            )
            return Turn.refusal(conflict, message.fail)
        if isinstance(message.plan, TaskerError):
            return Turn.refusal(message.plan, message.fail)
        try:
            template, command = message.plan(now_us)
            if planned is not None:
                check_start(template, command)
                foreseen = would_cause(self.state, template, command)
                return Turn.answer(lambda position: planned(position, foreseen), message.fail)
            if template.is_capped and not message.is_admitted:
                self._ask_to_be_admitted(template, message, command)
                return None
            events = advance(self.state, template, command)
        except CommandRejected as refusal:
            return Turn.refusal(refusal, message.fail)
        self.template = template
        self._begin(message.tenant, message.meta)
        return self._record(
            events,
            now_us,
            encode_meta(message.meta),
            lambda position: message.answered(position, duplicate=False),
            message.fail,
            message.meta.traceparent,
        )

    def _ask_to_be_admitted(self, template: CompiledTemplate, message: CreateMessage, command: CreateTask) -> None:
        singleton, debounce = singleton_of(template, command.input), debounce_of(template, command.input)
        if debounce is not None:
            check_start(template, command)
            debounce = debounce if message.debounced is not None else None
        if self._admitting is not None:
            self._admitting.waiting.append(message)
            return
        assert self._ports.admissions is not None  # noqa: S101 - set before any shard is taken
        self._admitting = Admission(message, template, command, singleton, debounce)
        self._ports.admissions.ask(self, template, self._admitting)

    def _admitted(self, message: Admitted, now_us: int) -> Turn | None:
        """Create the task that asked to be let in, or refuse all who asked for it."""
        admission, ports = message.admission, self._ports.admissions
        if admission is not self._admitting:
            # This object was rebuilt since. A place that was given comes back by its key's look.
            return Turn.refusal(Unavailable("the task is being rebuilt", retry_after_s=0.2), message.fail)
        self._admitting = None
        if message.error is not None:
            return Turn.refusal(message.error, message.fail)
        if message.running is not None:
            return _attach(admission, message.running, message.position)
        first, *others = admission.waiting
        first.plan, first.is_admitted = admission.plan, True
        turn = self._create(first, now_us)
        assert turn is not None and ports is not None  # noqa: S101, PT018 - it asks no more
        later: tuple[CreateMessage | PostponeMessage, ...] = (*others, *admission.behind)

        def committed(position: int) -> None:
            turn.committed(position)
            admission.settle()
            ports.again(self, later)

        def failed(error: TaskerError) -> None:
            turn.failed(error)
            admission.settle()
            for one in later:
                one.fail(error)

        return Turn(turn.events, committed, failed, turn.owed)

    def _admission_look(self, message: AdmissionLook) -> Turn | None:
        admitting, state = self._admitting, self.state
        if admitting is not None and admitting.at_us == message.at_us:
            message.answered(None)
            return None
        stands = message.tenant == self.tenant and state.admitted_us == message.at_us and not state.ended
        if message.until_begun:
            stands = stands and waits_for_more(state)
        return Turn.answer(lambda _: message.answered(stands), message.fail)

    def _postpone(self, message: PostponeMessage, now_us: int) -> Turn | None:
        """Take another start, or say that the task waits for no more of them."""
        admitting, state = self._admitting, self.state
        if admitting is not None and admitting.at_us == message.at_us:
            admitting.behind.append(message)
            return None
        if self.template is None or message.tenant != self.tenant:
            return Turn.refusal(TaskUnknown(f"there is no task {self.stream_id}"), message.fail)
        command = msgspec.structs.replace(message.command, at_us=now_us)
        try:
            is_known = is_start_of(state, command.start, command.request_hash)
            is_asked = not is_known and state.admitted_us == message.at_us
            events = advance(state, self.template, command) if is_asked else ()
        except CommandRejected as refusal:
            return Turn.refusal(refusal, message.fail)
        if not events:
            return Turn.answer(lambda position: message.answered(position if is_known else None), message.fail)
        meta = message.meta
        return self._record(events, now_us, encode_meta(meta), message.answered, message.fail, meta.traceparent)

    def _command(self, message: CommandMessage, now_us: int) -> Turn:
        if self.template is None or message.tenant != self.tenant:
            return Turn.refusal(TaskUnknown(f"there is no task {self.stream_id}"), message.fail)
        if message.planned is not None:
            return self._dry_run(self.template, message, message.planned, now_us)
        command_id, request = message.command_id, message.meta.request
        try:
            if self.state.has_taken(command_id, request):
                return Turn.answer(lambda position: message.answered(position, duplicate=True), message.fail)
            command = message.command(now_us)
            events = advance(self.state, self.template, command, command_id=command_id, request=request)
        except CommandRejected as refusal:
            return Turn.refusal(refusal, message.fail)
        if not events:
            return Turn.answer(lambda position: message.answered(position, duplicate=True), message.fail)
        return self._record(
            events,
            now_us,
            encode_meta(message.meta),
            lambda position: message.answered(position, duplicate=False),
            message.fail,
            message.meta.traceparent,
        )

    def _dry_run(
        self,
        template: CompiledTemplate,
        message: CommandMessage,
        planned: Planned,
        now_us: int,
    ) -> Turn:
        try:
            events = would_cause(self.state, template, message.command(now_us))
        except CommandRejected as refusal:
            return Turn.refusal(refusal, message.fail)
        return Turn.answer(lambda position: planned(position, events), message.fail)

    def _report(self, message: ReportMessage, now_us: int) -> Turn:
        report = message.report
        if self.template is None or message.tenant != self.tenant:
            answer = ReportReply(ok=True, recorded=False, reason="task_unknown")
            return Turn.answer(lambda _: message.answered(answer), message.fail)
        settle_facts(self.template, report, self._ports.prices)
        found = command_of(self.state, report, at_us=now_us, jitter=self._ports.jitter())
        if report.kind in _ASKS and self._is_denied(report, found, now_us):
            found = ReportReply(ok=True, recorded=False, reason="gone")
        if type(found) is ReportReply:
            if report.kind in _ASKS and not found.run:
                self._note_dropped_copy(report.step, report.attempt)
            if report.kind == "peek":
                found.result = msgspec.Raw(encode_message(self._running_progress()))
            elif report.kind == "heartbeat" and found.recorded:
                self._beats[report.step] = now_us
                if report.progress is not None:
                    self._progress[report.step] = _told(report.progress, report.attempt, now_us)
            elif report.kind == "returned" and self.is_offered(report.step, report.attempt):
                self._reoffer(report.step, report.attempt, f"{Kind.OFFER}:{report.step}:{report.attempt}", now_us)
            return Turn.answer(lambda _: message.answered(found), message.fail)
        dispatched_us = self._dispatched_us(report.step)
        events = advance(self.state, self.template, found)
        if not events:
            stale = ReportReply(ok=True, recorded=False, reason="not_open")
            return Turn.answer(lambda _: message.answered(stale), message.fail)
        self._ports.step_times.add(report.kind, events, now_us - dispatched_us)
        answered, failed, cause = message.answered, message.fail, report.traceparent
        if self._ports.traces is not None and report.kind in OUTCOMES:
            span, cause = self._ports.traces.result(report, self.traceparent_of(report.step))
            failed = self._ports.traces.failing(span, failed)

            def answered(reply: ReportReply) -> None:
                span.end()
                message.answered(reply)

        turn = self._record(events, now_us, self._meta, lambda _: answered(reply), failed, cause)
        if type(events[0]) is TaskBlocked:
            # The history is full: that was recorded, the report was not.
            reply = ReportReply(ok=True, recorded=False, reason="not_open")
        else:
            reply = accepted(report, self.state.steps[report.step], at_us=now_us)
        if self.template.is_guarded or self._ports.circuits.watches:
            return self._told_to_circuits(turn, events, report.step, report.attempt)
        return turn

    def _is_denied(self, report: Report, found: AnyTaskCommand | ReportReply, now_us: int) -> bool:
        """Return whether an attempt that could begin by the state may not begin now, or not at this worker."""
        begins = found.run if isinstance(found, ReportReply) else isinstance(found, StartAttempt)
        if not begins or (report.kind == "claim" and isinstance(found, ReportReply)):
            return False
        if self._ports.holds_back(self, report.step, report.attempt):
            return True
        if self._reservations is None:
            if report.kind == "claim":
                return False
            self._reservations = Reservations()
        until_us = self._reservations.denied_until_us(report, now_us)
        if until_us:
            # The worker that was promised it may have died of it, or have given it back.
            obligation = f"{Kind.OFFER}:{report.step}:{report.attempt}"
            self._ports.later(self, report.step, obligation, until_us, keep=False)
        return bool(until_us)

    def _note_dropped_copy(self, step: str, attempt: int) -> None:
        """Let the next offer of what nobody runs be a new message: who asked in vain is done with the one it had."""
        entry = self.state.steps.get(step)
        if entry is not None and entry.status is STEP_DISPATCHED and entry.attempt == attempt:
            self._offers.setdefault(step, 1)

    def _told_to_circuits(
        self, turn: Turn, events: Sequence[AnyTaskEvent], step: str, attempt: int, limit: Kind | None = None
    ) -> Turn:
        """Return the turn that also says how an attempt ended by it, if one did."""
        outcome = outcome_of(events, step, attempt, limit=limit)
        if outcome is None:
            return turn
        committed = turn.committed

        def on_committed(position: int) -> None:
            self._ports.circuits.ended(self, step, attempt, outcome)
            committed(position)

        return Turn(turn.events, on_committed, turn.failed, turn.owed)

    def _dispatched_us(self, step: str) -> int:
        entry = self.state.steps.get(step)
        return 0 if entry is None else entry.dispatched_us

    def _running_progress(self) -> dict[str, StepProgress]:
        """Return what running attempts told last; what ended ones did is forgotten."""
        for name, told in list(self._progress.items()):
            step = self.state.steps[name]
            if step.status is not StepStatus.RUNNING or step.attempt != told.attempt:
                del self._progress[name]
        return self._progress

    def _wake(self, wake: Wake, now_us: int) -> Turn | None:
        try:
            kind, step, attempt = parse_obligation(wake.obligation)
        except ValueError:
            # A newer build wrote the row, and one may come back: it is not ours to close.
            wake.postpone(round(NEWER_BUILD_S * US_PER_S))
            return None
        at_us = obligations_of_scope(self.state, step or TASK_SCOPE).get(wake.obligation)
        if at_us is None or self.template is None:
            return _closed(wake)
        if kind is Kind.OFFER:
            self._reoffer(step, attempt, wake.obligation, now_us)
            return None
        if kind is Kind.EVENT:
            self._watch(step, attempt)
            return None
        if kind is Kind.CHILD:
            self._child_again(step, attempt, wake.obligation, now_us)
            return None
        if kind is Kind.PLACE:
            self._again_later(step, wake.obligation, now_us, first_s=PLACE_S, most_s=PLACE_S_MAX)
            self._ask_for_place(self.state.places[step].request)
            return None
        if kind is Kind.HEARTBEAT:
            at_us = max(at_us, self._beats.get(step, 0) + round(self.state.steps[step].heartbeat_s * US_PER_S))
        if at_us > now_us:
            wake.again(step or TASK_SCOPE, at_us)
            return None
        if kind is Kind.START_BY:
            allowed_us = max(at_us - self.state.steps[step].dispatched_us, US_PER_S)
            if self._ports.is_held(self, step, attempt):
                # No worker can begin it now. Once it is let go, the time counts anew.
                wake.again(step, now_us + allowed_us, keep=True)
                return None
            until_us = self._ports.freed_us(self, step) + allowed_us
            if until_us > now_us:
                # It was let go so late; an owner of before knew, and the log of controls knows.
                wake.again(step, until_us, keep=True)
                return None
        command = FireObligation(obligation=wake.obligation, at_us=now_us, jitter=self._ports.jitter())
        events = advance(self.state, self.template, command)
        if not events:
            return _closed(wake)
        turn = self._record(events, now_us, self._meta, lambda _: None, wake.fail, self.traceparent)
        if step and (self.template.is_guarded or self._ports.circuits.watches):
            return self._told_to_circuits(turn, events, step, attempt, kind)
        return turn

    def _reconcile(self, message: LostObligations, now_us: int) -> Turn | None:
        """Record what was lost and is still open, and be woken for it."""
        if self.template is None:
            return None
        command = Reconcile(lost=message.lost, obligations=message.obligations, at_us=now_us)
        events = advance(self.state, self.template, command)
        if not events:
            return None
        # A task with as many events as it may have is blocked instead: nothing wakes it any more.
        found = [name for event in events if isinstance(event, TaskReconciled) for name in event.obligations]

        def committed(_position: int) -> None:
            for name in found:
                _, step, _ = parse_obligation(name)
                at_us = obligations_of_scope(self.state, step or TASK_SCOPE).get(name)
                if at_us is not None:
                    self._ports.later(self, step or TASK_SCOPE, name, max(at_us, self._ports.now_us()), keep=True)
            if found:
                message.repaired(len(found))

        return self._record(events, now_us, self._meta, committed, message.fail, self.traceparent)

    # ---------------------------------------------------------------- recording

    def _record(  # noqa: PLR0917 - what a turn is made of
        self,
        events: Sequence[AnyTaskEvent],
        now_us: int,
        meta: bytes,
        committed: Callable[[int], None],
        failed: Failed,
        cause: str | None,
    ) -> Turn:
        """Return the turn that records `events`, which the pending state has taken up; `cause` names a span."""
        seq = self.state.seq - len(events)
        new: list[NewEvent] = []
        effects: list[Effect] = []
        scopes: dict[str, None] = {}
        everything = False
        for event in events:
            seq += 1
            new.append(
                to_new_event(event, stream_id=self.stream_id, seq=seq, tenant=self.tenant, at_us=now_us, meta=meta)
            )
            if type(event) in EFFECTS:
                effects.append(event)  # type: ignore[arg-type]
            scope = scope_of(event)
            if scope is None:
                everything = True
            else:
                scopes[scope] = None

        has_ended = self.state.ended
        parent = parent_of(self.state.idempotency_key) if has_ended else None
        left: Sequence[PlaceRequested] = ()
        if self.state.places_left:
            left, self.state.places_left = self.state.places_left, []
        admitted_us = self.state.admitted_us if has_ended else None
        is_listening = self.template is not None and self.template.is_listening and any(map(is_seen_anew, events))

        def on_committed(position: int) -> None:
            for effect in effects:
                self._perform(effect)
            for step, attempt in looking(self.state) if is_listening else ():
                self._watch(step, attempt)
            if left and self._ports.places is not None:
                self._ports.places.leave(self, left)
            if admitted_us is not None and self._ports.admissions is not None and self.template is not None:
                self._ports.admissions.leave(self, self.tenant, self.template, admitted_us)
            if parent is not None and self._ports.children is not None:
                self._ports.children.tell_parent(self.tenant, *parent)
            committed(position)

        done: Callable[[int], None] = on_committed
        if self._ports.traces is not None:
            done, failed = self._traced(self._ports.traces, events, cause, on_committed, failed)
        return Turn(new, done, failed, self._owed_now(scopes, everything=everything))

    def _traced(
        self,
        traces: TaskTraces,
        events: Sequence[AnyTaskEvent],
        cause: str | None,
        committed: Callable[[int], None],
        failed: Failed,
    ) -> tuple[Callable[[int], None], Failed]:
        """Return `committed` and `failed` with the spans of this commit and of what it dispatches."""
        span, parent = traces.commit(self.task_id, events, cause)

        def on_committed(position: int) -> None:
            span.end()
            for event in events:
                if type(event) is StepDispatched:
                    step, attempt = event.step, event.attempt
                    before = self._traces.get(step) if attempt > 1 else None
                    self._traces[step] = traces.dispatch(self.task_id, step, attempt, parent=parent, before=before)
            committed(position)

        return on_committed, traces.failing(span, failed)

    def _owed_now(self, scopes: dict[str, None], *, everything: bool) -> Owed | None:
        """Return what the named scopes owe now, computed here so that it belongs to this very turn."""
        if self.state.ended:
            return None
        names = (TASK_SCOPE, *self.state.steps) if everything else scopes
        return {scope: obligations_of_scope(self.state, scope) for scope in names}

    def _perform(self, effect: Effect) -> None:
        match effect:
            case StepDispatched(step=step, attempt=attempt):
                self._offers.pop(step, None)
                obligation = f"{_OFFER}:{step}:{attempt}"
                if self.is_offered(step, attempt):
                    self._ports.later(
                        self, step, obligation, self._ports.now_us() + round(REOFFER_S * US_PER_S), keep=False
                    )
                    self._ports.offer(self, step, attempt, offer=0)
            case (
                StepCancelled(step=step, attempt=attempt)
                | StepSkipped(step=step, attempt=attempt)
                | StepResolved(step=step, attempt=attempt)
            ):
                worker = self.state.steps[step].worker if step in self.state.steps else None
                if worker is not None:
                    self._ports.tell_cancel(self, worker, step, attempt, 0.0)
                self._ports.taken_back(self, step, attempt)
            case StepAttemptFailed(step=step, attempt=attempt):
                self._ports.taken_back(self, step, attempt)
            case ChildRequested(step=step, attempt=attempt):
                if waiting_child(self.state, step, attempt) is not None:
                    self._offers.pop(step, None)
                    at_us = self._ports.now_us() + round(CHILD_S * US_PER_S)
                    self._ports.later(self, step, f"{Kind.CHILD}:{step}:{attempt}", at_us, keep=False)
                    self._look_after_child(step, attempt)
            case ChildStarted(step=step, attempt=attempt):
                # It was being started while its step was asked to stop.
                if waiting_child(self.state, step, attempt) is not None and self.state.steps[step].cancel_by_us:
                    self._cancel_child(step, attempt)
                self._hold_child(step, attempt)
            case TaskPaused(children=children) | TaskUnpaused(children=children):
                self._set_aside()
                for step, entry in self.state.steps.items() if children else ():
                    self._hold_child(step, entry.attempt)
            case PlaceRequested(step=step, attempt=attempt):
                place = place_of(self.state, step, attempt)
                if place is not None and not place.held:
                    self._begin_asking_for_place(effect, keep=False)
            case EventAwaited(step=step, attempt=attempt):
                self._watch(step, attempt)
            case TaskStarted():
                self._begun()
            case TaskUpdated(priority=priority):
                if priority is not None:
                    self._reprioritize()
            case StepCancelRequested(step=step, attempt=attempt, grace_until_us=until_us):
                if waiting_child(self.state, step, attempt) is not None:
                    self._cancel_child(step, attempt)
                worker = self.state.steps[step].worker
                if worker is not None:
                    grace_s = max(0.0, (until_us - self._ports.now_us()) / US_PER_S)
                    self._ports.tell_cancel(self, worker, step, attempt, grace_s)

    def _begun(self) -> None:
        """Let other starts know that the task has begun (`debounce`)."""
        at_us, template, admissions = self.state.admitted_us, self.template, self._ports.admissions
        if at_us is not None and template is not None and template.spec.debounce is not None and admissions is not None:
            admissions.begun(self, self.tenant, template, at_us)

    def _set_aside(self) -> None:
        """Let nothing wait for a slot or a turn while the task is paused; at its end all is offered anew."""
        for step, entry in self.state.steps.items() if self.state.held else ():
            if entry.status is STEP_DISPATCHED:
                self._ports.taken_back(self, step, entry.attempt)

    def _reprioritize(self) -> None:
        for place in self.state.places.values():
            if not place.held and not place.denied:
                # Its row says to ask again in an hour, which the next owner would heed.
                self._begin_asking_for_place(place.request, keep=True)
        for step, entry in self.state.steps.items():
            if self.is_offered(step, entry.attempt):
                # The work stream may have a copy, too.
                offer = max(1, self._offers.get(step, 0))
                self._ports.reprioritized(self, step, entry.attempt, offer=offer)

    def _reoffer(self, step: str, attempt: int, obligation: str, now_us: int) -> None:
        offers = self._again_later(step, obligation, now_us, first_s=REOFFER_S, most_s=REOFFER_S_MAX, keep=False)
        if offers > 1 or self._is_rebuilt:
            # Its row may say a later time. Until the stream has the offer it waits in memory alone.
            self._ports.leave_due(self, step, obligation)
        self._ports.offer(self, step, attempt, offer=offers)

    def _again_later(
        self, step: str, obligation: str, now_us: int, *, first_s: float, most_s: float, keep: bool = True
    ) -> int:
        """Look at what a step owes again, each time after twice as long; returns how often that was."""
        times = self._offers[step] = self._offers.get(step, 0) + 1
        wait_s = min(first_s * 2 ** min(times, 10), most_s)
        self._ports.later(self, step, obligation, now_us + round(wait_s * US_PER_S), keep=keep and times > 1)
        return times

    # ---------------------------------------------------------------- places under concurrency keys

    def _begin_asking_for_place(self, request: PlaceRequested, *, keep: bool) -> None:
        """Ask, and soon again unless it is answered: for the first time, or as the priority is another one."""
        self._offers.pop(request.step, None)
        at_us = self._ports.now_us() + round(PLACE_S * US_PER_S)
        self._ports.later(self, request.step, obligation_of(request.step, request.attempt), at_us, keep=keep)
        self._ask_for_place(request)

    def _ask_for_place(self, request: PlaceRequested) -> None:
        assert self._ports.places is not None  # noqa: S101 - set before any shard is taken
        self._ports.places.ask(self, request)

    def _place_news(self, message: PlaceNews, now_us: int) -> Turn:
        if self.template is None or message.tenant != self.tenant:
            return Turn.refusal(TaskUnknown(f"there is no task {self.stream_id}"), message.fail)
        events = advance(self.state, self.template, message.command(now_us))
        stands = place_of(self.state, message.step, message.attempt) is not None
        if not events:
            return Turn.answer(lambda _: message.answered(stands), message.fail)
        return self._record(
            events, now_us, self._meta, lambda _: message.answered(stands), message.fail, self.traceparent
        )

    # ---------------------------------------------------------------- events of other tasks

    def _event_news(self, message: EventNews, now_us: int) -> Turn | None:
        if self.template is None or waiting_for_event(self.state, message.step, message.attempt) is None:
            return None
        events = advance(self.state, self.template, message.command(now_us))
        if not events:
            self._watch(message.step, message.attempt)
            return None
        return self._record(events, now_us, self._meta, lambda _: None, message.fail, self.traceparent)

    def _watch(self, step: str, attempt: int) -> None:
        """Have the log watched for the event that a step waits for."""
        wait = waiting_for_event(self.state, step, attempt)
        if wait is None or self.template is None or self.state.stopping is not None:
            return
        at_us = self._ports.now_us() + round(EVENT_S * US_PER_S)
        self._ports.later(self, step, f"{Kind.EVENT}:{step}:{attempt}", at_us, keep=False)
        assert self._ports.events is not None  # noqa: S101 - set before any shard is taken
        self._ports.events.watch(
            Watched(
                shard=self.shard,
                stream_id=self.stream_id,
                tenant=self.tenant,
                step=step,
                attempt=attempt,
                event=wait.event,
                since_us=wait.since_us,
                fits=fits_of(self.state, self.template, step),
            )
        )

    # ---------------------------------------------------------------- children

    def _child_news(self, message: ChildNews, now_us: int) -> Turn | None:
        if self.template is None or waiting_child(self.state, message.step, message.attempt) is None:
            return None
        events = advance(self.state, self.template, message.command(now_us))
        if not events:
            return None
        return self._record(events, now_us, self._meta, lambda _: None, message.fail, self.traceparent)

    def _child_hint(self, hint: ChildHint) -> None:
        step, attempt = hint.step, hint.attempt
        if hint.tenant == self.tenant and waiting_child(self.state, step, attempt) is not None:
            self._look_after_child(step, attempt)

    def _child_again(self, step: str, attempt: int, obligation: str, now_us: int) -> None:
        self._again_later(step, obligation, now_us, first_s=CHILD_S, most_s=CHILD_S_MAX)
        self._look_after_child(step, attempt)

    def _look_after_child(self, step: str, attempt: int) -> None:
        """Start the child of a step, or ask how it stands; tell it to stop when its step is to."""
        children = self._ports.children
        assert children is not None  # noqa: S101 - set before any shard is taken
        entry = self.state.steps[step]
        if entry.child is None:
            children.start(self, step, attempt)
            return
        if entry.cancel_by_us is not None:
            self._cancel_child(step, attempt)
        self._hold_child(step, attempt)
        children.ask(self, step, attempt)

    def _cancel_child(self, step: str, attempt: int) -> None:
        assert self.template is not None  # noqa: S101 - a task with steps has one
        children, entry = self._ports.children, self.state.steps[step]
        if children is not None and entry.child and self.template.step(step).on_parent_close == "cancel":
            children.cancel(self, step, attempt)

    def _hold_child(self, step: str, attempt: int) -> None:
        """Tell the child of a step that it is paused, or resumed, with its parent, unless it has heard."""
        if self.state.children_told is None or self._ports.children is None or self.template is None:
            return
        told = child_to_tell(self.state, self.template, step, attempt)
        if told is not None and self._children_told.get(step) != told:
            self._ports.children.hold(self, step, attempt, told)

    def child_told(self, step: str, told: ChildrenTold) -> None:
        """Take note that the child of a step has answered."""
        self._children_told[step] = told

    def is_offered(self, step: str, attempt: int) -> bool:
        """Return whether the attempt is on offer and nobody has begun it."""
        entry = self.state.steps.get(step)
        return (
            entry is not None
            and entry.status is STEP_DISPATCHED
            and entry.attempt == attempt
            and not self.state.ended
            and not self.state.held
        )

    def is_offered_again(self, step: str) -> bool:
        """Return whether the step's attempt was given out a further time."""
        return step in self._offers

    def begin_offers(self, step: str) -> None:
        """Count the offers of the step's attempt from its first one on, which is made now: before it was held back."""
        self._offers.pop(step, None)

    def leave_out_offer(self, step: str) -> None:
        """Count the last offer no more: it waits."""
        self._offers[step] -= 1
        if not self._offers[step]:
            del self._offers[step]

    def has_begun(self, step: str, attempt: int) -> bool:
        """Return whether a worker runs the attempt, as far as it is told."""
        entry = self.state.steps.get(step)
        return (
            entry is not None
            and entry.attempt == attempt
            and entry.status is StepStatus.RUNNING
            and not self.state.ended
        )

    # ---------------------------------------------------------------- for the runtime

    def owes(self) -> Owed:
        """Return every open obligation, by scope."""
        found = {scope: obligations_of_scope(self.state, scope) for scope in (TASK_SCOPE, *self.state.steps)}
        return {scope: owed for scope, owed in found.items() if owed}

    def idle(self) -> bool:
        """Return whether nothing would be lost with this object: heartbeats are known to memory alone."""
        if self._admitting is not None:
            return False
        return not any(step.status is StepStatus.RUNNING for step in self.state.steps.values()) or self.state.ended


def _attach(admission: Admission, running: str, at: str | None) -> Turn:
    """Return the answer to starts of which there may be one: the task that runs, or that it is there.

    `at`: where that task took the start, if it waited for it.
    """
    first = admission.waiting[0]
    conflict = KeyConflict("the key belongs to a start with another input or version", task_id=running)
    moment = Unavailable("the task went to another one", retry_after_s=0.2)
    busy = Busy(f"task {running} of the same singleton runs", retry_after_s=1.0, task_id=running)

    def committed(position: int) -> None:
        admission.settle()
        for one in admission.waiting:
            if at is not None and one.request_hash != first.request_hash:
                one.fail(conflict)
            elif at is not None and one.debounced is not None:
                one.debounced(at, running)
            elif one.attached is None or at is not None:
                one.fail(busy)
            else:
                one.attached(position, running)
        for other in admission.behind:
            other.fail(moment)

    return Turn.answer(committed, admission.fail)


def _told(progress: Progress, attempt: int, now_us: int) -> StepProgress:
    return StepProgress(
        attempt=attempt,
        at=to_rfc3339(now_us),
        done=progress.done,
        total=progress.total,
        message=progress.message[:PROGRESS_CHARS_MAX],
    )


def _closed(wake: Wake) -> Turn:
    """Return the end of a closed obligation; what closed it may still be on its way to the log, so this waits."""
    return Turn.answer(lambda _: wake.closed(), wake.fail)
