"""Runs handlers, apart from the worker's I/O: async ones on a loop in a thread of its own, sync ones in a pool.

Two threads share two queues. The I/O loop puts jobs in; the handlers' side puts ended jobs out; each wakes the
other once a batch. All methods of `Runner` are called on the I/O loop; what runs elsewhere says so.

A job is never preempted. Its time is the I/O side's to watch: an async job is cancelled, a sync one is told. When a
handler blocks the loop nothing on it can be cancelled any more, and only a new process helps: `silent_s` and
`stack_of` let the I/O side see that and say where it happened.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from tasker.clock import Clock, SystemClock
from tasker.events.task_events import ErrorInfo
from tasker.handlers.context import StepContext
from tasker.handlers.options import GIVE_BACK_S
from tasker.handlers.outcome import (
    AttemptCancelled,
    Killed,
    error_info,
    input_invalid_info,
    result_invalid_info,
)
from tasker.handlers.returned import Returned, returned_of
from tasker.handlers.stacks import await_stack, thread_stack
from tasker.handlers.threads import Threads
from tasker.telemetry import current_attempt
from tasker.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_log = structlog.get_logger(__name__)
_STOP_WAIT_S = 1.0
_BLOCKED_S = 0.5
"""After so long without the sign of life that it was asked for, the handlers' loop counts as blocked."""


class Invocable(Protocol):
    """A handler, as the runner needs it (`handler.HandlerSpec` is one)."""

    @property
    def is_async(self) -> bool:
        """Whether a call returns an awaitable."""
        ...

    def bind(self, context: StepContext, input_bytes: bytes, results: Mapping[str, bytes]) -> Callable[[], Any]:
        """Return the call with its arguments decoded.

        Raises:
            Exception: they do not fit the handler's annotations.
        """
        ...


class Life(Protocol):
    """What lives as long as the handlers' loop."""

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Learn the loop, before anything runs on it. On any thread."""
        ...

    async def close(self, timeout_s: float) -> None:
        """End within `timeout_s`, on the loop, when nothing else runs on it any more."""
        ...


class Job:
    """One attempt on its way through the runner.

    Attributes:
        begun: (async) its first step ran.
        stopping: the I/O side asked it to stop; what it does from then on is its own ending.
        result, error: how it ended; neither when `interrupted`. returned: what the result is, beside a plain one.
        interrupted: it ended because it was asked to stop.
        ended: nothing of it runs any more.
        stack: where it stood when it was asked to stop.
        tracing, span: what the handler's own spans stand below, where the process traces.
    """

    __slots__ = (
        "asyncio_task",
        "begun",
        "context",
        "ended",
        "error",
        "handler",
        "input_bytes",
        "interrupted",
        "is_async",
        "result",
        "results",
        "returned",
        "span",
        "stack",
        "stopping",
        "thread_id",
        "tracing",
    )

    def __init__(
        self,
        handler: Invocable,
        context: StepContext | None,
        input_bytes: bytes,
        results: Mapping[str, bytes],
        *,
        is_async: bool,
    ) -> None:
        self.handler = handler
        self.is_async = is_async
        self.context: StepContext | None = context
        self.input_bytes = input_bytes
        self.results = results
        self.asyncio_task: asyncio.Task[None] | None = None
        self.thread_id: int | None = None
        self.begun = False
        self.stopping = False
        self.result: bytes | None = None
        self.returned: Returned | None = None
        self.error: ErrorInfo | None = None
        self.interrupted = False
        self.ended = False
        self.stack: str | None = None
        self.tracing: Tracing | None = None
        self.span: Span | None = None

    def let_go(self) -> None:
        """Drop what refers back to it, once it has ended: else only the cyclic collector would find all of it."""
        self.context = None
        self.asyncio_task = None


class Runner:
    """The handlers' loop and threads.

    Args:
        on_ended: called on the I/O loop for each job when nothing of it runs any more.
        life: opened and closed with the handlers' loop; with a `loop` of the caller's, closing is the caller's, too.
        loop: runs async handlers, and is the caller's to run and to close; None: one of its own, in a thread.
    """

    def __init__(
        self,
        on_ended: Callable[[Any], None],
        *,
        clock: Clock | None = None,
        life: Life | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._on_ended = on_ended
        self._life = life
        self._clock = clock or SystemClock()
        self._incoming: deque[Job] = deque()
        self._outgoing: deque[Job] = deque()
        self._incoming_told = False
        self._outgoing_told = False
        self._io_loop: asyncio.AbstractEventLoop | None = None
        self._owns_loop = loop is None
        self._loop: asyncio.AbstractEventLoop = loop or _new_loop()
        self._thread = threading.Thread(target=self._main, name="tasker-handlers", daemon=True)
        self._pool = Threads(self._run_sync)
        self._asked_s: float | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the handlers' thread. Call it on the I/O loop."""
        self._io_loop = asyncio.get_running_loop()
        if self._life is not None:
            self._life.open(self._loop)
        if self._owns_loop:
            self._thread.start()

    async def stop(self) -> None:
        """End the loop, cancelling what is still on it; a blocked one is left behind. Twice is fine."""
        if self._stopped:
            return
        self._stopped = True
        self._pool.stop()
        if not self._owns_loop:
            return
        if not self._thread.is_alive():
            self._loop.close()
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self.silent_s < _BLOCKED_S:
            wait_s = 2 * _STOP_WAIT_S + (0.0 if self._life is None else GIVE_BACK_S)
            await asyncio.to_thread(self._thread.join, wait_s)

    def submit(self, job: Job) -> None:
        """Run a job."""
        self._incoming.append(job)
        if not self._incoming_told:
            self._incoming_told = True
            self._loop.call_soon_threadsafe(self._take)

    def interrupt(self, job: Job) -> None:
        """Ask a job to stop: cancel an async one, tell a sync one. It ends when it ends."""
        job.stopping = True
        context = job.context
        assert context is not None  # noqa: S101 - a submitted job has one
        context.mark_cancelled()
        job.stack = self.stack_of(job)
        self._loop.call_soon_threadsafe(self._interrupt, job, context)

    # -------------------------------------------------------- is it alive?

    def ping(self) -> None:
        """Ask the handlers' loop for a sign of life, unless it owes us one."""
        if self._asked_s is None:
            self._asked_s = self._clock.monotonic_s()
            self._loop.call_soon_threadsafe(self._pong)

    @property
    def silent_s(self) -> float:
        """How long the handlers' loop owes a sign of life; 0: it gave what was asked for."""
        asked_s = self._asked_s
        return 0.0 if asked_s is None else self._clock.monotonic_s() - asked_s

    def is_blocking(self, job: Job) -> bool:
        """Whether the handlers' loop is in this job's own code at this moment; its ending is not its own."""
        return not job.ended and job.asyncio_task is not None and asyncio.current_task(self._loop) is job.asyncio_task

    def loop_stack(self) -> str | None:
        """Return where the handlers' loop stands now."""
        return thread_stack(self._thread.ident)

    def stack_of(self, job: Job) -> str | None:
        """Return where a running job stands now, as well as that can be told from another thread."""
        if job.ended:
            return None
        if job.thread_id is not None:
            return thread_stack(job.thread_id)
        if self.is_blocking(job):
            return self.loop_stack()
        return None

    # -------------------------------------------------------- on the handlers' loop

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._stopped:
            try:
                self._loop.run_forever()
            except BaseException:  # noqa: BLE001 - sys.exit in an asyncio task that a handler left behind
                _log.exception("handlers_loop_survived")
        try:
            self._loop.run_until_complete(self._close())
        except BaseException:  # noqa: BLE001 - as above
            _log.exception("handlers_loop_close_failed")
        self._loop.close()

    async def _close(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for one in left:
            one.cancel()
        if left:
            await asyncio.wait(left, timeout=_STOP_WAIT_S)
        if self._life is not None:
            await self._life.close(GIVE_BACK_S)
        await self._loop.shutdown_asyncgens()

    def _take(self) -> None:
        self._incoming_told = False
        incoming = self._incoming
        while incoming:
            job = incoming.popleft()
            if job.is_async:
                job.asyncio_task = self._loop.create_task(self._run_async(job))
            else:
                self._pool.submit(job)

    def _interrupt(self, job: Job, context: StepContext) -> None:
        context.wake_cancelled()
        running = job.asyncio_task
        if running is None or running.done():
            return
        if job.stack is None:
            job.stack = await_stack(running)
        running.cancel()
        if not job.begun:  # then none of it ever runs, nor tells of its end
            job.interrupted = True
            self._tell(job)

    def _pong(self) -> None:
        self._asked_s = None

    async def _run_async(self, job: Job) -> None:
        job.begun = True
        _enter(job)
        try:
            call = self._bind(job)
            if call is not None:
                value = call()
                self._finish(job, await value)
        except asyncio.CancelledError as error:
            if job.stopping:
                job.interrupted = True
                if isinstance(error, Killed):
                    job.stack = error.stack
            else:
                self._fail(job, error)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises fails its step, not the worker
            self._fail(job, error)
        self._tell(job)

    # -------------------------------------------------------- in a pool thread

    def _run_sync(self, job: Job) -> None:
        job.thread_id = threading.get_ident()
        process_id = os.getpid()
        try:
            if job.stopping:
                job.interrupted = True
            else:
                call = self._bind(job)
                if call is not None:
                    self._finish(job, contextvars.Context().run(_run_as, job, call))
        except BaseException as error:  # noqa: BLE001 - as in _run_async
            self._fail(job, error)
        if os.getpid() != process_id:
            # The handler has forked, and it is the child that comes back: a worker that is none, and would never end.
            os._exit(0 if job.error is None else 1)
        self._tell(job)

    # -------------------------------------------------------- on either

    def _bind(self, job: Job) -> Callable[[], Any | Awaitable[Any]] | None:
        context = job.context
        assert context is not None  # noqa: S101 - a submitted job has one
        try:
            return job.handler.bind(context, job.input_bytes, job.results)
        except Exception as error:  # noqa: BLE001 - decoding runs the user's own __post_init__
            job.error = input_invalid_info(error)
            return None

    def _finish(self, job: Job, value: object) -> None:
        try:
            job.returned = returned_of(value)
            job.result = bytes(job.returned.result)
        except Exception as error:  # noqa: BLE001 - encoding runs the user's own properties
            job.error = result_invalid_info(error)

    def _fail(self, job: Job, error: BaseException) -> None:
        if job.stopping and isinstance(error, AttemptCancelled):
            job.interrupted = True
        else:
            job.error = error_info(error, now_us=self._clock.now_us())

    def _tell(self, job: Job) -> None:
        job.ended = True
        self._outgoing.append(job)
        if not self._outgoing_told:
            self._outgoing_told = True
            assert self._io_loop is not None  # noqa: S101 - set by start
            try:
                self._io_loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                _log.debug("ended_after_the_worker", job=repr(job.context))

    # -------------------------------------------------------- on the I/O loop

    def _deliver(self) -> None:
        self._outgoing_told = False
        outgoing = self._outgoing
        while outgoing:
            self._on_ended(outgoing.popleft())


def _enter(job: Job) -> None:
    """Have what runs here from now on, for the life of this context, belong to the attempt: its logs, its spans."""
    current_attempt.set(job.context)
    if job.tracing is not None and job.span is not None:
        job.tracing.enter(job.span)


def _run_as(job: Job, call: Callable[[], Any]) -> Any:
    _enter(job)
    return call()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
