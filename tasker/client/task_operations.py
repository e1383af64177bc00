"""What operators and programs do to a task that is there, and to its steps: the calls of the client that say so."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Unpack

import msgspec

from tasker.client.requests import OperatorOptions, TaskRef, named, rfc3339_of, task_id_of
from tasker.events.codec import encode_value
from tasker.events.messages import (
    CANCEL_GRACE_S,
    Command,
    Reply,
    StepEdit,
    StepRelease,
    StepReset,
    StepResolve,
    StepRetry,
    StepSkip,
    TaskBudget,
    TaskCancel,
    TaskComplete,
    TaskDeadline,
    TaskFail,
    TaskPause,
    TaskRestart,
    TaskResume,
    TaskRetry,
    TaskSignal,
    TaskUpdate,
)
from tasker.ids import IdSource


class TaskOperations(abc.ABC):
    """Commands to one task. Each returns once it is in the log, and takes the `OperatorOptions`: who asks, and why."""

    _ids: IdSource

    @abc.abstractmethod
    async def _command(self, verb: str, command: Command) -> Reply:
        """Return the acceptance of `command`, which carries a key; repeats it until the deadline."""

    async def cancel(
        self,
        task: TaskRef,
        *,
        grace_s: float = CANCEL_GRACE_S,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """End a task; running handlers are told and have `grace_s` to stop.

        Raises:
            TaskUnknown, TaskEnded: there is nothing to cancel.
        """
        command = TaskCancel(task_id=task_id_of(task), grace_s=grace_s, **named(options, self._ids))
        return await self._command("task.cancel", command)

    async def retry(
        self,
        task: TaskRef,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Give every failed step of a blocked task a fresh set of attempts; the task goes on by itself.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is nothing to retry.
        """
        command = TaskRetry(task_id=task_id_of(task), **named(options, self._ids))
        return await self._command("task.retry", command)

    async def step_retry(
        self,
        task: TaskRef,
        step: str,
        *,
        attempt: int | None = None,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Give one failed step a fresh set of attempts; `attempt` names the failed one that the caller saw.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: there is nothing to retry.
        """
        command = StepRetry(task_id=task_id_of(task), step=step, attempt=attempt, **named(options, self._ids))
        return await self._command("step.retry", command)

    async def complete(
        self,
        task: TaskRef,
        *,
        result: object,
        grace_s: float = CANCEL_GRACE_S,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """End a task as completed, with a result of yours, whatever its steps have done; nothing is undone.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is nothing to end.
            ValueInvalid, BodyTooLarge: the result cannot be sent.
        """
        command = TaskComplete(
            task_id=task_id_of(task),
            result=msgspec.Raw(encode_value(result)),
            grace_s=grace_s,
            **named(options, self._ids),
        )
        return await self._command("task.complete", command)

    async def fail(
        self,
        task: TaskRef,
        *,
        message: str,
        grace_s: float = CANCEL_GRACE_S,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """End a task as failed, with an error of yours; it compensates as any task that fails.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is nothing to end.
        """
        command = TaskFail(task_id=task_id_of(task), message=message, grace_s=grace_s, **named(options, self._ids))
        return await self._command("task.fail", command)

    async def update(
        self,
        task: TaskRef,
        *,
        tags: Mapping[str, str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: int | None = None,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Change tags (None removes one), metadata (a JSON merge patch, RFC 7396) and priority of a task.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is nothing to change.
        """
        command = TaskUpdate(
            task_id=task_id_of(task),
            tags=dict(tags or {}),
            metadata=dict(metadata or {}),
            priority=priority,
            **named(options, self._ids),
        )
        return await self._command("task.update", command)

    async def set_deadline(
        self,
        task: TaskRef,
        *,
        deadline: datetime | str | None = None,
        within_s: float | None = None,
        remove: bool = False,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Give a task another deadline: a time, or so long from now on; `remove`: none. It fails when that comes first.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is no deadline to set.
        """
        command = TaskDeadline(
            task_id=task_id_of(task),
            deadline=rfc3339_of(deadline, "deadline"),
            within_s=within_s,
            remove=remove,
            **named(options, self._ids),
        )
        return await self._command("task.deadline", command)

    async def restart(
        self,
        task: TaskRef,
        *,
        version: str | None = None,
        current: bool = False,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Run a task that has ended once more; the reply's `task_id` is the new task's.

        It takes over input, tags, metadata, priority, timeout and version: another one is `version`, the one in use now
        `current`.

        Raises:
            TaskUnknown, StateForbids: there is no such task, or it has not ended.
            TemplateUnknown: there is no such version.
        """
        command = TaskRestart(task_id=task_id_of(task), version=version, current=current, **named(options, self._ids))
        return await self._command("task.restart", command)

    async def pause(
        self,
        task: TaskRef,
        *,
        children: bool = False,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Let nothing more of a task begin; attempts that run go on, and their outcomes are recorded.

        With `children` neither of its child tasks, and theirs; of those that it waits for, and does not abandon.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is nothing to pause.
        """
        command = TaskPause(task_id=task_id_of(task), children=children, **named(options, self._ids))
        return await self._command("task.pause", command)

    async def resume(
        self,
        task: TaskRef,
        *,
        children: bool = False,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Let a paused task go on from where it stands; what fell due meanwhile comes at once.

        With `children` also its child tasks, and theirs, that are paused with it.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: it is not paused.
        """
        command = TaskResume(task_id=task_id_of(task), children=children, **named(options, self._ids))
        return await self._command("task.resume", command)

    async def set_budget(
        self,
        task: TaskRef,
        *,
        cost_max: Decimal | int | str | None = None,
        tokens_max: int | None = None,
        running_s_max: float | None = None,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Let a task use more than its template's budget allows; one that is blocked by its budget goes on.

        Args:
            task: which.
            cost_max: all that it may cost from its beginning, in the currency of the budget; None: as it is.
            tokens_max: all that its models may use from its beginning; None: as it is.
            running_s_max: how long its steps may run from its beginning; None: as it is.
            options: who asks, and why.

        Raises:
            TaskUnknown, TaskEnded: there is no such task any more.
            StateForbids: it has no budget, or has used more than that.
        """
        command = TaskBudget(
            task_id=task_id_of(task),
            cost_max=None if cost_max is None else str(cost_max),
            tokens_max=tokens_max,
            running_s_max=running_s_max,
            **named(options, self._ids),
        )
        return await self._command("task.budget", command)

    async def signal(
        self,
        task: TaskRef,
        name: str,
        value: object = None,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Bring a task a signal, for a step that waits for one of this name, now or later.

        A repetition with the same `command_id` is the same signal, for as long as the task is.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: nothing of the task will take it.
            SignalUnknown: no step of its template waits for such a signal.
            SignalInvalid: the value does not match the signal's schema.
            SignalsFull: the task keeps as many as it may, and no step has taken them.
        """
        command = TaskSignal(
            task_id=task_id_of(task), name=name, value=msgspec.Raw(encode_value(value)), **named(options, self._ids)
        )
        return await self._command("task.signal", command)

    async def step_skip(
        self,
        task: TaskRef,
        step: str,
        *,
        result: object = None,
        routes: Sequence[str] = (),
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Complete a step without running it (any more); it is marked as skipped, and the task goes on by itself.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: it cannot be skipped.
        """
        command = StepSkip(
            task_id=task_id_of(task),
            step=step,
            result=msgspec.Raw(encode_value(result)),
            routes=tuple(routes),
            **named(options, self._ids),
        )
        return await self._command("step.skip", command)

    async def step_resolve(
        self,
        task: TaskRef,
        step: str,
        result: object,
        *,
        routes: Sequence[str] = (),
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Complete a step with a result that was got in another way; the task goes on by itself.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: it cannot be resolved.
        """
        command = StepResolve(
            task_id=task_id_of(task),
            step=step,
            result=msgspec.Raw(encode_value(result)),
            routes=tuple(routes),
            **named(options, self._ids),
        )
        return await self._command("step.resolve", command)

    async def step_reset(
        self,
        task: TaskRef,
        step: str,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Let the failures that an open step has had count no more: it has all its attempts again.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: it has no attempts to give back.
        """
        command = StepReset(task_id=task_id_of(task), step=step, **named(options, self._ids))
        return await self._command("step.reset", command)

    async def step_edit(
        self,
        task: TaskRef,
        step: str,
        result: object,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Give a completed step another result. The old one stays in the log; steps that have used it are not repeated.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: it has no result to edit.
        """
        command = StepEdit(
            task_id=task_id_of(task), step=step, result=msgspec.Raw(encode_value(result)), **named(options, self._ids)
        )
        return await self._command("step.edit", command)

    async def step_release(
        self,
        task: TaskRef,
        step: str,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """End what a step waits for: its retry or its time comes now; a pending one begins, whatever its parents say.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: it waits for nothing that can be released.
        """
        command = StepRelease(task_id=task_id_of(task), step=step, **named(options, self._ids))
        return await self._command("step.release", command)
