"""What the lifecycle events say, task by task: each transition once, whatever was killed meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import datetime
from typing import Any, Literal

import msgspec

from tasker.client.subscription import Subscription, type_of
from tasker.events.messages import LifecycleEvent

State = Literal["open", "completed", "blocked", "failed", "cancelled"]

SETTLING: dict[str, State] = {
    "task_completed": "completed",
    "task_blocked": "blocked",
    "task_failed": "failed",
    "task_cancelled": "cancelled",
}
QUIET_S = 0.5


class Story(msgspec.Struct):
    """A task as its events tell it."""

    task_id: str
    state: State = "open"
    seqs: list[int] = []
    attempts: Counter[str] = msgspec.field(default_factory=Counter)
    completed: Counter[str] = msgspec.field(default_factory=Counter)
    errors: list[str] = []
    retries: int = 0
    created_s: float = 0.0
    settled_s: float = 0.0
    result: Any = None
    undone: list[str] = []


class Tally:
    """Takes events and counts them."""

    def __init__(self) -> None:
        self.stories: dict[str, Story] = {}
        self.settled = 0
        self.events = 0
        self.last_recorded_s = 0.0
        self.position: str | None = None
        self._changed = asyncio.Event()

    async def follow(self, events: Subscription) -> None:
        """Take events for ever."""
        async for event in events:
            self._take(event)
            self.position = events.position
            self._changed.set()

    async def until(self, settled: int) -> None:
        """Return when so many tasks have ended or are blocked."""
        while self.settled < settled:
            await self.change()

    async def until_recorded_after(self, time_s: float) -> None:
        """Return when an event came that was recorded after `time_s`."""
        while self.last_recorded_s <= time_s:
            await self.change()

    async def quiet(self) -> None:
        """Return when no event came for a moment."""
        try:
            while True:
                async with asyncio.timeout(QUIET_S):
                    await self.change()
        except TimeoutError:
            return

    async def change(self) -> None:
        """Return at the next event."""
        self._changed.clear()
        await self._changed.wait()

    def _take(self, event: LifecycleEvent) -> None:
        self.events += 1
        recorded_s = datetime.fromisoformat(event.time).timestamp()
        self.last_recorded_s = max(self.last_recorded_s, recorded_s)
        story = self.stories.setdefault(event.subject, Story(event.subject))
        story.seqs.append(event.seq)
        data = json.loads(bytes(event.data))
        kind = type_of(event)
        match kind:
            case "task_created":
                story.created_s = recorded_s
            case "step_dispatched":
                story.attempts[data["step"]] += 1
            case "step_completed":
                story.completed[data["step"]] += 1
                if data["step"].endswith("~undo"):
                    story.undone.append(data["step"])
            case "step_attempt_failed":
                story.errors.append(data["error"]["message"])
            case "step_retry_scheduled":
                story.retries += 1
            case "task_completed":
                story.result = data["result"]
            case _:
                pass
        if kind in SETTLING:
            story.state = SETTLING[kind]
            story.settled_s = recorded_s
            self.settled += 1
