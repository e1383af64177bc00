"""The spans of tasks: a commit, a dispatch, a worker's result. Made only where the process traces.

command -> commit -> dispatch -> (the worker's handler) -> result -> commit -> dispatch -> ...
                        `- links to the dispatch of the attempt before
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tasker.errors import TaskerError
from tasker.events.messages import Report
from tasker.events.stored import TYPE_OF
from tasker.events.task_events import AnyTaskEvent
from tasker.tracing import SpanKind, Tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class TaskTraces:
    """Starts the spans of this node's tasks."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def result(self, report: Report, parent: str | None) -> tuple[Span, str]:
        """Return a begun span of taking a worker's outcome, and what names it."""
        span = self._tracing.start(
            f"tasker.result {report.step}",
            SpanKind.CONSUMER,
            parent=report.traceparent or parent,
            attributes={
                "task_id": report.task_id,
                "step": report.step,
                "attempt": report.attempt,
                "outcome": report.kind,
            },
        )
        return span, self._tracing.traceparent(span)

    def commit(self, task_id: str, events: Sequence[AnyTaskEvent], parent: str | None) -> tuple[Span, str]:
        """Return a begun span of recording `events`, and what names it."""
        span = self._tracing.start(
            "tasker.commit",
            SpanKind.INTERNAL,
            parent=parent,
            attributes={"task_id": task_id, "events": ", ".join(TYPE_OF[type(event)] for event in events)},
        )
        return span, self._tracing.traceparent(span)

    def dispatch(self, task_id: str, step: str, attempt: int, *, parent: str, before: str | None) -> str:
        """Tell of a dispatch, which is over at once; returns what names it, for the worker.

        `before` names the dispatch of the attempt before, when this is a retry.
        """
        span = self._tracing.start(
            f"tasker.dispatch {step}",
            SpanKind.PRODUCER,
            parent=parent,
            links=() if before is None else (before,),
            attributes={"task_id": task_id, "step": step, "attempt": attempt},
        )
        span.end()
        return self._tracing.traceparent(span)

    def failing(self, span: Span, failed: Callable[[TaskerError], None]) -> Callable[[TaskerError], None]:
        """Return `failed`, which also ends `span` as failed."""

        def ended(error: TaskerError) -> None:
            self._tracing.fail(span, error.code)
            span.end()
            failed(error)

        return ended
