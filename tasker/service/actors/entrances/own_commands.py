"""Commands that the service gives itself: tasks that schedules and steps start and cancel.

They go in as anybody's, through the entrance, which hands each to the owner of its task's shard and answers it.
"""

from __future__ import annotations

from uuid import UUID

from tasker.errors import TaskerError
from tasker.events.codec import encode_message
from tasker.events.messages import Command
from tasker.service.actors.entrances.asked import Answer, Asked
from tasker.service.actors.entrances.entrance import Entrance


class OwnCommands:
    """The way in; it opens once there is an entrance."""

    def __init__(self) -> None:
        self._entrance: Entrance | None = None

    def attach(self, entrance: Entrance) -> None:
        """Send through `entrance` from now on."""
        self._entrance = entrance

    def send(
        self,
        tenant: str,
        verb: str,
        command: Command,
        answer: Answer,
        *,
        task_id: UUID | None = None,
        traceparent: str | None = None,
        depth: int = 0,
    ) -> None:
        """Give a command; `answer` gets the bytes of its verdict.

        `task_id`: of a creation whose id is known. `depth`: of a creation by a task that runs: how
        many are above it. That task goes on by it, so it is let in always.
        """
        assert self._entrance is not None  # noqa: S101 - attached before any shard is taken
        asked = Asked(tenant, verb, encode_message(command), None, traceparent, answer)
        asked.task_id, asked.depth, asked.is_own = task_id, depth, True
        try:
            self._entrance.take(asked)
        except TaskerError as error:
            asked.refuse(error)
