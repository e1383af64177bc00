"""What the runtime knows of an actor: it folds, it takes a message in one synchronous turn, it owes.

The runtime is handed actors; it holds no rule of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar
from uuid import UUID

from tasker.errors import TaskerError
from tasker.events.envelope import NewEvent
from tasker.events.history import History
from tasker.events.log import Snapshot
from tasker.events.state_form import StateForm

S = TypeVar("S")

Message = Any
"""What an actor understands; the runtime only carries it. A message answers its sender itself."""

Owed = Mapping[str, Mapping[str, int]]
"""scope -> obligation -> time in microseconds."""


class Turn:
    """What one message came to.

    Attributes:
        events: to record; empty when the turn is only an answer.
        committed: called with the position of the last event (the shard's, without events) once all of it,
            and all it was decided on, is durable and the shard confirmed ours. Sends answers and effects.
        failed: called instead when it is not; the actor has been dropped by then.
        owed: obligations of the scopes that changed; None: the stream owes nothing any more; {}: no change.
        snapshot: of the stream as of the last event, to be kept once that is durable (`snapshots.py`).
    """

    __slots__ = ("committed", "events", "failed", "owed", "snapshot")

    def __init__(
        self,
        events: Sequence[NewEvent],
        committed: Callable[[int], None],
        failed: Callable[[TaskerError], None],
        owed: Owed | None,
    ) -> None:
        self.events = events
        self.committed = committed
        self.failed = failed
        self.owed = owed
        self.snapshot: Snapshot | None = None

    @classmethod
    def answer(cls, committed: Callable[[int], None], failed: Callable[[TaskerError], None]) -> Turn:
        """Return a turn that records nothing: its answer too waits until all it was decided on is durable."""
        return cls((), committed, failed, {})

    @classmethod
    def refusal(cls, error: TaskerError, fail: Callable[[TaskerError], None]) -> Turn:
        """Return a turn that records nothing and is answered with an error."""
        return cls((), lambda _: fail(error), fail, {})


class Recorded(Protocol):
    """Takes the position of what was recorded, and whether it had been before."""

    def __call__(self, position: int, *, duplicate: bool) -> None:
        """Answer the command."""
        ...


class Actor(Protocol):
    """One stream's state and rules."""

    @property
    def correlation_id(self) -> str | None:
        """Return the caller's id of the whole undertaking, for logs."""
        ...

    def receive(self, message: Message, now_us: int) -> Turn | None:
        """Decide on `message` and move the (pending) state on; None: nothing to record and nobody to answer."""
        ...

    def owes(self) -> Owed:
        """Return every open obligation."""
        ...

    def idle(self) -> bool:
        """Return whether the actor may be dropped from memory."""
        ...


class Kept(Generic[S]):
    """An actor whose state is kept in snapshots: it is the fold of its stream by `form`, pending events included."""

    __slots__ = ()

    form: ClassVar[StateForm[Any]]
    state: S


class ActorFactory(Protocol):
    """Makes actors from what the log holds of their streams."""

    def new(self, shard: int, stream_id: UUID, kind: str) -> Actor | None:
        """Return the actor of a stream that the log does not have; None: it has to be revived, too."""
        ...

    async def revive(self, stream_id: UUID, history: History, kind: str) -> Actor:
        """Return the actor of a stream, ready for its first message; of one without events a new one of `kind`.

        A stream that cannot be folded becomes an actor that says so: one bad task must not stop others.
        """
        ...


def ids_of(kind: str, stream_id: UUID, correlation_id: str | None = None) -> dict[str, str]:
    """Return a stream's ids as log lines name them."""
    ids = {f"{kind}_id": str(stream_id)}
    if correlation_id is not None:
        ids["correlation_id"] = correlation_id
    return ids
