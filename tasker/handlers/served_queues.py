"""The queues that a worker serves: each with its consumer and its pull loop, made anew where they are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import structlog

from tasker.bus.bus import Bus
from tasker.bus.jetstream import StreamMissing, api_request
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import ensure_streams, ensure_work_consumer, stream_created
from tasker.errors import NotPermitted, Unavailable
from tasker.events.messages import Work
from tasker.events.subjects import Subjects
from tasker.handlers.runner import Invocable
from tasker.handlers.server_clock import ServerClock
from tasker.handlers.slots import QueueSlots, Slots
from tasker.outages import Outage
from tasker.settings import StreamSettings

_RETRY_S: Final = 1.0
_REFUSED_S: Final = 20.0
_WARN_S: Final = 5.0

_log = structlog.get_logger(__name__)


class ServedQueue:
    """One queue.

    Attributes:
        slots: its part of the worker's.
        pull: takes its messages; None: not yet.
    """

    __slots__ = ("_async", "_warned_s", "name", "namespace", "pull", "slots")

    def __init__(self, namespace: str, name: str, slots: QueueSlots) -> None:
        self.namespace = namespace
        self.name = name
        self.slots = slots
        self.pull: PullLoop | None = None
        self._warned_s = -_WARN_S
        self._async: dict[int, bool] = {}

    @property
    def open_pull(self) -> PullLoop:
        """What takes its messages, for whoever has one of them."""
        assert self.pull is not None  # noqa: S101 - it gave us the message
        return self.pull

    def is_async(self, handler: Invocable) -> bool:
        """Return `handler.is_async`, looked at once: it inspects the function each time."""
        known = self._async.get(id(handler))
        if known is None:
            known = self._async[id(handler)] = handler.is_async
        return known

    def warn_of_unknown(self, work: Work, now_s: float) -> None:
        """Log that there is no handler here for `work`; not each time."""
        if now_s - self._warned_s >= _WARN_S:
            self._warned_s = now_s
            _log.warning(
                "handler_unknown",
                handler=work.handler,
                namespace=work.namespace,
                queue=self.name,
                task_id=work.task_id,
            )


class ServedQueues:
    """All queues of one worker.

    Attributes:
        by_name: each by its namespace and name.

    Args:
        names: namespace and name of each.
        slots: shared by all of them.
        streams: settings with which a missing stream or consumer is made.
        clock: refreshed when a queue is there.
        open_pull: makes what takes a queue's messages.
    """

    def __init__(  # noqa: PLR0917 - what they are made of
        self,
        bus: Bus,
        subjects: Subjects,
        tenant: str,
        streams: StreamSettings,
        names: Iterable[tuple[str, str]],
        slots: Slots,
        clock: ServerClock,
        open_pull: Callable[..., PullLoop],
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._tenant = tenant
        self._streams = streams
        self._clock = clock
        self._open_pull = open_pull
        self._all = [ServedQueue(namespace, name, slots.queue()) for namespace, name in sorted(names)]
        self.by_name = {(queue.namespace, queue.name): queue for queue in self._all}
        self._remaking: dict[ServedQueue, asyncio.Task[None]] = {}
        self._woken: asyncio.Handle | None = None
        self._closed = False

    def __iter__(self) -> Iterator[ServedQueue]:
        return iter(self._all)

    async def open(
        self, on_work: Callable[[ServedQueue, Delivery], None], credit: Callable[[ServedQueue], int]
    ) -> None:
        """Return when all of them are pulled from, however long NATS does not answer.

        Raises:
            NotPermitted: it does not let this user take work of one of them.
        """
        for queue in self._all:
            await self._ensure(queue)
            queue.pull = self._open_pull(
                self._bus,
                self._subjects.work_stream,
                self._consumer(queue),
                lambda delivery, queue=queue: on_work(queue, delivery),
                lambda queue=queue: credit(queue),
                on_missing=lambda queue=queue: self._on_missing(queue),
            )
            queue.slots.promised = lambda pull=queue.pull: pull.outstanding  # type: ignore[misc]

    def wake(self) -> None:
        """Have each ask for messages again, once for all that ends in this turn of the loop: there may be room."""
        if self._woken is None:
            self._woken = asyncio.get_running_loop().call_soon(self._wake_all)

    def _wake_all(self) -> None:
        self._woken = None
        for queue in self._all:
            if queue.pull is not None:
                queue.pull.ask()

    async def close(self) -> None:
        """Ask for nothing more. Twice is fine."""
        self._closed = True
        for remaking in self._remaking.values():
            remaking.cancel()
        await asyncio.gather(*self._remaking.values(), return_exceptions=True)
        await asyncio.gather(*(queue.pull.stop() for queue in self._all if queue.pull is not None))

    def _consumer(self, queue: ServedQueue) -> str:
        return self._subjects.work_consumer(self._tenant, queue.namespace, queue.name)

    async def _ensure(self, queue: ServedQueue) -> None:
        """Make stream and consumer where they are missing; go on trying until NATS answers.

        Raises:
            NotPermitted: it does not let this user.
        """
        outage = Outage(
            _log.bind(queue=queue.name, namespace=queue.namespace), "queue_not_there", asyncio.get_running_loop().time
        )
        while True:
            try:
                # Only when missing: their settings are the service's to choose.
                if await stream_created(self._bus, self._subjects.work_stream) is None:
                    await self._make_streams()
                if not await self._consumer_exists(queue):
                    await ensure_work_consumer(
                        self._bus,
                        self._subjects,
                        self._streams,
                        tenant=self._tenant,
                        namespace=queue.namespace,
                        queue=queue.name,
                    )
                await self._clock.refresh()
            except NotPermitted:
                raise
            except Unavailable as error:
                outage.goes_on(error.detail)
                await asyncio.sleep(_RETRY_S)
            else:
                outage.is_over()
                return

    async def _make_streams(self) -> None:
        try:
            await ensure_streams(self._bus, self._subjects, self._streams)
        except NotPermitted as error:
            # The service makes them as well, and may.
            raise Unavailable(error.detail) from error

    async def _consumer_exists(self, queue: ServedQueue) -> bool:
        name = self._consumer(queue)
        try:
            await api_request(self._bus, f"CONSUMER.INFO.{self._subjects.work_stream}.{name}", None, dict)
        except StreamMissing:
            return False
        return True

    def _on_missing(self, queue: ServedQueue) -> None:
        if queue in self._remaking or self._closed:
            return
        _log.warning("queue_gone", queue=queue.name, namespace=queue.namespace)
        self._remaking[queue] = asyncio.create_task(self._remake(queue), name="tasker-worker-remake")

    async def _remake(self, queue: ServedQueue) -> None:
        try:
            while True:
                try:
                    await self._ensure(queue)
                except NotPermitted as error:
                    _log.warning("queue_not_there", queue=queue.name, namespace=queue.namespace, error=error.detail)
                    await asyncio.sleep(_REFUSED_S)
                else:
                    break
            queue.open_pull.restart()
        finally:
            del self._remaking[queue]
