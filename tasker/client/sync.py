"""`TaskerSyncClient`: the client for programs without an event loop. Each call blocks; nothing else is different.

The async client runs on a loop in a thread of its own; methods, arguments, results and errors are its. A client may be
used by several threads at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from tasker.client.attempts import RetryPolicy
from tasker.client.client import TaskerClient
from tasker.client.loop_thread import LoopThread
from tasker.client.requests import TaskRef
from tasker.client.settings import ClientSettings, FindStack
from tasker.client.subscription import START
from tasker.client.sync_calls import SyncApprovals, SyncBulks, SyncCalls, SyncControls, SyncDeadLetters, SyncSchedules
from tasker.client.sync_subscription import SyncDomainSubscription, SyncSubscription


class TaskerSyncClient(SyncCalls):
    """A connection to a Tasker service; use it with `with`, or `close` it.

    It has every call of `TaskerClient`, with the same arguments, results and errors; each blocks.

    ```python
    with TaskerSyncClient() as tasker:
        order = tasker.create("order_fulfillment", {"id": 17}, wait_s=30)
        print(order.task.state)
    ```

    Args:
        nats_url, http_url, tenant, nats_prefix: default to the settings `nats.url`, `http.url`, `tenant` and
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
        nats_prefix: str | None = None,
        *,
        timeout_s: float | None = None,
        retry: RetryPolicy | None = None,
        find_stack: FindStack | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        loop = LoopThread()

        async def make() -> TaskerClient:
            return TaskerClient(
                nats_url,
                http_url,
                tenant,
                nats_prefix,
                timeout_s=timeout_s,
                retry=retry,
                find_stack=find_stack,
                environ=environ,
            )

        try:
            client = loop.run(make())
        except BaseException:
            loop.stop()
            raise
        super().__init__(loop, client)
        self.schedules = SyncSchedules(loop, client.schedules)
        """Commands to schedules, and reads of them."""
        self.controls = SyncControls(loop, client.controls)
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
        return self._calls.settings

    @property
    def approvals(self) -> SyncApprovals:
        """Return the open approvals: what steps ask people."""
        return SyncApprovals(self._loop, self._calls.approvals)

    @property
    def bulk(self) -> SyncBulks:
        """Return what gives one command to everything that matches."""
        return SyncBulks(self._loop, self._calls.bulk)

    @property
    def dlq(self) -> SyncDeadLetters:
        """Return the dead letters: what failed for good and waits for a person."""
        return SyncDeadLetters(self._loop, self._calls.dlq)

    def close(self) -> None:
        """Give back the connections and the thread. Twice is fine."""
        if not self._loop.stopped:
            try:
                self._loop.run(self._calls.close())
            finally:
                self._loop.stop()

    def subscribe(
        self,
        *,
        namespace: str | None = None,
        template: str | None = None,
        task: TaskRef | None = None,
        types: str | Sequence[str] = (),
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
            task: only of this one.
            types: stored types, such as `task_completed`; none: all.
            start: a position to go on behind, or "start" for the beginning of the log; None: from now on.
                Shards that a position does not name begin at their start.
            live: straight from the publisher, without stream or log: fast, ordered, and not complete.

        Raises:
            ConfigurationError: `live` with a position, or without NATS.
            NameInvalid: namespace or template is no name.
        """
        return SyncSubscription(
            self._loop,
            self._calls.subscribe(
                namespace=namespace, template=template, task=task, types=types, start=start, live=live
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
        return SyncDomainSubscription(self._loop, self._calls.subscribe_domain(*names, durable=durable, start=start))
