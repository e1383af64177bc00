"""One item of a command message, with the ways to answer it; and the answers of an array, gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from tasker.errors import TaskerError
from tasker.events.codec import encode_message
from tasker.events.messages import Accepted, Refused
from tasker.service.actors.dry_runs import Planned, would_happen
from tasker.service.actors.entrances.requests import key_of
from tasker.service.runtime.actor import Recorded
from tasker.tracing import SpanKind, Tracing

Answer = Callable[[bytes], None]
"""Takes the JSON of one item's verdict."""


class Submitted(NamedTuple):
    """Where a command lies that was left in the stream: the same at each of its deliveries.

    Attributes:
        identity: names it when nothing else does.
        at_us: when it was left.
    """

    identity: str
    at_us: int


class Asked:
    """One item of a command message, with how to answer it."""

    __slots__ = (
        "answer",
        "body",
        "depth",
        "header_key",
        "is_own",
        "submitted",
        "task_id",
        "tenant",
        "traceparent",
        "verb",
    )

    def __init__(  # noqa: PLR0917 - the facts of a request
        self, tenant: str, verb: str, body: bytes, header_key: str | None, traceparent: str | None, answer: Answer
    ) -> None:
        self.tenant = tenant
        self.verb = verb
        self.body = body
        self.header_key = header_key
        self.traceparent = traceparent
        self.answer = answer
        self.submitted: Submitted | None = None
        self.task_id: UUID | None = None
        """Of a creation that another node handed on: the id was chosen there."""

        self.depth = 0
        """Of a creation: so many tasks are above it; 0: no task that runs starts it."""

        self.is_own = False
        """The service gives it itself: its answer is for this very task."""

    def key(self, field: str | None, *, name: str = "idempotency_key") -> str | None:
        """Return what names the command: its field, called `name`, its header, or its place in the stream."""
        key = key_of(field, self.header_key, name=name)
        return self.submitted.identity if key is None and self.submitted is not None else key

    def refuse(self, error: TaskerError) -> None:
        """Answer with the problem."""
        self.answer(encode_message(Refused(ok=False, error=error.problem())))

    def accept(self, accepted: Accepted) -> None:
        """Answer that it is recorded."""
        self.answer(encode_message(accepted))

    def hand_back(self, reply: bytes | TaskerError) -> None:
        """Answer with what somebody else answered in our place."""
        if isinstance(reply, TaskerError):
            self.refuse(reply)
        else:
            self.answer(reply)

    def trace(self, tracing: Tracing) -> None:
        """Have a span last from here to the answer, and be the cause of what the command does."""
        answer = self.answer
        span = tracing.start(f"tasker.command {self.verb}", SpanKind.SERVER, parent=self.traceparent)
        self.traceparent = tracing.traceparent(span)

        def traced(data: bytes) -> None:
            span.end()
            answer(data)

        self.answer = traced

    def attached(self, shard: int) -> Callable[[int, str], None] | None:
        """Return what answers with another task that runs in place of the one asked for; None: nobody wants it."""
        if self.is_own:
            return None
        return lambda position, task_id: self.accept(
            Accepted(ok=True, task_id=task_id, position=f"{shard}:{position}", duplicate=True)
        )

    def debounced(self) -> Callable[[str, str], None] | None:
        """Return what answers with the task that took this start; None: this start is a task of its own."""
        if self.is_own:
            return None
        return lambda position, task_id: self.accept(
            Accepted(ok=True, task_id=task_id, position=position, duplicate=True, debounced=True)
        )

    def recorded(self, shard: int, task_id: str | None = None) -> Recorded:
        """Return what answers that it is recorded at a position of the shard or, `duplicate`, had been."""
        return lambda position, *, duplicate: self.accept(
            Accepted(ok=True, task_id=task_id, position=f"{shard}:{position}", duplicate=duplicate)
        )

    def planned(self, shard: int, **named: Any) -> Planned:
        """Return what answers a dry run; `named`: the members of the answer that say what the command is to."""
        return lambda position, events: self.accept(
            Accepted(ok=True, position=f"{shard}:{position}", dry_run=True, would=would_happen(events), **named)
        )


class Answers:
    """The verdicts of an array, gathered in its order; `fitted` makes them fit into one message."""

    def __init__(
        self,
        count: int,
        respond: Callable[[bytes], None],
        fitted: Callable[[list[bytes]], list[bytes]] | None = None,
    ) -> None:
        self._found: list[bytes] = [b""] * count
        self._missing = count
        self._respond = respond
        self._fitted = fitted

    def at(self, index: int) -> Answer:
        """Return the way to answer item `index`."""

        def answer(data: bytes) -> None:
            self._found[index] = data
            self._missing -= 1
            if not self._missing:
                found = self._found if self._fitted is None else self._fitted(self._found)
                self._respond(b"[" + b",".join(found) + b"]")

        return answer
