"""What steps ask people, as a client lists and answers it: `client.approvals`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypedDict, Unpack

import msgspec

from tasker.client.http import Parameters
from tasker.client.pages import Read, items_of
from tasker.client.requests import PAGE_ITEMS, SendCommand, TaskRef, command_id_of, task_id_of
from tasker.events.codec import encode_value
from tasker.events.messages import Reply, StepApprove, StepDelegate, StepReject
from tasker.events.reads import ApprovalPage, ApprovalView
from tasker.ids import IdSource


class AnswerOptions(TypedDict, total=False):
    """What every answer takes.

    Attributes:
        reason: why, kept with the answer.
        attempt: the asking that they saw; another one now is a conflict.
        command_id: names the answer, so that a repetition is the same one; drawn when absent.
        dry_run: only say what would happen.
    """

    reason: str | None
    attempt: int | None
    command_id: str | None
    dry_run: bool


class Approvals:
    """The open approvals of a client's tenant. Reads need HTTP; answers travel as all commands of the client do.

    Every answer says by whom it is. That they are who they say, and have the `roles`, whoever answers here vouches for.
    """

    def __init__(self, send: SendCommand, read: Read, ids: IdSource) -> None:
        self._send = send
        self._read = read
        self._ids = ids

    async def list(
        self,
        *,
        assignee: str | None = None,
        roles: Sequence[str] = (),
        namespace: str | None = None,
        template: str | None = None,
        at_least: str | None = None,
        page_items: int = PAGE_ITEMS,
    ) -> AsyncIterator[ApprovalView]:
        """Yield the open approvals, the oldest first; with `assignee` or `roles` those that such a person may answer.

        Args:
            assignee: a person.
            roles: that they have.
            namespace: of the task's template.
            template: its name.
            at_least: a position that the views must have reached.
            page_items: how many come at a time.
        """
        parameters: Parameters = {
            "assignee": assignee,
            "role": list(roles) or None,
            "namespace": namespace,
            "template": template,
            "limit": page_items,
            "at_least": at_least,
        }
        async for item in items_of(self._read, "/v1/approvals", ApprovalPage, parameters):
            yield item

    async def approve(
        self,
        task: TaskRef,
        step: str,
        values: object = None,
        *,
        requested_by: str,
        roles: Sequence[str] = (),
        **options: Unpack[AnswerOptions],
    ) -> Reply:
        """Say yes to what a step asks.

        Args:
            task: whose step.
            step: its name.
            values: of the approval's form.
            requested_by: who answers.
            roles: that they have.
            options: why, and which asking.

        Raises:
            ApprovalForbidden: they may not answer.
            ApprovalInvalid: the values do not match the form.
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: the step does not ask, or not any more.
        """
        command = StepApprove(
            task_id=task_id_of(task),
            requested_by=requested_by,
            step=step,
            values=msgspec.Raw(encode_value(values)),
            roles=tuple(roles),
            **self._named(options),
        )
        return await self._send("step.approve", command)

    async def reject(
        self,
        task: TaskRef,
        step: str,
        values: object = None,
        *,
        requested_by: str,
        roles: Sequence[str] = (),
        **options: Unpack[AnswerOptions],
    ) -> Reply:
        """Say no to what a step asks; everything else is as with `approve`."""
        command = StepReject(
            task_id=task_id_of(task),
            requested_by=requested_by,
            step=step,
            values=msgspec.Raw(encode_value(values)),
            roles=tuple(roles),
            **self._named(options),
        )
        return await self._send("step.reject", command)

    async def delegate(
        self,
        task: TaskRef,
        step: str,
        *,
        to: str,
        requested_by: str,
        roles: Sequence[str] = (),
        **options: Unpack[AnswerOptions],
    ) -> Reply:
        """Have somebody else answer what a step asks `by`.

        Raises:
            ApprovalForbidden: they may not answer, or not hand it over.
            TaskUnknown, StepUnknown, TaskEnded, StateForbids: the step does not ask, or not any more.
        """
        command = StepDelegate(
            task_id=task_id_of(task),
            requested_by=requested_by,
            step=step,
            to=to,
            roles=tuple(roles),
            **self._named(options),
        )
        return await self._send("step.delegate", command)

    def _named(self, options: AnswerOptions) -> AnswerOptions:
        """Return `options` with the id that makes a repetition the same answer."""
        return {**options, "command_id": command_id_of(options.get("command_id"), self._ids)}
