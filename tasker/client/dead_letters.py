"""Dead letters, as a client sees and settles them: `client.dlq`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import quote

from tasker.client.http import Parameters
from tasker.client.requests import TaskRef, position_of, task_id_of
from tasker.errors import CommandRejected, TaskerError
from tasker.events.messages import (
    Command,
    DeadLetterAdd,
    DeadLetterInvestigate,
    DeadLetterReopen,
    DeadLetterResolve,
    DeadLetterRetry,
    Reply,
)
from tasker.events.position import format_position
from tasker.events.reads import (
    DeadLetterCount,
    DeadLetterGroup,
    DeadLetterGroupPage,
    DeadLetterPage,
    DeadLetterView,
)
from tasker.ids import IdSource
from tasker.times import from_datetime, to_rfc3339

PAGE_ITEMS: Final = 100
IN_FLIGHT: Final = 16
"""Commands of a bulk that are under way at a time."""

RETRIED_REASONS: Final = ("retries_exhausted", "permanent_error", "no_worker")
"""What a fresh set of attempts may repair."""

OnProgress = Callable[[int, int], None]
"""Takes how many are done, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters; all of what is given must hold.

    Attributes:
        states: `dead`, `retrying`, `left`; statuses: `open`, `investigating`, `resolved`, `ignored`. Any of them;
            both empty: what has neither left nor been settled.
        reasons: any of `retries_exhausted`, `permanent_error`, `no_worker`, `stale`, `poison`, `manual`.
        step: of the template; its instances count as well.
        seen_after, seen_before: of the last failure; a datetime needs a zone.
    """

    states: Sequence[str] = ()
    statuses: Sequence[str] = ()
    reasons: Sequence[str] = ()
    namespace: str | None = None
    template: str | None = None
    step: str | None = None
    fingerprint: str | None = None
    owner: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    seen_after: datetime | str | None = None
    seen_before: datetime | str | None = None

    def parameters(self) -> dict[str, str | int | float | list[str] | None]:
        """Return what an endpoint takes."""
        return {
            "state": list(self.states),
            "status": list(self.statuses),
            "reason": list(self.reasons),
            "namespace": self.namespace,
            "template": self.template,
            "step": self.step,
            "fingerprint": self.fingerprint,
            "owner": self.owner,
            "tag": [f"{key}={value}" for key, value in self.tags.items()],
            "seen_after": _time(self.seen_after),
            "seen_before": _time(self.seen_before),
        }


EVERYTHING_OPEN: Final = DeadLetterFilter()


def retried_by(wanted: DeadLetterFilter) -> DeadLetterFilter:
    """Return what of `wanted` a bulk retries: what is dead, still open, and may be repaired so."""
    return replace(
        wanted,
        states=("dead",),
        statuses=wanted.statuses or ("open", "investigating"),
        reasons=wanted.reasons or RETRIED_REASONS,
    )


def resolved_by(wanted: DeadLetterFilter) -> DeadLetterFilter:
    """Return what of `wanted` a bulk settles: what is dead and still open."""
    return replace(wanted, states=("dead",), statuses=wanted.statuses or ("open", "investigating"))


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """What became of a bulk.

    Attributes:
        matched: how many there were at its start.
        done: how many the service accepted.
        refused: those that it refused, with its reasons.
        position: reads at or after it show all of that; None when nothing was done.
    """

    matched: int
    done: int
    refused: tuple[tuple[DeadLetterView, CommandRejected], ...] = ()
    position: str | None = None


class Asks(Protocol):
    """Reads an endpoint as a type, and repeats that until it answers."""

    async def __call__(self, path: str, kind: type[Any], parameters: Parameters, /) -> Any:
        """Return what the endpoint answers."""
        ...


class DeadLetters:
    """The dead letters of a client's tenant. Reads need HTTP; commands travel as all of the client's do.

    Every command says who asks and why: both are kept in the log.
    """

    def __init__(self, command: Callable[[str, Command], Awaitable[Reply]], asks: Asks, ids: IdSource) -> None:
        self._command = command
        self._asks = asks
        self._ids = ids

    # ---------------------------------------------------------------- reads

    async def list(
        self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None, page_items: int = PAGE_ITEMS
    ) -> AsyncIterator[DeadLetterView]:
        """Yield the dead letters that match, the newest first."""
        after: str | None = None
        while True:
            parameters = wanted.parameters() | {"limit": page_items, "after": after, "at_least": at_least}
            page: DeadLetterPage = await self._asks("/v1/dlq", DeadLetterPage, parameters)
            for item in page.items:
                yield item
            after = page.next
            if after is None:
                return

    async def groups(
        self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None, page_items: int = PAGE_ITEMS
    ) -> AsyncIterator[DeadLetterGroup]:
        """Yield the dead letters that match by fingerprint, the largest group first."""
        after: str | None = None
        while True:
            parameters = wanted.parameters() | {"limit": page_items, "after": after, "at_least": at_least}
            page: DeadLetterGroupPage = await self._asks("/v1/dlq/groups", DeadLetterGroupPage, parameters)
            for item in page.items:
                yield item
            after = page.next
            if after is None:
                return

    async def count(self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None) -> int:
        """Return how many dead letters match."""
        parameters = wanted.parameters() | {"at_least": at_least}
        found: DeadLetterCount = await self._asks("/v1/dlq/count", DeadLetterCount, parameters)
        return found.count

    async def of_task(self, task: TaskRef, *, at_least: str | None = None) -> Sequence[DeadLetterView]:
        """Return every dead letter of a task with its notes, those that left among them.

        Raises:
            TaskUnknown: there is no such task.
        """
        path = f"/v1/dlq/{quote(task_id_of(task), safe='')}"
        page: DeadLetterPage = await self._asks(path, DeadLetterPage, {"at_least": at_least or position_of(task)})
        return page.items

    # ---------------------------------------------------------------- one dead letter

    async def add(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        reason: str,
        command_id: str | None = None,
    ) -> Reply:
        """Put a task, or a step of it, among the dead letters, although nothing has failed for good.

        Raises:
            TaskUnknown, StepUnknown, StateForbids: there is nothing to add, or it is there already.
        """
        command = DeadLetterAdd(
            task_id=task_id_of(task),
            step=step,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id or self._ids.token(),
        )
        return await self._command("dlq.add", command)

    async def investigate(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        owner: str | None = None,
        note: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Reply:
        """Look into a dead letter: give it an owner ("": nobody), add a note; one of note and reason is needed.

        Raises:
            DeadLetterUnknown: it is none.
        """
        command = DeadLetterInvestigate(
            task_id=task_id_of(task),
            step=step,
            owner=owner,
            note=note,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id or self._ids.token(),
        )
        return await self._command("dlq.investigate", command)

    async def resolve(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        reason: str,
        attempt: int | None = None,
        ignore: bool = False,
        command_id: str | None = None,
    ) -> Reply:
        """Settle a dead letter; `ignore` says that nothing is to be done about it.

        Raises:
            DeadLetterUnknown: it is none. StateForbids: another attempt than `attempt` failed last.
        """
        command = DeadLetterResolve(
            task_id=task_id_of(task),
            step=step,
            attempt=attempt,
            ignore=ignore,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id or self._ids.token(),
        )
        return await self._command("dlq.resolve", command)

    async def reopen(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        reason: str,
        command_id: str | None = None,
    ) -> Reply:
        """Take back that a dead letter is settled.

        Raises:
            DeadLetterUnknown: it is none.
        """
        command = DeadLetterReopen(
            task_id=task_id_of(task),
            step=step,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id or self._ids.token(),
        )
        return await self._command("dlq.reopen", command)

    async def retry(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        reason: str,
        attempt: int | None = None,
        command_id: str | None = None,
    ) -> Reply:
        """Give the step, or every failed step of the task, a fresh set of attempts; the task goes on by itself.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: there is nothing to retry.
        """
        command = DeadLetterRetry(
            task_id=task_id_of(task),
            step=step,
            attempt=attempt,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id or self._ids.token(),
        )
        return await self._command("dlq.retry", command)

    # ---------------------------------------------------------------- many

    async def retry_all(
        self,
        wanted: DeadLetterFilter = EVERYTHING_OPEN,
        *,
        requested_by: str,
        reason: str,
        on_progress: OnProgress | None = None,
    ) -> BulkOutcome:
        """Retry every dead letter that `retried_by(wanted)` matches, each for the attempt that is listed.

        An interrupted one is gone on with by calling it again: what was retried is not `dead` any more.

        Raises:
            Unavailable: the service does not answer; what was accepted until then is.
        """

        async def one(letter: DeadLetterView) -> Reply:
            return await self.retry(
                letter.task_id,
                letter.step or None,
                attempt=letter.attempt or None,
                requested_by=requested_by,
                reason=reason,
            )

        return await self._each(retried_by(wanted), one, on_progress)

    async def resolve_all(
        self,
        wanted: DeadLetterFilter = EVERYTHING_OPEN,
        *,
        requested_by: str,
        reason: str,
        ignore: bool = False,
        on_progress: OnProgress | None = None,
    ) -> BulkOutcome:
        """Settle every dead letter that `resolved_by(wanted)` matches, each for the attempt that is listed.

        An interrupted one is gone on with by calling it again: what was settled is not listed any more.

        Raises:
            Unavailable: the service does not answer; what was accepted until then is.
        """

        async def one(letter: DeadLetterView) -> Reply:
            return await self.resolve(
                letter.task_id,
                letter.step or None,
                attempt=letter.attempt or None,
                ignore=ignore,
                requested_by=requested_by,
                reason=reason,
            )

        return await self._each(resolved_by(wanted), one, on_progress)

    async def _each(
        self,
        wanted: DeadLetterFilter,
        act: Callable[[DeadLetterView], Awaitable[Reply]],
        on_progress: OnProgress | None,
    ) -> BulkOutcome:
        """Do one thing to all that match, page by page, `IN_FLIGHT` at a time."""
        matched = await self.count(wanted)
        done = 0
        refused: list[tuple[DeadLetterView, CommandRejected]] = []
        lost: list[TaskerError] = []
        reached: dict[int, int] = {}

        async def one(letter: DeadLetterView) -> None:
            nonlocal done
            try:
                reply = await act(letter)
            except CommandRejected as refusal:
                refused.append((letter, refusal))
            except TaskerError as error:
                lost.append(error)
                return
            else:
                done += 1
                shard, _, position = (reply.position or "0:0").partition(":")
                reached[int(shard)] = max(reached.get(int(shard), 0), int(position))
            if on_progress is not None:
                on_progress(done + len(refused), max(matched, done + len(refused)))

        batch: list[DeadLetterView] = []

        async def send() -> None:
            await asyncio.gather(*map(one, batch))
            batch.clear()
            if lost:
                raise lost[0]

        async for letter in self.list(wanted):
            batch.append(letter)
            if len(batch) == IN_FLIGHT:
                await send()
        await send()
        return BulkOutcome(matched, done, tuple(refused), format_position(reached) if reached else None)


def _time(at: datetime | str | None) -> str | None:
    return to_rfc3339(from_datetime(at)) if isinstance(at, datetime) else at
