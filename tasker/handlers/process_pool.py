"""Child processes for handlers that need a core: one attempt at a time each, killed when its attempt is stopped.

`concurrent.futures` cannot stop a call that runs; here each child belongs to one attempt while it runs, so it can be
killed without harm to others, and another takes its place. A child loads the app itself and is told by name what to
run, so nothing of the app is pickled, and `forkserver` and `spawn` do the same.

    to the child    the order: work, input, results, what the context says
    from the child  `ready`, or why it cannot load the app; then for each order any number of beats, progress and asks
                    for results, and the outcome

What the child says is read in a thread of its own and handled on the handlers' loop, where all methods here run.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from tasker.errors import TaskerError
from tasker.handlers.context import StepContext
from tasker.handlers.outcome import Killed, RetryableError, Told
from tasker.handlers.process_child import Asked, Ended, Order, Ready, Said, run_child
from tasker.handlers.returned import Returned
from tasker.settings.model import LoggingSettings

_GONE_S: Final = 2.0
_STACK_S: Final = 0.3
_STACK_PIECE_S: Final = 0.02
_STACK_BYTES: Final = 8_000

_log = structlog.get_logger(__name__)
_decode_said = msgspec.json.Decoder(Said).decode


class ProcessLost(RetryableError):
    """The process that ran the handler ended before the handler did; another attempt gets another process."""


class Place(NamedTuple):
    """What names a handler in the child: the work it takes."""

    namespace: str
    queue: str
    handler: str


class ProcessPool:
    """At most `size` children, started when they are needed and kept.

    Args:
        app: what a child loads.
        size: how many at most.
        start_method: `forkserver` or `spawn`; None: the first that there is.
        logging: what children write to stderr; None: as the settings say that nobody has set.
    """

    def __init__(
        self, app: str, size: int, *, start_method: str | None = None, logging: LoggingSettings | None = None
    ) -> None:
        chosen = start_method or ("spawn" if sys.platform == "win32" else "forkserver")
        self._context: Any = multiprocessing.get_context(chosen)
        self._app = app
        self._logging = logging or LoggingSettings()
        self._size = size
        self._idle: deque[_Child] = deque()
        self._children: set[_Child] = set()
        self._places: asyncio.Semaphore | None = None
        self._warming: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def process_ids(self) -> list[int]:
        """The children there are now."""
        return [child.pid for child in list(self._children) if child.pid]

    def warm_up(self) -> None:
        """Have a child at hand, so that the next attempt need not wait for one."""
        if not (self._idle or self._closed or len(self._children) >= self._size or self._warming):
            self._warming = asyncio.ensure_future(self._warm())

    async def run(
        self, place: Place, context: StepContext, input_bytes: bytes, results: Mapping[str, bytes]
    ) -> Returned:
        """Return what a handler did. When this is cancelled the child is killed.

        Raises:
            Told: the handler failed. ProcessLost: its process did.
        """
        if self._places is None:
            self._places = asyncio.Semaphore(self._size)
        async with self._places:
            child = await self._take()
            try:
                return await child.run(place, context, input_bytes, results)
            except asyncio.CancelledError as error:
                raise Killed(await child.stack()) from error
            finally:
                await self._put_back(child)

    async def close(self, timeout_s: float) -> None:
        """End the idle children, which tear down what they made within `timeout_s`; kill the others."""
        self._closed = True
        if self._warming is not None:
            self._warming.cancel()
        children = list(self._children)
        for child in children:
            if child not in self._idle:
                await child.kill()
        for child in self._idle:
            child.hang_up()
        await asyncio.gather(*(child.ended(timeout_s) for child in children))
        self._idle.clear()
        self._children.clear()

    async def _take(self) -> _Child:
        while True:
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    return child
                self._children.discard(child)
            # The one that is being made may not be among them yet.
            if self._warming is None or len(self._children) + 1 < self._size:
                return await self._start()
            await asyncio.wait([self._warming])

    async def _put_back(self, child: _Child) -> None:
        """Keep a child that is done; end one that is not, whatever kept its attempt from its end."""
        if child.alive and not child.busy:
            self._idle.append(child)
            return
        try:
            await child.kill()
        finally:
            self._children.discard(child)
            self.warm_up()

    async def _warm(self) -> None:
        try:
            child = await self._start()
        except ProcessLost as error:
            _log.warning("process_not_started", error=str(error))
        else:
            self._idle.append(child)
        finally:
            self._warming = None

    async def _start(self) -> _Child:
        child = _Child(asyncio.get_running_loop())
        self._children.add(child)
        try:
            await child.start(self._context, self._app, self._logging)
        except BaseException:
            self._children.discard(child)
            await child.kill()
            raise
        return child


class _Child:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._process: Any = None
        self._connection: Connection[bytes, bytes] | None = None
        self._stacks: Connection[bytes, bytes] | None = None
        self._heard: asyncio.Queue[Ready | Asked | Ended | None] = asyncio.Queue()
        self._gone = asyncio.Event()
        self.busy = False
        """It has an order whose end it has not told."""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and not self._gone.is_set()

    async def start(self, context: Any, app: str, logging: LoggingSettings) -> None:
        """Return when the child has loaded the app.

        Raises:
            ProcessLost: it could not.
        """
        ours, theirs = context.Pipe()
        self._stacks, stacks = context.Pipe(duplex=False)
        self._connection = ours
        told = (app, theirs, stacks, logging)
        process = context.Process(target=run_child, args=told, name="tasker-process", daemon=True)
        starting = asyncio.ensure_future(asyncio.to_thread(process.start))
        try:
            await asyncio.shield(starting)
        except OSError as error:
            raise ProcessLost(f"no process can be started for the handler: {error}") from error
        finally:
            # Also when we are cancelled meanwhile: what was started has to be known, so that it can be ended.
            await asyncio.wait([starting])
            theirs.close()
            stacks.close()
            if starting.exception() is None:
                self._process = process
                threading.Thread(target=self._listen, args=(ours,), name="tasker-process-reader", daemon=True).start()
        said = await self._heard.get()
        if not isinstance(said, Ready):
            raise ProcessLost(await self._epitaph("ended before it had loaded the app"))
        if said.error is not None:
            raise ProcessLost(f"a process for the handler cannot load the app: {said.error}")
        _log.debug("process_ready", pid=self.pid)

    async def run(
        self, place: Place, context: StepContext, input_bytes: bytes, results: Mapping[str, bytes]
    ) -> Returned:
        """Return what the handler did; see `ProcessPool.run`."""
        order = Order(
            namespace=place.namespace,
            queue=place.queue,
            handler=place.handler,
            input=msgspec.Raw(input_bytes),
            results={step: msgspec.Raw(bytes(data)) for step, data in results.items()},
            context=context.facts(),
            remaining_s=context.remaining_s,
            now_us=context.now_us(),
        )
        self.busy = True
        await self._send(msgspec.json.encode(order))
        while True:
            match await self._heard.get():
                case Ended(returned=returned, error=error):
                    self.busy = False
                    if error is not None:
                        raise Told(error)
                    return returned
                case Asked() as asked:
                    await self._answer(asked, context)
                case _:
                    raise ProcessLost(await self._epitaph("ended before the handler did"))

    async def stack(self) -> str | None:
        """Return where the child stands now; None when it cannot tell."""
        if self._stacks is None or not self.alive or not hasattr(signal, "SIGUSR1"):
            return None
        os.kill(self._process.pid, signal.SIGUSR1)
        return await asyncio.to_thread(_read_stack, self._stacks)

    async def kill(self) -> None:
        """End the child now, whatever it does."""
        if self._process is not None and self._process.pid is not None:
            self._process.kill()
            await self.ended(_GONE_S)

    def hang_up(self) -> None:
        """Let an idle child end by itself."""
        try:
            if self._connection is not None:
                self._connection.send_bytes(b"")
        except OSError:
            _log.debug("process_gone_already", pid=self.pid)

    async def ended(self, timeout_s: float) -> None:
        """Return when the child has ended; kill it when that takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._gone.wait()
        except TimeoutError:
            if self.alive:
                self._process.kill()

    async def _answer(self, asked: Asked, context: StepContext) -> None:
        if asked.progress is not None:
            context.tell_progress(asked.progress)
        elif asked.emitted is not None:
            context.tell_emitted(asked.emitted)
        elif asked.usage:
            context.tell_usage(asked.usage)
        elif asked.chunks:
            for chunk in asked.chunks:
                context.stream_bytes(bytes(chunk))
        elif asked.written is not None:
            context.tell_written(*asked.written)
        elif asked.of is None:
            context.beat()
        else:
            try:
                data = await context.result_bytes(asked.of)
            except TaskerError as error:
                await self._send(b"!" + msgspec.json.encode(error.problem()))
            else:
                await self._send(b"=" + data)

    async def _send(self, data: bytes) -> None:
        assert self._connection is not None  # noqa: S101 - set by start
        try:
            # In a thread: a child that does not read (it was stopped) must not stop the loop.
            await asyncio.to_thread(self._connection.send_bytes, data)
        except OSError as error:
            raise ProcessLost(await self._epitaph("was gone")) from error

    async def _epitaph(self, when: str) -> str:
        """Return how the child ended, for people."""
        await self.ended(_GONE_S)
        code = self._process.exitcode
        if code is None:
            how = "it does not answer"
        elif code < 0:
            how = f"killed by {signal.Signals(-code).name}"
            how += ", which the system does when memory is short" if -code == getattr(signal, "SIGKILL", 9) else ""
        else:
            how = f"exit code {code}"
        return f"the process that ran the handler {when}: {how}"

    def _listen(self, connection: Connection[bytes, bytes]) -> None:
        """Hand on what the child says; in a thread of its own, until the child has ended."""
        try:
            while True:
                self._post(_decode_said(connection.recv_bytes()))
        except (EOFError, OSError, msgspec.DecodeError):
            self._process.join()
            connection.close()
            if self._stacks is not None:
                self._stacks.close()
            self._post(None)

    def _post(self, said: Ready | Asked | Ended | None) -> None:
        def hear() -> None:
            if said is None:
                self._gone.set()
            self._heard.put_nowait(said)

        try:
            self._loop.call_soon_threadsafe(hear)
        except RuntimeError:
            _log.debug("process_ended_after_the_loop", pid=self.pid)


def _read_stack(stacks: Connection[bytes, bytes]) -> str | None:
    """Return what faulthandler writes, the innermost frame first; None when it writes nothing soon."""
    try:
        found = b""
        wait_s = _STACK_S
        while len(found) < _STACK_BYTES and stacks.poll(wait_s):
            found += os.read(stacks.fileno(), _STACK_BYTES)
            wait_s = _STACK_PIECE_S  # it comes in pieces, one right behind the other
        return found.decode("utf-8", "replace") or None
    except OSError:
        return None
