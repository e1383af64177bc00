"""When running attempts were heard of last, and the progress they told: this is in memory alone.

With it is asked how far the lists of the task are, which its state says.
"""

from __future__ import annotations

from typing import Final

from tasker.events.envelope import US_PER_S
from tasker.events.messages import PEEKED_STEPS_MAX, Progress, StepProgress
from tasker.service.domain.state import STEP_RUNNING, STEP_WAITING, TaskState
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

    def progress(self, state: TaskState, behind: str | None, now_us: int) -> dict[str, StepProgress]:
        """Return what running attempts told last, and how far lists are; what ended attempts told is forgotten.

        Args:
            state: of their task.
            behind: of the steps next behind this name; None: of the first by name.
            now_us: now.
        """
        for name, told in list(self._progress.items()):
            step = state.steps.get(name)
            if step is None or step.status is not STEP_RUNNING or step.attempt != told.attempt:
                del self._progress[name]
        found = self._progress | _of_lists(state, now_us)
        names = sorted(found if behind is None else (name for name in found if name > behind))
        return {name: found[name] for name in names[:PEEKED_STEPS_MAX]}


def _of_lists(state: TaskState, now_us: int) -> dict[str, StepProgress]:
    return {
        name: StepProgress(
            attempt=step.attempt,
            at=to_rfc3339(now_us),
            done=step.expansion.completed,
            total=len(step.expansion.items),
            failed=len(step.expansion.failed),
        )
        for name, step in state.steps.items()
        if step.expansion is not None and step.status is STEP_WAITING
    }
