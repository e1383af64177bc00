"""What the actor of a task needs of the world: its effects go through these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from tasker.events.task_events import PlaceRequested
from tasker.service.actors.dispatch.outcomes import Outcome
from tasker.service.actors.dispatch.step_times import StepTimes
from tasker.service.actors.limits.admission_news import Admission
from tasker.service.actors.limits.postponing import PostponeMessage
from tasker.service.actors.task_traces import TaskTraces
from tasker.service.actors.waits.event_news import Watched
from tasker.service.domain.costs.prices import PriceTable
from tasker.service.domain.state import ChildrenTold
from tasker.templates import CompiledTemplate

if TYPE_CHECKING:
    from tasker.service.actors.task_actor import TaskActor
    from tasker.service.actors.task_messages import CreateMessage


class ChildPorts(Protocol):
    """What a task's actor needs for the tasks that its steps start; answers come as messages."""

    def start(self, actor: TaskActor, step: str, attempt: int) -> None:
        """Have the child of a step created."""
        ...

    def ask(self, actor: TaskActor, step: str, attempt: int) -> None:
        """Find out whether it has ended, and how."""
        ...

    def cancel(self, actor: TaskActor, step: str, attempt: int) -> None:
        """Have it cancelled."""
        ...

    def hold(self, actor: TaskActor, step: str, attempt: int, told: ChildrenTold) -> None:
        """Have it paused, or resumed, with its parent; `children_told` has it once it has answered."""
        ...

    def tell_parent(self, tenant: str, task_id: str, step: str, attempt: int) -> None:
        """Tell the owner of a parent that its child has ended."""
        ...


class PlacePorts(Protocol):
    """What a task's actor needs for its concurrency keys; answers come as messages."""

    def ask(self, actor: TaskActor, request: PlaceRequested) -> None:
        """Ask for a place."""
        ...

    def leave(self, actor: TaskActor, requests: Sequence[PlaceRequested]) -> None:
        """Tell that requests are over; a word that is lost is no harm."""
        ...


class AdmissionPorts(Protocol):
    """What a task's actor needs to be let in under the caps of its template."""

    def ask(self, actor: TaskActor, template: CompiledTemplate, admission: Admission) -> None:
        """Ask for room and for a place; the answer comes as `Admitted`."""
        ...

    def again(self, actor: TaskActor, messages: Iterable[CreateMessage | PostponeMessage]) -> None:
        """Give the actor commands that waited for the first of them."""
        ...

    def leave(self, actor: TaskActor, tenant: str, template: CompiledTemplate, at_us: int) -> None:
        """Tell that a place is free; a word that is lost is no harm."""
        ...

    def begun(self, actor: TaskActor, tenant: str, template: CompiledTemplate, at_us: int) -> None:
        """Tell that the task waits for no more starts; a word that is lost is no harm."""
        ...


class EventPorts(Protocol):
    """What a task's actor needs for steps that wait for events of other tasks; what is found comes as a message."""

    def watch(self, one: Watched) -> None:
        """Look for the event of a step, from the time on at which its wait began."""
        ...


class CircuitPorts(Protocol):
    """What a task's actor tells of its handlers, for their circuits.

    Attributes:
        watches: a circuit is open: the outcomes of all attempts are told, not only of templates with breakers.
    """

    watches: bool

    def ended(self, actor: TaskActor, step: str, attempt: int, outcome: Outcome) -> None:
        """Take up how an attempt ended, once that is committed."""
        ...


class TaskPorts(Protocol):
    """What a task's actor needs of the world."""

    step_times: StepTimes
    prices: PriceTable | None
    traces: TaskTraces | None
    children: ChildPorts
    places: PlacePorts
    admissions: AdmissionPorts
    events: EventPorts
    circuits: CircuitPorts

    def offer(self, actor: TaskActor, step: str, attempt: int, *, offer: int) -> None:
        """Offer the attempt to the workers; a failure wakes the actor again."""
        ...

    def reprioritized(self, actor: TaskActor, step: str, attempt: int, *, offer: int) -> None:
        """Give an attempt on offer the place of its task's new priority."""
        ...

    def taken_back(self, actor: TaskActor, step: str, attempt: int) -> None:
        """Offer an attempt no more: it has ended, or its task is paused."""
        ...

    def tell_cancel(self, actor: TaskActor, worker: str, step: str, attempt: int, grace_s: float) -> None:
        """Tell a worker that an attempt is to stop."""
        ...

    def holds_back(self, actor: TaskActor, step: str, attempt: int) -> bool:
        """Return whether an operator keeps the attempt from beginning; it is offered again once it may."""
        ...

    def freed_us(self, actor: TaskActor, step: str) -> int:
        """Return by when attempts of a step might begin again after they were held back; 0: they were not."""
        ...

    def is_held(self, actor: TaskActor, step: str, attempt: int) -> bool:
        """Return whether the attempt is kept from beginning, or has not been offered again since."""
        ...

    def leave_due(self, actor: TaskActor, step: str, obligation: str) -> None:
        """Let another owner do at once what this one has in hand, until somebody else has it for good."""
        ...

    def later(self, actor: TaskActor, step: str, obligation: str, at_us: int, *, keep: bool) -> None:
        """Wake the actor for an open obligation at `at_us`."""
        ...

    def jitter(self) -> float:
        """Draw a number in [0, 1)."""
        ...

    def now_us(self) -> int:
        """Return the time."""
        ...
