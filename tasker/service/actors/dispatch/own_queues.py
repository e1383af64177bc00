"""Work of the service's own queues on its way to the stream: shared among the tenants by their weights.

Workers of the service serve all tenants, from the work stream alone, and a stream is in order of arrival for good. So
a node leaves there only a few offers that nobody has begun. The rest waits here, of each tenant the oldest first, and
among them by stride scheduling: a tenant with a hundred bulks has as many turns as one with a single bulk.

    offer: fewer than `OUT_MAX` are out, nobody waits -> to the stream | else it waits
    a worker reports on one that is out, or it is out for too long     -> the next one goes to the stream

It names attempts and holds no actor: that may leave memory while its attempt waits. At its turn it is woken, which
offers the attempt again; that offer goes straight to the stream. Nothing here is durable: the next owner of a shard
finds what its tasks offer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from tasker.service.actors.dispatch.waiting_set import Waiting
from tasker.service.actors.task_actor import TaskActor
from tasker.service.runtime.tenants import TenantLine

OUT_MAX: Final = 4
"""Offers of this node in the stream that nobody has begun: as many as a process of the service runs at a time."""

OUT_S: Final = 30.0
"""What nobody began for so long counts as gone: NATS lost it, or nobody works. It may yet be begun."""

WOKEN_S: Final = 2.0
"""An actor that was woken has offered its attempt within this, or has nothing to offer any more."""

SWEEP_S: Final = 2.0
WAITING_MAX: Final = 50_000

_Key = tuple[str, str, int]
Offer = Callable[[TaskActor, str, int, int], None]


class OwnQueues:
    """The offers of a node.

    Args:
        publish: gives an offer (actor, step, attempt, its number) to the stream.
        may_leave: whether it may go there now; one that may later is offered again then.
        wake: returns the actor of what waits; None: it is being woken, and will offer again.
        owns: whether a shard is served here.
        weights: those of tenants; all others have 1.
    """

    def __init__(  # noqa: PLR0917 - what an offer passes by
        self,
        publish: Offer,
        may_leave: Callable[[TaskActor, str, int, int], bool],
        wake: Callable[[Waiting], TaskActor | None],
        owns: Callable[[int], bool],
        monotonic_s: Callable[[], float],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._publish = publish
        self._may_leave = may_leave
        self._wake = wake
        self._owns = owns
        self._monotonic_s = monotonic_s
        self._line: TenantLine[Waiting] = TenantLine(weights, cost=lambda one: 0.0 if one.gone else 1.0)
        self._waiting: dict[_Key, Waiting] = {}
        self._out: dict[_Key, float] = {}
        self._woken: dict[_Key, float] = {}

    @property
    def waiting(self) -> int:
        """Return how many offers wait here."""
        return len(self._waiting)

    def take(self, actor: TaskActor, step: str, attempt: int, offer: int) -> None:
        """Take an offer, for the first time or again."""
        key = (actor.task_id, step, attempt)
        known = self._waiting.get(key)
        if known is not None:
            known.offer = max(known.offer, offer)
            return
        is_due = key in self._out or self._woken.pop(key, None) is not None
        if is_due or (not self._line and self._has_room):
            self._send(actor, step, attempt, offer)
            return
        one = Waiting(actor.shard, actor.stream_id, step, attempt, offer, 0, 0)
        if self._line.add(actor.tenant, one, WAITING_MAX):
            self._waiting[key] = one
        else:
            self._publish(actor, step, attempt, offer)

    def let_go(self, task_id: str, step: str, attempt: int) -> None:
        """Take note that an attempt need not be offered any more: a worker reported on it, or it has ended."""
        key = (task_id, step, attempt)
        known = self._waiting.pop(key, None)
        if known is not None:
            known.gone = True
        if self._out.pop(key, None) is not None:
            self._pump()

    async def run(self) -> None:
        """Let go what nobody begins, for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(self._monotonic_s())

    def sweep(self, now_s: float) -> None:
        """Let go what nobody begins; then it is others' turn."""
        for kept, most_s in ((self._out, OUT_S), (self._woken, WOKEN_S)):
            for key in [key for key, since_s in kept.items() if since_s <= now_s - most_s]:
                del kept[key]
        self._pump()

    @property
    def _has_room(self) -> bool:
        return len(self._out) + len(self._woken) < OUT_MAX

    def _send(self, actor: TaskActor, step: str, attempt: int, offer: int) -> None:
        self._out[actor.task_id, step, attempt] = self._monotonic_s()
        self._publish(actor, step, attempt, offer)

    def _pump(self) -> None:
        while self._line and self._has_room:
            one = self._line.take()
            if one.gone:
                continue
            key = (str(one.stream_id), one.step, one.attempt)
            del self._waiting[key]
            if not self._owns(one.shard):
                continue
            actor = self._wake(one)
            if actor is None:
                self._woken[key] = self._monotonic_s()
            elif self._may_leave(actor, one.step, one.attempt, one.offer):
                self._send(actor, one.step, one.attempt, one.offer)
