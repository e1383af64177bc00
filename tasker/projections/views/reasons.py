"""What a step that has begun waits for: the one rule behind `waiting_on` of steps and tasks, and behind `explain`.

A new reason is one case here, and a name among `events.reads.WaitingFor`.
"""

from __future__ import annotations

from typing import NamedTuple

from tasker.events.reads import WaitingFor
from tasker.projections.views.awaits import awaited_words
from tasker.times import to_rfc3339


class Standing(NamedTuple):
    """The facts of a step's row that the rule looks at."""

    step: str
    state: str
    worker: str | None = None
    retry_at_us: int | None = None
    waits: str | None = None
    awaits: str | None = None
    child: str | None = None
    cancelling: bool = False


class Reason(NamedTuple):
    """What a step waits for.

    Attributes:
        waiting_for: of what kind it is.
        words: as the step says it: "its retry at ...".
        in_task: as its task says it: "the retry of step charge at ...".
    """

    waiting_for: WaitingFor
    words: str
    in_task: str


def reason_of(one: Standing) -> Reason | None:
    """Return what a step waits for; None when it has ended."""
    step = one.step
    match one.state:
        case "dispatched":
            return Reason("worker", "a worker", f"a worker for step {step}")
        case "running" if one.cancelling:
            return Reason("stop", f"worker {one.worker} to stop it", f"step {step} on worker {one.worker}")
        case "running":
            return Reason("outcome", f"worker {one.worker} to finish it", f"step {step} on worker {one.worker}")
        case "waiting":
            return _waiting(one)
        case _:
            return None


def _waiting(one: Standing) -> Reason:
    step = one.step
    at = f" at {to_rfc3339(one.retry_at_us)}" if one.retry_at_us else ""
    match one.waits:
        case "child":
            words = f"child task {one.child}" if one.child else "the start of its child task"
            return Reason("child", words, f"the child task of step {step}")
        case "signal" | "approval":
            words = awaited_words(one.awaits)
            return Reason("approval" if one.waits == "approval" else "signal", words, f"{words} for step {step}")
        case "event":
            words = awaited_words(one.awaits)
            return Reason("event", words, f"{words} for step {step}")
        case "place":
            words = awaited_words(one.awaits)
            return Reason("place", words, f"{words} for step {step}")
        case "items":
            return Reason("items", "its items", f"the items of step {step}")
        case "time":
            return Reason(
                "time", f"the time{at.removeprefix(' at')}", f"the time of step {step},{at.removeprefix(' at')}"
            )
        case "checkpoint":
            return Reason("checkpoint", f"its next part{at}", f"the next part of step {step}{at}")
        case _:
            return Reason("retry", f"its retry{at}", f"the retry of step {step}{at}")
