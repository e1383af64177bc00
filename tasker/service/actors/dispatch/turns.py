"""Who gets the next token of a rate limit: the lines of those that wait for one.

    an attempt finds no token -> it gets a moment to come back, and waits in the line of its buckets
    one comes at its moment   -> its buckets have tokens -> the first of the line gets them
                                  `- that is another one: who came has the other one's moment from now on

So a moment says when some attempt comes by, and the line says which one goes. What has the higher priority goes first,
shares and age count as in the ordered queues (`waiting_set.py`). Each attempt has a moment of its own in the due book,
so a line needs no clock, and nothing that is forgotten here is lost: it comes at its moment, and competes then.

Attempts that need tokens of the same buckets stand in one line. Lines that have a bucket in common (a limit of a queue,
and limits of its handlers) compete for its tokens: of the firsts of lines whose buckets all have tokens, the one with
the higher priority goes, of one priority what was dispatched first. A line that came by and lost `OLD_EVERY` times to
others gets a turn for what of it is old.

Who leaves frees its moment, and who would have come last takes it over: else that turn would be nobody's, with others
waiting.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, Protocol
from uuid import UUID

from tasker.controls.bucket import Bucket
from tasker.service.actors.dispatch.waiting_set import Waiting, WaitingSet
from tasker.service.domain.limits.ranks import OLD_EVERY

LINES_LOOKED: Final = 64
"""Lines with a bucket in common that are looked at for one turn; others are at the next ones."""

_SLACK: Final = 64

Key = tuple[UUID, str, int]
"""An attempt: stream, step and number."""

Buckets = tuple[Bucket, ...]
_Moment = tuple[int, Bucket | None]


class Wakes(Protocol):
    """How attempts in the lines are reached."""

    def is_on_offer(self, one: Waiting) -> bool:
        """Return whether it may have its turn; what may not leaves its line."""
        ...

    def got_tokens(self, one: Waiting, buckets: Buckets, now_us: int) -> None:
        """Have it come by at once, with its tokens."""
        ...

    def comes_at(self, one: Waiting, at_us: int, now_us: int) -> None:
        """Have it come by then, earlier than it would."""
        ...


class _Line:
    """What waits for tokens of the same buckets. `lost`: how often another line got its turn since it had one."""

    __slots__ = ("buckets", "lost", "waits")

    def __init__(self, buckets: Buckets) -> None:
        self.buckets = buckets
        self.waits = WaitingSet()
        self.lost = 0


class _Moments:
    """Who comes when, of those that have a moment of one bucket."""

    __slots__ = ("_latest", "_order", "of")

    def __init__(self) -> None:
        self.of: dict[Key, int] = {}
        self._latest: list[tuple[int, int, Key]] = []
        self._order = 0

    def put(self, key: Key, at_us: int) -> None:
        self.of[key] = at_us
        self._order += 1
        heapq.heappush(self._latest, (-at_us, self._order, key))
        if len(self._latest) > 2 * len(self.of) + _SLACK:
            self._latest = [(-at_us, order, key) for order, (key, at_us) in enumerate(self.of.items())]
            heapq.heapify(self._latest)

    def latest(self) -> Key | None:
        """Return who comes last; None: nobody does."""
        latest = self._latest
        while latest and self.of.get(latest[0][2]) != -latest[0][0]:
            heapq.heappop(latest)
        return latest[0][2] if latest else None


class Turns:
    """The lines of a node."""

    def __init__(self, wakes: Wakes) -> None:
        self._wakes = wakes
        self._lines: dict[Buckets, _Line] = {}
        self._of: dict[Key, _Line] = {}
        self._sharing: dict[Bucket, dict[_Line, None]] = {}
        self._comes: dict[Key, _Moment] = {}
        """When each comes back, and of which bucket that moment is; None: it is of none, being due."""

        self._moments: dict[Bucket, _Moments] = {}

    def __len__(self) -> int:
        return len(self._of)

    # ---------------------------------------------------------------- who waits

    def ask(
        self, key: Key, buckets: Buckets, now_us: int, waiting: Callable[[], Waiting], *, waited: bool
    ) -> int | None:
        """Return when an attempt that comes by is to come back; None: it has its tokens.

        Where tokens are for another one that waits, that gets them. `waiting` gives the attempt as it waits; `waited`:
        it was told to come back, so it overtakes nobody.
        """
        line, is_free = self._of.get(key), are_free(buckets, now_us, waited=waited)
        if line is None or line.buckets != buckets:
            if is_free and not (self._sharing and any(bucket in self._sharing for bucket in buckets)):
                for bucket in buckets:
                    bucket.take()
                return None
            self._join(key, waiting(), buckets)
            self._put_moment(key, (now_us, None))
        moment = self._comes[key]
        is_early = moment[0] > now_us
        given = self._give(buckets, now_us) if waited or is_free else None
        if given is not None:
            one, of, freed = given
            is_own = key_of(one) == key
            if not is_own:
                self._wakes.got_tokens(one, of, now_us)
            if is_early:
                self._free_moment(freed, now_us)
            if is_own:
                return None
            moment = freed
        elif not is_early:
            moment = keep_moment(buckets, now_us, waited=waited)
        if is_early:
            moment = self._comes.get(key, moment)  # it may have got the one that was freed
        at_us = max(moment[0], now_us + 1)
        if key in self._of:
            self._put_moment(key, (at_us, moment[1]))
        return at_us

    def _join(self, key: Key, one: Waiting, buckets: Buckets) -> None:
        """Let an attempt wait in the line of its buckets, and in no other."""
        self.forget(key)
        line = self._lines.get(buckets)
        if line is None:
            line = self._lines[buckets] = _Line(buckets)
            for bucket in buckets:
                self._sharing.setdefault(bucket, {})[line] = None
        self._of[key] = line
        line.waits.add(one)

    def is_due(self, key: Key, now_us: int) -> None:
        """Take note that an attempt, if it waits, was told to come now."""
        if key in self._of:
            self._put_moment(key, (now_us, None))

    def move(self, key: Key, priority: int) -> None:
        """Give an attempt, if it waits, the place of another priority."""
        line = self._of.get(key)
        one = None if line is None else line.waits.find(*key)
        if line is not None and one is not None:
            line.waits.move(one, priority)

    def forget(self, key: Key) -> None:
        """Let an attempt wait in no line; it comes at its moment, if it still does."""
        line = self._of.get(key)
        one = None if line is None else line.waits.find(*key)
        if line is not None and one is not None:
            line.waits.remove(one)
            self._left(line, key)

    def look(self, key: Key, now_us: int) -> tuple[int, int] | None:
        """Return how many others have their turn before an attempt, and about when it has its own; None: it waits not.

        Of lines that have a bucket in common all are counted, so this takes as long as many wait.
        """
        own = self._of.get(key)
        one = None if own is None else own.waits.find(*key)
        if own is None or one is None:
            return None
        lines = dict.fromkeys([own, *(line for bucket in own.buckets for line in self._sharing[bucket])])
        ahead = {line: line.waits.ahead_of(one) for line in lines}
        at_us = max(
            bucket.token_us(sum(ahead[line] for line in self._sharing[bucket]), now_us) for bucket in own.buckets
        )
        return sum(ahead.values()), at_us

    def leave(self, key: Key, now_us: int) -> None:
        """Let an attempt wait no more; at its moment comes who would have come last."""
        line = self._of.get(key)
        if line is not None:
            moment = self._comes[key]
            self.forget(key)
            self._free_moment(moment, now_us)

    def put_back(self, buckets: Buckets, now_us: int) -> None:
        """Let others have tokens that somebody got at another one's turn, and cannot use."""
        for bucket in buckets:
            bucket.put_back()
        given = self._give(buckets, now_us)
        if given is not None:
            one, of, freed = given
            self._wakes.got_tokens(one, of, now_us)
            self._free_moment(freed, now_us)

    def _free_moment(self, moment: _Moment, now_us: int) -> None:
        """Have who would come last come at a moment at which nobody does."""
        at_us, bucket = moment
        if bucket is None:
            return
        bucket.free_moment()
        moments = self._moments.get(bucket)
        key = None if moments is None else moments.latest()
        if moments is None or key is None or moments.of[key] <= at_us:
            return
        one = self._of[key].waits.find(*key)
        assert one is not None  # noqa: S101 - who has a moment waits
        self._put_moment(key, moment)
        self._wakes.comes_at(one, at_us, now_us)

    def _put_moment(self, key: Key, moment: _Moment) -> None:
        self._drop_moment(key)
        self._comes[key] = moment
        at_us, bucket = moment
        if bucket is not None:
            moments = self._moments.get(bucket)
            if moments is None:
                moments = self._moments[bucket] = _Moments()
            moments.put(key, at_us)

    def _drop_moment(self, key: Key) -> None:
        before = self._comes.pop(key, None)
        if before is not None and before[1] is not None:
            moments = self._moments[before[1]]
            del moments.of[key]
            if not moments.of:
                del self._moments[before[1]]

    def _left(self, line: _Line, key: Key) -> None:
        del self._of[key]
        self._drop_moment(key)
        if line.waits:
            return
        del self._lines[line.buckets]
        for bucket in line.buckets:
            sharing = self._sharing[bucket]
            del sharing[line]
            if not sharing:
                del self._sharing[bucket]

    # ---------------------------------------------------------------- whose turn it is

    def _give(self, buckets: Buckets, now_us: int) -> tuple[Waiting, Buckets, _Moment] | None:
        """Give tokens to who is next of those that wait for one of the buckets.

        Returns who that is, of which buckets, and the moment at which it would have come; None: they have too few.
        """
        own = self._lines.get(buckets)
        while True:
            line, one = self._next(own, buckets, now_us)
            if line is None or one is None:
                return None
            key = key_of(one)
            if self._wakes.is_on_offer(one):
                break
            self.leave(key, now_us)
            own = self._lines.get(buckets)
        if own is not None:
            own.lost = 0 if line is own else own.lost + 1
        for bucket in line.buckets:
            bucket.take()
        line.waits.take(one)
        moment = self._comes[key]
        self._left(line, key)
        return one, line.buckets, moment

    def _next(self, own: _Line | None, buckets: Buckets, now_us: int) -> tuple[_Line | None, Waiting | None]:
        best: Waiting | None = None
        of: _Line | None = None
        if own is not None and have_tokens(buckets, now_us):
            of, best = own, own.waits.next(now_us)
            old = own.waits.old(now_us) if own.lost >= OLD_EVERY - 1 else None
            if old is not None:
                return own, old
        for bucket in buckets:
            for line in self._beside(bucket, own):
                one = line.waits.next(now_us)
                if one is not None and (best is None or _goes_ahead(one, best)) and have_tokens(line.buckets, now_us):
                    of, best = line, one
        return of, best

    def _beside(self, bucket: Bucket, own: _Line | None) -> Sequence[_Line]:
        """Return other lines that wait for tokens of a bucket."""
        sharing = self._sharing.get(bucket)
        if sharing is None or (len(sharing) == 1 and own in sharing):
            return ()
        found = [line for line in islice(sharing, LINES_LOOKED) if line is not own]
        if len(sharing) > LINES_LOOKED:
            for line in found:
                del sharing[line]
                sharing[line] = None
        return found


def key_of(one: Waiting) -> Key:
    """Return the attempt that waits."""
    return one.stream_id, one.step, one.attempt


def have_tokens(buckets: Buckets, now_us: int) -> bool:
    """Return whether each bucket has a token."""
    return all(bucket.fill(now_us) for bucket in buckets)


def are_free(buckets: Buckets, now_us: int, *, waited: bool) -> bool:
    """Return whether each bucket has a token for who asks; `waited`: it was told to come back now."""
    for bucket in buckets:  # no generator: each attempt under a limit passes here  # noqa: SIM110
        if not bucket.is_free(now_us, waited=waited):
            return False
    return True


def keep_moment(buckets: Buckets, now_us: int, *, waited: bool) -> tuple[int, Bucket]:
    """Return the moment at which an attempt that finds too few tokens comes back, and of which bucket it is.

    It is of the one that lacks a token for longest; at the others the attempt competes when it comes.
    """
    lacking = [bucket for bucket in buckets if not bucket.is_free(now_us, waited=waited)] or buckets
    at_us, last = max(((one.moment_us(now_us, waited=waited), one) for one in lacking), key=lambda found: found[0])
    last.keep_moment(at_us, now_us, waited=waited)
    return at_us, last


def _goes_ahead(one: Waiting, other: Waiting) -> bool:
    return (one.priority, -one.since_us) > (other.priority, -other.since_us)
