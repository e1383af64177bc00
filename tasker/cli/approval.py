"""`tasker approval`: what steps ask people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from tasker.cli.options import COMMON, Common, DryRun, Limit

if TYPE_CHECKING:
    from tasker.client.approvals import AnswerOptions

app = App(name="approval", help="List what steps ask people, answer it.")

Roles = Annotated[list[str] | None, Parameter(name="--role", negative="")]
Values = Annotated[str, Parameter(name=["--values", "-v"], metavar="JSON|@FILE|-")]


@Parameter(name="*")
@dataclass(frozen=True)
class Answering:
    """Options of every answer.

    Attributes:
        reason: why, kept with the answer.
        attempt: the asking that you saw; when it is asked anew by now, nothing happens.
        command_id: names this command, so that a repetition is the same one.
        dry_run: only show what would happen.
    """

    reason: str | None = None
    attempt: int | None = None
    command_id: str | None = None
    dry_run: DryRun = False

    def options(self) -> AnswerOptions:
        """Return them as the client takes them."""
        return {
            "reason": self.reason,
            "attempt": self.attempt,
            "command_id": self.command_id,
            "dry_run": self.dry_run,
        }


ANSWERING = Answering()


@app.command(name="list")
async def list_(
    *,
    assignee: str | None = None,
    role: Roles = None,
    namespace: str | None = None,
    template: str | None = None,
    limit: Limit = 100,
    common: Common = COMMON,
) -> None:
    """List the open approvals, the oldest first.

    For example:

    $ tasker approval list --assignee ada --role editors

    Args:
        assignee: only those that this person may answer.
        role: or that somebody with this role may; may be repeated.
        namespace: of the task's template.
        template: its name, or NAMESPACE/NAME.
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import place_of
    from tasker.cli.output import time_text
    from tasker.cli.reach import client
    from tasker.cli.showing import page_items_of, show_first

    columns: list[Any] = [
        ("task", lambda row: row.task_id),
        ("step", lambda row: row.step),
        ("template", lambda row: f"{row.namespace}/{row.template}"),
        ("asks", lambda row: ", ".join((*row.assignees, *(f"role {one}" for one in row.roles))) or "anybody"),
        ("title", lambda row: row.title or None),
        ("approved by", lambda row: ", ".join(row.approved_by) or None),
        ("since", lambda row: time_text(row.requested_at)),
        ("until", lambda row: time_text(row.deadline_at)),
    ]
    template, namespace = place_of(template, namespace)
    async with client(common) as service:
        listing = service.approvals.list(
            assignee=assignee,
            roles=role or (),
            namespace=namespace,
            template=template,
            page_items=page_items_of(limit),
        )
        await show_first(listing, limit, columns, common.output, empty="nothing is asked")


@app.command
async def approve(
    task: str,
    step: str,
    /,
    *,
    requested_by: str | None = None,
    values: Values = "null",
    role: Roles = None,
    answering: Answering = ANSWERING,
    common: Common = COMMON,
) -> None:
    """Say yes to what a step asks; the task goes on by itself.

    For example:

    $ tasker approval approve 0192f7... review --requested-by ada --values '{"channel": "blog"}' --reason "well done"

    Args:
        task: its id.
        step: its name.
        requested_by: who answers; your user name unless given.
        values: of the approval's form, as JSON, a file's content, or stdin.
        role: that they have; may be repeated.
        answering: why, and to which asking.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import asked_by, read_json
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.approvals.approve(
            task,
            step,
            read_json(values),
            requested_by=asked_by(requested_by),
            roles=role or (),
            **answering.options(),
        )
    show_reply(reply, common.output)


@app.command
async def reject(
    task: str,
    step: str,
    /,
    *,
    requested_by: str | None = None,
    values: Values = "null",
    role: Roles = None,
    answering: Answering = ANSWERING,
    common: Common = COMMON,
) -> None:
    """Say no to what a step asks; the task goes on as its template says.

    For example:

    $ tasker approval reject 0192f7... review --requested-by ada --reason "the figures are last year's"

    Args:
        task: its id.
        step: its name.
        requested_by: who answers; your user name unless given.
        values: of the approval's form, as JSON, a file's content, or stdin; none unless given.
        role: that they have; may be repeated.
        answering: why, and to which asking.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import asked_by, read_json
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.approvals.reject(
            task,
            step,
            read_json(values),
            requested_by=asked_by(requested_by),
            roles=role or (),
            **answering.options(),
        )
    show_reply(reply, common.output)


@app.command
async def delegate(
    task: str,
    step: str,
    /,
    *,
    to: str,
    requested_by: str | None = None,
    role: Roles = None,
    answering: Answering = ANSWERING,
    common: Common = COMMON,
) -> None:
    """Have somebody else answer what a step asks.

    For example:

    $ tasker approval delegate 0192f7... review --requested-by ada --to bob --reason "on holiday"

    Args:
        task: its id.
        step: its name.
        to: who is to answer.
        requested_by: who was asked; your user name unless given.
        role: that they have; may be repeated.
        answering: why, and to which asking.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import asked_by
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.approvals.delegate(
            task,
            step,
            to=to,
            requested_by=asked_by(requested_by),
            roles=role or (),
            **answering.options(),
        )
    show_reply(reply, common.output)
