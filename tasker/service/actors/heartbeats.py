"""When running attempts were heard of last, and the progress they told: this is in memory alone."""

from __future__ import annotations

from typing import Final

from tasker.events.envelope import US_PER_S
from tasker.events.messages import PEEKED_STEPS_MAX, Progress, StepProgress
from tasker.service.domain.state import STEP_RUNNING, TaskState
from tasker.times import to_rfc3339

PROGRESS_CHARS_MAX: Final = 200


class Heartbeats:
    """The heartbeats of one task's attempts."""

    __slots__ = ("_at_us", "_progress")

    def __init__(self) -> None:
        self._at_us: dict[str, int] = {}
        self._progress: dict[str, StepProgress] = {}

    def give_grace(self, state: TaskState, now_us: int) -> None:
        """Count silence from now on: the heartbeats of running steps went to an owner before this one."""
        for name, step in state.steps.items():
            if step.status is STEP_RUNNING:
                self._at_us[name] = now_us

    def take(self, step: str, attempt: int, progress: Progress | None, now_us: int) -> None:
        """Take up a heartbeat."""
        self._at_us[step] = now_us
        if progress is not None:
            self._progress[step] = StepProgress(
                attempt=attempt,
                at=to_rfc3339(now_us),
                done=progress.done,
                total=progress.total,
                message=progress.message[:PROGRESS_CHARS_MAX],
            )

    def due_us(self, state: TaskState, step: str) -> int:
        """Return by when the next heartbeat of a running step is due, as far as memory knows."""
        return self._at_us.get(step, 0) + round(state.steps[step].heartbeat_s * US_PER_S)

    def progress(self, state: TaskState, behind: str | None) -> dict[str, StepProgress]:
        """Return what running attempts told last, of the steps next `behind` a name; what ended ones did is forgotten.

        Args:
            state: of their task.
            behind: None: of the first by name.
        """
        for name, told in list(self._progress.items()):
            step = state.steps.get(name)
            if step is None or step.status is not STEP_RUNNING or step.attempt != told.attempt:
                del self._progress[name]
        names = sorted(self._progress if behind is None else (name for name in self._progress if name > behind))
        return {name: self._progress[name] for name in names[:PEEKED_STEPS_MAX]}
