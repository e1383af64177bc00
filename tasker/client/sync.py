"""`TaskerSyncClient`: the client for programs without an event loop. Each call blocks; nothing else is different.

The async client runs on a loop in a thread of its own; methods, arguments, results and errors are its. A client may be
used by several threads at once.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, Unpack

from tasker.client.attempts import RetryPolicy
from tasker.client.batches import BATCHES_IN_FLIGHT
from tasker.client.client import PAGE_ITEMS, TaskerClient
from tasker.client.domain_events import DomainSubscription
from tasker.client.requests import NamedTemplate, NewTask, OperatorOptions, TaskHandle, TaskRef
from tasker.client.settings import ClientSettings, FindStack
from tasker.client.subscription import START, Subscription
from tasker.client.sync_approvals import SyncApprovals
from tasker.client.sync_bulk import SyncBulks
from tasker.client.sync_controls import SyncControls
from tasker.client.sync_dead_letters import SyncDeadLetters
from tasker.client.sync_schedules import SyncSchedules
from tasker.errors import ConfigurationError, TaskerError
from tasker.events.messages import CANCEL_GRACE_S, DomainEventMessage, LifecycleEvent, Reply
from tasker.events.reads import (
    EventView,
    Explanation,
    Health,
    Refusal,
    Stats,
    StepView,
    TaskPage,
    TaskView,
    TemplateView,
    UsageBy,
    UsageTotal,
)

T = TypeVar("T")
E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)


class TaskerSyncClient:
    """A connection to a Tasker service; use it with `with`, or `close` it.

    ```python
    with TaskerSyncClient() as tasker:
        order = tasker.create("order_fulfillment", {"id": 17}, wait_s=30)
        print(order.task.state)
    ```

    Args:
        nats_url, http_url, tenant, prefix: default to the settings `nats.url`, `http.url`, `tenant` and
            `nats.prefix` (`TASKER_NATS_URL`, ...). An address given as "" is not used, whatever they say.
        timeout_s: how long one call may take, repetitions included; defaults to `client.timeout_s`.
        retry: how calls are repeated within that time.
        find_stack: returns the `TASKER_*` variables of a running stack, in place of looking for its file.

    Raises:
        ConfigurationError: no address is known; or a method is called in a thread that runs an event loop (use
            `TaskerClient` there), or after `close`.
    """

    def __init__(
        self,
        nats_url: str | None = None,
        http_url: str | None = None,
        tenant: str | None = None,
        prefix: str | None = None,
        *,
        timeout_s: float | None = None,
        retry: RetryPolicy | None = None,
        find_stack: FindStack | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._loop = _LoopThread()

        async def make() -> TaskerClient:
            return TaskerClient(
                nats_url,
                http_url,
                tenant,
                prefix,
                timeout_s=timeout_s,
                retry=retry,
                find_stack=find_stack,
                environ=environ,
            )

        try:
            self._client = self._loop.run(make())
        except BaseException:
            self._loop.stop()
            raise
        self.schedules = SyncSchedules(self._loop, self._client.schedules)
        """Commands to schedules, and reads of them."""
        self.controls = SyncControls(self._loop, self._client.controls)
        """Commands to work as a whole, and what holds it back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def settings(self) -> ClientSettings:
        """Where the service is."""
        return self._client.settings

    @property
    def approvals(self) -> SyncApprovals:
        """Return the open approvals: what steps ask people."""
        return SyncApprovals(self._loop, self._client.approvals)

    @property
    def bulk(self) -> SyncBulks:
        """Return what gives one command to everything that matches."""
        return SyncBulks(self._loop, self._client.bulk)

    @property
    def dlq(self) -> SyncDeadLetters:
        """Return the dead letters: what failed for good and waits for a person."""
        return SyncDeadLetters(self._loop, self._client.dlq)

    def close(self) -> None:
        """Give back the connections and the thread. Twice is fine."""
        if not self._loop.stopped:
            try:
                self._loop.run(self._client.close())
            finally:
                self._loop.stop()

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
            self._client.create(
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

    def create_many(
        self, tasks: Iterable[NewTask], *, in_flight: int = BATCHES_IN_FLIGHT
    ) -> list[TaskHandle | TaskerError]:
        """Start many tasks; the result has a handle or an error for each, in the order given.

        They travel as arrays, `in_flight` at a time. What passes by (`busy`, a lost answer) is repeated for the
        items concerned, with the same keys; each array may take the client's timeout.
        """
        return self._loop.run(self._client.create_many(tasks, in_flight=in_flight))

    def cancel(
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
        return self._loop.run(self._client.cancel(task, grace_s=grace_s, **options))

    def retry(
        self,
        task: TaskRef,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Give every failed step of a blocked task a fresh set of attempts; the task goes on by itself.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is nothing to retry.
        """
        return self._loop.run(self._client.retry(task, **options))

    def step_retry(
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
        return self._loop.run(self._client.step_retry(task, step, attempt=attempt, **options))

    def complete(
        self,
        task: TaskRef,
        *,
        result: object = None,
        grace_s: float = CANCEL_GRACE_S,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """End a task as completed, with a result of yours, whatever its steps have done; nothing is undone.

        Raises:
            TaskUnknown, TaskEnded, StateForbids: there is nothing to end.
            ValueInvalid, BodyTooLarge: the result cannot be sent.
        """
        return self._loop.run(self._client.complete(task, result=result, grace_s=grace_s, **options))

    def fail(
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
        return self._loop.run(self._client.fail(task, message=message, grace_s=grace_s, **options))

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
        return self._loop.run(self._client.update(task, tags=tags, metadata=metadata, priority=priority, **options))

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
            self._client.set_deadline(task, deadline=deadline, within_s=within_s, remove=remove, **options)
        )

    def restart(
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
        return self._loop.run(self._client.restart(task, version=version, current=current, **options))

    def pause(
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
        return self._loop.run(self._client.pause(task, children=children, **options))

    def resume(
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
        return self._loop.run(self._client.resume(task, children=children, **options))

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

        Raises:
            TaskUnknown, TaskEnded: there is no such task any more.
            StateForbids: it has no budget, or has used more than that.
        """
        return self._loop.run(
            self._client.set_budget(
                task, cost_max=cost_max, tokens_max=tokens_max, running_s_max=running_s_max, **options
            )
        )

    def signal(
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
        return self._loop.run(self._client.signal(task, name, value, **options))

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
        return self._loop.run(self._client.step_skip(task, step, result=result, routes=routes, **options))

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
        return self._loop.run(self._client.step_resolve(task, step, result, routes=routes, **options))

    def step_reset(
        self,
        task: TaskRef,
        step: str,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Let the failures that an open step has had count no more: it has all its attempts again.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: it has no attempts to give back.
        """
        return self._loop.run(self._client.step_reset(task, step, **options))

    def step_edit(
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
        return self._loop.run(self._client.step_edit(task, step, result, **options))

    def step_release(
        self,
        task: TaskRef,
        step: str,
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """End what a step waits for: its retry or its time comes now; a pending one begins, whatever its parents say.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: it waits for nothing that can be released.
        """
        return self._loop.run(self._client.step_release(task, step, **options))

    def register(self, template: Mapping[str, Any], *, command_id: str | None = None) -> Reply:
        """Make a template known; `template` is the document that YAML spells too.

        Raises:
            TemplateInvalid: `errors` names every fault. TemplateConflict: the version has other content.
        """
        return self._loop.run(self._client.register(template, command_id=command_id))

    def use(self, name: str, version: str, *, namespace: str = "default", command_id: str | None = None) -> Reply:
        """Choose the version that new tasks get when they name none."""
        return self._loop.run(self._client.use(name, version, namespace=namespace, command_id=command_id))

    def get(self, task: TaskRef, *, at_least: str | None = None) -> TaskView:
        """Return a task as the view shows it, never older than what `task` itself was returned with.

        Raises:
            TaskUnknown: there is none. Behind: the view did not reach the position in time.
        """
        return self._loop.run(self._client.get(task, at_least=at_least))

    def page(
        self,
        *,
        state: str | Sequence[str] | None = None,
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
            self._client.page(
                state=state,
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
        state: str | Sequence[str] | None = None,
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
            lambda: self._client.list(
                state=state,
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
        return self._loop.run(self._client.explain(task, step, at_least=at_least))

    def steps(self, task: TaskRef, *, at_least: str | None = None) -> Sequence[StepView]:
        """Return the steps of a task, in declared order."""
        return self._loop.run(self._client.steps(task, at_least=at_least))

    def events(self, task: TaskRef, *, after_seq: int = 0, page_items: int = PAGE_ITEMS) -> Iterator[EventView]:
        """Yield the recorded events of a task behind `after_seq`, from the log."""
        return self._loop.iterate(lambda: self._client.events(task, after_seq=after_seq, page_items=page_items))

    def templates(self, *, namespace: str | None = None, name: str | None = None) -> Iterator[TemplateView]:
        """Yield the registered versions of templates."""
        return self._loop.iterate(lambda: self._client.templates(namespace=namespace, name=name))

    def template(self, name: str, *, namespace: str = "default", version: str | None = None) -> TemplateView:
        """Return a version of a template (None: the one in use), with its document.

        Raises:
            TemplateUnknown: there is none.
        """
        return self._loop.run(self._client.template(name, namespace=namespace, version=version))

    def stats(self) -> Stats:
        """Return counts of tasks by state and how far the views are."""
        return self._loop.run(self._client.stats())

    def health(self) -> Health:
        """Return whether the service is ready, with the reasons when it is not; asks once.

        Raises:
            Unavailable: nobody answers.
        """
        return self._loop.run(self._client.health())

    def wait(
        self, task: TaskRef, *, timeout_s: float | None = None, on_progress: Callable[[TaskView], None] | None = None
    ) -> TaskView:
        """Return the task once it has ended or is `blocked`; its `state` says which.

        Goes on through restarts of the service. Without a timeout it waits as long as the task takes.

        Raises:
            TaskUnknown: there is no such task.
            DeadlineExceeded: `timeout_s` is over; the task goes on.
        """
        return self._loop.run(self._client.wait(task, timeout_s=timeout_s, on_progress=on_progress))

    def subscribe(
        self,
        *,
        namespace: str | None = None,
        template: str | None = None,
        task_id: str | None = None,
        types: Sequence[str] = (),
        start: str | None = None,
        live: bool = False,
    ) -> SyncSubscription:
        """Return a subscription to the lifecycle events that match all of what is given.

            with client.subscribe(template="order_fulfillment", start=saved) as events:
                for event in events:
                    ...
                    saved = events.position

        Each event comes once, in the order of its shard. What the stream on NATS no longer has comes from the log.

        Args:
            namespace: of the tasks' template.
            template: its name.
            task_id: only this task.
            types: stored types, such as `task_completed`; none: all.
            start: a position to go on behind, or "start" for the beginning of the log; None: from now on.
            live: straight from the publisher, without stream or log: fast, ordered, and not complete.

        Raises:
            ConfigurationError: `live` with a position, or without NATS.
        """
        return SyncSubscription(
            self._loop,
            self._client.subscribe(
                namespace=namespace, template=template, task_id=task_id, types=types, start=start, live=live
            ),
        )

    def subscribe_domain(self, *names: str, durable: str | None = None, start: str = START) -> SyncDomainSubscription:
        """Return a subscription to the domain events that steps raise; see `TaskerClient.subscribe_domain`.

        Args:
            names: of the events; `*` stands for one part of a name, `>` at the end for the rest; none: all.
            durable: a name, under which NATS keeps how far the subscriber is.
            start: where a durable name begins that NATS does not know yet: "start" or "new".

        Raises:
            ConfigurationError: no NATS address is known. NameInvalid: a name is none.
        """
        return SyncDomainSubscription(self._loop, self._client.subscribe_domain(*names, durable=durable, start=start))

    def forget_domain_subscriber(self, durable: str) -> bool:
        """Have NATS forget a durable name, and with it what it still owed it; returns whether it knew one."""
        return self._loop.run(self._client.forget_domain_subscriber(durable))

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
        return self._loop.run(self._client.submit(task, reply_to=reply_to))

    def usage(
        self,
        *,
        by: UsageBy = "template",
        task: TaskRef | None = None,
        namespace: str | None = None,
        template: str | None = None,
        model: str | None = None,
        at_least: str | None = None,
    ) -> Iterator[UsageTotal]:
        """Yield what attempts used and cost, failed ones too, added up exactly; see `TaskerClient.usage`."""
        return self._loop.iterate(
            lambda: self._client.usage(
                by=by, task=task, namespace=namespace, template=template, model=model, at_least=at_least
            )
        )

    def refusals(self) -> Iterator[Refusal]:
        """Yield the submitted commands that were refused lately, oldest first."""
        return self._loop.iterate(self._client.refusals)


class _Events(Protocol[E_co]):
    """An open subscription."""

    async def __aenter__(self) -> object: ...
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def __aiter__(self) -> AsyncIterator[E_co]: ...
    async def __anext__(self) -> E_co: ...


class _Blocking(Generic[E]):
    """A subscription whose events block."""

    def __init__(self, loop: _LoopThread, subscription: _Events[E]) -> None:
        self._loop = loop
        self._subscription = subscription
        self._coming: asyncio.Task[E] | None = None

    def __enter__(self) -> Self:
        self._loop.run(self._subscription.__aenter__())
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.run(self._close(exc_type, exc, traceback))

    def __iter__(self) -> Iterator[E]:
        return self

    def __next__(self) -> E:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout_s: float | None = None) -> E | None:
        """Return the next event; None when none came within `timeout_s`, which loses none of them."""
        return self._loop.run(self._next(timeout_s))

    async def _close(self, *why: Any) -> None:
        if self._coming is not None:
            self._coming.cancel()
            why = (asyncio.CancelledError, None, None)  # an event that came meanwhile was shown to nobody
        await self._subscription.__aexit__(*why)

    async def _next(self, timeout_s: float | None) -> E | None:
        if self._coming is None:
            self._coming = asyncio.ensure_future(_next_of(self._subscription))
        done, _ = await asyncio.wait([self._coming], timeout=timeout_s)
        if not done:
            return None
        coming, self._coming = self._coming, None
        return coming.result()


class SyncSubscription(_Blocking[LifecycleEvent]):
    """Lifecycle events that block; use it with `with`, then iterate."""

    def __init__(self, loop: _LoopThread, subscription: Subscription) -> None:
        super().__init__(loop, subscription)
        self._events = subscription

    @property
    def position(self) -> str | None:
        """The position to resume from; None while nothing is known."""
        return self._events.position


class SyncDomainSubscription(_Blocking[DomainEventMessage]):
    """Domain events that block; use it with `with`, then iterate."""

    def __init__(self, loop: _LoopThread, subscription: DomainSubscription) -> None:
        super().__init__(loop, subscription)
        self._events = subscription

    @property
    def deliveries(self) -> int:
        """How often the event shown last was delivered, this time included; 1 when live."""
        return self._events.deliveries

    def ack(self) -> None:
        """Be done with the event shown last; asking for the next one does it, too."""
        self._loop.run(self._ack())

    async def _ack(self) -> None:
        self._events.ack()


class _LoopThread:
    """An event loop in a thread; others hand it work and wait."""

    def __init__(self) -> None:
        self.stopped = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="tasker-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` does on the loop. Who is interrupted (Ctrl-C) cancels it."""
        try:
            self._check()
        except ConfigurationError:
            work.close()
            raise
        doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return doing.result()
        except BaseException:
            doing.cancel()
            raise

    def iterate(self, begin: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        """Yield what an async iterator does."""
        items = begin()
        while True:
            try:
                item = self.run(_next_of(items))
            except StopAsyncIteration:
                return
            yield item

    def stop(self) -> None:
        """End the loop and its thread."""
        if self.stopped:
            return
        self.stopped = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _check(self) -> None:
        if self.stopped:
            raise ConfigurationError("the client is closed; make another")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise ConfigurationError("this thread runs an event loop, which the call would block: use TaskerClient")

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for one in left:
                one.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()


async def _next_of(items: AsyncIterator[T]) -> T:
    return await anext(items)
