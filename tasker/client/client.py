"""`TaskerClient`: how a program asks for work and sees what became of it.

Commands go over NATS when its address is known, else over HTTP; reads go over HTTP. Every command
carries a key, so the client repeats it on its own until the deadline, and a lost answer is no harm.
What is waited for, read or subscribed to says its position, so that any of it can be resumed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import msgspec

from tasker.bus.bus import Bus
from tasker.bus.publish import AckedPublisher
from tasker.bus.streams import delete_consumer
from tasker.client.approvals import Approvals
from tasker.client.attempts import RetryPolicy, attempt_until, verdict
from tasker.client.batches import BATCHES_IN_FLIGHT, Item, body_of, pack, verdicts_of
from tasker.client.bulk import Bulks
from tasker.client.carriers import BusCarrier, Carrier, HttpCarrier
from tasker.client.controls import WorkControls
from tasker.client.dead_letters import DeadLetters
from tasker.client.domain_events import NEW, DomainSubscription
from tasker.client.http import HttpApi, Parameters
from tasker.client.requests import (
    NamedTemplate,
    NewTask,
    OperatorOptions,
    TaskHandle,
    TaskRef,
    handle_of,
    named,
    task_id_of,
    texts_of,
)
from tasker.client.schedules import Schedules
from tasker.client.service_reads import LogOverHttp, ServiceReads
from tasker.client.settings import FindStack, client_settings
from tasker.client.shared_bus import SharedBus
from tasker.client.subscription import START, EventFilter, Subscription
from tasker.client.task_operations import TaskOperations
from tasker.client.waiting import is_over, not_over, over_http
from tasker.client.watching import WATCHED, Watch
from tasker.clock import Clock, SystemClock
from tasker.errors import (
    ConfigurationError,
    DeadlineExceeded,
    TaskerError,
    Unavailable,
    Undecodable,
    is_passing,
)
from tasker.events.codec import decode_message, encode_message
from tasker.events.messages import (
    HEADER_REPLY_TO,
    HEADER_TRACEPARENT,
    Command,
    Reply,
    TemplateRegister,
    TemplateUse,
)
from tasker.events.reads import Health, TaskView
from tasker.events.subjects import Subjects
from tasker.ids import IdSource, SystemIds, check_name
from tasker.tracing import SpanKind, spanning, tracing_of_process

T = TypeVar("T")

READY_STATUS_NOT = (503,)


class TaskerClient(TaskOperations, ServiceReads):
    """A connection to a Tasker service; use it with `async with`, share it freely within one event loop.

    Args:
        nats_url, http_url, tenant, nats_prefix: default to the settings `nats.url`, `http.url`, `tenant` and
            `nats.prefix` (`TASKER_NATS_URL`, ...). An address given as "" is not used, whatever they say. Where
            neither address is known, those of the stack that `tasker up` runs on this machine are used.
        timeout_s: how long one call may take, repetitions included; defaults to `client.timeout_s`.
        retry: how calls are repeated within that time.
        find_stack: returns the `TASKER_*` variables of a running stack, in place of looking for its file.

    Raises:
        ConfigurationError: (on entering) no address is known.
    """

    def __init__(
        self,
        nats_url: str | None = None,
        http_url: str | None = None,
        tenant: str | None = None,
        nats_prefix: str | None = None,
        *,
        timeout_s: float | None = None,
        retry: RetryPolicy | None = None,
        find_stack: FindStack | None = None,
        environ: Mapping[str, str] = os.environ,
        ids: IdSource | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = client_settings(
            nats_url=nats_url,
            http_url=http_url,
            tenant=tenant,
            prefix=nats_prefix,
            timeout_s=timeout_s,
            environ=environ,
            find_stack=find_stack,
        )
        self.timeout_s = self.settings.timeout_s
        self._retry = retry or RetryPolicy()
        self._ids = ids or SystemIds()
        self._clock = clock or SystemClock()
        http = self.settings.http_url
        self._api = HttpApi(http, tenant=self.settings.tenant) if http else None
        self._subjects = Subjects(self.settings.prefix)
        self._tracing = tracing_of_process()
        self._bus = SharedBus(self._connect)

        self.schedules = Schedules(self._command, self._get, self._ids)
        """Commands to schedules, and reads of them."""
        self.controls = WorkControls(self._command, self._get, self._ids)
        """Commands to work as a whole, and what holds it back."""

    @property
    def bulk(self) -> Bulks:
        """Return what gives one command to everything that matches."""
        return Bulks(self._command, self.wait, self.steps, self._ids)

    @property
    def approvals(self) -> Approvals:
        """Return the open approvals: what steps ask people."""
        return Approvals(self._command, self._get, self._ids)

    @property
    def dlq(self) -> DeadLetters:
        """Return the dead letters: what failed for good and waits for a person."""
        return DeadLetters(self._command, self._get, self._ids, self.bulk)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back the connections. Twice is fine."""
        await self._bus.close()
        if self._api is not None:
            await self._api.close()

    # ---------------------------------------------------------------- commands

    async def create(
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
        task = NewTask(
            template,
            input,
            namespace=namespace,
            version=version,
            idempotency_key=idempotency_key,
            tags=tags or {},
            metadata=metadata or {},
            not_before=not_before,
            timeout_s=timeout_s,
            priority=priority,
            correlation_id=correlation_id,
            requested_by=requested_by,
            reason=reason,
        )
        command = task.command(self._ids)
        handle = handle_of(command, await self._command("task.create", command))
        if wait_s is None:
            return handle
        try:
            return msgspec.structs.replace(handle, task=await self.wait(handle, timeout_s=wait_s))
        except DeadlineExceeded:
            return handle

    async def preview(self, task: NewTask) -> Reply:
        """Return what the creation of a task would cause (`would`), after the same checks; nothing is recorded.

        Of a template with limits (`concurrency`, `debounce`, ...) that is what happens once it lets the task in; of a
        key that names such a task already it is nothing.

        Raises:
            CommandRejected: the service would refuse it (`input_invalid`, `key_conflict`, `template_unknown`, ...).
        """
        command = task.command(self._ids)
        command.dry_run = True
        return await self._command("task.create", command)

    async def create_many(
        self, tasks: Iterable[NewTask], *, in_flight: int = BATCHES_IN_FLIGHT
    ) -> list[TaskHandle | TaskerError]:
        """Start many tasks; the result has a handle or an error for each, in the order given.

        They travel as arrays, `in_flight` at a time. What passes by (`busy`, a lost answer) is repeated for the
        items concerned, with the same keys; each array may take the client's timeout.
        """
        results: dict[int, TaskHandle | TaskerError] = {}
        items = []
        for index, task in enumerate(tasks):
            try:
                command = task.command(self._ids)
            except TaskerError as error:
                results[index] = error
            else:
                items.append(Item(index, command, encode_message(command)))
        slots = asyncio.Semaphore(in_flight)

        async def send(batch: list[Item]) -> None:
            async with slots:
                results.update(await self._create_batch(batch))

        async with asyncio.TaskGroup() as group:
            for batch in pack(items):
                group.create_task(send(batch), name="create_many")
        return [results[index] for index in range(len(results))]

    async def submit(self, task: NewTask, *, reply_to: str | None = None) -> str:
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
        nats_url = self.settings.nats_url
        if nats_url is None:
            raise ConfigurationError("submitting needs NATS: set TASKER_NATS_URL or give nats_url")
        deadline_s = self._clock.monotonic_s() + self.timeout_s
        command = task.command(self._ids)
        key = command.idempotency_key or ""
        body = encode_message(command)
        bus = await self._connected_bus()
        subject = self._subjects.submit(self.settings.tenant, "task", "create")
        headers = {} if reply_to is None else {HEADER_REPLY_TO: reply_to}

        async def leave(timeout_s: float) -> None:
            # No message id: the key in the body names the task, and keys of two templates may be the same.
            await AckedPublisher(bus, timeout_s=timeout_s).publish(subject, body, headers=headers or None)

        with spanning(self._tracing, "tasker task.create", SpanKind.PRODUCER) as traceparent:
            if traceparent is not None:
                headers[HEADER_TRACEPARENT] = traceparent
            await attempt_until(leave, deadline_s=deadline_s, policy=self._retry, clock=self._clock)
        return key

    async def register(self, template: Mapping[str, Any], **options: Unpack[OperatorOptions]) -> Reply:
        """Make a template known; `template` is the document that YAML spells too.

        Raises:
            TemplateInvalid: `errors` names every fault. TemplateConflict: the version has other content.
        """
        command = TemplateRegister(template=dict(template), **named(options, self._ids))
        return await self._command("template.register", command)

    async def use(
        self, name: str, version: str, *, namespace: str = "default", **options: Unpack[OperatorOptions]
    ) -> Reply:
        """Choose the version that new tasks get when they name none.

        Raises:
            TemplateUnknown: there is no such version.
        """
        command = TemplateUse(name=name, namespace=namespace, version=version, **named(options, self._ids))
        return await self._command("template.use", command)

    # ---------------------------------------------------------------- how it stands, and waits

    async def health(self) -> Health:
        """Return whether the service is ready, with the reasons when it is not; asks once.

        Raises:
            Unavailable: nobody answers.
        """
        data = await self._reads().ask("GET", "/health/ready", timeout_s=self._retry.attempt_s, good=READY_STATUS_NOT)
        return decode_message(data, Health)

    async def wait(
        self,
        task: TaskRef,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[TaskView], None] | None = None,
    ) -> TaskView:
        """Return the task once it has ended or is `blocked`; its `state` says which.

        Goes on through restarts of the service. Without a timeout it waits as long as the task takes.

        Raises:
            TaskUnknown: there is no such task.
            DeadlineExceeded: `timeout_s` is over; the task goes on.
            PositionInvalid: (without HTTP) the stream on NATS does not go back to its creation any more.
        """
        if isinstance(task, TaskView) and is_over(task):
            return task
        if self._api is None:
            return await self._wait_for_events(task, timeout_s, on_progress)
        return await over_http(
            self._api,
            task,
            timeout_s=timeout_s,
            policy=self._retry,
            clock=self._clock,
            on_progress=on_progress,
        )

    def subscribe(
        self,
        *,
        namespace: str | None = None,
        template: str | None = None,
        task: TaskRef | None = None,
        types: str | Sequence[str] = (),
        start: str | None = None,
        live: bool = False,
    ) -> Subscription:
        """Return a subscription to the lifecycle events that match all of what is given.

            async with client.subscribe(template="order_fulfillment", start=saved) as events:
                async for event in events:
                    ...
                    saved = events.position

        Each event comes once, in the order of its shard. What the stream on NATS no longer has comes from the log.

        Args:
            namespace: of the tasks' template.
            template: its name.
            task: only of this one.
            types: stored types, such as `task_completed`; none: all.
            start: a position to go on behind, or "start" for the beginning of the log; None: from now on.
                Shards that a position does not name begin at their start.
            live: straight from the publisher, without stream or log: fast, ordered, and not complete.

        Raises:
            ConfigurationError: `live` with a position, or without NATS.
            NameInvalid: namespace or template is no name.
        """
        nats_url = self.settings.nats_url
        if live and (start is not None or nats_url is None):
            raise ConfigurationError("live events need NATS, and begin now: leave out `live` to start at a position")
        wanted = EventFilter(
            namespace=None if namespace is None else check_name(namespace, "namespace"),
            template=None if template is None else check_name(template, "template"),
            task_id=None if task is None else task_id_of(task),
            types=texts_of(types),
        )
        return self._subscription(wanted, start=start, live=live)

    def subscribe_domain(self, *names: str, durable: str | None = None, start: str = START) -> DomainSubscription:
        """Return a subscription to the domain events that steps raise; needs NATS.

            async with client.subscribe_domain("payment.*", durable="billing") as events:
                async for event in events:
                    book(event.subject, msgspec.json.decode(event.data))

        Without `durable` they come live, in order and only while one listens. With it every event comes at least once,
        also those of the time when nobody listened (as long as the stream keeps them), and is acknowledged when the
        next one is asked for. All who subscribe under one name share its events.

        Args:
            names: of the events; `*` stands for one part of a name, `>` at the end for the rest; none: all.
            durable: a name, under which NATS keeps how far the subscriber is.
            start: where a durable name begins that NATS does not know yet: "start", with all that the stream keeps, or
                "new".

        Raises:
            ConfigurationError: no NATS address is known. NameInvalid: a name is none.
        """
        nats_url = self.settings.nats_url
        if nats_url is None:
            raise ConfigurationError("domain events come over NATS: set TASKER_NATS_URL or give nats_url")
        if start not in {START, NEW}:
            raise ConfigurationError(f"start is {start!r}; a durable name begins at {START!r} or {NEW!r}")
        return DomainSubscription(
            names,
            durable=None if durable is None else check_name(durable, "durable subscriber"),
            start=start,
            subjects=self._subjects,
            tenant=self.settings.tenant,
            bus=self._connected_bus,
        )

    async def forget_domain_subscriber(self, durable: str) -> bool:
        """Have NATS forget a durable name, and with it what it still owed it; returns whether it knew one.

        Raises:
            ConfigurationError: no NATS address is known. Unavailable: NATS does not answer.
        """
        nats_url = self.settings.nats_url
        if nats_url is None:
            raise ConfigurationError("domain events come over NATS: set TASKER_NATS_URL or give nats_url")
        consumer = self._subjects.domain_consumer(self.settings.tenant, check_name(durable, "durable subscriber"))
        return await delete_consumer(await self._connected_bus(), self._subjects.event_stream, consumer)

    # ---------------------------------------------------------------- what they stand on

    def _subscription(
        self, wanted: EventFilter, *, start: str | None, live: bool = False, from_kept: bool = False
    ) -> Subscription:
        return Subscription(
            wanted=wanted,
            start=start,
            live=live,
            subjects=self._subjects,
            tenant=self.settings.tenant,
            bus=None if self.settings.nats_url is None else self._connected_bus,
            log=None if self._api is None else LogOverHttp(self),
            from_kept=from_kept,
        )

    async def _wait_for_events(
        self, task: TaskRef, timeout_s: float | None, on_progress: Callable[[TaskView], None] | None
    ) -> TaskView:
        """Return the task when it is over, from the event stream alone."""
        known = task if isinstance(task, (TaskHandle, TaskView)) else None
        wanted = EventFilter(
            namespace=known.namespace if known is not None else None,
            template=known.template if known is not None else None,
            task_id=task_id_of(task),
            types=WATCHED,
        )
        events = self._subscription(wanted, start=START, from_kept=True)
        watch = Watch(on_progress)
        try:
            async with asyncio.timeout(timeout_s), events:
                return await watch.until_over(events)
        except TimeoutError as error:
            state = f"it is {watch.view.state}" if watch.view else "no event of it was seen"
            raise not_over(task, timeout_s, state) from error

    def _reads(self) -> HttpApi:
        if self._api is None:
            raise ConfigurationError("reads go over HTTP: set TASKER_HTTP_URL or give http_url")
        return self._api

    async def _get(self, path: str, kind: type[T], parameters: Parameters) -> T:
        api = self._reads()
        return await attempt_until(
            lambda timeout_s: api.get(path, kind, timeout_s=timeout_s, parameters=parameters),
            deadline_s=self._clock.monotonic_s() + self.timeout_s,
            policy=self._retry,
            clock=self._clock,
        )

    async def _connect(self) -> Bus:
        # It says why before the call's time is over, in which the driver is loaded as well.
        until_s = self._clock.monotonic_s() + 0.9 * self.timeout_s
        from tasker.bus.nats_bus import NatsBus

        return await NatsBus.connect(
            self.settings.nats_url or "",
            name="tasker-client",
            retry_for_s=max(0.0, until_s - self._clock.monotonic_s()),
            inbox_prefix=self.settings.inbox_prefix,
            pending_bytes_max=self.settings.pending_bytes_max,
            on_repeat=self._retry.on_repeat,
        )

    async def _connected_bus(self) -> Bus:
        return await self._bus.get(within_s=self.timeout_s)

    async def _carry(self) -> Carrier:
        if self.settings.nats_url is not None:
            return BusCarrier(await self._connected_bus(), self._subjects, tenant=self.settings.tenant)
        return HttpCarrier(self._reads())

    async def _command(self, verb: str, command: Command) -> Reply:
        """Return the acceptance of `command`, which carries a key; repeats it until the deadline."""
        deadline_s = self._clock.monotonic_s() + self.timeout_s
        carrier = await self._carry()
        body = encode_message(command)

        with spanning(self._tracing, f"tasker {verb}", SpanKind.CLIENT) as traceparent:

            async def ask(timeout_s: float) -> Reply:
                answer = await carrier.send(verb, body, timeout_s=timeout_s, traceparent=traceparent)
                return _accepted(answer, carrier)

            return await attempt_until(
                ask, deadline_s=deadline_s, policy=self._retry, clock=self._clock, conclude=verdict
            )

    async def _create_batch(self, batch: Sequence[Item]) -> dict[int, TaskHandle | TaskerError]:
        """Return index -> handle or error; items with an error that passes are sent again, with the same keys."""
        deadline_s = self._clock.monotonic_s() + self.timeout_s
        found: dict[int, TaskHandle | TaskerError] = {}
        told: dict[int, list[TaskerError]] = {}
        waiting = list(batch)

        async def ask(timeout_s: float) -> None:
            try:
                carrier = await self._carry()
                with spanning(self._tracing, "tasker task.create", SpanKind.CLIENT) as traceparent:
                    answer = await carrier.send(
                        "task.create", body_of(waiting), timeout_s=timeout_s, traceparent=traceparent
                    )
                verdicts = verdicts_of(waiting, answer, unreadable=carrier.unreadable)
            except TaskerError as error:
                verdicts = [error] * len(waiting)
            again: list[Item] = []
            for item, said in zip(waiting, verdicts, strict=True):
                if isinstance(said, Reply):
                    found[item.index] = handle_of(item.command, said)
                elif is_passing(said):
                    told.setdefault(item.index, []).append(said)
                    again.append(item)
                else:
                    found[item.index] = said
            waiting[:] = again
            if again:
                raise told[again[0].index][-1]

        try:
            await attempt_until(ask, deadline_s=deadline_s, policy=self._retry, clock=self._clock)
        except TaskerError:
            found.update((item.index, verdict(told[item.index])) for item in waiting)
        return found


def _accepted(data: bytes, carrier: Carrier) -> Reply:
    """Return the acceptance that `data`, which `carrier` brought, is; a refusal is raised."""
    try:
        reply = decode_message(data, Reply)
    except Undecodable as error:
        raise carrier.unreadable(str(error)) from error
    if reply.ok:
        return reply
    raise TaskerError.from_problem(reply.error) if reply.error else Unavailable("refused without a reason")
