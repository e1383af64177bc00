"""`tasker task bulk`: one command for every task that matches, given by the service itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from tasker.cli.options import COMMON, Common, Tags

if TYPE_CHECKING:
    from tasker.client import BulkOutcome, BulkPreview, TaskFilter
    from tasker.client.bulk import LetterFilter
    from tasker.events.messages import BulkVerb

app = App(
    name="bulk",
    help="Cancel, retry, pause, resume, label or restart every task that matches. The service does it, as a task.",
)

Many = Annotated[list[str] | None, Parameter(negative="")]
Switch = Annotated[bool, Parameter(negative="")]


@Parameter(name="*")
@dataclass(frozen=True)
class Which:
    """Which tasks.

    Attributes:
        everything: every task; where no other option says which.
        state: of the task; may be repeated. Without it those to which the command makes sense.
        namespace: of the template.
        template: its name, or NAMESPACE/NAME.
        tag: only tasks with all of these tags; may be repeated.
        created_after: created at this RFC 3339 time or later.
        created_before: created earlier.
    """

    everything: Switch = False
    state: Many = None
    namespace: str | None = None
    template: str | None = None
    tag: Tags = None
    created_after: str | None = None
    created_before: str | None = None

    def filter(self) -> TaskFilter:
        """Return the client's filter.

        Raises:
            UsageError: it says nothing and not --everything, or both.
        """
        from tasker.cli.failures import UsageError
        from tasker.cli.given import place_of, read_tags
        from tasker.client import TaskFilter
        from tasker.client.bulk import EVERY_TASK

        template, namespace = place_of(self.template, self.namespace)
        found = TaskFilter(
            states=tuple(self.state or ()),
            namespace=namespace,
            template=template,
            tags=read_tags(self.tag),
            created_after=self.created_after,
            created_before=self.created_before,
        )
        if (found == EVERY_TASK) != self.everything:
            raise UsageError("say which tasks, such as --template X --state blocked; or --everything, without these")
        return found


@Parameter(name="*")
@dataclass(frozen=True)
class How:
    """Options of every bulk.

    Attributes:
        reason: why, kept in the event of each task.
        requested_by: who asks, kept in the event of each task; your user name unless given.
        command_id: names the bulk, so that a repetition is the same one.
        rate_per_s: so many tasks a second at most.
        dry_run: only say how many there are, and the first of them.
        detach: do not wait for it; print the id of the task that does it.
    """

    reason: str | None = None
    requested_by: str | None = None
    command_id: str | None = None
    rate_per_s: float = 200.0
    dry_run: Switch = False
    detach: Switch = False


WHICH = Which()
HOW = How()

REFUSALS_SHOWN = 10
"""Of each bulk in a table: enough to see why, and the counts stay in sight."""


@app.command
async def cancel(
    *, grace_s: float | None = None, which: Which = WHICH, how: How = HOW, common: Common = COMMON
) -> None:
    """End every open task that matches.

    For example:

    $ tasker task bulk cancel --template orders --tag customer=17 --dry-run
    $ tasker task bulk cancel --template orders --tag customer=17 --reason "the customer left"

    Args:
        grace_s: how long running handlers have to stop; 10 unless given.
        which: which of them.
        how: who asks, and why.
        common: where the service is, and how to print.
    """
    arguments = {} if grace_s is None else {"grace_s": grace_s}
    await carry_out("task.cancel", which.filter(), how, common, arguments=arguments)


@app.command
async def retry(*, which: Which = WHICH, how: How = HOW, common: Common = COMMON) -> None:
    """Give every failed step of the blocked tasks that match a fresh set of attempts.

    For example:

    $ tasker task bulk retry --template orders --reason "the bank is back"

    Args:
        which: which of them.
        how: who asks, and why.
        common: where the service is, and how to print.
    """
    await carry_out("task.retry", which.filter(), how, common)


@app.command
async def pause(*, children: Switch = False, which: Which = WHICH, how: How = HOW, common: Common = COMMON) -> None:
    """Let nothing more begin of the open tasks that match. `tasker pause` holds back new ones, too.

    Args:
        children: nor of their child tasks.
        which: which of them.
        how: who asks, and why.
        common: where the service is, and how to print.
    """
    await carry_out("task.pause", which.filter(), how, common, arguments={"children": True} if children else {})


@app.command
async def resume(*, children: Switch = False, which: Which = WHICH, how: How = HOW, common: Common = COMMON) -> None:
    """Let the paused tasks that match go on.

    Args:
        children: and their child tasks that are paused with them.
        which: which of them.
        how: who asks, and why.
        common: where the service is, and how to print.
    """
    await carry_out("task.resume", which.filter(), how, common, arguments={"children": True} if children else {})


@app.command
async def tag(
    tags: Annotated[list[str] | None, Parameter(negative="", show_default=False)] = None,
    /,
    *,
    untag: Annotated[list[str] | None, Parameter(name="--untag", negative="", metavar="KEY")] = None,
    which: Which = WHICH,
    how: How = HOW,
    common: Common = COMMON,
) -> None:
    """Set and remove tags of the open tasks that match.

    For example:

    $ tasker task bulk tag incident=42 team=core --template orders --state blocked --reason "the bank is down"

    Args:
        tags: KEY=VALUE to set.
        untag: to remove; may be repeated.
        which: which of them; --tag says which tags they have.
        how: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.failures import UsageError
    from tasker.cli.given import read_tags

    changes: dict[str, str | None] = {**read_tags(tags), **dict.fromkeys(untag or ())}
    if not changes:
        raise UsageError("say what to set, as KEY=VALUE, or what to --untag")
    await carry_out("task.update", which.filter(), how, common, arguments={"tags": changes})


@app.command
async def restart(*, current: Switch = False, which: Which = WHICH, how: How = HOW, common: Common = COMMON) -> None:
    """Run the failed and cancelled tasks that match once more, each as a new task.

    For example:

    $ tasker task bulk restart --template orders --created-after 2026-11-21T00:00:00Z --current --reason "mended"

    Args:
        current: with the version that is in use now.
        which: which of them.
        how: who asks, and why.
        common: where the service is, and how to print.
    """
    await carry_out("task.restart", which.filter(), how, common, arguments={"current": True} if current else {})


async def carry_out(
    verb: BulkVerb,
    wanted: TaskFilter | LetterFilter,
    how: How,
    common: Common,
    *,
    arguments: dict[str, Any] | None = None,
) -> None:
    """Do a bulk and print what became of it; or what it would be for; or the task that does it.

    Raises:
        UsageError: it has no reason.
    """
    from tasker.cli.failures import UsageError
    from tasker.cli.given import asked_by
    from tasker.cli.output import fields, note, progress
    from tasker.cli.reach import client
    from tasker.client.bulk import BulkOptions

    if how.reason is None and not how.dry_run:
        raise UsageError("say why with --reason: it is kept with everything that is done")
    who, why = asked_by(how.requested_by), how.reason or "a dry run"
    options: BulkOptions = {
        "arguments": arguments or {},
        "rate_per_s": how.rate_per_s,
        "command_id": how.command_id,
    }
    async with client(common) as service:
        if how.dry_run:
            _show_preview(await service.bulk.preview(verb, wanted, requested_by=who, reason=why, **options), common)
            return
        bulk = await service.bulk.start(verb, wanted, requested_by=who, reason=why, **options)
        if how.detach:
            fields(
                bulk, [("task", bulk.task_id), ("next", common.next(f"tasker task wait {bulk.task_id}"))], common.output
            )
            return
        note(f"task {bulk.task_id} does it; it goes on when you leave, and `tasker task cancel` ends it")
        with progress(verb, "") as change:
            outcome = await service.bulk.outcome(bulk, on_progress=change)
        if service.settings.http_url is not None:
            await service.page(limit=1, at_least=outcome.position)  # so that the next command sees it done
        show_outcome(bulk.task_id, outcome, common)


def _show_preview(found: BulkPreview, common: Common) -> None:
    from tasker.cli.output import fields, line, rows

    told = {"dry_run": True, "matched": found.matched, "would_refuse": found.would_refuse, "sample": found.sample}
    pairs: list[tuple[str, Any]] = [("matched", found.matched)]
    if found.would_refuse:
        pairs.append(("would refuse", f"{found.would_refuse} by their state; others may, too"))
    fields(told, pairs, common.output)
    if common.output == "table" and found.sample:
        line("")
        columns: list[Any] = [
            ("task", lambda one: one.task_id),
            ("template", lambda one: f"{one.namespace}/{one.template}"),
            ("state", lambda one: one.state),
        ]
        if any(one.step for one in found.sample):
            columns.insert(1, ("step", lambda one: one.step))
        rows(found.sample, columns, "table")


def show_outcome(bulk: str, found: BulkOutcome, common: Common) -> None:
    """Write what became of a bulk; of refusals how many of each kind, and the first."""
    from tasker.cli.output import fields, note

    by_code = ", ".join(f"{code} {count}" for code, count in sorted(found.refused_by_code.items()))
    pairs = [
        ("matched", found.matched),
        ("done", found.done),
        ("refused", found.refused),
        ("of these", by_code or None),
    ]
    fields(found, pairs, common.output)
    if common.output != "table":
        return
    for one in found.refusals[:REFUSALS_SHOWN]:
        note(f"{one.task_id} {one.step}{' ' if one.step else ''}{one.detail} ({one.code})")
    if found.refused > REFUSALS_SHOWN:
        listed = common.next(f"tasker task get {bulk}")
        note(f"the first {REFUSALS_SHOWN} of those that refused; `{listed}` has {len(found.refusals)} of them")
