"""A node's time: the log's clock, carried forward by the machine's monotonic one.

Every lease renewal reads the log's clock. Without a reading for `READING_S_MAX` the node no longer
knows the time well enough and must not append. Leases themselves are judged in the log, never here;
`leased` is this node's own, earlier view of the end of its lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tasker.events.envelope import US_PER_S

READING_S_MAX: Final = 10.0


class NodeClock:
    """Implements `Clock` for the service."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._base_us = 0
        self._behind_us = 0
        self._read_s = -READING_S_MAX
        self._lease_until_s = 0.0

    def set(self, now_us: int) -> float:
        """Take the log's time, as just read.

        Returns by how many seconds it has gone further than the machine's monotonic clock since the reading before;
        below 0: less far, or back.
        """
        own_us = self.now_us()
        behind_us = min(0, now_us - own_us) if own_us else 0
        gone_us = now_us - own_us - self._behind_us if own_us else 0
        self._base_us, self._behind_us = max(now_us, own_us), behind_us
        self._read_s = self._monotonic_s()
        return gone_us / US_PER_S

    def lease(self, lease_s: float, *, asked_s: float) -> None:
        """Take note that leases were granted for `lease_s` by a request that left at `asked_s`."""
        self._lease_until_s = asked_s + lease_s

    def now_us(self) -> int:
        """Return the log's time in microseconds since the epoch, as far as this node knows; never goes back."""
        if not self._base_us:
            return 0
        return self._base_us + int((self._monotonic_s() - self._read_s) * 1e6)

    def monotonic_s(self) -> float:
        """Return the machine's monotonic seconds."""
        return self._monotonic_s()

    def trusted(self) -> bool:
        """Return whether the time was read lately enough to append."""
        return self._monotonic_s() - self._read_s < READING_S_MAX

    def leased(self) -> bool:
        """Return whether nobody else can own our shards yet."""
        return self._monotonic_s() < self._lease_until_s
