"""Where a stream has lost messages of its middle.

A stream that drops only its oldest messages has every sequence from its first to its last one. A server that comes
back with damaged files leaves out what it cannot read, without a word: a whole block of messages, or a block from the
damage on. What was lost at the end is not seen here, since the server goes on from where it could read to.

One message that is damaged while the server's own index of the block is whole still counts as there; only who reads it
finds it missing.

Source: trials against nats-server 2.15.1.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tasker.bus.bus import Bus
from tasker.bus.jetstream import api_request
from tasker.bus.streams import StreamState


class Hole(msgspec.Struct, frozen=True, array_like=True):
    """Sequences without a message, from the first to the last one."""

    first_seq: int
    last_seq: int

    def within(self, state: StreamState) -> int:
        """Return how many of its sequences lie between the stream's first and last message."""
        return max(0, min(self.last_seq, state.last_seq) - max(self.first_seq, state.first_seq) + 1)


class _Deleted(msgspec.Struct):
    deleted: list[int] | None = None


class _Details(msgspec.Struct):
    state: _Deleted


async def find_holes(bus: Bus, stream: str) -> tuple[Hole, ...]:
    """Return the holes of a stream, in order; to be asked when `StreamState.missing` says that there are some.

    Raises:
        Unavailable: NATS does not answer, or there is no such stream.
    """
    details = await api_request(bus, f"STREAM.INFO.{stream}", {"deleted_details": True}, _Details)
    return joined(sorted(details.state.deleted or ()))


def joined(seqs: Iterable[int]) -> tuple[Hole, ...]:
    """Return ascending sequences as holes."""
    found: list[Hole] = []
    for seq in seqs:
        if found and found[-1].last_seq == seq - 1:
            found[-1] = Hole(found[-1].first_seq, seq)
        else:
            found.append(Hole(seq, seq))
    return tuple(found)


def not_in(holes: Iterable[Hole], known: Iterable[Hole]) -> list[Hole]:
    """Return those of `holes` that none of `known` covers; the oldest messages of a hole may have gone since."""
    known = tuple(known)
    return [
        hole
        for hole in holes
        if not any(one.first_seq <= hole.first_seq and hole.last_seq <= one.last_seq for one in known)
    ]
