"""How far running attempts are: asked of the owner of their task, who knows it from heartbeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.errors import TaskerError, Undecodable
from tasker.events.codec import decode_message, encode_message
from tasker.events.messages import Report, ReportReply, StepProgress
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
        """Return what the task's running attempts told last, by step; nothing when nobody answers in time."""
        report = Report(kind="peek", task_id=str(task_id), step="", attempt=0, worker="http")
        subject = self._subjects.report(tenant, self._shard_of(task_id))
        try:
            answer = await self._bus.request(subject, encode_message(report), timeout_s=ANSWER_S)
            reply = decode_message(answer.data, ReportReply)
            return _progress(reply.result) if reply.ok and reply.reason is None else {}
        except (TaskerError, Undecodable, msgspec.DecodeError) as error:
            _log.debug("progress_not_told", task_id=str(task_id), error=str(error))
            return {}
