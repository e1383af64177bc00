"""`TaskerSyncClient.approvals`: approvals for programs without an event loop; each call blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Unpack

from tasker.client.approvals import PAGE_ITEMS, AnswerOptions, Approvals
from tasker.client.requests import TaskRef
from tasker.client.sync_dead_letters import Loop
from tasker.events.messages import Reply
from tasker.events.reads import ApprovalView


class SyncApprovals:
    """The open approvals of a client's tenant. Every call is that of `Approvals`, without `await`."""

    def __init__(self, loop: Loop, approvals: Approvals) -> None:
        self._loop = loop
        self._approvals = approvals

    def list(
        self,
        *,
        assignee: str | None = None,
        roles: Sequence[str] = (),
        namespace: str | None = None,
        template: str | None = None,
        at_least: str | None = None,
        page_items: int = PAGE_ITEMS,
    ) -> Iterator[ApprovalView]:
        """Yield the open approvals, the oldest first; see `Approvals.list`."""
        return self._loop.iterate(
            lambda: self._approvals.list(
                assignee=assignee,
                roles=roles,
                namespace=namespace,
                template=template,
                at_least=at_least,
                page_items=page_items,
            )
        )

    def approve(
        self,
        task: TaskRef,
        step: str,
        values: object = None,
        *,
        by: str,
        roles: Sequence[str] = (),
        **options: Unpack[AnswerOptions],
    ) -> Reply:
        """Say yes to what a step asks; see `Approvals.approve`."""
        return self._loop.run(self._approvals.approve(task, step, values, by=by, roles=roles, **options))

    def reject(
        self,
        task: TaskRef,
        step: str,
        values: object = None,
        *,
        by: str,
        roles: Sequence[str] = (),
        **options: Unpack[AnswerOptions],
    ) -> Reply:
        """Say no to what a step asks; see `Approvals.reject`."""
        return self._loop.run(self._approvals.reject(task, step, values, by=by, roles=roles, **options))

    def delegate(
        self,
        task: TaskRef,
        step: str,
        *,
        to: str,
        by: str,
        roles: Sequence[str] = (),
        **options: Unpack[AnswerOptions],
    ) -> Reply:
        """Have somebody else answer what a step asks `by`; see `Approvals.delegate`."""
        return self._loop.run(self._approvals.delegate(task, step, to=to, by=by, roles=roles, **options))
