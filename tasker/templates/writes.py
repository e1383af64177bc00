"""What an attempt may write to the shared state: one rule, held to early by the worker and bindingly by the owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from tasker.errors import BodyTooLarge, StateInvalid
from tasker.events import codec
from tasker.templates.state_keys import is_state_key

WRITTEN_KEYS_MAX: Final = 32
"""Most keys that one attempt writes."""

WRITTEN_BYTES_MAX: Final = 16 * 1024
"""Most bytes of what one attempt writes, in canonical form."""


def checked_writes(writes: Mapping[str, bytes | msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Return an attempt's writes in canonical form, by key.

    Raises:
        StateInvalid: a key is none, or they are over a limit.
        BodyInvalid, ValueInvalid: a value is no JSON that can be stored.
    """
    if len(writes) > WRITTEN_KEYS_MAX:
        raise StateInvalid(f"{len(writes)} keys of the state are more than the {WRITTEN_KEYS_MAX} of an attempt")
    found: dict[str, msgspec.Raw] = {}
    size = 0
    for key in sorted(writes):
        if not is_state_key(key):
            raise StateInvalid(f"{key[:80]!r} is no key of the state, such as 'total'")
        try:
            data = codec.canonicalize(bytes(writes[key]), bytes_max=WRITTEN_BYTES_MAX)
        except BodyTooLarge as error:
            raise StateInvalid(f"state key {key!r}: {error.detail}; return large values as the result") from error
        size += len(data)
        found[key] = msgspec.Raw(data)
    if size > WRITTEN_BYTES_MAX:
        raise StateInvalid(f"{size} bytes are more than the {WRITTEN_BYTES_MAX} that an attempt writes to the state")
    return found
