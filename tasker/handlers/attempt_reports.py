"""What a worker reports of an attempt: to the node that offered it, while that answers, else to its shard's owner.

A node hears the reports of all its shards in one lane, so they leave in few requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from tasker.events.codec import encode_message
from tasker.events.messages import Progress, Report, ReportKind, ReportReply, Work
from tasker.events.subjects import Subjects, is_token
from tasker.events.task_events import ErrorInfo
from tasker.handlers.attempt import Attempt
from tasker.handlers.reports import OnAnswer, Outgoing, Reporter


class AttemptReports:
    """One worker's reports.

    Args:
        lanes: what sends them.
        headers: of a request to the node of that name.
    """

    def __init__(
        self,
        lanes: Reporter,
        subjects: Subjects,
        tenant: str,
        worker: str,
        headers: Callable[[str], Mapping[str, str]],
    ) -> None:
        self._lanes = lanes
        self._subjects = subjects
        self._tenant = tenant
        self._worker = worker
        self._headers = headers

    def send(
        self,
        attempt: Attempt,
        kind: ReportKind,
        on_answer: OnAnswer,
        *,
        of: str | None = None,
        progress: Progress | None = None,
    ) -> Outgoing:
        """Report on an attempt; `on_answer` gets the verdict, however long that takes."""
        report = self._report(attempt, kind)
        report.of = of
        report.progress = progress
        return self._send(attempt, report, on_answer)

    def send_outcome(self, attempt: Attempt, error: ErrorInfo | None, on_answer: OnAnswer) -> Outgoing:
        """Report how an attempt ended: by what it returned, or, when there is one, by `error`."""
        report = self._report(attempt, "completed" if error is None else "failed")
        report.error = error
        report.emitted = tuple(attempt.emitted)
        report.usage = () if attempt.metering is None else attempt.metering.lines()
        report.progress = attempt.progress
        if error is None and attempt.written:
            report.writes = attempt.written
        returned = attempt.returned
        if error is None and attempt.result is not None:
            result = msgspec.Raw(attempt.result)
            if returned is None or returned.again_after_s is None:
                report.result = result
                report.choice = None if returned is None else returned.choice
            else:
                report.kind = "yielded"
                report.emitted = ()  # they tell of an end, and this is none
                report.checkpoint = result
                report.after_s = returned.again_after_s
        return self._send(attempt, report, on_answer)

    def _report(self, attempt: Attempt, kind: ReportKind) -> Report:
        work = attempt.work
        return Report(
            kind=kind,
            task_id=work.task_id,
            step=work.step,
            attempt=work.attempt,
            worker=self._worker,
            traceparent=None if attempt.span is None or attempt.context is None else attempt.context.traceparent,
        )

    def _send(self, attempt: Attempt, report: Report, on_answer: OnAnswer) -> Outgoing:
        body = encode_message(report)
        node = attempt.work.node if attempt.source is None else attempt.source.node
        outgoing = Outgoing(body, on_answer, lasting=report.kind != "heartbeat", home=attempt.work.report_to)
        if is_token(node):
            tenant = self._subjects.tenant_of_work(self._tenant, attempt.work.report_to)
            self._lanes.send_by(self._subjects.report_to_node(tenant, node), lambda: self._headers(node), outgoing)
        else:
            self._lanes.send(attempt.work.report_to, outgoing)
        return outgoing

    def give_back(self, attempt: Attempt, delay_s: float) -> None:
        """Let others have an attempt that was not begun: its message, or what a node sent, through its owner."""
        if attempt.delivery is None:
            self.send(attempt, "returned", _ignore)
        else:
            attempt.nak(delay_s)

    def return_work(self, work: Work) -> None:
        """Have the owner offer to others what a node sent and no attempt was made of."""
        report = Report(
            kind="returned", task_id=work.task_id, step=work.step, attempt=work.attempt, worker=self._worker
        )
        self._lanes.send(work.report_to, Outgoing(encode_message(report), _ignore))


def why_not(reply: ReportReply) -> str:
    """Return why the owner refused a report or did not record it."""
    if reply.error is not None:
        return f"{reply.error.code}: {reply.error.detail}"
    return reply.reason or "no reason told"


def _ignore(_reply: ReportReply) -> None:
    """Take an answer that changes nothing here."""
