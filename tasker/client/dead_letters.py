"""Dead letters, as a client sees and settles them: `client.dlq`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tasker.client.bulk import Bulks, OnProgress
from tasker.client.http import Parameters
from tasker.client.pages import Read, items_of
from tasker.client.requests import (
    PAGE_ITEMS,
    SendCommand,
    TaskRef,
    command_id_of,
    position_of,
    rfc3339_of,
    segment,
    task_id_of,
    texts_of,
)
from tasker.events.bulk import BulkOutcome
from tasker.events.messages import (
    BulkDeadLetters,
    DeadLetterAdd,
    DeadLetterInvestigate,
    DeadLetterReopen,
    DeadLetterResolve,
    DeadLetterRetry,
    Reply,
)
from tasker.events.reads import (
    DeadLetterCount,
    DeadLetterGroup,
    DeadLetterGroupPage,
    DeadLetterPage,
    DeadLetterView,
)
from tasker.ids import IdSource


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

    states: str | Sequence[str] = ()
    statuses: str | Sequence[str] = ()
    reasons: str | Sequence[str] = ()
    namespace: str | None = None
    template: str | None = None
    step: str | None = None
    fingerprint: str | None = None
    owner: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    seen_after: datetime | str | None = None
    seen_before: datetime | str | None = None

    def parameters(self) -> dict[str, str | int | float | list[str] | None]:
        """Return what an endpoint takes.

        Raises:
            ValueInvalid: a time has no zone.
        """
        return {
            "state": list(texts_of(self.states)),
            "status": list(texts_of(self.statuses)),
            "reason": list(texts_of(self.reasons)),
            "namespace": self.namespace,
            "template": self.template,
            "step": self.step,
            "fingerprint": self.fingerprint,
            "owner": self.owner,
            "tag": [f"{key}={value}" for key, value in self.tags.items()],
            "seen_after": rfc3339_of(self.seen_after, "seen_after"),
            "seen_before": rfc3339_of(self.seen_before, "seen_before"),
        }

    def wire(self) -> BulkDeadLetters:
        """Return what a bulk takes: it is for those that are dead, whatever `states` says.

        Raises:
            ValueInvalid: a time has no zone.
        """
        return BulkDeadLetters(
            statuses=texts_of(self.statuses),
            reasons=texts_of(self.reasons),
            namespace=self.namespace,
            template=self.template,
            step=self.step,
            fingerprint=self.fingerprint,
            owner=self.owner,
            tags=dict(self.tags),
            seen_after=rfc3339_of(self.seen_after, "seen_after"),
            seen_before=rfc3339_of(self.seen_before, "seen_before"),
        )


EVERYTHING_OPEN: Final = DeadLetterFilter()


class DeadLetters:
    """The dead letters of a client's tenant. Reads need HTTP; commands travel as all of the client's do.

    Every command says who asks and why: both are kept in the log. It names a letter by task and step, as the list shows
    them: no step, or "", is the task itself.
    """

    def __init__(self, send: SendCommand, read: Read, ids: IdSource, bulks: Bulks) -> None:
        self._send = send
        self._bulks = bulks
        self._read = read
        self._ids = ids

    # ---------------------------------------------------------------- reads

    async def list(
        self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None, page_items: int = PAGE_ITEMS
    ) -> AsyncIterator[DeadLetterView]:
        """Yield the dead letters that match, the newest first."""
        parameters: Parameters = wanted.parameters() | {"limit": page_items, "at_least": at_least}
        async for item in items_of(self._read, "/v1/dlq", DeadLetterPage, parameters):
            yield item

    async def groups(
        self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None, page_items: int = PAGE_ITEMS
    ) -> AsyncIterator[DeadLetterGroup]:
        """Yield the dead letters that match by fingerprint, the largest group first."""
        parameters: Parameters = wanted.parameters() | {"limit": page_items, "at_least": at_least}
        async for item in items_of(self._read, "/v1/dlq/groups", DeadLetterGroupPage, parameters):
            yield item

    async def count(self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None) -> int:
        """Return how many dead letters match."""
        parameters = wanted.parameters() | {"at_least": at_least}
        found: DeadLetterCount = await self._read("/v1/dlq/count", DeadLetterCount, parameters)
        return found.count

    async def of_task(self, task: TaskRef, *, at_least: str | None = None) -> Sequence[DeadLetterView]:
        """Return every dead letter of a task with its notes, those that left among them.

        Raises:
            TaskUnknown: there is no such task.
        """
        path = f"/v1/dlq/{segment(task_id_of(task))}"
        page: DeadLetterPage = await self._read(path, DeadLetterPage, {"at_least": at_least or position_of(task)})
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
        dry_run: bool = False,
    ) -> Reply:
        """Put a task, or a step of it, among the dead letters, although nothing has failed for good.

        Raises:
            TaskUnknown, StepUnknown, StateForbids: there is nothing to add, or it is there already.
        """
        command = DeadLetterAdd(
            task_id=task_id_of(task),
            step=step or None,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(command_id, self._ids),
            dry_run=dry_run,
        )
        return await self._send("dlq.add", command)

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
        dry_run: bool = False,
    ) -> Reply:
        """Look into a dead letter: give it an owner ("": nobody), add a note; one of note and reason is needed.

        Raises:
            DeadLetterUnknown: it is none.
        """
        command = DeadLetterInvestigate(
            task_id=task_id_of(task),
            step=step or None,
            owner=owner,
            note=note,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(command_id, self._ids),
            dry_run=dry_run,
        )
        return await self._send("dlq.investigate", command)

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
        dry_run: bool = False,
    ) -> Reply:
        """Settle a dead letter; `ignore` says that nothing is to be done about it.

        Raises:
            DeadLetterUnknown: it is none. StateForbids: another attempt than `attempt` failed last.
        """
        command = DeadLetterResolve(
            task_id=task_id_of(task),
            step=step or None,
            attempt=attempt,
            ignore=ignore,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(command_id, self._ids),
            dry_run=dry_run,
        )
        return await self._send("dlq.resolve", command)

    async def reopen(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        reason: str,
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Take back that a dead letter is settled.

        Raises:
            DeadLetterUnknown: it is none.
        """
        command = DeadLetterReopen(
            task_id=task_id_of(task),
            step=step or None,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(command_id, self._ids),
            dry_run=dry_run,
        )
        return await self._send("dlq.reopen", command)

    async def retry(
        self,
        task: TaskRef,
        step: str | None = None,
        *,
        requested_by: str,
        reason: str,
        attempt: int | None = None,
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Give the step, or every failed step of the task, a fresh set of attempts; the task goes on by itself.

        Raises:
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: there is nothing to retry.
        """
        command = DeadLetterRetry(
            task_id=task_id_of(task),
            step=step or None,
            attempt=attempt,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(command_id, self._ids),
            dry_run=dry_run,
        )
        return await self._send("dlq.retry", command)

    # ---------------------------------------------------------------- many

    async def retry_all(
        self,
        wanted: DeadLetterFilter = EVERYTHING_OPEN,
        *,
        requested_by: str,
        reason: str,
        on_progress: OnProgress | None = None,
        command_id: str | None = None,
    ) -> BulkOutcome:
        """Retry every dead letter that matches, is dead, and may be repaired so; each for the attempt that failed last.

        A task of the service's own does it (`client.bulk`), and goes on without us.

        Raises:
            StateForbids: somebody cancelled it.
        """
        return await self._bulks.run(
            "dlq.retry",
            wanted,
            requested_by=requested_by,
            reason=reason,
            on_progress=on_progress,
            command_id=command_id,
        )

    async def resolve_all(
        self,
        wanted: DeadLetterFilter = EVERYTHING_OPEN,
        *,
        requested_by: str,
        reason: str,
        ignore: bool = False,
        on_progress: OnProgress | None = None,
        command_id: str | None = None,
    ) -> BulkOutcome:
        """Settle every dead letter that matches and is dead, each for the attempt that failed last.

        A task of the service's own does it (`client.bulk`), and goes on without us.

        Raises:
            StateForbids: somebody cancelled it.
        """
        return await self._bulks.run(
            "dlq.resolve",
            wanted,
            requested_by=requested_by,
            reason=reason,
            on_progress=on_progress,
            command_id=command_id,
            arguments={"ignore": ignore} if ignore else {},
        )
