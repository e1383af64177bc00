"""Rate limits: how many attempts of a queue or a handler may begin on this node.

Each node gives out its own share, which is that of the shards it owns. So the sum over all nodes stays within the limit
without a word between them: a shard has one owner at a time. A share that comes with a shard begins empty, since its
former owner may have given it out. A bucket gives one token at a time, so it holds at least one: over all nodes no more
than `rate * time + max(burst, nodes)` attempts begin.

Templates give their steps limits of their own; they are held in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from tasker.controls import Limit, Place, Target
from tasker.controls.bucket import Bucket
from tasker.errors import ExpressionFailed
from tasker.events.codec import decode_value, encode_value
from tasker.events.envelope import US_PER_S
from tasker.templates.expressions import compile_expression
from tasker.templates.model import RateLimit

BUCKETS_MAX: Final = 10_000
"""Keys of one limit that have a bucket; full ones make room, and what finds none shares that of no key."""

INPUT: Final = frozenset({"input"})
NO_KEY: Final = b""
_DECLARED: Final = "step"


class Pacing:
    """The buckets of a node."""

    def __init__(self, limits: Callable[[], dict[Target, Limit]]) -> None:
        self._limits = limits
        self._buckets: dict[Target, dict[bytes, Bucket]] = {}
        self._made_of: dict[Target, Limit] = {}
        self._known: dict[Target, Limit] = {}
        self._since_us = 0
        self._share = 0.0
        self._room_us = 0

    def own(self, share: float, now_us: int) -> None:
        """Take note of the share of all shards that are owned here."""
        if share > self._share:
            self._since_us = now_us
        self._share = share
        if share <= 0.0:
            self._buckets.clear()
            self._made_of.clear()
        for target, buckets in self._buckets.items():
            rate, burst = self._part_of(self._made_of[target])
            for bucket in buckets.values():
                bucket.change(rate, burst, now_us)

    def changed(self, now_us: int) -> bool:
        """Take up limits that were set anew or removed; returns whether there were any."""
        limits = self._limits()
        if limits == self._known:
            return False
        self._known = dict(limits)
        for target in list(self._buckets):
            if target.scope == _DECLARED:
                continue
            limit, before = limits.get(target), self._made_of[target]
            if limit is None or limit.key != before.key:
                del self._buckets[target], self._made_of[target]
            elif limit != before:
                self._made_of[target] = limit
                rate, burst = self._part_of(limit)
                for bucket in self._buckets[target].values():
                    bucket.change(rate, burst, now_us)
        return True

    def forget_moments(self) -> None:
        """Let nobody have a moment: all who wait are told to ask again."""
        for buckets in self._buckets.values():
            for bucket in buckets.values():
                bucket.forget_moments()

    def find(
        self, place: Place, input: msgspec.Raw, now_us: int, declared: RateLimit | None = None, step: str = ""
    ) -> tuple[Bucket, ...] | None:
        """Return the buckets of which an attempt needs a token each; None: a shard is being taken, so nothing begins.

        `declared`: the limit that the template gives the attempt's step. An operator's limit of the handler takes its
        place.
        """
        if self._share <= 0.0:
            return None
        limits = self._limits()
        found: tuple[Bucket, ...] = ()
        for target in place.limited():
            limit = limits.get(target)
            if limit is None:
                if declared is None or target.scope != "handler":
                    continue
                target, limit = _declared(place, step, declared)  # noqa: PLW2901 - in place of what is not set
            key = NO_KEY if limit.key is None else key_of(limit.key, input)
            found += (self._bucket(target, limit, key, now_us),)
        return found

    def _bucket(self, target: Target, limit: Limit, key: bytes, now_us: int) -> Bucket:
        buckets = self._buckets.get(target)
        if buckets is None:
            if target.scope == _DECLARED and len(self._buckets) >= BUCKETS_MAX:
                self._forget_declared(now_us)
            buckets = self._buckets[target] = {}
            self._made_of[target] = limit
        bucket = buckets.get(key)
        if bucket is None:
            if len(buckets) >= BUCKETS_MAX and not self._make_room(buckets, now_us):
                return self._bucket(target, limit, NO_KEY, now_us) if key else next(iter(buckets.values()))
            rate, burst = self._part_of(limit)
            since_us = max(limit.since_us, self._since_us)
            bucket = buckets[key] = Bucket(rate, burst, since_us=since_us, now_us=now_us)
        return bucket

    def _forget_declared(self, now_us: int) -> None:
        """Make room: of limits of templates, full buckets are as good as new ones."""
        for target, buckets in list(self._buckets.items()):
            if target.scope == _DECLARED and all(bucket.is_full(now_us) for bucket in buckets.values()):
                del self._buckets[target], self._made_of[target]

    def _part_of(self, limit: Limit) -> tuple[float, float]:
        return limit.per_s * self._share, max(1.0, limit.burst * self._share)

    def _make_room(self, buckets: dict[bytes, Bucket], now_us: int) -> bool:
        """Return whether there is room for another bucket, without the full ones; looked at once a second."""
        if now_us >= self._room_us:
            self._room_us = now_us + US_PER_S
            for key in [key for key, bucket in buckets.items() if key and bucket.is_full(now_us)]:
                del buckets[key]
        return len(buckets) < BUCKETS_MAX


@lru_cache(maxsize=4096)
def _declared(place: Place, step: str, limit: RateLimit) -> tuple[Target, Limit]:
    """Return what stands for the limit of a step: versions of a template that say the same share one."""
    name = f"{place.template}/{step} {limit.per_s} {limit.burst} {limit.key}"
    made = Limit(limit.per_s, limit.burst, limit.key, since_us=0, by="", reason="")
    return Target(_DECLARED, place.tenant, place.namespace, name), made


def key_of(expression: str, input: msgspec.Raw) -> bytes:
    """Return whose share of a limit an attempt takes: the value of the limit's expression, as canonical JSON.

    Tasks whose input has no such value share one bucket.
    """
    try:
        value = compile_expression(expression, variables=INPUT).evaluate({"input": decode_value(bytes(input))})
    except ExpressionFailed:
        return NO_KEY
    return encode_value(value)
