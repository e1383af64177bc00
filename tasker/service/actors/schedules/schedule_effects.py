"""Effects of a schedule's actor: tasks to start and to cancel, questions whether one has ended, times to wake at.

A task is started as by any caller: through the entrance, which hands the command to the owner of the task's shard.
The id is the fire's own, so that a start that is told twice is one task.
"""

from __future__ import annotations

from uuid import UUID

from tasker.events.codec import decode_message
from tasker.events.envelope import StreamKind
from tasker.events.messages import Reply, TaskCancel, TaskCreate
from tasker.schedules.start import input_of, tags_of
from tasker.service.actors.children.standing import Standings
from tasker.service.actors.entrances.own_commands import OwnCommands
from tasker.service.actors.schedules.schedule_actor import ScheduleActor, StandingAnswered, StartAnswered
from tasker.service.domain.schedules.state import Start
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.shards import Shards


class ScheduleEffects:
    """Implements `SchedulePorts`."""

    def __init__(self, shards: Shards, clock: NodeClock, standings: Standings, commands: OwnCommands) -> None:
        self._shards = shards
        self._clock = clock
        self._standings = standings
        self._commands = commands

    def start(self, actor: ScheduleActor, task_id: str, start: Start) -> None:
        """Have the task created; the answer comes as a `StartAnswered`."""
        state, spec = actor.state, start.spec
        command = TaskCreate(
            template=spec.template,
            namespace=state.namespace,
            version=spec.version,
            input=input_of(spec, start.fire_us),
            idempotency_key=start.key,
            tags=tags_of(spec, state.name),
            timeout_s=spec.timeout_s,
            requested_by=f"schedule {state.namespace}/{state.name}",
        )

        def answered(data: bytes) -> None:
            self._tell(actor, StartAnswered(task_id, decode_message(data, Reply)))

        self._commands.send(actor.state.tenant, "task.create", command, answered, task_id=UUID(task_id))

    def ask(self, actor: ScheduleActor, task_id: str) -> None:
        """Find out whether a task has ended; the answer comes as a `StandingAnswered`."""
        self._standings.ask(
            actor.state.tenant,
            task_id,
            lambda standing: self._tell(
                actor, StandingAnswered(task_id, ended=None if standing is None else standing.ended)
            ),
        )

    def cancel(self, actor: ScheduleActor, task_id: str, command_id: str) -> None:
        """Have a task cancelled; an answer that is lost is no harm."""
        name = f"schedule {actor.state.namespace}/{actor.state.name}"
        command = TaskCancel(
            task_id=task_id, command_id=command_id, requested_by=name, reason="the next fire of its schedule is due"
        )
        self._commands.send(actor.state.tenant, "task.cancel", command, lambda _: None)

    def later(self, actor: ScheduleActor, obligation: str, at_us: int) -> None:
        """Wake the actor for an open obligation at `at_us`."""
        book = self._shards.book_of(actor.shard)
        if book is not None:
            book.reschedule(actor.stream_id, obligation, obligation, at_us, keep=False)

    def now_us(self) -> int:
        """Return the node's time."""
        return self._clock.now_us()

    # ----------------------------------------------------------------

    def _tell(self, actor: ScheduleActor, message: StartAnswered | StandingAnswered) -> None:
        self._shards.send(actor.shard, actor.stream_id, StreamKind.SCHEDULE, message)
