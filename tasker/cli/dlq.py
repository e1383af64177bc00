"""`tasker dlq`: what failed for good and waits for a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from tasker.cli.options import COMMON, Common, Limit, Tags

if TYPE_CHECKING:
    from tasker.client.dead_letters import DeadLetterFilter
    from tasker.events.messages import Reply

app = App(name="dlq", help="Look into what failed for good and waits for a person; retry it, settle it.")

Many = Annotated[list[str] | None, Parameter(negative="")]
Switch = Annotated[bool, Parameter(negative="")]


@Parameter(name="*")
@dataclass(frozen=True)
class Wanted:
    """Which dead letters.

    Attributes:
        state: dead, retrying or left; may be repeated. Without it and --status: what has neither left nor been settled.
        status: open, investigating, resolved or ignored; may be repeated.
        of_reason: retries_exhausted, permanent_error, no_worker, stale, poison or manual; may be repeated.
        namespace: of the template.
        template: its name, or NAMESPACE/NAME.
        of_step: a step of the template, with all its instances.
        fingerprint: of the error, as `tasker dlq groups` shows it.
        of_owner: only those that this person sees to.
        tag: only of tasks with all of these tags.
        seen_after: failed last at this RFC 3339 time or later.
        seen_before: failed last earlier.
    """

    state: Many = None
    status: Many = None
    of_reason: Many = None
    namespace: str | None = None
    template: str | None = None
    of_step: str | None = None
    fingerprint: str | None = None
    of_owner: str | None = None
    tag: Tags = None
    seen_after: str | None = None
    seen_before: str | None = None

    def filter(self) -> DeadLetterFilter:
        """Return the client's filter.

        Raises:
            UsageError: it names two namespaces, or what is no tag.
        """
        from tasker.cli.given import place_of, read_tags
        from tasker.client.dead_letters import DeadLetterFilter

        template, namespace = place_of(self.template, self.namespace)
        return DeadLetterFilter(
            states=tuple(self.state or ()),
            statuses=tuple(self.status or ()),
            reasons=tuple(self.of_reason or ()),
            namespace=namespace,
            template=template,
            step=self.of_step,
            fingerprint=self.fingerprint,
            owner=self.of_owner,
            tags=read_tags(self.tag),
            seen_after=self.seen_after,
            seen_before=self.seen_before,
        )


EVERYTHING = Wanted()


@app.command(name="list")
async def list_(*, wanted: Wanted = EVERYTHING, limit: Limit = 100, common: Common = COMMON) -> None:
    """List tasks and steps that need somebody's attention, the newest first.

    For example:

    $ tasker dlq list
    $ tasker dlq list --template order_fulfillment --of-reason no_worker
    $ tasker dlq list --status resolved --seen-after 2026-11-21T00:00:00Z -o jsonl --limit 0

    Args:
        wanted: which of them.
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.output import time_text
    from tasker.cli.reach import client
    from tasker.cli.showing import page_items_of, show_first

    columns: list[Any] = [
        ("task", lambda row: row.task_id),
        ("step", lambda row: row.step),
        ("template", lambda row: f"{row.namespace}/{row.template}"),
        ("reason", lambda row: row.reason),
        ("state", lambda row: row.state if row.state != "left" else row.left_how),
        ("status", lambda row: row.status),
        ("owner", lambda row: row.owner),
        ("last seen", lambda row: time_text(row.last_seen)),
        ("error", lambda row: f"{row.error_type}: {row.message}"),
    ]
    matching = wanted.filter()
    async with client(common) as service:
        await show_first(
            service.dlq.list(matching, page_items=page_items_of(limit)),
            limit,
            columns,
            common.output,
            empty="no dead letter matches",
        )


@app.command
async def groups(*, wanted: Wanted = EVERYTHING, limit: Limit = 50, common: Common = COMMON) -> None:
    """List dead letters by the fingerprint of their error, the largest group first.

    Errors of one class, at one step, whose messages differ in numbers, ids, paths and quoted values are of one group.

    For example:

    $ tasker dlq groups
    $ tasker dlq retry --all --fingerprint 1-5f0c3a9be7d21468 --reason "the bank is back" --dry-run

    Args:
        wanted: which of them.
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.output import time_text
    from tasker.cli.reach import client
    from tasker.cli.showing import page_items_of, show_first

    columns: list[Any] = [
        ("fingerprint", lambda row: row.fingerprint),
        ("count", lambda row: row.count),
        ("failures", lambda row: row.failures),
        ("step", lambda row: row.step),
        ("first seen", lambda row: time_text(row.first_seen)),
        ("last seen", lambda row: time_text(row.last_seen)),
        ("error", lambda row: f"{row.error_type}: {row.pattern}"),
    ]
    matching = wanted.filter()
    async with client(common) as service:
        await show_first(
            service.dlq.groups(matching, page_items=page_items_of(limit)),
            limit,
            columns,
            common.output,
            empty="no dead letter matches",
        )


@app.command
async def show(task: str, /, *, common: Common = COMMON) -> None:
    """Show every dead letter of a task, with its notes; those that left too.

    Args:
        task: its id.
        common: where the service is, and how to print.
    """
    from tasker.cli.output import document, fields, line, note
    from tasker.cli.reach import client
    from tasker.cli.showing import dead_letter_fields

    async with client(common) as service:
        found = await service.dlq.of_task(task)
    if common.output != "table":
        document(list(found), common.output)
        return
    if not found:
        note("the task has no dead letter")
    for index, letter in enumerate(found):
        if index:
            line("")
        fields(letter, dead_letter_fields(letter, common), "table")


@app.command
async def add(
    task: str,
    /,
    *,
    step: str | None = None,
    reason: str,
    requested_by: str | None = None,
    command_id: str | None = None,
    dry_run: Switch = False,
    common: Common = COMMON,
) -> None:
    """Put a task or a step among the dead letters, although nothing has failed for good.

    Args:
        task: its id.
        step: a step of it; else the task itself.
        reason: why, kept in the event.
        requested_by: who asks, kept in the event; your user name unless given.
        command_id: names this command, so that a repetition is the same one.
        dry_run: only show what would happen.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import asked_by
    from tasker.cli.reach import client

    async with client(common) as service:
        reply = await service.dlq.add(
            task,
            step,
            requested_by=asked_by(requested_by),
            reason=reason,
            command_id=command_id,
            dry_run=dry_run,
        )
    _told(reply, common)


@app.command
async def investigate(
    task: str,
    /,
    *,
    step: str | None = None,
    owner: str | None = None,
    note: str | None = None,
    reason: str | None = None,
    requested_by: str | None = None,
    command_id: str | None = None,
    dry_run: Switch = False,
    common: Common = COMMON,
) -> None:
    """Look into a dead letter: give it an owner, add a note.

    For example:

    $ tasker dlq investigate 0192f7... --step charge --owner ada --note "the bank answers 500 since noon"

    Args:
        task: its id.
        step: the step that failed; else the task itself.
        owner: who sees to it from now on; "" for nobody.
        note: what was found out.
        reason: why, kept in the event; needed where there is no note.
        requested_by: who asks, kept in the event; your user name unless given.
        command_id: names this command, so that a repetition is the same one.
        dry_run: only show what would happen.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import asked_by
    from tasker.cli.reach import client

    async with client(common) as service:
        reply = await service.dlq.investigate(
            task,
            step,
            owner=owner,
            note=note,
            reason=reason,
            requested_by=asked_by(requested_by),
            command_id=command_id,
            dry_run=dry_run,
        )
    _told(reply, common)


@app.command
async def retry(
    task: str | None = None,
    /,
    *,
    step: str | None = None,
    attempt: int | None = None,
    reason: str | None = None,
    requested_by: str | None = None,
    command_id: str | None = None,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    dry_run: Switch = False,
    detach: Switch = False,
    wanted: Wanted = EVERYTHING,
    common: Common = COMMON,
) -> None:
    """Give a dead step, every failed step of a task, or with --all everything that matches, a fresh set of attempts.

    With --all a task of the service's own does it, and goes on when you leave.

    For example:

    $ tasker dlq retry 0192f7... --step charge --reason "the bank is back"
    $ tasker dlq retry --all --fingerprint 1-5f0c3a9be7d21468 --dry-run
    $ tasker dlq retry --all --fingerprint 1-5f0c3a9be7d21468 --reason "the bank is back"

    Args:
        task: its id; not with --all.
        step: the step that failed; else every failed one of the task.
        attempt: the failed attempt that you saw; when another one is the last by now, nothing happens.
        reason: why, kept in the event.
        requested_by: who asks, kept in the event; your user name unless given.
        command_id: names this command, so that a repetition is the same one.
        all_: everything that the other options match.
        dry_run: only show what would happen; with --all, how many that is, and the first of them.
        detach: do not wait for it; print the id of the task that does it. Only with --all.
        wanted: which of them; only with --all.
        common: where the service is, and how to print.
    """
    from tasker.cli.bulk import How, carry_out
    from tasker.cli.given import asked_by
    from tasker.cli.reach import client

    who = asked_by(requested_by)
    _check(task, all_=all_, dry_run=dry_run, reason=reason, wanted=wanted)
    if task is None:
        how = How(reason=reason, requested_by=who, command_id=command_id, dry_run=dry_run, detach=detach)
        await carry_out("dlq.retry", wanted.filter(), how, common)
        return
    async with client(common) as service:
        reply = await service.dlq.retry(
            task,
            step,
            attempt=attempt,
            reason=reason or "",
            requested_by=who,
            command_id=command_id,
            dry_run=dry_run,
        )
    _told(reply, common)


@app.command
async def resolve(
    task: str | None = None,
    /,
    *,
    step: str | None = None,
    attempt: int | None = None,
    ignore: Switch = False,
    reason: str | None = None,
    requested_by: str | None = None,
    command_id: str | None = None,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    dry_run: Switch = False,
    detach: Switch = False,
    wanted: Wanted = EVERYTHING,
    common: Common = COMMON,
) -> None:
    """Settle a dead letter, or with --all everything that matches.

    For example:

    $ tasker dlq resolve 0192f7... --step charge --reason "paid by hand"
    $ tasker dlq resolve --all --seen-before 2026-11-01T00:00:00Z --ignore --reason "too old" --dry-run

    Args:
        task: its id; not with --all.
        step: the step that failed; else the task itself.
        attempt: the failed attempt that you saw; when another one is the last by now, nothing happens.
        ignore: it is settled because nothing is to be done about it.
        reason: why, kept in the event.
        requested_by: who asks, kept in the event; your user name unless given.
        command_id: names this command, so that a repetition is the same one.
        all_: everything that the other options match.
        dry_run: only show what would happen; with --all, how many that is, and the first of them.
        detach: do not wait for it; print the id of the task that does it. Only with --all.
        wanted: which of them; only with --all.
        common: where the service is, and how to print.
    """
    from tasker.cli.bulk import How, carry_out
    from tasker.cli.given import asked_by
    from tasker.cli.reach import client

    who = asked_by(requested_by)
    _check(task, all_=all_, dry_run=dry_run, reason=reason, wanted=wanted)
    if task is None:
        how = How(reason=reason, requested_by=who, command_id=command_id, dry_run=dry_run, detach=detach)
        await carry_out("dlq.resolve", wanted.filter(), how, common, arguments={"ignore": True} if ignore else {})
        return
    async with client(common) as service:
        reply = await service.dlq.resolve(
            task,
            step,
            attempt=attempt,
            ignore=ignore,
            reason=reason or "",
            requested_by=who,
            command_id=command_id,
            dry_run=dry_run,
        )
    _told(reply, common)


@app.command
async def reopen(
    task: str,
    /,
    *,
    step: str | None = None,
    reason: str,
    requested_by: str | None = None,
    command_id: str | None = None,
    dry_run: Switch = False,
    common: Common = COMMON,
) -> None:
    """Take back that a dead letter is settled.

    Args:
        task: its id.
        step: the step that failed; else the task itself.
        reason: why, kept in the event.
        requested_by: who asks, kept in the event; your user name unless given.
        command_id: names this command, so that a repetition is the same one.
        dry_run: only show what would happen.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import asked_by
    from tasker.cli.reach import client

    async with client(common) as service:
        reply = await service.dlq.reopen(
            task,
            step,
            requested_by=asked_by(requested_by),
            reason=reason,
            command_id=command_id,
            dry_run=dry_run,
        )
    _told(reply, common)


def _check(task: str | None, *, all_: bool, dry_run: bool, reason: str | None, wanted: Wanted) -> None:
    from tasker.cli.failures import UsageError

    if (task is None) != all_:
        raise UsageError("name a task, or give --all for everything that the options match")
    if task is not None and wanted != EVERYTHING:
        raise UsageError("filters go with --all; a task is named by its id, a step of it by --step")
    if reason is None and not (all_ and dry_run):
        raise UsageError("say why with --reason: it is kept with what is done")


def _told(reply: Reply, common: Common) -> None:
    from tasker.cli.showing import show_reply

    show_reply(reply, common.output)
