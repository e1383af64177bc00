"""What the actor of a task is sent."""

from __future__ import annotations

from collections.abc import Callable

from tasker.errors import TaskerError
from tasker.events.envelope import Meta
from tasker.events.messages import Report, ReportReply
from tasker.service.actors.children.child_news import ChildHint, ChildNews
from tasker.service.actors.children.standing import StandingMessage
from tasker.service.actors.command_message import CommandMessageBase, Failed
from tasker.service.actors.dry_runs import Planned
from tasker.service.actors.investigation_actor import SubjectMessage
from tasker.service.actors.limits.admission_news import AdmissionLook, Admitted
from tasker.service.actors.limits.place_news import PlaceNews
from tasker.service.actors.limits.postponing import PostponeMessage
from tasker.service.actors.lost_message import LostObligations
from tasker.service.actors.restarts import OriginalMessage
from tasker.service.domain.commands import AnyTaskCommand, CreateTask
from tasker.service.runtime.actor import Recorded
from tasker.service.runtime.node import Wake
from tasker.templates import CompiledTemplate


class CreateMessage:
    """Create the task, unless it exists.

    Attributes:
        plan: template and command; or why they could not be made, which only matters when the task is new.
        goes_on: a task that runs starts it: it is let in, however many there are.
        is_admitted: it is let in under the caps of its template.
        attached: answers with another task that runs, of which there may be one; None: this start waits for its end.
        debounced: answers with the task that took this start, and where; None: this start is a task of its own.
        planned: of a dry run: takes what the creation would cause, in place of `answered`; nothing is recorded.
    """

    __slots__ = (
        "answered",
        "attached",
        "debounced",
        "fail",
        "goes_on",
        "is_admitted",
        "meta",
        "plan",
        "planned",
        "request_hash",
        "tenant",
    )

    def __init__(
        self,
        *,
        tenant: str,
        request_hash: str,
        plan: Callable[[int], tuple[CompiledTemplate, CreateTask]] | TaskerError,
        meta: Meta,
        answered: Recorded,
        fail: Failed,
        goes_on: bool = False,
        attached: Callable[[int, str], None] | None = None,
        debounced: Callable[[str, str], None] | None = None,
        planned: Planned | None = None,
    ) -> None:
        self.planned = planned
        self.attached = attached
        self.debounced = debounced
        self.tenant = tenant
        self.goes_on = goes_on
        self.is_admitted = False
        self.request_hash = request_hash
        self.plan = plan
        self.meta = meta
        self.answered = answered
        self.fail = fail


class CommandMessage(CommandMessageBase[Callable[[int], AnyTaskCommand], Recorded]):
    """A command to an existing task."""

    __slots__ = ()


class ReportMessage:
    """A worker's report."""

    __slots__ = ("answered", "fail", "report", "tenant")

    def __init__(self, *, tenant: str, report: Report, answered: Callable[[ReportReply], None], fail: Failed) -> None:
        self.tenant = tenant
        self.report = report
        self.answered = answered
        self.fail = fail


TaskMessage = (
    CreateMessage
    | CommandMessage
    | ReportMessage
    | StandingMessage
    | SubjectMessage
    | OriginalMessage
    | ChildNews
    | ChildHint
    | PlaceNews
    | Admitted
    | AdmissionLook
    | PostponeMessage
    | LostObligations
    | Wake
)
