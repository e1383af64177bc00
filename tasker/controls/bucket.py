"""A token bucket that says when to come back.

It fills by `rate_per_s` up to `burst` and gives one token to each attempt that begins. Who finds it empty gets a
moment of its own behind all who wait, and asks again then: a moment is no token, so nothing that is late, or many at
once, makes more begin than `rate * time + burst`. Nor is it a place: who comes when there is a token may have to give
it to another one that waits.

Theory: the token bucket of RFC 2697; the moments are the virtual scheduling of ITU-T I.371 (GCRA).
"""

from __future__ import annotations

from typing import Final

from tasker.events.envelope import US_PER_S

_ALMOST: Final = 1.0 - 1e-9
"""A token but for the rounding of times."""


class Bucket:
    """One bucket; times are microseconds and never go back.

    Args:
        rate_per_s: tokens a second.
        burst: so many tokens it holds.
        since_us: it was empty then. now_us: now.
    """

    __slots__ = ("_burst", "_last_us", "_next_us", "_rate", "_tokens", "_turn_us")

    def __init__(self, rate_per_s: float, burst: float, *, since_us: int, now_us: int) -> None:
        self._rate = rate_per_s / US_PER_S
        self._burst = burst
        self._tokens = 0.0
        self._last_us = since_us
        self._turn_us = self._next_us = 0
        self.fill(now_us)

    def change(self, rate_per_s: float, burst: float, now_us: int) -> None:
        """Fill by another rate up to another burst from now on; who waited asks again."""
        self.fill(now_us)
        self._rate = rate_per_s / US_PER_S
        self._burst = burst
        self._tokens = min(self._tokens, burst)
        self.forget_moments()

    def fill(self, now_us: int) -> bool:
        """Have what has come by now; returns whether there is a token."""
        if now_us > self._last_us:
            self._tokens = min(self._burst, self._tokens + (now_us - self._last_us) * self._rate)
            self._last_us = now_us
        return self._tokens >= _ALMOST

    def token_us(self, before: int, now_us: int) -> int:
        """Return when there is a token for who comes behind `before` others, if each of them takes one."""
        self.fill(now_us)
        return now_us + max(0, round((before + 1 - self._tokens) / self._rate))

    def is_free(self, now_us: int, *, waited: bool) -> bool:
        """Return whether there is a token for who asks; a newcomer (not `waited`) overtakes nobody with a moment."""
        return self.fill(now_us) and (waited or self._turn_us <= now_us)

    def moment_us(self, now_us: int, *, waited: bool) -> int:
        """Return the moment, later than now, at which somebody may come: behind all who wait.

        Who `waited` and came too early is the one who comes for the next token, unless another one does: else each
        moment at which a timer was a little early would be nobody's.
        """
        self.fill(now_us)
        soon_us = max(now_us + round(max(0.0, 1.0 - self._tokens) / self._rate), now_us + 1)
        return soon_us if waited and self._next_us <= now_us else max(soon_us, self._turn_us + round(1.0 / self._rate))

    def keep_moment(self, moment_us: int, now_us: int, *, waited: bool) -> None:
        """Give somebody the moment that `moment_us` told."""
        if waited and self._next_us <= now_us:
            self._next_us = moment_us
        self._turn_us = max(self._turn_us, moment_us)

    def forget_moments(self) -> None:
        """Let nobody have a moment: all who wait ask again."""
        self._turn_us = self._next_us = 0

    def free_moment(self) -> None:
        """Take the last moment back: nobody comes then."""
        self._turn_us -= round(1.0 / self._rate)

    def take(self) -> None:
        """Take the token that there is."""
        self._tokens -= 1.0

    def put_back(self) -> None:
        """Put a token back that nobody used."""
        self._tokens = min(self._burst, self._tokens + 1.0)

    def is_full(self, now_us: int) -> bool:
        """Return whether nothing would be lost with it: a new one would be as full."""
        self.fill(now_us)
        return self._tokens >= self._burst and self._turn_us <= now_us
