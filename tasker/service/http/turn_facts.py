"""When steps have their turn under rate limits: asked of the owner of their task, which keeps the line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.errors import TaskerError
from tasker.events.codec import encode_message
from tasker.events.reads import StepView, TaskView, TurnFacts
from tasker.events.subjects import Subjects
from tasker.events.turns import LOOK_AT, TurnWords
from tasker.service.http.services import Services

ANSWER_S: Final = 0.5
"""A read does not wait longer for what it can do without."""

STEPS_ASKED: Final = 10
"""Most steps that one read asks after: each costs its owner a look at all who wait for the same."""

_log = structlog.get_logger(__name__)
_facts: Callable[[bytes], dict[str, TurnFacts]] = msgspec.json.Decoder(dict[str, TurnFacts]).decode


class BusTurns:
    """Asks owners over the bus (`TurnsOf`)."""

    def __init__(self, bus: Bus, subjects: Subjects, shard_of: Callable[[UUID], int]) -> None:
        self._bus = bus
        self._subjects = subjects
        self._shard_of = shard_of

    async def __call__(self, task_id: UUID, attempts: Mapping[str, int]) -> Mapping[str, TurnFacts]:
        """Return the turns of attempts that wait for one, by step; nothing when the owner does not say in time."""
        subject = self._subjects.node_shard(self._shard_of(task_id), LOOK_AT)
        words = TurnWords(task_id=str(task_id), attempts=dict(attempts))
        try:
            answer = await self._bus.request(subject, encode_message(words), timeout_s=ANSWER_S)
            return _facts(answer.data)
        except (TaskerError, msgspec.DecodeError) as error:
            _log.debug("turns_not_told", task_id=words.task_id, error=str(error))
            return {}


async def of_steps(
    services: Services, view: TaskView, steps: Sequence[StepView], asked: str
) -> Mapping[str, TurnFacts]:
    """Return when steps have their turn that wait for one under a rate limit.

    Args:
        services: knows whom to ask.
        view: of their task.
        steps: with what they wait for; of more than a few the first are asked after.
        asked: the one that is explained comes first.
    """
    waiting = {
        one.step: one.attempt
        for one in sorted(steps, key=lambda one: one.step != asked)
        if one.waiting_facts is not None and one.waiting_facts.kind == "worker" and one.waiting_facts.limits
    }
    if services.turns_of is None or not waiting:
        return {}
    return await services.turns_of(UUID(view.task_id), dict(list(waiting.items())[:STEPS_ASKED]))
