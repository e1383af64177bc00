"""What a handler is told of its attempt, and what it can ask for while it runs.

A context belongs to one attempt. Async handlers use it on the handlers' loop, sync handlers in their thread;
whatever crosses to the worker's I/O loop goes through `AttemptPort`, whose calls are safe from any thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import random
import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol, TypeVar, overload

import msgspec
import structlog

from tasker.clock import Clock, SystemClock
from tasker.errors import ChunkTooLarge
from tasker.events.codec import encode_value
from tasker.events.messages import DeclaredEvent, EmittedEvent, Progress, UsageLine
from tasker.events.task_events import OptionalRaw
from tasker.events.usage import CURRENCY_DEFAULT, usage_line, usage_lines
from tasker.handlers.live import CHUNK_BYTES_MAX
from tasker.handlers.outcome import AttemptCancelled
from tasker.handlers.progress import progress_of
from tasker.handlers.shared_state import SharedState
from tasker.templates.emits import Emitting
from tasker.times import to_datetime

T = TypeVar("T")


class AttemptPort(Protocol):
    """The worker, as the context of one attempt sees it. Safe from any thread."""

    def ask_result(self, step: str) -> concurrent.futures.Future[bytes]:
        """Return the coming JSON bytes of another step's result."""
        ...

    def beat(self) -> None:
        """Tell the owner now that the attempt is alive."""
        ...

    def tell_progress(self, progress: Progress) -> None:
        """Tell the owner soon how far the attempt is."""
        ...

    def tell_emitted(self, event: EmittedEvent) -> None:
        """Have a domain event reported with the outcome."""
        ...

    def stream(self, chunk: bytes) -> None:
        """Have a chunk of the attempt's stream go out live."""
        ...

    def tell_usage(self, lines: Sequence[UsageLine]) -> None:
        """Have usage reported with the outcome. Raises `UsageTooMany`."""
        ...

    def tell_written(self, key: str, value: msgspec.Raw) -> None:
        """Have a write to the state reported with the outcome."""
        ...

    def now_us(self) -> int:
        """Return the time by the servers' clock, in microseconds of the Unix epoch."""
        ...


class ContextFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a context says of its attempt, as another process can be told; the fields are `StepContext`'s."""

    task_id: str
    step: str
    attempt: int
    tenant: str
    namespace: str
    template: str
    idempotency_key: str
    worker: str
    correlation_id: str | None
    traceparent: str | None
    item: OptionalRaw = None
    index: int | None = None
    checkpoint_bytes: OptionalRaw = None
    emits: tuple[DeclaredEvent, ...] = ()
    state_bytes: OptionalRaw = None


class StepContext:
    """One attempt of one step.

    Attributes:
        task_id, step, attempt: which attempt; attempts count from 1.
        idempotency_key: the same over all attempts of the step: hand it to the target, so that an effect
            happens once.
        correlation_id: the caller's, carried through.
        worker: the id of the worker that runs this.
        index: of the item, in the list that the step runs for; None: it runs for none.
        item, checkpoint_bytes, state_bytes: as JSON; a handler takes `item` as a parameter, and asks for its
            `checkpoint` and the `state`.
        emits: the domain events that it may emit.
    """

    __slots__ = (
        "_cancelled",
        "_clock",
        "_deadline_s",
        "_emitting",
        "_logger",
        "_port",
        "_random",
        "_state",
        "_waiters",
        "attempt",
        "checkpoint_bytes",
        "correlation_id",
        "emits",
        "idempotency_key",
        "index",
        "item",
        "namespace",
        "state_bytes",
        "step",
        "task_id",
        "template",
        "tenant",
        "traceparent",
        "worker",
    )

    def __init__(
        self,
        *,
        task_id: str,
        step: str,
        attempt: int,
        tenant: str,
        namespace: str,
        template: str,
        idempotency_key: str,
        worker: str,
        deadline_s: float,
        port: AttemptPort,
        correlation_id: str | None = None,
        traceparent: str | None = None,
        clock: Clock | None = None,
        item: msgspec.Raw | None = None,
        index: int | None = None,
        checkpoint_bytes: msgspec.Raw | None = None,
        emits: tuple[DeclaredEvent, ...] = (),
        state_bytes: msgspec.Raw | None = None,
    ) -> None:
        self.task_id = task_id
        self.step = step
        self.attempt = attempt
        self.tenant = tenant
        self.namespace = namespace
        self.template = template
        self.idempotency_key = idempotency_key
        self.worker = worker
        self.correlation_id = correlation_id
        self.traceparent = traceparent
        self.item = item
        self.index = index
        self.checkpoint_bytes = checkpoint_bytes
        self.emits = emits
        self.state_bytes = state_bytes
        self._state: SharedState | None = None
        self._emitting: Emitting | None = None
        self._deadline_s = deadline_s
        self._port = port
        self._clock = clock or SystemClock()
        self._cancelled = False
        self._waiters: asyncio.Event | None = None
        self._logger: Any = None
        self._random: random.Random | None = None

    @classmethod
    def of(cls, facts: ContextFacts, *, deadline_s: float, port: AttemptPort) -> StepContext:
        """Return the context that `facts` tell of. For the process that runs the handler."""
        return cls(**msgspec.structs.asdict(facts), deadline_s=deadline_s, port=port)

    def __repr__(self) -> str:
        return f"StepContext({self.task_id}/{self.step}, attempt {self.attempt})"

    @property
    def remaining_s(self) -> float:
        """Seconds left until the attempt is timed out; at least 0."""
        return max(0.0, self._deadline_s - self._clock.monotonic_s())

    @property
    def deadline(self) -> datetime:
        """When the attempt is timed out, by this machine's clock (UTC)."""
        left_us = round((self._deadline_s - self._clock.monotonic_s()) * 1e6)
        return to_datetime(self._clock.now_us() + left_us)

    @property
    def now(self) -> datetime:
        """The time (UTC) by the clock of the servers, which all workers share; this machine's may be off.

        It never stands in for a recorded time: an attempt that is repeated reads another one.
        """
        return to_datetime(self._port.now_us())

    @property
    def random(self) -> random.Random:
        """A generator seeded from the task, the step instance and the attempt: the same attempt draws the same numbers.

        A delivery that is repeated, or an attempt that is run again from its message, draws them once more; another
        attempt, visit or item draws others. One object an attempt, so its draws depend on their order. Not for secrets.
        """
        if self._random is None:
            digest = hashlib.sha256(f"{self.idempotency_key}:{self.attempt}".encode()).digest()
            self._random = random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - made to be repeatable
        return self._random

    @overload
    def progress(self, done: float, message: str, /) -> None: ...

    @overload
    def progress(self, done: float, total: float | None = None, message: str = "") -> None: ...

    def progress(self, done: float, total: float | str | None = None, message: str = "") -> None:
        """Say how far the attempt is; reads of the task's steps show it while the attempt runs.

        Either as a share, `ctx.progress(0.4, "packing")`, or counted, `ctx.progress(40, 100, "packing")`.

        Cheap and not blocking, from any thread. It goes out live, at most ten times a second; the last value of a
        second goes to the owner with a heartbeat. Only the last one is recorded, with the outcome.

        Args:
            done: how much is done, in a unit of your own; before a message alone a share, from 0 to 1.
            total: of how much; None: unknown.
            message: for people; cut to 200 characters.

        Raises:
            ValueInvalid: a number is none, negative or not finite, or a share is above 1.
        """
        self._port.tell_progress(progress_of(done, total, message))

    def stream(self, chunk: object) -> None:
        """Say a piece of the result while it is made, such as the words of a text; who listens sees it at once.

        Cheap and not blocking, from any thread. Chunks go out live, gathered, at most ten messages a second; nobody
        has to listen, and nothing of it is kept: what counts is the result. Chunks that come faster than 640 KiB a
        second are dropped, the oldest first.

        Args:
            chunk: text, or anything that a result may be; at most 16 KiB as JSON.

        Raises:
            ChunkTooLarge: it is larger. ValueInvalid: it has no exact JSON form.
        """
        data = encode_value(chunk, bytes_max=sys.maxsize)
        if len(data) > CHUNK_BYTES_MAX:
            raise ChunkTooLarge(f"a chunk of {len(data)} bytes is larger than {CHUNK_BYTES_MAX}: send it in pieces")
        self._port.stream(data)

    def emit(self, name: str, data: object = None) -> None:
        """Say what happened in the business: a domain event that the step declares (`emits`).

        It is recorded with this attempt's outcome, in one append, and published after that as `<prefix>.<tenant>.
        domain.<name>`; whether it is raised depends on how the attempt ends (`on`). Not blocking, from any thread.

        Args:
            name: as declared.
            data: anything that a result may be, at most 16 KiB as JSON.

        Raises:
            EventUnknown: the step does not declare it. EventInvalid: its data do not match the schema.
            EventTooLarge, EventsTooMany: a limit. ValueInvalid: the data have no exact JSON form.
        """
        if self._emitting is None:
            self._emitting = Emitting(self.step, self.emits)
        self._port.tell_emitted(self._emitting.add(name, encode_value(data, bytes_max=sys.maxsize)))

    def usage(
        self,
        *,
        model: str,
        tokens_in: int = 0,
        tokens_out: int = 0,
        cost: Decimal | int | str | None = None,
        currency: str = CURRENCY_DEFAULT,
    ) -> None:
        """Say what a call of a model used; calls of an attempt are added up, exactly.

        It is recorded with this attempt's outcome, whatever that is. Not blocking, from any thread.

        Args:
            model: its name, as the price table has it.
            tokens_in: that it read.
            tokens_out: that it wrote.
            cost: of this call, exact; None: the service's price table says it, where it knows the model.
            currency: of `cost`.

        Raises:
            UsageInvalid: a number is negative or inexact. UsageTooMany: more than 100 meters in one attempt.
        """
        lines = usage_lines(model, tokens_in=tokens_in, tokens_out=tokens_out, cost=cost, currency=currency)
        self._port.tell_usage(lines)

    def meter(
        self,
        name: str,
        amount: Decimal | float | str,
        unit: str = "",
        *,
        model: str = "",
        cost: Decimal | int | str | None = None,
        currency: str = CURRENCY_DEFAULT,
    ) -> None:
        """Say what this attempt used of something else: pages, seconds of a machine, kilometres.

        As `usage`. A float `amount` is taken as the shortest decimal that spells it; a `cost` is never a float.

        Args:
            name: of the meter, such as `pages`.
            amount: how much was used.
            unit: of the amount.
            model: whose meter it is; "": of none.
            cost: of this amount; None: the service's price table says it, where it knows the meter.
            currency: of `cost`.

        Raises:
            UsageInvalid: a number is negative or inexact. UsageTooMany: more than 100 meters in one attempt.
        """
        line = usage_line(name, amount, unit=unit, model=model, cost=cost, currency="" if cost is None else currency)
        self._port.tell_usage((line,))

    @property
    def state(self) -> SharedState:
        """The state that the steps of the task share: what the steps ahead of this one wrote, by key.

        `ctx.state["total"]` and `.get("total", 0)` read; `ctx.state["total"] = 3` writes. What an attempt writes is
        recorded with its outcome, in one append, when it completes (or returns `Again`); that of a failed one is lost.
        Steps behind this one see it. What several writes of a key come to is the template's to say (`state`).
        """
        if self._state is None:
            seen = {} if self.state_bytes is None else msgspec.json.decode(self.state_bytes, type=dict[str, Any])
            self._state = SharedState(seen, self._port.tell_written)
        return self._state

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was told to stop. Sync handlers look here between two pieces of work."""
        return self._cancelled

    def raise_if_cancelled(self) -> None:
        """Raise `AttemptCancelled` when the attempt was told to stop."""
        if self._cancelled:
            raise AttemptCancelled

    async def wait_cancelled(self) -> None:
        """Return when the attempt is told to stop (its asyncio task is cancelled at the same time)."""
        if self._cancelled:
            return
        if self._waiters is None:
            self._waiters = asyncio.Event()
        await self._waiters.wait()

    async def heartbeat(self) -> None:
        """Tell the owner now that the attempt is alive, and let a cancellation land here.

        The worker does so by itself at a third of the step's `heartbeat_s`, as long as the process lives:
        this is for a handler that wants to be stopped at a place of its own choosing.
        """
        self._port.beat()
        await asyncio.sleep(0)
        self.raise_if_cancelled()

    @overload
    def checkpoint(self) -> Any: ...
    @overload
    def checkpoint(self, type: type[T]) -> T | None: ...
    def checkpoint(self, type: Any = Any) -> Any:
        """Return what the step's last `Again` gave as its checkpoint, decoded as `type`; None: there was none."""
        return None if self.checkpoint_bytes is None else msgspec.json.decode(self.checkpoint_bytes, type=type)

    @property
    def logger(self) -> Any:
        """A structlog logger bound with the ids of this attempt."""
        if self._logger is None:
            self._logger = structlog.get_logger("tasker.handler").bind(
                task_id=self.task_id,
                step=self.step,
                attempt=self.attempt,
                tenant=self.tenant,
                template=f"{self.namespace}/{self.template}",
                correlation_id=self.correlation_id,
                worker=self.worker,
            )
        return self._logger

    @overload
    async def result(self, step: str) -> Any: ...
    @overload
    async def result(self, step: str, type: type[T]) -> T: ...
    async def result(self, step: str, type: Any = Any) -> Any:
        """Return the recorded result of an ancestor `step`, decoded as `type`.

        Raises:
            StepUnknown, StateForbids: there is no such step, or it has no result.
        """
        data: bytes = await asyncio.wrap_future(self._port.ask_result(step))
        return msgspec.json.decode(data, type=type)

    @overload
    def result_sync(self, step: str) -> Any: ...
    @overload
    def result_sync(self, step: str, type: type[T]) -> T: ...
    def result_sync(self, step: str, type: Any = Any) -> Any:
        """Return what `result` does, for sync handlers: blocks their thread."""
        data = self._port.ask_result(step).result(timeout=self.remaining_s)
        return msgspec.json.decode(data, type=type)

    def facts(self) -> ContextFacts:
        """Return what another process needs to be told. For the process pool, as are the seven below."""
        return ContextFacts(**{name: getattr(self, name) for name in ContextFacts.__struct_fields__})

    def now_us(self) -> int:
        """Return `now` in microseconds of the Unix epoch."""
        return self._port.now_us()

    def tell_progress(self, progress: Progress) -> None:
        """Hand on a checked progress."""
        self._port.tell_progress(progress)

    def stream_bytes(self, chunk: bytes) -> None:
        """Hand on a checked chunk."""
        self._port.stream(chunk)

    def tell_emitted(self, event: EmittedEvent) -> None:
        """Hand on a checked domain event."""
        self._port.tell_emitted(event)

    def tell_usage(self, lines: Sequence[UsageLine]) -> None:
        """Hand on checked usage."""
        self._port.tell_usage(lines)

    def tell_written(self, key: str, value: msgspec.Raw) -> None:
        """Hand on a checked write to the state."""
        self._port.tell_written(key, value)

    def beat(self) -> None:
        """Tell the owner now that the attempt is alive."""
        self._port.beat()

    async def result_bytes(self, step: str) -> bytes:
        """Return what `result` does, as JSON."""
        return await asyncio.wrap_future(self._port.ask_result(step))

    def mark_cancelled(self) -> None:
        """Set `cancelled`. For the runner; on any thread."""
        self._cancelled = True

    def wake_cancelled(self) -> None:
        """Wake who waits in `wait_cancelled`. For the runner; on the handlers' loop."""
        if self._waiters is not None:
            self._waiters.set()
