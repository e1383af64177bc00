"""The public position: an opaque string token that says how far a reader has come.

`3:812` is position 812 of shard 3; `0:12,3:812` is one per shard. Positions count from 1, so `3:0`
is the start. A token may be led by its log's id and `/`, as those are that readers go on from; one that names another
log, such as this one before it was restored to an earlier time, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tasker.errors import PositionInvalid

TOKEN_CHARS_MAX = 65_536
TOKEN_PATTERN = r"(?:[a-z2-7]+/)?\d{1,5}:\d{1,18}(?:,\d{1,5}:\d{1,18})*"  # noqa: S105 - a position token, no secret
_token = re.compile(TOKEN_PATTERN, re.ASCII)


def format_position(positions: Mapping[int, int], log_id: str = "") -> str:
    """Return the token of `positions` (shard -> position), shards ascending, led by the log's id where one is given."""
    token = ",".join(f"{shard}:{position}" for shard, position in sorted(positions.items()))
    return f"{log_id}/{token}" if log_id else token


def log_of_position(token: str) -> str:
    """Return the id of the log that a token names; empty when it names none."""
    return token.rpartition("/")[0]


def parse_position(token: str, *, log_id: str, shards: int) -> dict[int, int]:
    """Return shard -> position.

    Raises:
        PositionInvalid: it is no token, names another log, an unknown shard, or a shard twice.
    """
    if len(token) > TOKEN_CHARS_MAX or _token.fullmatch(token) is None:
        raise PositionInvalid(f"{token[:80]!r} is no position token, such as 3:812")
    named, _, rest = token.rpartition("/")
    if named and named != log_id:
        raise PositionInvalid(
            f"the token is of log {named[:80]}; this is log {log_id}, of another database or restored to an earlier "
            "time: start again without a position"
        )
    found: dict[int, int] = {}
    for part in rest.split(","):
        shard, _, position = part.partition(":")
        if int(shard) >= shards or int(shard) in found:
            raise PositionInvalid(f"{token[:80]!r} names shard {shard}, which is unknown or named twice")
        found[int(shard)] = int(position)
    return found
