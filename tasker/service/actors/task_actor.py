"""The actor of a task: it joins the pure core with the runtime.

A message is turned into a command of the core; the events it decides move the pending state at once and
go to the log as one unit. Answers and effects (work to offer, a cancel to tell) wait for the commit.

What each kind of message comes to stands by subject: how a task begins (`task_starts`), what workers report
(`task_reports`), what is due (`task_wakes`), and what the world is told (`task_effects`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from tasker.errors import CommandRejected, TaskUnknown
from tasker.events.envelope import Meta, NewEvent, RecordedEvent
from tasker.events.stored import encode_meta, from_recorded, meta_of, to_new_event
from tasker.events.task_events import AnyTaskEvent, PlaceRequested, StepDispatched, TaskEvent, TemplateRef
from tasker.service.actors.children import child_care
from tasker.service.actors.children.child_news import ChildHint, ChildNews
from tasker.service.actors.children.standing import StandingMessage
from tasker.service.actors.command_message import Failed
from tasker.service.actors.dispatch.reservations import Reservations
from tasker.service.actors.heartbeats import Heartbeats
from tasker.service.actors.investigation_actor import SubjectMessage
from tasker.service.actors.limits.admission_news import Admission, AdmissionLook, Admitted
from tasker.service.actors.limits.place_news import PlaceNews, take_place
from tasker.service.actors.limits.postponing import PostponeMessage
from tasker.service.actors.lost_message import LostObligations
from tasker.service.actors.repeats import Repeats
from tasker.service.actors.restarts import OriginalMessage
from tasker.service.actors.task_effects import EFFECTS, Effect, perform
from tasker.service.actors.task_messages import CommandMessage, CreateMessage, ReportMessage, TaskMessage
from tasker.service.actors.task_ports import TaskPorts
from tasker.service.actors.task_reports import take_report
from tasker.service.actors.task_starts import answer_look, create, postpone, take_admission
from tasker.service.actors.task_traces import TaskTraces
from tasker.service.actors.task_wakes import reconcile, take_wake
from tasker.service.actors.waits.event_news import EventNews
from tasker.service.actors.waits.event_waiting import take_event, watch
from tasker.service.domain.advance import advance
from tasker.service.domain.dry_run import would_cause
from tasker.service.domain.evolve import evolve
from tasker.service.domain.obligations import TASK_SCOPE, obligations_of_scope, scope_of
from tasker.service.domain.state import STEP_DISPATCHED, STEP_RUNNING, ChildrenTold, TaskState
from tasker.service.domain.steps.children import parent_of
from tasker.service.domain.waits.event_waits import is_seen_anew, looking
from tasker.service.runtime.actor import Owed, Turn
from tasker.service.runtime.node import Wake
from tasker.templates import CompiledTemplate


class TaskActor:
    """One task: who it is, its state, and what is known of it in memory alone.

    Attributes:
        state: as of the last event decided, recorded or not.
        template: the one that it started with; None: the task does not exist.
        is_rebuilt: it was folded from the log: rows may stand for what it owes.
        repeats, heartbeats: see there.
        reservations: made when a worker first asks ahead.
        admitting: the task asks to be let in.
        children_told: what the child of a step has answered to.
    """

    __slots__ = (
        "_meta",
        "_traces",
        "admitting",
        "children_told",
        "correlation_id",
        "heartbeats",
        "is_rebuilt",
        "ports",
        "repeats",
        "requested_by",
        "reservations",
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
        self.ports = ports
        self.tenant = ""
        self.state = TaskState()
        self.template: CompiledTemplate | None = None
        self.correlation_id: str | None = None
        self.requested_by: str | None = None
        self.traceparent: str | None = None
        self.is_rebuilt = False
        self.repeats = Repeats()
        self.heartbeats = Heartbeats()
        self.reservations: Reservations | None = None
        self.admitting: Admission | None = None
        self.children_told: dict[str, ChildrenTold] = {}
        self._meta = b"{}"
        self._traces: dict[str, str] = {}

    def fold(self, events: Sequence[RecordedEvent], now_us: int) -> TemplateRef:
        """Take up the task's recorded events; returns the template it started with.

        Raises:
            Undecodable: this build cannot read one of them.
        """
        self.is_rebuilt = True
        for recorded in events:
            event = from_recorded(recorded)
            assert isinstance(event, TaskEvent)  # noqa: S101 - a task's stream holds only these
            meta = meta_of(recorded)
            if recorded.seq == 1:
                self._belong_to(recorded.tenant, meta)
            evolve(self.state, event, at_us=recorded.at_us, command_id=meta.command_id, request=meta.request)  # type: ignore[arg-type]
        self.state.places_left.clear()  # their keys were told, or ask
        self.heartbeats.give_grace(self.state, now_us)
        return self.state.template

    def begin(self, template: CompiledTemplate, tenant: str, meta: Meta) -> None:
        """Take note of the command that created the task."""
        self.template = template
        self._belong_to(tenant, meta)

    def _belong_to(self, tenant: str, meta: Meta) -> None:
        self.tenant = tenant
        self.correlation_id = meta.correlation_id
        self.requested_by = meta.requested_by
        self.traceparent = meta.traceparent
        self._meta = encode_meta(Meta(correlation_id=meta.correlation_id, traceparent=meta.traceparent))

    # ---------------------------------------------------------------- turns

    def receive(self, message: TaskMessage, now_us: int) -> Turn | None:
        """Decide on `message`; see `Actor`."""
        match message:
            case ReportMessage():
                return take_report(self, message, now_us)
            case CreateMessage():
                return create(self, message, now_us)
            case Wake():
                return take_wake(self, message, now_us)
            case CommandMessage():
                return self._command(message, now_us)
            case StandingMessage():
                return message.turn(self.tenant, self.state)
            case ChildNews():
                return child_care.take_news(self, message, now_us)
            case EventNews():
                return take_event(self, message, now_us)
            case ChildHint():
                child_care.take_hint(self, message)
                return None
            case PlaceNews():
                return take_place(self, message, now_us)
            case LostObligations():
                return reconcile(self, message, now_us)
            case Admitted():
                return take_admission(self, message, now_us)
            case AdmissionLook():
                return answer_look(self, message)
            case PostponeMessage():
                return postpone(self, message, now_us)
            case SubjectMessage() | OriginalMessage():
                return self._answer(message)

    def template_for(self, tenant: str) -> CompiledTemplate:
        """Return the task's template, if it is a task of `tenant`.

        Raises:
            TaskUnknown: there is no such task.
        """
        if self.template is None or tenant != self.tenant:
            raise TaskUnknown(f"there is no task {self.task_id}")
        return self.template

    def _command(self, message: CommandMessage, now_us: int) -> Turn:
        planned, command_id, request = message.planned, message.meta.command_id, message.meta.request
        try:
            template = self.template_for(message.tenant)
            if planned is not None:
                foreseen = would_cause(self.state, template, message.command(now_us))
                return Turn.answer(lambda position: planned(position, foreseen), message.fail)
            if self.state.has_taken(command_id, request):
                return Turn.answer(lambda position: message.answered(position, duplicate=True), message.fail)
            command = message.command(now_us)
            events = advance(self.state, template, command, command_id=command_id, request=request)
        except CommandRejected as refusal:
            return Turn.refusal(refusal, message.fail)
        if not events:
            return Turn.answer(lambda position: message.answered(position, duplicate=True), message.fail)
        return self.record(
            events,
            now_us,
            message.fail,
            lambda position: message.answered(position, duplicate=False),
            meta=message.meta,
        )

    def _answer(self, message: SubjectMessage | OriginalMessage) -> Turn:
        try:
            template = self.template_for(message.tenant)
        except TaskUnknown as refusal:
            return Turn.refusal(refusal, message.fail)
        return message.turn(self.state, template) if isinstance(message, OriginalMessage) else message.turn(self.state)

    # ---------------------------------------------------------------- recording

    def record(
        self,
        events: Sequence[AnyTaskEvent],
        now_us: int,
        failed: Failed,
        answered: Callable[[int], None] | None = None,
        *,
        meta: Meta | None = None,
        cause: str | None = None,
    ) -> Turn:
        """Return the turn that records `events`, which the pending state has taken up.

        `answered` gets the position of the last one, behind all effects of the turn. `meta`: of the command that
        caused them. `cause`: of other turns: names the span that caused them; None: that which created the task.
        """
        if meta is None:
            stored, cause = self._meta, cause or self.traceparent
        else:
            stored, cause = encode_meta(meta), meta.traceparent
        seq = self.state.seq - len(events)
        new: list[NewEvent] = []
        effects: list[Effect] = []
        scopes: dict[str, None] = {}
        everything = False
        for event in events:
            seq += 1
            new.append(
                to_new_event(event, stream_id=self.stream_id, seq=seq, tenant=self.tenant, at_us=now_us, meta=stored)
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
                perform(self, effect)
            for step, attempt in looking(self.state) if is_listening else ():
                watch(self, step, attempt)
            if left:
                self.ports.places.leave(self, left)
            if admitted_us is not None and self.template is not None:
                self.ports.admissions.leave(self, self.tenant, self.template, admitted_us)
            if parent is not None:
                self.ports.children.tell_parent(self.tenant, *parent)
            if answered is not None:
                answered(position)

        done: Callable[[int], None] = on_committed
        if self.ports.traces is not None:
            done, failed = self._traced(self.ports.traces, events, cause, on_committed, failed)
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

    def traceparent_of(self, step: str) -> str | None:
        """Return what names the step's newest dispatch in its trace; else the command that created the task."""
        return self._traces.get(step) or self.traceparent

    # ---------------------------------------------------------------- attempts

    def is_offered(self, step: str, attempt: int) -> bool:
        """Return whether the attempt is on offer and nobody has begun it."""
        return self.is_dispatched(step, attempt) and not self.state.held

    def is_dispatched(self, step: str, attempt: int) -> bool:
        """Return whether nobody has begun the attempt, and somebody may, once its task is not paused."""
        entry = self.state.steps.get(step)
        return (
            entry is not None and entry.status is STEP_DISPATCHED and entry.attempt == attempt and not self.state.ended
        )

    def has_begun(self, step: str, attempt: int) -> bool:
        """Return whether a worker runs the attempt, as far as it is told."""
        entry = self.state.steps.get(step)
        return entry is not None and entry.attempt == attempt and entry.status is STEP_RUNNING and not self.state.ended

    # ---------------------------------------------------------------- for the runtime

    def owes(self) -> Owed:
        """Return every open obligation, by scope."""
        found = {scope: obligations_of_scope(self.state, scope) for scope in (TASK_SCOPE, *self.state.steps)}
        return {scope: owed for scope, owed in found.items() if owed}

    def idle(self) -> bool:
        """Return whether nothing would be lost with this object: heartbeats are known to memory alone."""
        if self.admitting is not None:
            return False
        return self.state.ended or not any(step.status is STEP_RUNNING for step in self.state.steps.values())
