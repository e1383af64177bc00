"""How long attempts wait and take, from what workers report."""

from __future__ import annotations

from collections.abc import Sequence

from tasker.events.envelope import US_PER_S
from tasker.events.messages import ReportKind
from tasker.events.task_events import AnyTaskEvent, StepStarted
from tasker.metrics import Histogram
from tasker.metrics.catalogue import OUTCOMES


class StepTimes:
    """Histograms of the attempts of this node's tasks."""

    __slots__ = ("outcomes", "starts")

    def __init__(self) -> None:
        self.starts = Histogram("tasker_step_schedule_to_start_seconds")
        self.outcomes = {outcome: Histogram("tasker_step_latency_seconds") for outcome in OUTCOMES}

    def add(self, report: ReportKind, events: Sequence[AnyTaskEvent], elapsed_us: int) -> None:
        """Count a report that caused `events`, `elapsed_us` after the attempt's dispatch."""
        elapsed_s = elapsed_us / US_PER_S
        if type(events[0]) is StepStarted:
            self.starts.add(elapsed_s)
        outcome = self.outcomes.get(report)
        if outcome is not None:
            outcome.add(elapsed_s)
