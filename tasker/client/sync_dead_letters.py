"""`TaskerSyncClient.dlq`: dead letters for programs without an event loop; each call blocks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from tasker.client.bulk import OnProgress
from tasker.client.dead_letters import (
    EVERYTHING_OPEN,
    PAGE_ITEMS,
    DeadLetterFilter,
    DeadLetters,
)
from tasker.client.requests import TaskRef
from tasker.events.bulk import BulkOutcome
from tasker.events.messages import Reply
from tasker.events.reads import DeadLetterGroup, DeadLetterView

T = TypeVar("T")


class Loop(Protocol):
    """Runs what is asked on the client's loop."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` does."""
        ...

    def iterate(self, begin: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        """Yield what an async iterator does."""
        ...


class SyncDeadLetters:
    """The dead letters of a client's tenant. Reads need HTTP; commands travel as all of the client's do.

    Every command says who asks and why: both are kept in the log.
    """

    def __init__(self, loop: Loop, letters: DeadLetters) -> None:
        self._loop = loop
        self._letters = letters

    def list(
        self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None, page_items: int = PAGE_ITEMS
    ) -> Iterator[DeadLetterView]:
        """Yield the dead letters that match, the newest first."""
        return self._loop.iterate(lambda: self._letters.list(wanted, at_least=at_least, page_items=page_items))

    def groups(
        self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None, page_items: int = PAGE_ITEMS
    ) -> Iterator[DeadLetterGroup]:
        """Yield the dead letters that match by fingerprint, the largest group first."""
        return self._loop.iterate(lambda: self._letters.groups(wanted, at_least=at_least, page_items=page_items))

    def count(self, wanted: DeadLetterFilter = EVERYTHING_OPEN, *, at_least: str | None = None) -> int:
        """Return how many dead letters match."""
        return self._loop.run(self._letters.count(wanted, at_least=at_least))

    def of_task(self, task: TaskRef, *, at_least: str | None = None) -> Sequence[DeadLetterView]:
        """Return every dead letter of a task with its notes, those that left among them.

        Raises:
            TaskUnknown: there is no such task.
        """
        return self._loop.run(self._letters.of_task(task, at_least=at_least))

    def add(
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
        return self._loop.run(
            self._letters.add(task, step, requested_by=requested_by, reason=reason, command_id=command_id)
        )

    def investigate(
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
        return self._loop.run(
            self._letters.investigate(
                task, step, requested_by=requested_by, owner=owner, note=note, reason=reason, command_id=command_id
            )
        )

    def resolve(
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
        return self._loop.run(
            self._letters.resolve(
                task,
                step,
                requested_by=requested_by,
                reason=reason,
                attempt=attempt,
                ignore=ignore,
                command_id=command_id,
            )
        )

    def reopen(
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
        return self._loop.run(
            self._letters.reopen(task, step, requested_by=requested_by, reason=reason, command_id=command_id)
        )

    def retry(
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
        return self._loop.run(
            self._letters.retry(
                task, step, requested_by=requested_by, reason=reason, attempt=attempt, command_id=command_id
            )
        )

    def retry_all(
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
        return self._loop.run(
            self._letters.retry_all(
                wanted, requested_by=requested_by, reason=reason, on_progress=on_progress, command_id=command_id
            )
        )

    def resolve_all(
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
        return self._loop.run(
            self._letters.resolve_all(
                wanted,
                requested_by=requested_by,
                reason=reason,
                ignore=ignore,
                on_progress=on_progress,
                command_id=command_id,
            )
        )
