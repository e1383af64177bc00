"""One part of a bulk: the targets that its checkpoint names get the command, then the next page is looked up.

    first part: what there is -> checkpoint(page 1) -> page 1 gets the command -> checkpoint(page 2) -> ... -> outcome

A page is in the log before any of it gets the command, and the command's id is made of the bulk and the target alone.
So whoever is killed anywhere, or runs twice, gives the very same commands again, which their targets have had: each
effect happens once, and each is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from tasker.clock import Clock
from tasker.errors import Behind, BodyInvalid, TaskerError, Unavailable, is_passing
from tasker.events.bulk import REFUSALS_MAX, BulkOrder, BulkOutcome, BulkRefusal, is_of_letters
from tasker.events.codec import canonical, decode_message
from tasker.events.log import EventLog
from tasker.events.messages import Reply
from tasker.events.position import format_position
from tasker.handlers.context import StepContext
from tasker.handlers.outcome import PermanentError
from tasker.handlers.returned import Again
from tasker.projections.checkpoints import Positions, PositionWatch
from tasker.projections.queries import Queries
from tasker.service.bulk.targets import BulkTargets, Target
from tasker.times import from_rfc3339

PART_ITEMS_MAX: Final = 200
PART_S: Final = 2.0
"""A part takes about so long: others have their turn in between, and a cancel is heeded."""

ARRAY_ITEMS_MAX: Final = 50
ARRAY_BYTES_MAX: Final = 256 * 1024
VIEWS_S: Final = 15.0
"""How long the views may take to show what was there before the bulk."""

TRIES: Final = 6
TRY_AGAIN_S: Final = 0.2
DETAIL_CHARS_MAX: Final = 160


class Send(Protocol):
    """Brings commands to their owners."""

    async def __call__(self, tenant: str, verb: str, body: bytes) -> bytes:
        """Return the verdicts on an array of commands, as JSON.

        Raises:
            Unavailable: nobody takes them. OutcomeUnknown, DeadlineExceeded: the answer did not come.
        """
        ...


class BulkProgress(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The checkpoint.

    Attributes:
        until_us: what came later is no part of the bulk.
        targets: the page that gets the command now. after: the cursor of the one behind it; None: it is the last.
        reached: shard -> position of the latest effect.
    """

    until_us: int
    matched: int
    targets: tuple[Target, ...] = ()
    after: str | None = None
    done: int = 0
    refused: dict[str, int] = {}
    refusals: tuple[BulkRefusal, ...] = ()
    reached: dict[str, int] = {}

    def take(self, target: Target, reply: Reply) -> None:
        """Count a verdict."""
        if reply.error is None:
            self.done += 1
            shard, _, position = (reply.position or "0:0").partition(":")
            self.reached[shard] = max(self.reached.get(shard, 0), int(position))
            return
        code = reply.error.code
        self.refused[code] = self.refused.get(code, 0) + 1
        if len(self.refusals) < REFUSALS_MAX:
            detail = reply.error.detail[:DETAIL_CHARS_MAX]
            refusal = BulkRefusal(task_id=target.task_id, step=target.step, code=code, detail=detail)
            self.refusals = (*self.refusals, refusal)

    @property
    def over(self) -> int:
        """How many have had their verdict."""
        return self.done + self.refused_count

    @property
    def refused_count(self) -> int:
        """How many did not take the command."""
        return sum(self.refused.values())

    def outcome(self, order: BulkOrder) -> BulkOutcome:
        """Return what became of the bulk."""
        return BulkOutcome(
            verb=order.verb,
            matched=self.matched,
            done=self.done,
            refused=self.refused_count,
            refused_by_code=dict(self.refused),
            refusals=self.refusals,
            position=format_position({int(shard): at for shard, at in self.reached.items()}) if self.reached else None,
        )


class BulkParts:
    """The handler of `tasker/bulk`, an `Invocable`.

    Args:
        targets: finds them. queries, watch, log, shards: tell when the views show all that was before a bulk.
        send: gives commands, as any caller does.
    """

    is_async = True

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        targets: BulkTargets,
        queries: Queries,
        watch: PositionWatch,
        log: EventLog,
        shards: int,
        send: Send,
        clock: Clock,
    ) -> None:
        self._targets = targets
        self._queries = queries
        self._watch = watch
        self._log = log
        self._shards = shards
        self._send = send
        self._clock = clock

    def bind(
        self,
        context: StepContext,
        input_bytes: bytes,
        results: Mapping[str, bytes],  # noqa: ARG002 - the protocol's
    ) -> Callable[[], Awaitable[Again | BulkOutcome]]:
        """Return the call of a part.

        Raises:
            msgspec.ValidationError: its input is no order.
        """
        order = msgspec.json.decode(input_bytes, type=BulkOrder)
        return partial(self.run, context, order)

    async def run(self, context: StepContext, order: BulkOrder) -> Again | BulkOutcome:
        """Do a part; returns the outcome behind the last one.

        Raises:
            Unavailable: the views or the owners do not answer; another attempt goes on from the checkpoint.
        """
        progress = context.checkpoint(BulkProgress)
        if progress is None:
            progress = await self._begin(context, order)
        else:
            await self._give(context, order, progress)
            if progress.after is None:
                return progress.outcome(order)
        page = await self._targets.page(
            context.tenant,
            order,
            until_us=progress.until_us,
            after=progress.after,
            limit=_part_items(order.rate_per_s),
        )
        if not page.items:
            return progress.outcome(order)
        progress.targets, progress.after = tuple(page.items), page.next
        return Again(checkpoint=progress)

    async def _begin(self, context: StepContext, order: BulkOrder) -> BulkProgress:
        """Return the progress of a bulk that has done nothing yet, once the views show all that was before it."""
        heads: Positions = {head.shard: head.position for head in await self._log.heads(range(self._shards))}
        if not await self._watch.reach(heads, timeout_s=VIEWS_S):
            raise Behind("the views do not show yet what was there before the bulk")
        view = await self._queries.task(context.tenant, UUID(context.task_id))
        if view is None:
            raise Behind("the views do not show the bulk yet")
        until_us = from_rfc3339(view.created_at)
        matched = await self._targets.count(context.tenant, order, until_us=until_us)
        return BulkProgress(until_us=until_us, matched=matched)

    # ---------------------------------------------------------------- commands

    async def _give(self, context: StepContext, order: BulkOrder, progress: BulkProgress) -> None:
        """Give the page its command, no faster than the order allows."""
        waiting = [(target, _command(context.task_id, order, target)) for target in progress.targets]
        largest = max(len(body) for _, body in waiting)
        most = max(1, min(ARRAY_ITEMS_MAX, ARRAY_BYTES_MAX // largest, round(order.rate_per_s / 4)))
        next_s = self._clock.monotonic_s()
        for start in range(0, len(waiting), most):
            array = waiting[start : start + most]
            await asyncio.sleep(max(0.0, next_s - self._clock.monotonic_s()))
            next_s = self._clock.monotonic_s() + len(array) / order.rate_per_s
            for (target, _), reply in zip(array, await self._verdicts(context.tenant, order, array), strict=True):
                progress.take(target, reply)
            context.progress(
                progress.over, max(progress.matched, progress.over), f"{sum(progress.refused.values())} refused"
            )
        if progress.after is not None:  # the next part begins as if nothing had been given yet
            await asyncio.sleep(max(0.0, next_s - self._clock.monotonic_s()))

    async def _verdicts(self, tenant: str, order: BulkOrder, array: list[tuple[Target, bytes]]) -> list[Reply]:
        """Return the verdict on each; what passes by is asked for again."""
        found: dict[int, Reply] = {}
        for again in range(TRIES):
            if again:
                await asyncio.sleep(TRY_AGAIN_S * 2**again)
            open_ = [index for index in range(len(array)) if index not in found]
            body = b"[%b]" % b",".join(array[index][1] for index in open_)
            try:
                data = await self._send(tenant, order.verb, body)
            except TaskerError as error:
                if not _may_pass(error):
                    raise
                continue
            found |= {
                index: reply
                for index, reply in zip(open_, _replies(data, len(open_)), strict=True)
                if reply.error is None or not _may_pass(TaskerError.from_problem(reply.error))
            }
            if len(found) == len(array):
                return [found[index] for index in range(len(array))]
        raise Unavailable(f"{len(array) - len(found)} commands have no answer; they are given again")


def _may_pass(error: TaskerError) -> bool:
    """Say whether to ask again: nothing was recorded, or it is not known."""
    return is_passing(error) or error.status in (503, 504)


def _replies(data: bytes, count: int) -> list[Reply]:
    """Return one reply for each of `count` commands; a refusal of the whole array is one of each."""
    if data[:1] == b"[":
        return decode_message(data, list[Reply])
    return [decode_message(data, Reply)] * count


def _part_items(rate_per_s: float) -> int:
    return max(1, min(PART_ITEMS_MAX, round(rate_per_s * PART_S)))


def _command(bulk: str, order: BulkOrder, target: Target) -> bytes:
    """Return the command for one target; its id is the same whenever it is given."""
    told: dict[str, Any] = {
        **order.arguments,
        "task_id": target.task_id,
        "command_id": f"bulk:{bulk}:{target.task_id}",
        "requested_by": order.requested_by,
        "reason": order.reason,
    }
    if is_of_letters(order.verb):
        told["command_id"] += f":{target.step}"
        told["step"] = target.step or None
        told["attempt"] = target.attempt or None
    try:
        return canonical(told)
    except BodyInvalid as error:
        raise PermanentError(f"the order's arguments: {error.detail}") from error
