"""What people may do about dead letters: `decide_investigation(state, command) -> events`.

The owner of a task says what of it is dead (`subject_of`); an investigation is about that, and names the attempt
that failed. So a resolution holds for the failure that was seen, and a step that fails again is a new matter.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

import msgspec

from tasker.errors import DeadLetterUnknown, StateForbids, StepUnknown
from tasker.events.command_memory import CommandMemory
from tasker.events.dead_letter_events import (
    AnyDeadLetterEvent,
    DeadLetterAdded,
    DeadLetterAssigned,
    DeadLetterEvent,
    DeadLetterIgnored,
    DeadLetterInvestigated,
    DeadLetterNoted,
    DeadLetterReopened,
    DeadLetterResolved,
)
from tasker.events.envelope import RecordedEvent, StreamKind
from tasker.events.state_form import StateForm
from tasker.events.stored import from_recorded, meta_of
from tasker.service.domain.state import StepStatus, TaskState, TaskStatus

_POISONED: Final = frozenset({"poison", "history_limit", "no_progress"})
_GONE: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.CANCELLED})


class Subject(msgspec.Struct, frozen=True):
    """A task, or a step of it, as its owner sees it.

    Attributes:
        step: the step's instance; "": the task itself.
        attempt: the newest of the step; 0 for the task.
        is_dead: it failed for good and waits for a person, or is stale.
        is_over: nothing can be done any more: it completed, its failure was accepted, or its task ended otherwise.
    """

    step: str
    attempt: int
    is_dead: bool
    is_over: bool = False


def subject_of(state: TaskState, step: str) -> Subject:
    """Return the step of a task (or the task itself, "") as a dead letter may be about it.

    Raises:
        StepUnknown: the step has not begun, or there is none of that name.
    """
    is_over = state.status in _GONE
    if not step:
        is_dead = state.blocked_reason in _POISONED or _is_stale(state, "")
        return Subject("", 0, is_dead=is_dead, is_over=is_over)
    found = state.steps.get(step)
    if found is None:
        raise StepUnknown(f"no step {step[:80]!r} of the task has begun")
    is_over = is_over or found.status is StepStatus.COMPLETED or step in state.accepted
    is_dead = found.status is StepStatus.FAILED or _is_stale(state, step)
    return Subject(step, found.attempt, is_dead=is_dead and not is_over, is_over=is_over)


def _is_stale(state: TaskState, scope: str) -> bool:
    return state.staleness is not None and not state.ended and state.staleness.is_stale(scope)


POISONED_TASK: Final = Subject("", 0, is_dead=True)
"""What is known of a task that cannot be folded."""


class Add(msgspec.Struct, frozen=True, kw_only=True):
    """Put it among the dead letters."""


class Investigate(msgspec.Struct, frozen=True, kw_only=True):
    """Look into it; `owner` "" is nobody, None as before."""

    owner: str | None = None
    note: str | None = None


class Resolve(msgspec.Struct, frozen=True, kw_only=True):
    """Settle it; `attempt` is the one that the caller saw."""

    attempt: int | None = None
    ignore: bool = False


class Reopen(msgspec.Struct, frozen=True, kw_only=True):
    """It is not settled after all."""


InvestigationCommand = Add | Investigate | Resolve | Reopen


class Investigation(msgspec.Struct):
    """What is known of one dead letter's investigation.

    Attributes:
        status: `open`, `investigating`, `resolved` or `ignored`, about `attempt`.
        added: a person put it there, at `attempt`.
    """

    status: str = "open"
    attempt: int = 0
    owner: str | None = None
    added: bool = False


class Investigations(msgspec.Struct):
    """The investigations of one task's dead letters, by step. Owned by one actor.

    Kept in snapshots as they are (`INVESTIGATION_FORM`).

    Attributes:
        commands: the last commands that changed it.
    """

    seq: int = 0
    letters: dict[str, Investigation] = {}
    commands: CommandMemory = msgspec.field(default_factory=CommandMemory)


def decide_investigation(
    state: Investigations, task_id: str, subject: Subject, command: InvestigationCommand
) -> tuple[AnyDeadLetterEvent, ...]:
    """Return the events that `command` causes; () when it changes nothing.

    Raises:
        DeadLetterUnknown: it is no dead letter.
        StateForbids: it is one already, or is none of the attempt that the caller saw.
    """
    known = state.letters.get(subject.step) or Investigation()
    is_settled = known.status in {"resolved", "ignored"} and known.attempt >= subject.attempt
    at: dict[str, Any] = {"task_id": task_id, "step": subject.step, "attempt": subject.attempt}
    what = f"step {subject.step}" if subject.step else "the task"
    if isinstance(command, Add):
        if subject.is_over:
            raise StateForbids(f"{what} is over; there is nothing left to see to")
        if subject.is_dead and not is_settled:
            raise StateForbids(f"{what} is a dead letter already")
        return () if known.added and not is_settled else (DeadLetterAdded(**at),)
    if not subject.is_dead and not known.added:
        if subject.is_over:
            raise DeadLetterUnknown(f"{what} is no dead letter: it is over, and nothing is left to see to")
        raise DeadLetterUnknown(f"{what} is no dead letter: it has not failed for good, or goes on by now")
    match command:
        case Investigate(owner=owner, note=note):
            events: list[AnyDeadLetterEvent] = []
            if known.status != "investigating":
                events.append(DeadLetterInvestigated(**at))
            if owner is not None and (owner or None) != known.owner:
                events.append(DeadLetterAssigned(**at, owner=owner or None))
            if note is not None:
                events.append(DeadLetterNoted(**at, note=note))
            return tuple(events)
        case Resolve(attempt=attempt, ignore=ignore):
            if attempt is not None and attempt != subject.attempt:
                raise StateForbids(f"{what} failed at attempt {subject.attempt}, not {attempt}")
            if is_settled and known.status == ("ignored" if ignore else "resolved"):
                return ()
            return (DeadLetterIgnored(**at) if ignore else DeadLetterResolved(**at),)
        case Reopen():
            return (DeadLetterReopened(**at),) if is_settled else ()
        case _:
            assert_never(command)


def evolve_investigation(
    state: Investigations, event: AnyDeadLetterEvent, *, command_id: str | None = None, request: str | None = None
) -> Investigations:
    """Return `state` moved on by `event`; `command_id` and `request` are those of its `Meta`. Total."""
    state.seq += 1
    state.commands.remember(command_id, request, state.seq)
    letter = state.letters.setdefault(event.step, Investigation())
    letter.attempt = event.attempt
    match event:
        case DeadLetterAdded():
            letter.added = True
            letter.status = "open"
        case DeadLetterInvestigated():
            letter.status = "investigating"
        case DeadLetterAssigned(owner=owner):
            letter.owner = owner
        case DeadLetterResolved() | DeadLetterIgnored():
            letter.status = "resolved" if isinstance(event, DeadLetterResolved) else "ignored"
        case DeadLetterReopened():
            letter.status = "open"
        case DeadLetterNoted():
            pass
        case _:
            assert_never(event)
    return state


def fold_investigation(state: Investigations, recorded: RecordedEvent) -> None:
    """Move `state` on by a recorded event.

    Raises:
        Undecodable: this build cannot read it.
    """
    event = from_recorded(recorded)
    assert isinstance(event, DeadLetterEvent)  # noqa: S101 - such a stream holds only these
    meta = meta_of(recorded)
    evolve_investigation(state, event, command_id=meta.command_id, request=meta.request)  # type: ignore[arg-type]


INVESTIGATION_FORM: Final = StateForm[Investigations](
    kind=StreamKind.INVESTIGATION,
    number=2,
    new=Investigations,
    fold=fold_investigation,
    kept=Investigations,
)
