"""How a kind of stream is folded, and how its state is written where it is kept (`history.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from tasker.errors import Undecodable
from tasker.events.codec import decode_message, encode_message
from tasker.events.envelope import RecordedEvent
from tasker.events.log import Snapshot

S = TypeVar("S")


def _whole(state: Any) -> Any:
    return state


class StateForm(msgspec.Struct, Generic[S], frozen=True):
    """How a stream of a kind is folded, and how its state is kept.

    Attributes:
        number: of the form in which this build keeps a state. Whatever changes what a fold gives, or how it is
            written, takes the next number: the builds that know the one before then fold from the first event.
        new: makes the state of a stream without events.
        fold: moves a state on by a recorded event; raises Undecodable.
        kept: what is stored of a state. keep, restore: make one of the other; unless given a state is stored whole.
    """

    kind: str
    number: int
    new: Callable[[], S]
    fold: Callable[[S, RecordedEvent], object]
    kept: type[Any]
    keep: Callable[[S], Any] = _whole
    restore: Callable[[Any], S] = _whole

    def encode(self, state: S) -> bytes:
        """Return `state` as it is stored."""
        return encode_message(self.keep(state))

    def decode(self, snapshot: Snapshot) -> S:
        """Return the state that a snapshot keeps.

        Raises:
            Undecodable: it has another form.
        """
        if (snapshot.kind, snapshot.form) != (self.kind, self.number):
            raise Undecodable(f"it is {snapshot.kind} form {snapshot.form}, not {self.kind} form {self.number}")
        kept = decode_message(snapshot.state, self.kept)
        try:
            return self.restore(kept)
        except Exception as error:  # whatever of it does not fit together: the events give the state as well
            raise Undecodable(f"it does not fit together: {type(error).__name__}: {error}") from error
