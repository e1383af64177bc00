"""The calls of the async client, blocking; written by `python -m scripts.generate_sync_client`.

Each blocks until the async one is done on the client's loop; arguments, results and errors are its.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Unpack

from tasker.client.approvals import AnswerOptions, Approvals
from tasker.client.batches import BATCHES_IN_FLIGHT
from tasker.client.bulk import BulkOptions, BulkPreview, Bulks, LetterFilter, OnProgress, TaskFilter
from tasker.client.client import TaskerClient
from tasker.client.controls import WorkControls
from tasker.client.dead_letters import EVERYTHING_OPEN, DeadLetterFilter, DeadLetters
from tasker.client.loop_thread import LoopThread
from tasker.client.requests import PAGE_ITEMS, NamedTemplate, NewTask, OperatorOptions, TaskHandle, TaskRef
from tasker.client.schedules import NEXT_TIMES, Document, Schedules
from tasker.errors import TaskerError
from tasker.events.bulk import BulkOutcome
from tasker.events.control_events import ControlScope, LimitScope
from tasker.events.messages import CANCEL_GRACE_S, BulkVerb, Reply
from tasker.events.reads import (
    ApprovalView,
    CircuitsView,
    ControlsView,
    DeadLetterGroup,
    DeadLetterView,
    EventView,
    Explanation,
    FireTime,
    Health,
    LimitsView,
    Refusal,
    ScheduleView,
    Stats,
    StepView,
    TaskPage,
    TaskView,
    TemplateView,
    UsageBy,
    UsageTotal,
)
from tasker.events.schedule_events import BackfillOverlap


class SyncCalls:
    """What `TaskerClient` does, each call blocking."""

    def __init__(self, loop: LoopThread, calls: TaskerClient) -> None:
        self._loop = loop
        self._calls = calls

    def create(
        self,
        template: str | NamedTemplate,
        input: object = None,
        *,
        namespace: str | None = None,
        version: str | None = None,
        idempotency_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        not_before: datetime | str | None = None,
        timeout_s: float | None = None,
        priority: int | None = None,
        correlation_id: str | None = None,
        requested_by: str | None = None,
        reason: str | None = None,
        wait_s: float | None = None,
    ) -> TaskHandle:
        """Start a task and return its handle once it is in the log; the arguments are `NewTask`'s.

        With `wait_s` also wait so long for its end; `handle.task` then says how it ended or where it is blocked.

        Raises:
            CommandRejected: the service refuses it (`input_invalid`, `key_conflict`, `template_unknown`, ...).
            Unavailable: no answer within the client's timeout. `OutcomeUnknown`, `DeadlineExceeded`: it may be
                recorded; asking again with the same key tells.
        """
        return self._loop.run(
            self._calls.create(
                template,
                input,
                namespace=namespace,
                version=version,
                idempotency_key=idempotency_key,
                tags=tags,
                metadata=metadata,
                not_before=not_before,
                timeout_s=timeout_s,
                priority=priority,
                correlation_id=correlation_id,
                requested_by=requested_by,
                reason=reason,
                wait_s=wait_s,
            )
        )

    def preview(self, task: NewTask) -> Reply:
        """Return what the creation of a task would cause (`would`), after the same checks; nothing is recorded.

        Of a template with limits (`concurrency`, `debounce`, ...) that is what happens once it lets the task in; of a
        key that names such a task already it is nothing.

        Raises:
            CommandRejected: the service would refuse it (`input_invalid`, `key_conflict`, `template_unknown`, ...).
        """
        return self._loop.run(self._calls.preview(task))

    def create_many(
        self, tasks: Iterable[NewTask], *, in_flight: int = BATCHES_IN_FLIGHT
    ) -> list[TaskHandle | TaskerError]:
        """Start many tasks; the result has a handle or an error for each, in the order given.

        They travel as arrays, `in_flight` at a time. What passes by (`busy`, a lost answer) is repeated for the
        items concerned, with the same keys; each array may take the client's timeout.
        """
        return self._loop.run(self._calls.create_many(tasks, in_flight=in_flight))

    def submit(self, task: NewTask, *, reply_to: str | None = None) -> str:
        """Leave a task for the service, which need not run, and return its key; needs NATS.

        When this returns the command lies in the stream of commands: it is not accepted yet, and may still be
        refused. Its verdict goes to `reply_to`; a refusal also into the list that `refusals` reads. Creating the
        task with the returned key tells too.

        Args:
            task: what to create.
            reply_to: a NATS subject of your own.

        Raises:
            ConfigurationError: no NATS address is known.
            Busy: the stream of commands is full. Unavailable: it did not take the command in time.
        """
        return self._loop.run(self._calls.submit(task, reply_to=reply_to))

    def register(self, template: Mapping[str, Any], **options: Unpack[OperatorOptions]) -> Reply:
        """Make a template known; `template` is the document that YAML spells too.

        Raises:
            TemplateInvalid: `errors` names every fault. TemplateConflict: the version has other content.
        """
        return self._loop.run(self._calls.register(template, **options))

    def use(self, name: str, version: str, *, namespace: str = "default", **options: Unpack[OperatorOptions]) -> Reply:
        """Choose the version that new tasks get when they name none.

        Raises:
            TemplateUnknown: there is no such version.
        """
        return self._loop.run(self._calls.use(name, version, namespace=namespace, **options))

    def health(self) -> Health:
        """Return whether the service is ready, with the reasons when it is not; asks once.

        Raises:
            Unavailable: nobody answers.
        """
        return self._loop.run(self._calls.health())

    def wait(
        self, task: TaskRef, *, timeout_s: float | None = None, on_progress: Callable[[TaskView], None] | None = None
    ) -> TaskView:
        """Return the task once it has ended or is `blocked`; its `state` says which.

        Goes on through restarts of the service. Without a timeout it waits as long as the task takes.

        Raises:
            TaskUnknown: there is no such task.
            DeadlineExceeded: `timeout_s` is over; the task goes on.
            PositionInvalid: (without HTTP) the stream on NATS does not go back to its creation any more.
        """
        return self._loop.run(self._calls.wait(task, timeout_s=timeout_s, on_progress=on_progress))

    def forget_domain_subscriber(self, durable: str) -> bool:
        """Have NATS forget a durable name, and with it what it still owed it; returns whether it knew one.

        Raises:
            ConfigurationError: no NATS address is known. Unavailable: NATS does not answer.
        """
        return self._loop.run(self._calls.forget_domain_subscriber(durable))

    def get(self, task: TaskRef, *, at_least: str | None = None) -> TaskView:
        """Return a task as the view shows it, never older than what `task` itself was returned with.

        Raises:
            TaskUnknown: there is none. Behind: the view did not reach the position in time.
        """
        return self._loop.run(self._calls.get(task, at_least=at_least))

    def page(
        self,
        *,
        states: str | Sequence[str] | None = None,
        namespace: str | None = None,
        template: str | None = None,
        tags: Mapping[str, str] | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        sort: str | None = None,
        limit: int = PAGE_ITEMS,
        after: str | None = None,
        at_least: str | None = None,
    ) -> TaskPage:
        """Return a page of tasks that match all of what is given; `page.next` is `after` of the one behind it."""
        return self._loop.run(
            self._calls.page(
                states=states,
                namespace=namespace,
                template=template,
                tags=tags,
                created_after=created_after,
                created_before=created_before,
                sort=sort,
                limit=limit,
                after=after,
                at_least=at_least,
            )
        )

    def list(
        self,
        *,
        states: str | Sequence[str] | None = None,
        namespace: str | None = None,
        template: str | None = None,
        tags: Mapping[str, str] | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        sort: str | None = None,
        at_least: str | None = None,
        page_items: int = PAGE_ITEMS,
    ) -> Iterator[TaskView]:
        """Yield every task that matches, page by page; newest first unless `sort` says otherwise."""
        return self._loop.iterate(
            lambda: self._calls.list(
                states=states,
                namespace=namespace,
                template=template,
                tags=tags,
                created_after=created_after,
                created_before=created_before,
                sort=sort,
                at_least=at_least,
                page_items=page_items,
            )
        )

    def explain(self, task: TaskRef, step: str | None = None, *, at_least: str | None = None) -> Explanation:
        """Return why a task, or a step of it, is where it is: a sentence, and what it waits for.

        Raises:
            TaskUnknown, StepUnknown: there is none. Behind: the view did not reach the position in time.
        """
        return self._loop.run(self._calls.explain(task, step, at_least=at_least))

    def steps(self, task: TaskRef, *, limit: int | None = None, at_least: str | None = None) -> Sequence[StepView]:
        """Return the steps of a task: those of the template in declared order, then further visits and items.

        Args:
            task: its id, or a handle.
            limit: at most so many, from 1 on; None: all.
            at_least: as of this position or later.
        """
        return self._loop.run(self._calls.steps(task, limit=limit, at_least=at_least))

    def events(self, task: TaskRef, *, after_seq: int = 0, page_items: int = PAGE_ITEMS) -> Iterator[EventView]:
        """Yield the recorded events of a task behind `after_seq`, from the log."""
        return self._loop.iterate(lambda: self._calls.events(task, after_seq=after_seq, page_items=page_items))

    def templates(
        self, *, namespace: str | None = None, name: str | None = None, page_items: int = PAGE_ITEMS
    ) -> Iterator[TemplateView]:
        """Yield the registered versions of templates."""
        return self._loop.iterate(lambda: self._calls.templates(namespace=namespace, name=name, page_items=page_items))

    def template(self, name: str, *, namespace: str = "default", version: str | None = None) -> TemplateView:
        """Return a version of a template (None: the one in use), with its document.

        Raises:
            TemplateUnknown: there is none.
        """
        return self._loop.run(self._calls.template(name, namespace=namespace, version=version))

    def usage(
        self,
        *,
        by: UsageBy = "template",
        task: TaskRef | None = None,
        namespace: str | None = None,
        template: str | None = None,
        model: str | None = None,
        at_least: str | None = None,
        page_items: int = PAGE_ITEMS,
    ) -> Iterator[UsageTotal]:
        """Yield what attempts used and cost, failed ones too, added up exactly.

        Args:
            by: what is added up by itself: "tenant", "template", "step" (of a template) or "task".
            task: only of this one.
            namespace: only of its tasks.
            template: only of its tasks.
            model: only what was used of it.
            at_least: a position that the totals must have reached.
            page_items: so many are asked for at a time.
        """
        return self._loop.iterate(
            lambda: self._calls.usage(
                by=by,
                task=task,
                namespace=namespace,
                template=template,
                model=model,
                at_least=at_least,
                page_items=page_items,
            )
        )

    def refusals(self, *, page_items: int = PAGE_ITEMS) -> Iterator[Refusal]:
        """Yield the submitted commands that were refused lately, oldest first."""
        return self._loop.iterate(lambda: self._calls.refusals(page_items=page_items))

    def stats(self) -> Stats:
        """Return counts of tasks by state and how far the views are."""
        return self._loop.run(self._calls.stats())

    def cancel(self, task: TaskRef, *, grace_s: float = CANCEL_GRACE_S, **options: Unpack[OperatorOptions]) -> Reply:
        """End a task; running handlers are told and have `grace_s` to stop.

        Raises:
            TaskUnknown, TaskEnded: there is nothing to cancel.
        """
        return self._loop.run(self._calls.cancel(task, grace_s=grace_s, **options))

    def retry(self, task: TaskRef, **options: Unpack[OperatorOptions]) -> Reply:
        """Give every failed step of a blocked task a fresh set of attempts; the task goes on by itself.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is nothing to retry.
        """
        return self._loop.run(self._calls.retry(task, **options))

    def step_retry(
        self, task: TaskRef, step: str, *, attempt: int | None = None, **options: Unpack[OperatorOptions]
    ) -> Reply:
        """Give one failed step a fresh set of attempts; `attempt` names the failed one that the caller saw.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: there is nothing to retry.
        """
        return self._loop.run(self._calls.step_retry(task, step, attempt=attempt, **options))

    def complete(
        self, task: TaskRef, *, result: object, grace_s: float = CANCEL_GRACE_S, **options: Unpack[OperatorOptions]
    ) -> Reply:
        """End a task as completed, with a result of yours, whatever its steps have done; nothing is undone.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is nothing to end.
            ValueInvalid, BodyTooLarge: the result cannot be sent.
        """
        return self._loop.run(self._calls.complete(task, result=result, grace_s=grace_s, **options))

    def fail(
        self, task: TaskRef, *, message: str, grace_s: float = CANCEL_GRACE_S, **options: Unpack[OperatorOptions]
    ) -> Reply:
        """End a task as failed, with an error of yours; it compensates as any task that fails.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is nothing to end.
        """
        return self._loop.run(self._calls.fail(task, message=message, grace_s=grace_s, **options))

    def update(
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
        return self._loop.run(self._calls.update(task, tags=tags, metadata=metadata, priority=priority, **options))

    def set_deadline(
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
        return self._loop.run(
            self._calls.set_deadline(task, deadline=deadline, within_s=within_s, remove=remove, **options)
        )

    def restart(
        self, task: TaskRef, *, version: str | None = None, current: bool = False, **options: Unpack[OperatorOptions]
    ) -> Reply:
        """Run a task that has ended once more; the reply's `task_id` is the new task's.

        It takes over input, tags, metadata, priority, timeout and version: another one is `version`, the one in use now
        `current`.

        Raises:
            TaskUnknown, StateForbids: there is no such task, or it has not ended.
            TemplateUnknown: there is no such version.
        """
        return self._loop.run(self._calls.restart(task, version=version, current=current, **options))

    def pause(self, task: TaskRef, *, children: bool = False, **options: Unpack[OperatorOptions]) -> Reply:
        """Let nothing more of a task begin; attempts that run go on, and their outcomes are recorded.

        With `children` neither of its child tasks, and theirs; of those that it waits for, and does not abandon.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is nothing to pause.
        """
        return self._loop.run(self._calls.pause(task, children=children, **options))

    def resume(self, task: TaskRef, *, children: bool = False, **options: Unpack[OperatorOptions]) -> Reply:
        """Let a paused task go on from where it stands; what fell due meanwhile comes at once.

        With `children` also its child tasks, and theirs, that are paused with it.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: it is not paused.
        """
        return self._loop.run(self._calls.resume(task, children=children, **options))

    def set_budget(
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
        return self._loop.run(
            self._calls.set_budget(
                task, cost_max=cost_max, tokens_max=tokens_max, running_s_max=running_s_max, **options
            )
        )

    def signal(self, task: TaskRef, name: str, value: object = None, **options: Unpack[OperatorOptions]) -> Reply:
        """Bring a task a signal, for a step that waits for one of this name, now or later.

        A repetition with the same `command_id` is the same signal, for as long as the task is.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: nothing of the task will take it.
            SignalUnknown: no step of its template waits for such a signal.
            SignalInvalid: the value does not match the signal's schema.
            SignalsFull: the task keeps as many as it may, and no step has taken them.
        """
        return self._loop.run(self._calls.signal(task, name, value, **options))

    def step_skip(
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
        return self._loop.run(self._calls.step_skip(task, step, result=result, routes=routes, **options))

    def step_resolve(
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
        return self._loop.run(self._calls.step_resolve(task, step, result, routes=routes, **options))

    def step_reset(self, task: TaskRef, step: str, **options: Unpack[OperatorOptions]) -> Reply:
        """Let the failures that an open step has had count no more: it has all its attempts again.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: it has no attempts to give back.
        """
        return self._loop.run(self._calls.step_reset(task, step, **options))

    def step_edit(self, task: TaskRef, step: str, result: object, **options: Unpack[OperatorOptions]) -> Reply:
        """Give a completed step another result. The old one stays in the log; steps that have used it are not repeated.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: it has no result to edit.
        """
        return self._loop.run(self._calls.step_edit(task, step, result, **options))

    def step_release(self, task: TaskRef, step: str, **options: Unpack[OperatorOptions]) -> Reply:
        """End what a step waits for: its retry or its time comes now; a pending one begins, whatever its parents say.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: it waits for nothing that can be released.
        """
        return self._loop.run(self._calls.step_release(task, step, **options))


class SyncApprovals:
    """What `Approvals` does, each call blocking."""

    def __init__(self, loop: LoopThread, calls: Approvals) -> None:
        self._loop = loop
        self._calls = calls

    def list(
        self,
        *,
        assignee: str | None = None,
        roles: Sequence[str] = (),
        namespace: str | None = None,
        template: str | None = None,
        at_least: str | None = None,
        page_items: int = PAGE_ITEMS,
    ) -> Iterator[ApprovalView]:
        """Yield the open approvals, the oldest first; with `assignee` or `roles` those that such a person may answer.

        Args:
            assignee: a person.
            roles: that they have.
            namespace: of the task's template.
            template: its name.
            at_least: a position that the views must have reached.
            page_items: how many come at a time.
        """
        return self._loop.iterate(
            lambda: self._calls.list(
                assignee=assignee,
                roles=roles,
                namespace=namespace,
                template=template,
                at_least=at_least,
                page_items=page_items,
            )
        )

    def approve(
        self,
        task: TaskRef,
        step: str,
        values: object = None,
        *,
        requested_by: str,
        roles: Sequence[str] = (),
        **options: Unpack[AnswerOptions],
    ) -> Reply:
        """Say yes to what a step asks.

        Args:
            task: whose step.
            step: its name.
            values: of the approval's form.
            requested_by: who answers.
            roles: that they have.
            options: why, and which asking.

        Raises:
            ApprovalForbidden: they may not answer.
            ApprovalInvalid: the values do not match the form.
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: the step does not ask, or not any more.
        """
        return self._loop.run(
            self._calls.approve(task, step, values, requested_by=requested_by, roles=roles, **options)
        )

    def reject(
        self,
        task: TaskRef,
        step: str,
        values: object = None,
        *,
        requested_by: str,
        roles: Sequence[str] = (),
        **options: Unpack[AnswerOptions],
    ) -> Reply:
        """Say no to what a step asks; everything else is as with `approve`."""
        return self._loop.run(self._calls.reject(task, step, values, requested_by=requested_by, roles=roles, **options))

    def delegate(
        self,
        task: TaskRef,
        step: str,
        *,
        to: str,
        requested_by: str,
        roles: Sequence[str] = (),
        **options: Unpack[AnswerOptions],
    ) -> Reply:
        """Have somebody else answer what a step asks `by`.

        Raises:
            ApprovalForbidden: they may not answer, or not hand it over.
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: the step does not ask, or not any more.
        """
        return self._loop.run(
            self._calls.delegate(task, step, to=to, requested_by=requested_by, roles=roles, **options)
        )


class SyncBulks:
    """What `Bulks` does, each call blocking."""

    def __init__(self, loop: LoopThread, calls: Bulks) -> None:
        self._loop = loop
        self._calls = calls

    def preview(
        self,
        verb: BulkVerb,
        wanted: TaskFilter | LetterFilter,
        *,
        requested_by: str,
        reason: str,
        **options: Unpack[BulkOptions],
    ) -> BulkPreview:
        """Return what `start` would be for, after the same checks; nothing is recorded.

        Raises:
            BodyInvalid: a field may not be used.
        """
        return self._loop.run(self._calls.preview(verb, wanted, requested_by=requested_by, reason=reason, **options))

    def start(
        self,
        verb: BulkVerb,
        wanted: TaskFilter | LetterFilter,
        *,
        requested_by: str,
        reason: str,
        **options: Unpack[BulkOptions],
    ) -> TaskHandle:
        """Have a command given to everything that matches and was there before; returns the task that does it.

        The task can be waited for, cancelled and paused like any other. A target that does not take the command is
        counted and listed in its result.

        Raises:
            BodyInvalid: a field may not be used. KeyConflict: `command_id` named another bulk.
        """
        return self._loop.run(self._calls.start(verb, wanted, requested_by=requested_by, reason=reason, **options))

    def outcome(self, bulk: TaskRef, *, on_progress: OnProgress | None = None) -> BulkOutcome:
        """Return what became of a bulk, once it is over.

        Raises:
            TaskUnknown: there is none. StateForbids: it was cancelled, or is blocked: it says nothing of all of them.
        """
        return self._loop.run(self._calls.outcome(bulk, on_progress=on_progress))

    def run(
        self,
        verb: BulkVerb,
        wanted: TaskFilter | LetterFilter,
        *,
        requested_by: str,
        reason: str,
        on_progress: OnProgress | None = None,
        **options: Unpack[BulkOptions],
    ) -> BulkOutcome:
        """Start a bulk and wait for its outcome; it goes on without us.

        Raises:
            BodyInvalid: a field may not be used. StateForbids: somebody cancelled it.
        """
        return self._loop.run(
            self._calls.run(verb, wanted, requested_by=requested_by, reason=reason, on_progress=on_progress, **options)
        )


class SyncControls:
    """What `WorkControls` does, each call blocking."""

    def __init__(self, loop: LoopThread, calls: WorkControls) -> None:
        self._loop = loop
        self._calls = calls

    def pause(
        self,
        scope: ControlScope,
        name: str | None = None,
        *,
        requested_by: str,
        reason: str,
        namespace: str | None = None,
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let no attempt in the scope begin, until `resume`; those that run go on. Every node heeds it in a second.

        Args:
            scope: `queue` or `template`, with a `name`; `tenant`, the client's own; `everything`.
            name: of the queue or template.
            requested_by: who asks; shown to whoever meets the pause.
            reason: why; shown with it.
            namespace: of the queue or template; else "default".
            command_id: names this command; drawn when absent.
            dry_run: only answer what would happen.
        """
        return self._loop.run(
            self._calls.pause(
                scope,
                name,
                requested_by=requested_by,
                reason=reason,
                namespace=namespace,
                command_id=command_id,
                dry_run=dry_run,
            )
        )

    def resume(
        self,
        scope: ControlScope,
        name: str | None = None,
        *,
        requested_by: str,
        reason: str,
        ramp_s: float = 0.0,
        namespace: str | None = None,
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let attempts in the scope begin again; what was held back comes evenly spread over `ramp_s`.

        Raises:
            StateForbids: it is not paused.
        """
        return self._loop.run(
            self._calls.resume(
                scope,
                name,
                requested_by=requested_by,
                reason=reason,
                ramp_s=ramp_s,
                namespace=namespace,
                command_id=command_id,
                dry_run=dry_run,
            )
        )

    def set_limit(
        self,
        scope: LimitScope,
        name: str,
        *,
        per_s: float,
        requested_by: str,
        reason: str,
        burst: int = 1,
        key: str | None = None,
        namespace: str = "default",
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let so many attempts of a queue or a handler begin in a time, over all nodes, in place of a limit before.

        Args:
            scope: `queue` or `handler`.
            name: of the queue or handler.
            per_s: attempts a second.
            requested_by: who asks.
            reason: why.
            burst: so many may begin at once when none did for a while.
            key: an expression over the task's `input`; each of its values has the limit for itself.
            namespace: of the queue or handler.
            command_id: names this command; drawn when absent.
            dry_run: only answer what would happen.

        Raises:
            ExpressionInvalid: the key is none.
        """
        return self._loop.run(
            self._calls.set_limit(
                scope,
                name,
                per_s=per_s,
                requested_by=requested_by,
                reason=reason,
                burst=burst,
                key=key,
                namespace=namespace,
                command_id=command_id,
                dry_run=dry_run,
            )
        )

    def remove_limit(
        self,
        scope: LimitScope,
        name: str,
        *,
        requested_by: str,
        reason: str,
        namespace: str = "default",
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let attempts of a queue or a handler begin as they come.

        Raises:
            StateForbids: it has no limit.
        """
        return self._loop.run(
            self._calls.remove_limit(
                scope,
                name,
                requested_by=requested_by,
                reason=reason,
                namespace=namespace,
                command_id=command_id,
                dry_run=dry_run,
            )
        )

    def limits(self) -> LimitsView:
        """Return the rate limits: those that operators set, as the log says now, and those of the templates in use."""
        return self._loop.run(self._calls.limits())

    def open_circuit(
        self,
        name: str,
        *,
        requested_by: str,
        reason: str,
        open_s: float = 600.0,
        namespace: str = "default",
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let no attempt of a handler begin, as if too many of them had failed; those that run go on.

        Args:
            name: of the handler.
            requested_by: who asks; shown to whoever waits for it.
            reason: why; shown with it.
            open_s: after so long a trial begins, which closes the circuit or opens it for twice as long.
            namespace: of the handler.
            command_id: names this command; drawn when absent.
            dry_run: only answer what would happen.
        """
        return self._loop.run(
            self._calls.open_circuit(
                name,
                requested_by=requested_by,
                reason=reason,
                open_s=open_s,
                namespace=namespace,
                command_id=command_id,
                dry_run=dry_run,
            )
        )

    def close_circuit(
        self,
        name: str,
        *,
        requested_by: str,
        reason: str,
        ramp_s: float = 0.0,
        namespace: str = "default",
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let attempts of a handler begin again, evenly spread over `ramp_s`, as if none of them had failed.

        Raises:
            StateForbids: its circuit is closed.
        """
        return self._loop.run(
            self._calls.close_circuit(
                name,
                requested_by=requested_by,
                reason=reason,
                ramp_s=ramp_s,
                namespace=namespace,
                command_id=command_id,
                dry_run=dry_run,
            )
        )

    def circuits(self) -> CircuitsView:
        """Return the circuits that are not closed, as the log says now, and the breakers of the templates in use."""
        return self._loop.run(self._calls.circuits())

    def events(
        self, scope: ControlScope | LimitScope | None = None, name: str | None = None, *, namespace: str | None = None
    ) -> Iterator[EventView]:
        """Yield what was paused, limited, opened and closed, the newest first; who and why is in an event's `meta`.

        Args:
            scope: only of such things: `handler` for the circuits and limits of handlers, `queue`, `template`, ...
            name: only of this handler, queue or template.
            namespace: only of this namespace.
        """
        return self._loop.iterate(lambda: self._calls.events(scope, name, namespace=namespace))

    def get(self) -> ControlsView:
        """Return what is paused, limited or comes back slowly, and the open circuits, as the log says now."""
        return self._loop.run(self._calls.get())


class SyncDeadLetters:
    """What `DeadLetters` does, each call blocking."""

    def __init__(self, loop: LoopThread, calls: DeadLetters) -> None:
        self._loop = loop
        self._calls = calls

    def list(
        self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None, page_items: int = PAGE_ITEMS
    ) -> Iterator[DeadLetterView]:
        """Yield the dead letters that match, the newest first."""
        return self._loop.iterate(lambda: self._calls.list(wanted, at_least=at_least, page_items=page_items))

    def groups(
        self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None, page_items: int = PAGE_ITEMS
    ) -> Iterator[DeadLetterGroup]:
        """Yield the dead letters that match by fingerprint, the largest group first."""
        return self._loop.iterate(lambda: self._calls.groups(wanted, at_least=at_least, page_items=page_items))

    def count(self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None) -> int:
        """Return how many dead letters match."""
        return self._loop.run(self._calls.count(wanted, at_least=at_least))

    def of_task(self, task: TaskRef, *, at_least: str | None = None) -> Sequence[DeadLetterView]:
        """Return every dead letter of a task with its notes, those that left among them.

        Raises:
            TaskUnknown: there is no such task.
        """
        return self._loop.run(self._calls.of_task(task, at_least=at_least))

    def add(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        reason: str,
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Put a task, or a step of it, among the dead letters, although nothing has failed for good.

        Raises:
            TaskUnknown, StepUnknown, StateForbids: there is nothing to add, or it is there already.
        """
        return self._loop.run(
            self._calls.add(
                task, step, requested_by=requested_by, reason=reason, command_id=command_id, dry_run=dry_run
            )
        )

    def investigate(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        owner: str | None = None,
        note: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Look into a dead letter: give it an owner ("": nobody), add a note; one of note and reason is needed.

        Raises:
            DeadLetterUnknown: it is none.
        """
        return self._loop.run(
            self._calls.investigate(
                task,
                step,
                requested_by=requested_by,
                owner=owner,
                note=note,
                reason=reason,
                command_id=command_id,
                dry_run=dry_run,
            )
        )

    def resolve(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        reason: str,
        attempt: int | None = None,
        ignore: bool = False,
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Settle a dead letter; `ignore` says that nothing is to be done about it.

        Raises:
            DeadLetterUnknown: it is none. StateForbids: another attempt than `attempt` failed last.
        """
        return self._loop.run(
            self._calls.resolve(
                task,
                step,
                requested_by=requested_by,
                reason=reason,
                attempt=attempt,
                ignore=ignore,
                command_id=command_id,
                dry_run=dry_run,
            )
        )

    def reopen(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        reason: str,
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Take back that a dead letter is settled.

        Raises:
            DeadLetterUnknown: it is none.
        """
        return self._loop.run(
            self._calls.reopen(
                task, step, requested_by=requested_by, reason=reason, command_id=command_id, dry_run=dry_run
            )
        )

    def retry(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        reason: str,
        attempt: int | None = None,
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Give the step, or every failed step of the task, a fresh set of attempts; the task goes on by itself.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: there is nothing to retry.
        """
        return self._loop.run(
            self._calls.retry(
                task,
                step,
                requested_by=requested_by,
                reason=reason,
                attempt=attempt,
                command_id=command_id,
                dry_run=dry_run,
            )
        )

    def retry_all(
        self,
        wanted: DeadLetterFilter = EVERYTHING_OPEN,
        *,
        requested_by: str,
        reason: str,
        on_progress: OnProgress | None = None,
        command_id: str | None = None,
    ) -> BulkOutcome:
        """Retry every dead letter that matches, is dead, and may be repaired so; each for the attempt that failed last.

        A task of the service's own does it (`client.bulk`), and goes on without us.

        Raises:
            StateForbids: somebody cancelled it.
        """
        return self._loop.run(
            self._calls.retry_all(
                wanted, requested_by=requested_by, reason=reason, on_progress=on_progress, command_id=command_id
            )
        )

    def resolve_all(
        self,
        wanted: DeadLetterFilter = EVERYTHING_OPEN,
        *,
        requested_by: str,
        reason: str,
        ignore: bool = False,
        on_progress: OnProgress | None = None,
        command_id: str | None = None,
    ) -> BulkOutcome:
        """Settle every dead letter that matches and is dead, each for the attempt that failed last.

        A task of the service's own does it (`client.bulk`), and goes on without us.

        Raises:
            StateForbids: somebody cancelled it.
        """
        return self._loop.run(
            self._calls.resolve_all(
                wanted,
                requested_by=requested_by,
                reason=reason,
                ignore=ignore,
                on_progress=on_progress,
                command_id=command_id,
            )
        )


class SyncSchedules:
    """What `Schedules` does, each call blocking."""

    def __init__(self, loop: LoopThread, calls: Schedules) -> None:
        self._loop = loop
        self._calls = calls

    def create(
        self, name: str, schedule: Document, *, namespace: str = "default", **options: Unpack[OperatorOptions]
    ) -> Reply:
        """Begin a schedule. The same document again is a duplicate.

        Raises:
            ScheduleInvalid: `errors` names every fault. ScheduleConflict: the name has another document.
        """
        return self._loop.run(self._calls.create(name, schedule, namespace=namespace, **options))

    def update(
        self, name: str, schedule: Document, *, namespace: str = "default", **options: Unpack[OperatorOptions]
    ) -> Reply:
        """Give a schedule another document, whole."""
        return self._loop.run(self._calls.update(name, schedule, namespace=namespace, **options))

    def pause(
        self, name: str, note: str | None = None, *, namespace: str = "default", **options: Unpack[OperatorOptions]
    ) -> Reply:
        """Let fire times start nothing until `resume`."""
        return self._loop.run(self._calls.pause(name, note, namespace=namespace, **options))

    def resume(
        self, name: str, note: str | None = None, *, namespace: str = "default", **options: Unpack[OperatorOptions]
    ) -> Reply:
        """Let fire times count again, from now on; those of the pause are skipped (`backfill` makes up for them)."""
        return self._loop.run(self._calls.resume(name, note, namespace=namespace, **options))

    def trigger(self, name: str, *, namespace: str = "default", **options: Unpack[OperatorOptions]) -> Reply:
        """Start a task now, whatever runs; `task_id` of the reply is it (absent of a repetition)."""
        return self._loop.run(self._calls.trigger(name, namespace=namespace, **options))

    def backfill(
        self,
        name: str,
        start: datetime | str,
        end: datetime | str,
        *,
        overlap: BackfillOverlap = "buffer_all",
        namespace: str = "default",
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Start the tasks of past fire times that have none: from `start` up to, not including, `end`."""
        return self._loop.run(self._calls.backfill(name, start, end, overlap=overlap, namespace=namespace, **options))

    def stop_backfill(
        self,
        name: str,
        *,
        end: datetime | str | None = None,
        namespace: str = "default",
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Let open backfills of a schedule start nothing more: all, or those up to `end`; what they started goes on.

        Raises:
            ScheduleForbids: none is open.
        """
        return self._loop.run(self._calls.stop_backfill(name, end=end, namespace=namespace, **options))

    def delete(self, name: str, *, namespace: str = "default", **options: Unpack[OperatorOptions]) -> Reply:
        """End a schedule; tasks that it started go on."""
        return self._loop.run(self._calls.delete(name, namespace=namespace, **options))

    def get(self, name: str, *, namespace: str = "default", at_least: str | None = None) -> ScheduleView:
        """Return a schedule with its last fires and its next fire times.

        Raises:
            ScheduleUnknown: there is none.
        """
        return self._loop.run(self._calls.get(name, namespace=namespace, at_least=at_least))

    def list(
        self,
        *,
        states: str | Sequence[str] | None = None,
        namespace: str | None = None,
        template: str | None = None,
        at_least: str | None = None,
        page_items: int = PAGE_ITEMS,
    ) -> Iterator[ScheduleView]:
        """Yield the schedules that match all of what is given, by namespace and name; deleted ones when asked for."""
        return self._loop.iterate(
            lambda: self._calls.list(
                states=states, namespace=namespace, template=template, at_least=at_least, page_items=page_items
            )
        )

    def next(
        self, name: str, *, namespace: str = "default", count: int = NEXT_TIMES, at_least: str | None = None
    ) -> Sequence[FireTime]:
        """Return the next fire times of a schedule, as if nothing were skipped."""
        return self._loop.run(self._calls.next(name, namespace=namespace, count=count, at_least=at_least))

    def events(self, name: str, *, namespace: str = "default", at_least: str | None = None) -> Iterator[EventView]:
        """Yield what happened to a schedule, the newest first; who asked for it and why is in an event's `meta`.

        Raises:
            ScheduleUnknown: there is none.
        """
        return self._loop.iterate(lambda: self._calls.events(name, namespace=namespace, at_least=at_least))
