"""A child process of the pool: loads the app, then runs the handlers it is told to, one at a time.

What works of `StepContext` here: ids, `remaining_s`, `deadline`, `now`, `random`, `logger`, `progress`, `emit`,
`usage`, `meter`, `stream`, `result_sync`.
A cancellation is not told: it kills the process, so `cancelled` stays false and nothing is torn down. Resources are
made once a process, and torn down when it ends in order; hooks of middleware run here as well.

The trace goes on here: `TRACEPARENT` in the environment names the attempt's span while the handler runs, for programs
that it starts, and where this process has a tracer provider (the app sets it) the handler's own spans stand below it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import faulthandler
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from typing import Any, Final

import msgspec

from tasker.clock import SystemClock
from tasker.errors import Problem, StateForbids, TaskerError
from tasker.events.messages import EmittedEvent, Progress, UsageLine
from tasker.events.task_events import ErrorInfo
from tasker.handlers.context import ContextFacts, StepContext
from tasker.handlers.live import LiveFeed
from tasker.handlers.metering import SharedMetering
from tasker.handlers.options import GIVE_BACK_S
from tasker.handlers.outcome import error_info, input_invalid_info, result_invalid_info
from tasker.handlers.returned import Returned, returned_of
from tasker.settings.model import LoggingSettings
from tasker.telemetry import current_attempt
from tasker.tracing import tracing_of_process

_PROGRESS_S = 0.1
"""How long progress waits for a later one, so that a tight loop does not flood the parent."""

_EXIT_ORPHANED = 70
_FLUSH_S = 2.0
_MARGIN_S = 0.5
_CLOSE_S: Final = GIVE_BACK_S - _FLUSH_S - 2 * _MARGIN_S
"""How long its resources may take to be given back, so that it has ended by itself before its parent kills it."""

TRACEPARENT_VARIABLE = "TRACEPARENT"


class Order(msgspec.Struct, kw_only=True):
    """What to run.

    Attributes:
        remaining_s: until the attempt is timed out. now_us: the servers' time.
    """

    namespace: str
    queue: str
    handler: str
    input: msgspec.Raw
    results: dict[str, msgspec.Raw]
    context: ContextFacts
    remaining_s: float
    now_us: int


class Ready(msgspec.Struct, tag="ready", omit_defaults=True):
    """The app is loaded; or why not."""

    error: str | None = None


class Asked(msgspec.Struct, tag="asked", kw_only=True, omit_defaults=True):
    """What a running handler says: progress, a domain event, usage, chunks, a write, a wish for the result `of` a step.

    Nothing of it: a sign of life.
    """

    progress: Progress | None = None
    emitted: EmittedEvent | None = None
    usage: tuple[UsageLine, ...] = ()
    chunks: tuple[msgspec.Raw, ...] = ()
    written: tuple[str, msgspec.Raw] | None = None
    of: str | None = None


class Ended(msgspec.Struct, tag="ended", kw_only=True, omit_defaults=True):
    """The handler ended."""

    returned: Returned = Returned()
    error: ErrorInfo | None = None


Said = Ready | Asked | Ended
_decode_order = msgspec.json.Decoder(Order).decode


def run_child(
    app: str, connection: Connection[bytes, bytes], stacks: Connection[bytes, bytes], logging: LoggingSettings
) -> None:
    """Serve orders until the parent hangs up, or is gone; on SIGUSR1 write to `stacks` where the handler stands."""
    from tasker.handlers.app_module import load_app
    from tasker.telemetry import configure_logging

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.enable()
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, file=stacks.fileno(), all_threads=False)
    configure_logging(logging.level, logging.form)
    threading.Thread(target=_end_with_parent, name="tasker-parent", daemon=True).start()
    try:
        child = _Child(load_app(app), connection)
    except TaskerError as error:
        _say(connection, Ready(error=error.detail))
        return
    _say(connection, Ready())
    child.serve()


class _Child:
    def __init__(self, registry: Any, connection: Connection[bytes, bytes]) -> None:
        from tasker.handlers.equipment import Equipment

        self._connection = connection
        self._equipment = Equipment(registry)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tasker-resources", daemon=True)
        self._tracing = tracing_of_process()

    def serve(self) -> None:
        self._equipment.open(self._loop)
        self._thread.start()
        while True:
            try:
                data = self._connection.recv_bytes()
            except (EOFError, OSError):
                break
            if not data:
                break
            _say(self._connection, self._run(_decode_order(data)))
        closing = asyncio.run_coroutine_threadsafe(self._equipment.close(_CLOSE_S), self._loop)
        concurrent.futures.wait([closing], timeout=_CLOSE_S + _MARGIN_S)
        if self._tracing is not None:
            self._tracing.flush(_FLUSH_S)

    def _run(self, order: Order) -> Ended:
        handler = self._equipment.lookup(order.namespace, order.queue, order.handler)
        if handler is None:
            why = f"the app has no handler {order.handler!r} any more; restart the worker"
            return Ended(error=ErrorInfo(type="ProcessLost", message=why))
        port = _Port(self._connection, order.now_us - time.monotonic_ns() // 1000, self._loop)
        context = StepContext.of(order.context, deadline_s=time.monotonic() + order.remaining_s, port=port)
        try:
            # In a context of its own: what a handler binds to its log lines is not there for the next attempt.
            return contextvars.Context().run(self._run_as, handler, context, order)
        finally:
            port.close()

    def _run_as(self, handler: Any, context: StepContext, order: Order) -> Ended:
        current_attempt.set(context)
        with self._traced(order.context.traceparent):
            return self._call(handler, context, order)

    @contextmanager
    def _traced(self, traceparent: str | None) -> Iterator[None]:
        """Have what runs here belong to the attempt's trace."""
        before = os.environ.get(TRACEPARENT_VARIABLE)
        _set_variable(traceparent)
        tracing = self._tracing
        try:
            with nullcontext() if tracing is None or traceparent is None else tracing.below(traceparent):
                yield
        finally:
            _set_variable(before)

    def _call(self, handler: Any, context: StepContext, order: Order) -> Ended:
        try:
            call = handler.bind(context, bytes(order.input), order.results)
        except Exception as error:  # noqa: BLE001 - decoding runs the user's own code
            return Ended(error=input_invalid_info(error))
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises fails its step
            return Ended(error=error_info(error, now_us=SystemClock().now_us()))
        try:
            return Ended(returned=returned_of(value))
        except Exception as error:  # noqa: BLE001 - encoding runs the user's own code
            return Ended(error=result_invalid_info(error))


class _Port:
    """What a context asks of the parent; one thread at a time, and nothing once its attempt has ended."""

    def __init__(self, connection: Connection[bytes, bytes], offset_us: int, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._progress: Progress | None = None
        self._closed = False
        self._offset_us = offset_us
        self._asking = threading.Lock()
        self._metering = SharedMetering()
        self._live = LiveFeed()

    def ask_result(self, step: str) -> concurrent.futures.Future[bytes]:
        answered: concurrent.futures.Future[bytes] = concurrent.futures.Future()
        with self._asking:
            if self._closed:
                answered.set_exception(StateForbids("the attempt has ended"))
                return answered
            _say(self._connection, Asked(of=step))
            data = self._connection.recv_bytes()
        if data[:1] == b"=":
            answered.set_result(data[1:])
        else:
            answered.set_exception(TaskerError.from_problem(msgspec.json.decode(data[1:], type=Problem)))
        return answered

    def beat(self) -> None:
        with self._asking:
            if not self._closed:
                _say(self._connection, Asked())

    def tell_progress(self, progress: Progress) -> None:
        waits = self._progress is not None
        self._progress = progress
        if not waits:
            self._loop.call_soon_threadsafe(self._loop.call_later, _PROGRESS_S, self._send_progress)

    def tell_emitted(self, event: EmittedEvent) -> None:
        with self._asking:
            if not self._closed:
                _say(self._connection, Asked(emitted=event))

    def tell_usage(self, lines: Sequence[UsageLine]) -> None:
        self._metering.add(lines)
        with self._asking:
            if not self._closed:
                _say(self._connection, Asked(usage=tuple(lines)))

    def stream(self, chunk: bytes) -> None:
        if self._live.put_chunk(chunk):
            self._loop.call_soon_threadsafe(self._loop.call_later, _PROGRESS_S, self._send_chunks)

    def tell_written(self, key: str, value: msgspec.Raw) -> None:
        with self._asking:
            if not self._closed:
                _say(self._connection, Asked(written=(key, value)))

    def close(self) -> None:
        """Tell what waits, and then nothing more."""
        self._send_progress()
        while self._send_some():
            pass
        with self._asking:
            self._closed = True

    def _send_chunks(self) -> None:
        if self._send_some():
            self._loop.call_later(_PROGRESS_S, self._send_chunks)

    def _send_some(self) -> bool:
        """Send chunks for one message; returns whether there are more."""
        with self._asking:
            chunks, _, _, more = self._live.take()
            if chunks and not self._closed:
                _say(self._connection, Asked(chunks=chunks))
        return more

    def _send_progress(self) -> None:
        with self._asking:
            progress, self._progress = self._progress, None
            if progress is not None and not self._closed:
                _say(self._connection, Asked(progress=progress))

    def now_us(self) -> int:
        return time.monotonic_ns() // 1000 + self._offset_us


def _set_variable(traceparent: str | None) -> None:
    if traceparent is None:
        os.environ.pop(TRACEPARENT_VARIABLE, None)
    else:
        os.environ[TRACEPARENT_VARIABLE] = traceparent


def _say(connection: Connection[bytes, bytes], said: Said) -> None:
    connection.send_bytes(msgspec.json.encode(said))


def _end_with_parent() -> None:
    """End when the parent is gone, whatever runs: nobody would take its outcome."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(_EXIT_ORPHANED)
