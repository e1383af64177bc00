"""How far running attempts and lists are: asked of the owner of their task, who knows it from heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.errors import TaskerError
from tasker.events.codec import decode_message, encode_message
from tasker.events.messages import PEEKED_STEPS_MAX, Report, ReportReply, StepProgress
from tasker.events.subjects import Subjects

ANSWER_S: Final = 0.5
"""A read does not wait longer for what it can do without."""

_log = structlog.get_logger(__name__)
_progress = msgspec.json.Decoder(dict[str, StepProgress]).decode


class OwnersProgress:
    """Asks owners over the bus (`ProgressOf`)."""

    def __init__(self, bus: Bus, subjects: Subjects, shard_of: Callable[[UUID], int]) -> None:
        self._bus = bus
        self._subjects = subjects
        self._shard_of = shard_of

    async def __call__(self, tenant: str, task_id: UUID) -> Mapping[str, StepProgress]:
        """Return how far the task's running attempts and lists are, by step; what is not told in time is missing."""
        found: dict[str, StepProgress] = {}
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._read(tenant, task_id, found)
        except (TimeoutError, TaskerError, msgspec.DecodeError) as error:
            _log.debug("progress_not_told", task_id=str(task_id), told=len(found), error=str(error))
        return found

    async def _read(self, tenant: str, task_id: UUID, found: dict[str, StepProgress]) -> None:
        """Read all into `found`, answer by answer."""
        subject = self._subjects.report(tenant, self._shard_of(task_id))
        behind: str | None = None
        while True:
            report = Report(kind="peek", task_id=str(task_id), step="", attempt=0, worker="http", of=behind)
            answer = await self._bus.request(subject, encode_message(report), timeout_s=ANSWER_S)
            reply = decode_message(answer.data, ReportReply)
            if reply.error is not None:
                raise TaskerError.from_problem(reply.error)
            told = {} if reply.reason is not None else _progress(reply.result)
            known = len(found)
            found |= told
            if len(told) != PEEKED_STEPS_MAX or len(found) == known:
                return  # an owner before this build knows no `behind`, and tells all each time
            behind = max(told)
