"""The hash chain over a shard: what makes a change behind our back visible.

leaf   = sha256 over every column of an event, length-prefixed, with hashes in place of meta and payload
         (so that a payload can be erased by law and the chain still be checked);
digest = sha256(previous digest, leaves of the batch), stored on the last event of each batch.

The chain of a shard starts from `GENESIS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from struct import Struct

from tasker.events.envelope import NewEvent, RecordedEvent

GENESIS = bytes(32)

_numbers = Struct(">IQQQHQ")
_sha256 = hashlib.sha256


def leaf_of(event: NewEvent | RecordedEvent, *, shard: int, position: int, epoch: int) -> bytes:
    """Return the 32-byte leaf of an event that has (or will have) this place in the log."""
    texts = f"{event.kind}\0{event.type}\0{event.tenant}\0{event.encoding}".encode()
    return _sha256(
        b"".join(
            (
                _numbers.pack(shard, position, epoch, event.seq, event.version, event.at_us),
                event.stream_id.bytes,
                len(texts).to_bytes(4, "big"),
                texts,
                _sha256(event.meta).digest(),
                _sha256(event.payload).digest(),
            )
        )
    ).digest()


def digest_of_batch(previous: bytes, leaves: Iterable[bytes]) -> bytes:
    """Return the digest that the last event of a batch carries."""
    return _sha256(previous + b"".join(leaves)).digest()
