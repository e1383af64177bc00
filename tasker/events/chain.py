"""The hash chain over a shard: what makes a change behind our back visible.

leaf   = sha256 over every column of an event, length-prefixed, with hashes in place of meta and payload
         (so that a payload can be erased by law and the chain still be checked);
digest = sha256(previous digest, leaves of the batch), stored on the last event of each batch.

The chain of a shard starts from `GENESIS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct
from uuid import UUID

from tasker.events.envelope import NewEvent, RecordedEvent

GENESIS = bytes(32)

_numbers = Struct(">IQQQHQ")
_sha256 = hashlib.sha256


def leaf_of(event: NewEvent | RecordedEvent, *, shard: int, position: int, epoch: int) -> bytes:
    """Return the 32-byte leaf of an event that has (or will have) this place in the log."""
    return _leaf(event, event.stream_id.bytes, shard, position, epoch)


def leaves_of(events: Sequence[NewEvent], *, shard: int, position: int, epoch: int) -> list[bytes]:
    """Return the leaves of events that will stand from `position` on: `leaf_of` each."""
    leaves: list[bytes] = []
    stream_id: UUID | None = None
    stream_bytes = b""
    for number, event in enumerate(events, position):
        if event.stream_id is not stream_id:  # neighbours are of one stream, and its bytes are made by division
            stream_id = event.stream_id
            stream_bytes = stream_id.bytes
        leaves.append(_leaf(event, stream_bytes, shard, number, epoch))
    return leaves


def _leaf(event: NewEvent | RecordedEvent, stream_bytes: bytes, shard: int, position: int, epoch: int) -> bytes:
    return _sha256(
        b"%b%b%b%b%b"
        % (
            _numbers.pack(shard, position, epoch, event.seq, event.version, event.at_us),
            stream_bytes,
            _texts(event.kind, event.type, event.tenant, event.encoding),
            _digest_of_meta(event.meta),
            _sha256(event.payload).digest(),
        )
    ).digest()


@lru_cache(maxsize=4096)
def _texts(*texts: str) -> bytes:
    joined = "\0".join(texts).encode()
    return len(joined).to_bytes(4, "big") + joined


@lru_cache(maxsize=256)
def _digest_of_meta(meta: bytes) -> bytes:
    """Return the hash of `meta`, which is the same for all events that one command or caller caused."""
    return _sha256(meta).digest()


def digest_of_batch(previous: bytes, leaves: Iterable[bytes]) -> bytes:
    """Return the digest that the last event of a batch carries."""
    return _sha256(previous + b"".join(leaves)).digest()
