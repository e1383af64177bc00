"""The actor of the log's one stream of controls: it decides what operators, and circuits, do to work as a whole.

The state that it folds is what every node folds for itself (`tasker.controls`). A node is told of a commit here only
to look at once; all others look by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar
from uuid import UUID

from tasker.controls import CONTROL_FORM, Controls
from tasker.errors import CommandRejected
from tasker.events.control_events import AnyControlEvent
from tasker.events.state_form import StateForm
from tasker.events.stored import encode_meta, to_new_event
from tasker.service.actors.command_message import CommandMessageBase
from tasker.service.domain.circuits import AnyCircuitCommand, CircuitWord, CloseCircuit, OpenCircuit, decide_circuit
from tasker.service.domain.controls import AnyControlCommand, decide_control
from tasker.service.runtime.actor import Kept, Owed, Recorded, Turn


class ControlMessage(CommandMessageBase[AnyControlCommand | AnyCircuitCommand, Recorded]):
    """Do something to work as a whole. What a node says of a circuit has no command id: its events name it."""

    __slots__ = ()


class ControlActor(Kept[Controls]):
    """The controls of all tenants; `on_recorded` is called after each commit."""

    form: ClassVar[StateForm[Controls]] = CONTROL_FORM

    __slots__ = ("_on_recorded", "correlation_id", "state", "stream_id")

    def __init__(self, stream_id: UUID, on_recorded: Callable[[], None], state: Controls) -> None:
        self.correlation_id: str | None = None
        self.stream_id = stream_id
        self.state = state
        self._on_recorded = on_recorded

    def receive(self, message: ControlMessage, now_us: int) -> Turn | None:
        """Decide on `message`; see `Actor`."""
        planned = message.planned
        controls, meta = self.state, message.meta
        try:
            if planned is None and controls.commands.knows(meta.command_id, meta.request):
                return Turn.answer(lambda position: message.answered(position, duplicate=True), message.fail)
            events = _decided(controls, message.tenant, message.command, now_us)
        except CommandRejected as refusal:
            return Turn.refusal(refusal, message.fail)
        if planned is not None:
            return Turn.answer(lambda position: planned(position, events), message.fail)
        new, data = [], encode_meta(meta)
        by, reason = meta.requested_by or "", meta.reason or ""
        for event in events:
            seq = controls.seq + 1
            new.append(
                to_new_event(event, stream_id=self.stream_id, seq=seq, tenant=message.tenant, at_us=now_us, meta=data)
            )
            controls.take(event, tenant=message.tenant, at_us=now_us, by=by, reason=reason)
            controls.commands.remember(meta.command_id, meta.request, seq)
        duplicate = not events

        def on_committed(position: int) -> None:
            self._on_recorded()
            message.answered(position, duplicate=duplicate)

        return Turn(new, on_committed, message.fail, {})

    def owes(self) -> Owed:
        """Return nothing: what is held back is owed by its own task."""
        return {}

    def idle(self) -> bool:
        """Return True: its events are all there is of it."""
        return True


def _decided(
    controls: Controls, tenant: str, command: AnyControlCommand | AnyCircuitCommand, now_us: int
) -> tuple[AnyControlEvent, ...]:
    if isinstance(command, OpenCircuit | CloseCircuit | CircuitWord):
        return decide_circuit(controls.circuits, tenant, command, now_us)
    return decide_control(controls, tenant, command)
