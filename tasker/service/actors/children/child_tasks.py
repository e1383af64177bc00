"""Effects of steps that start a task of another template: the start, the question how it stands, the cancel.

A child is started as by any caller, through the entrance, which hands the command to the owner of the child's shard.
Its id comes from its key, so a start that is told twice is one child. What is lost here is done again when the step's
obligation wakes its actor; that the child's own owner tells of its end only saves the wait.
"""

from __future__ import annotations

from tasker.bus.bus import Message
from tasker.errors import TaskerError, Undecodable, is_passing
from tasker.events.codec import decode_message
from tasker.events.envelope import StreamKind
from tasker.events.messages import Reply, TaskCancel, TaskCreate, TaskPause, TaskResume
from tasker.events.task_events import ErrorInfo
from tasker.ids import task_id_of
from tasker.service.actors.children.child_news import ChildHint, ChildNews
from tasker.service.actors.children.standing import Standing, Standings
from tasker.service.actors.entrances.own_commands import OwnCommands
from tasker.service.actors.task_actor import TaskActor
from tasker.service.domain.commands import NoteChild
from tasker.service.domain.state import ChildrenTold
from tasker.service.domain.steps.children import child_key
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards

WHAT = "child_ended"
"""How a child's end is called between nodes."""

DETAIL_CHARS_MAX = 500


class ChildTasks:
    """Implements `ChildPorts`."""

    def __init__(self, shards: Shards, routes: Routes, standings: Standings, commands: OwnCommands) -> None:
        self._shards = shards
        self._routes = routes
        self._standings = standings
        self._commands = commands

    def start(self, actor: TaskActor, step: str, attempt: int) -> None:
        """Have the child created; the answer comes as a `ChildNews`."""
        request = actor.state.steps[step].child_request
        assert request is not None  # noqa: S101 - the step waits for it
        key = child_key(actor.task_id, step, attempt)
        command = TaskCreate(
            template=request.template,
            namespace=request.namespace,
            version=request.version,
            input=request.input,
            priority=actor.state.priority or None,
            idempotency_key=key,
            correlation_id=actor.correlation_id,
            requested_by=actor.requested_by or f"task {actor.task_id}",  # on behalf of whom: four_eyes asks for it
            reason=f"started by task {actor.task_id}",
        )
        child = task_id_of(actor.tenant, request.namespace, request.template, key)

        def answered(data: bytes) -> None:
            reply = decode_message(data, Reply)
            if reply.ok:
                self._tell(actor, step, attempt, child=str(child))
            elif reply.error is not None and not is_passing(TaskerError.from_problem(reply.error)):
                detail = f"{request.namespace}/{request.template}: {reply.error.detail}"[:DETAIL_CHARS_MAX]
                error = ErrorInfo(type="child_refused", message=detail, retryable=False)
                self._tell(actor, step, attempt, error=error)

        self._commands.send(
            actor.tenant,
            "task.create",
            command,
            answered,
            task_id=child,
            traceparent=actor.traceparent,
            depth=actor.state.depth + 1,
        )

    def ask(self, actor: TaskActor, step: str, attempt: int) -> None:
        """Find out how the child stands; the answer comes as a `ChildNews`."""
        child = actor.state.steps[step].child
        assert child is not None  # noqa: S101 - the caller looked

        def answered(standing: Standing | None) -> None:
            if standing is not None and standing.ended:
                self._tell(actor, step, attempt, child=child, standing=standing)

        self._standings.ask(actor.tenant, child, answered)

    def cancel(self, actor: TaskActor, step: str, attempt: int) -> None:
        """Have the child cancelled; an answer that is lost is no harm."""
        child = actor.state.steps[step].child
        assert child is not None  # noqa: S101 - the caller looked
        command = TaskCancel(
            task_id=child,
            command_id=f"close:{child_key(actor.task_id, step, attempt)}",
            requested_by=f"task {actor.task_id}",
            reason="its parent is stopping",
        )
        self._commands.send(actor.tenant, "task.cancel", command, lambda _: None, traceparent=actor.traceparent)

    def hold(self, actor: TaskActor, step: str, attempt: int, told: ChildrenTold) -> None:
        """Have the child paused, or resumed, with its own children; told again until it has answered."""
        child = actor.state.steps[step].child
        assert child is not None  # noqa: S101 - the caller looked
        at = f"{actor.task_id}:{told.pause}:{step}:{attempt}"
        who = f"task {actor.task_id}"
        command: TaskPause | TaskResume
        if told.is_over:
            command = TaskResume(
                task_id=child,
                children=True,
                paused_by=f"pause:{at}",
                command_id=f"resume:{at}",
                requested_by=who,
                reason="its parent was resumed",
            )
        else:
            command = TaskPause(
                task_id=child, children=True, command_id=f"pause:{at}", requested_by=who, reason="its parent was paused"
            )

        def answered(data: bytes) -> None:
            reply = decode_message(data, Reply)
            if reply.error is None or not is_passing(TaskerError.from_problem(reply.error)):
                actor.children_told[step] = told

        verb = "task.resume" if told.is_over else "task.pause"
        self._commands.send(actor.tenant, verb, command, answered, traceparent=actor.traceparent)

    def tell_parent(self, tenant: str, task_id: str, step: str, attempt: int) -> None:
        """Tell the owner of a parent that its child has ended."""
        try:
            stream_id, shard = self._routes.locate(task_id)
        except ValueError:
            return  # somebody's key that only looks like a child's
        hint = ChildHint(tenant=tenant, task_id=task_id, step=step, attempt=attempt)
        if self._shards.owns(shard):
            self._shards.send(shard, stream_id, StreamKind.TASK, hint)
        else:
            self._routes.tell(shard, WHAT, hint)

    def on_told(self, message: Message) -> None:
        """Take another node's word that a child of a task of ours has ended."""
        try:
            hint = decode_message(message.data, ChildHint)
            stream_id, shard = self._routes.locate(hint.task_id)
        except (Undecodable, ValueError):
            return
        self._shards.send(shard, stream_id, StreamKind.TASK, hint)

    # ----------------------------------------------------------------

    def _tell(
        self,
        actor: TaskActor,
        step: str,
        attempt: int,
        *,
        child: str | None = None,
        standing: Standing | None = None,
        error: ErrorInfo | None = None,
    ) -> None:
        def command(at_us: int) -> NoteChild:
            return NoteChild(
                at_us=at_us,
                step=step,
                attempt=attempt,
                child=child,
                ended=standing is not None,
                state="" if standing is None else standing.state,
                result=None if standing is None else standing.result,
                error=error if standing is None else standing.error,
            )

        self._shards.send(actor.shard, actor.stream_id, StreamKind.TASK, ChildNews(step, attempt, command))
