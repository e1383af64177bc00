"""The actor of a schedule: it joins the pure core with the runtime.

A start is an effect of a committed fire. It is told to the task's owner again and again until that one answered, and
the answer is an event of the schedule. Before a fire that depends on it, and while one waits, the owners of the tasks
that ran are asked whether these have ended: nobody has to tell the schedule anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Protocol
from uuid import UUID

from tasker.errors import CommandRejected, KeyConflict, TaskerError, TaskPoisoned, is_passing
from tasker.events.envelope import US_PER_S, Meta, NewEvent
from tasker.events.messages import Reply
from tasker.events.schedule_events import AnyScheduleEvent, ScheduleFired, ScheduleReconciled
from tasker.events.state_form import StateForm
from tasker.events.stored import EMPTY_META, encode_meta, to_new_event
from tasker.service.actors.command_message import CommandMessageBase
from tasker.service.actors.lost_message import LostObligations
from tasker.service.domain.schedules.commands import (
    AnyScheduleCommand,
    GoOn,
    NoteRefused,
    NoteStarted,
    ReconcileSchedule,
)
from tasker.service.domain.schedules.decide import decide_schedule, needs_to_know, tasks_to_cancel
from tasker.service.domain.schedules.obligations import (
    FIRE,
    GO_ON,
    START,
    schedule_obligations,
    task_of_start,
)
from tasker.service.domain.schedules.state import (
    CHECK_S,
    SCHEDULE_FORM,
    ScheduleState,
    ScheduleStatus,
    Start,
    evolve_schedule,
)
from tasker.service.runtime.actor import Kept, Owed, Turn
from tasker.service.runtime.due import NEWER_BUILD_S
from tasker.service.runtime.node import Wake

RESTART_S: Final = 6.0
"""A start that nobody answered is told again after this, then after twice as long, and so on: an owner has 5 s."""

REFUSED_S: Final = 0.5
"""One that was answered with something that passes."""

RESTART_S_MAX: Final = 60.0
CHECK_S_MAX: Final = 30.0
ASK_S: Final = 6.0
"""A question that nobody answered is asked again after this."""

KEPT_S: Final = 3600.0
"""A schedule that is due within this stays in memory."""

DETAIL_CHARS_MAX: Final = 500


class ScheduleAnswered(Protocol):
    """Takes the position of what was recorded, whether it had been before, and the task that it started."""

    def __call__(self, position: int, *, duplicate: bool, task_id: str | None) -> None:
        """Answer the command."""
        ...


class SchedulePorts(Protocol):
    """What a schedule's actor needs of the world."""

    def start(self, actor: ScheduleActor, task_id: str, start: Start) -> None:
        """Have the task created; the answer comes as a `StartAnswered`."""
        ...

    def ask(self, actor: ScheduleActor, task_id: str) -> None:
        """Find out whether a task has ended; the answer comes as a `StandingAnswered`."""
        ...

    def cancel(self, actor: ScheduleActor, task_id: str, command_id: str) -> None:
        """Have a task cancelled; an answer that is lost is no harm."""
        ...

    def later(self, actor: ScheduleActor, obligation: str, at_us: int) -> None:
        """Wake the actor for an open obligation at `at_us`."""
        ...

    def now_us(self) -> int:
        """Return the time."""
        ...


class ScheduleMessage(CommandMessageBase[Callable[[int], AnyScheduleCommand], ScheduleAnswered]):
    """A command to the schedule."""

    __slots__ = ()


class StartAnswered:
    """What a task's owner said to its start."""

    __slots__ = ("reply", "task_id")

    def __init__(self, task_id: str, reply: Reply) -> None:
        self.task_id = task_id
        self.reply = reply

    def fail(self, error: TaskerError) -> None:
        """Do nothing: the start is told again, and answered again."""


class StandingAnswered:
    """Whether a task has ended; None: nobody could say."""

    __slots__ = ("ended", "task_id")

    def __init__(self, task_id: str, *, ended: bool | None) -> None:
        self.task_id = task_id
        self.ended = ended

    def fail(self, error: TaskerError) -> None:
        """Do nothing: it is asked again."""


AnyScheduleMessage = ScheduleMessage | StartAnswered | StandingAnswered | LostObligations | Wake


class ScheduleActor(Kept[ScheduleState]):
    """One schedule."""

    form: ClassVar[StateForm[ScheduleState]] = SCHEDULE_FORM

    __slots__ = (
        "_checks",
        "_known",
        "_ports",
        "_tries",
        "_waiting_for",
        "correlation_id",
        "shard",
        "state",
        "stream_id",
    )

    def __init__(self, stream_id: UUID, shard: int, ports: SchedulePorts, state: ScheduleState) -> None:
        self.stream_id = stream_id
        self.shard = shard
        self.state = state
        self.correlation_id: str | None = None
        self._ports = ports
        self._known: dict[str, bool] = {}
        self._waiting_for: set[str] = set()
        self._checks = 0
        self._tries: dict[str, int] = {}

    # ---------------------------------------------------------------- turns

    def receive(self, message: AnyScheduleMessage, now_us: int) -> Turn | None:
        """Decide on `message`; see `Actor`."""
        match message:
            case ScheduleMessage():
                return self._command(message, now_us)
            case StartAnswered():
                return self._start_answered(message, now_us)
            case StandingAnswered():
                return self._standing_answered(message, now_us)
            case LostObligations():
                return self._reconcile(message, now_us)
            case Wake():
                return self._wake(message, now_us)

    def _command(self, message: ScheduleMessage, now_us: int) -> Turn:
        state = self.state
        state.tenant = message.tenant
        planned = message.planned
        try:
            if planned is None and state.commands.knows(message.meta.command_id, message.meta.request):
                return Turn.answer(
                    lambda position: message.answered(position, duplicate=True, task_id=None), message.fail
                )
            events = decide_schedule(state, message.command(now_us))
        except CommandRejected as refusal:
            return Turn.refusal(refusal, message.fail)
        if planned is not None:
            return Turn.answer(lambda position: planned(position, events), message.fail)
        fired = next((event for event in events if isinstance(event, ScheduleFired)), None)
        task_id = None if fired is None else fired.task_id
        duplicate = not events
        return self._record(
            events,
            now_us,
            message.meta,
            lambda position: message.answered(position, duplicate=duplicate, task_id=task_id),
            message.fail,
        )

    def _start_answered(self, message: StartAnswered, now_us: int) -> Turn | None:
        task_id, reply = message.task_id, message.reply
        command: AnyScheduleCommand
        error = None if reply.error is None else TaskerError.from_problem(reply.error)
        if error is None or isinstance(error, (KeyConflict, TaskPoisoned)):
            # A task with the fire's own id that had another request was started by this fire, before an update.
            command = NoteStarted(at_us=now_us, task_id=task_id, duplicate=error is not None or reply.duplicate)
        elif isinstance(error, CommandRejected) and not is_passing(error):
            command = NoteRefused(
                at_us=now_us, task_id=task_id, code=error.code, detail=error.detail[:DETAIL_CHARS_MAX]
            )
        else:
            self._ports.later(self, f"{START}:{task_id}", now_us + self._pause_us(task_id, REFUSED_S))
            return None
        events = decide_schedule(self.state, command)
        if not events:
            return None
        self._tries.pop(task_id, None)
        return self._record(events, now_us, EMPTY_META, _nothing, _ignored)

    def _standing_answered(self, message: StandingAnswered, now_us: int) -> Turn | None:
        self._waiting_for.discard(message.task_id)
        if message.ended is None:
            return None  # what waits wakes the actor again
        self._known[message.task_id] = message.ended
        return None if self._waiting_for else self._go_on(now_us)

    def _wake(self, wake: Wake, now_us: int) -> Turn | None:
        at_us = schedule_obligations(self.state).get(wake.obligation)
        task_id = task_of_start(wake.obligation)
        if at_us is None:
            if task_id is None and wake.obligation not in (FIRE, GO_ON):
                # A newer build wrote the row, and one may come back: it is not ours to close.
                wake.postpone(round(NEWER_BUILD_S * US_PER_S))
                return None
            return Turn.answer(lambda _: wake.closed(), wake.fail)
        if at_us > now_us:
            wake.again(wake.obligation, at_us)
            return None
        if task_id is not None:
            wake.again(wake.obligation, now_us + self._pause_us(task_id, RESTART_S))
            self._ports.start(self, task_id, self.state.starting[task_id])
            return None
        wake.again(wake.obligation, now_us + round(ASK_S * US_PER_S))
        self._waiting_for.clear()
        return self._go_on(now_us)

    def _go_on(self, now_us: int) -> Turn | None:
        """Do what is due, or ask first what must be known."""
        state = self.state
        wanted = needs_to_know(state, now_us)
        unknown = [task_id for task_id in wanted if task_id not in self._known]
        if unknown:
            for task_id in unknown:
                if task_id not in self._waiting_for:
                    self._waiting_for.add(task_id)
                    self._ports.ask(self, task_id)
            return None
        ended = frozenset(task_id for task_id in wanted if self._known[task_id])
        self._known.clear()
        events = decide_schedule(state, GoOn(at_us=now_us, ended=ended))
        if events:
            return self._record(events, now_us, EMPTY_META, _nothing, _ignored)
        if GO_ON in schedule_obligations(state):
            self._cancel_running()
            self._checks += 1
            wait_s = min(CHECK_S * 2.0 ** min(self._checks, 10), CHECK_S_MAX)
            self._ports.later(self, GO_ON, now_us + round(wait_s * US_PER_S))
        return None

    def _pause_us(self, task_id: str, first_s: float) -> int:
        tries = self._tries.get(task_id, 0) + 1
        self._tries[task_id] = tries
        return round(min(first_s * 2.0 ** min(tries - 1, 10), RESTART_S_MAX) * US_PER_S)

    def _reconcile(self, message: LostObligations, now_us: int) -> Turn | None:
        """Record what was lost and is still open, and be woken for it."""
        command = ReconcileSchedule(at_us=now_us, lost=message.lost, obligations=message.obligations)
        events = decide_schedule(self.state, command)
        if not events:
            return None
        found = [name for event in events if isinstance(event, ScheduleReconciled) for name in event.obligations]

        def committed(_position: int) -> None:
            owed = schedule_obligations(self.state)
            for name in found:
                if name in owed:
                    self._ports.later(self, name, max(owed[name], self._ports.now_us()))
            message.repaired(len(found))

        return self._record(events, now_us, EMPTY_META, committed, message.fail, anew=found)

    # ---------------------------------------------------------------- recording

    def _record(
        self,
        events: Sequence[AnyScheduleEvent],
        now_us: int,
        meta: Meta,
        committed: Callable[[int], None],
        failed: Callable[[TaskerError], None],
        *,
        anew: Sequence[str] = (),
    ) -> Turn:
        """Move the state on by `events` and return the turn that records them; `anew`: open as before, and lost."""
        state = self.state
        before = schedule_obligations(state)
        new: list[NewEvent] = []
        data = encode_meta(meta)
        for event in events:
            seq = state.seq + 1
            new.append(
                to_new_event(event, stream_id=self.stream_id, seq=seq, tenant=state.tenant, at_us=now_us, meta=data)
            )
            evolve_schedule(state, event, at_us=now_us, command_id=meta.command_id, request=meta.request)
        self._checks = 0
        fired = [event for event in events if isinstance(event, ScheduleFired)]

        def on_committed(position: int) -> None:
            self._perform(fired)
            committed(position)

        after = schedule_obligations(state)
        changed = _changed({name: at_us for name, at_us in before.items() if name not in anew}, after)
        return Turn(new, on_committed, failed, changed)

    def _perform(self, fired: Sequence[ScheduleFired]) -> None:
        now_us = self._ports.now_us()
        for event in fired:
            start = self.state.starting.get(event.task_id)
            if start is not None:
                obligation = f"{START}:{event.task_id}"
                self._ports.later(self, obligation, now_us + self._pause_us(event.task_id, RESTART_S))
                self._ports.start(self, event.task_id, start)
        owed = schedule_obligations(self.state)
        for obligation in (FIRE, GO_ON):
            if owed.get(obligation, now_us + 1) <= now_us:
                self._ports.later(self, obligation, now_us)
        self._cancel_running()

    def _cancel_running(self) -> None:
        for task_id in tasks_to_cancel(self.state):
            command_id = f"schedule:{self.state.identity}:{self.state.buffered[0]}:{task_id}"
            self._ports.cancel(self, task_id, command_id)

    # ---------------------------------------------------------------- for the runtime

    def owes(self) -> Owed:
        """Return every open obligation."""
        owed = schedule_obligations(self.state)
        return {obligation: {obligation: at_us} for obligation, at_us in owed.items()}

    def idle(self) -> bool:
        """Return whether nothing is under way and nothing is due soon: a long history is not read again each time."""
        state = self.state
        if state.starting or self._waiting_for or state.backfills:
            return False
        if state.status is not ScheduleStatus.ACTIVE:
            return True
        soon_us = self._ports.now_us() + round(KEPT_S * US_PER_S)
        return not state.buffered and (state.due_us is None or state.due_us > soon_us)


def _changed(before: dict[str, int], after: dict[str, int]) -> Owed:
    """Return the obligations that changed, each a scope of its own: the others keep the time they are put off to."""
    return {
        obligation: {obligation: after[obligation]} if obligation in after else {}
        for obligation in (*before, *after)
        if before.get(obligation) != after.get(obligation)
    }


def _nothing(position: int) -> None:
    """Nobody waits for it."""


def _ignored(error: TaskerError) -> None:
    """The actor is rebuilt from the log, and what it owes wakes it again."""
