"""`tasker task`: create tasks, look at them, wait for them, end them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tasker.cli import task_operations
from tasker.cli.options import COMMON, Common, DryRun, Limit, Tags, Wait

if TYPE_CHECKING:
    from tasker.cli.output import Column
    from tasker.client import TaskerClient
    from tasker.client.requests import TaskRef
    from tasker.events.reads import EventView, TaskView

app = App(name="task", help="Create tasks, look at them, wait for them, pause, repair and end them.")
for operation in task_operations.ALL:
    app.command(operation)
app.command("tasker.cli.bulk:app", name="bulk")


@app.command
async def create(
    template: str,
    /,
    *,
    input: Annotated[str, Parameter(name=["--input", "-i"], metavar="JSON|@FILE|-")] = "null",
    namespace: str | None = None,
    version: str | None = None,
    idempotency_key: str | None = None,
    tag: Tags = None,
    metadata: Annotated[str, Parameter(metavar="JSON|@FILE|-")] = "{}",
    not_before: str | None = None,
    timeout_s: float | None = None,
    priority: int | None = None,
    correlation_id: str | None = None,
    requested_by: str | None = None,
    reason: str | None = None,
    wait: Wait = False,
    submit: Annotated[bool, Parameter(negative="")] = False,
    dry_run: DryRun = False,
    common: Common = COMMON,
) -> int:
    """Create a task; it is in the log when this returns, unless it is only submitted.

    For example:

    $ tasker task create hello --input '{"name": "Ada"}' --wait
    $ tasker task create shop/order_fulfillment --input @order.json --idempotency-key order-17
    $ jq .order mail.json | tasker task create order_fulfillment --namespace shop --input - --wait 60

    Args:
        template: its name, or NAMESPACE/NAME.
        input: the task's input as JSON, a file's content, or stdin.
        namespace: of the template; "default" unless the name says.
        version: of the template; the one in use unless given.
        idempotency_key: names the task: the same with the same input is the same task, with another input a conflict.
        tag: for lists and filters; may be repeated.
        metadata: a JSON object to keep with the task.
        not_before: RFC 3339 time before which no step starts.
        timeout_s: the task fails when it has not ended so long after its creation.
        priority: -100 to 100; where workers are short, work of a higher one begins first. The template's unless given.
        correlation_id: your id of the whole undertaking, kept in every event.
        requested_by: who asks, kept in the event; your user name unless given.
        reason: why, kept in the event.
        wait: wait for the end, at most S seconds, and print the result. Exit code 8 when it failed or is blocked.
        submit: only leave the command on NATS and print its key, also while the service is away. A refusal shows in
            `tasker task refusals`.
        dry_run: only show what would happen.
        common: where the service is, and how to print.
    """
    from tasker.cli.failures import UsageError
    from tasker.cli.given import asked_by, place_of, read_json, read_object, read_tags
    from tasker.cli.output import fields, note
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply
    from tasker.client import NewTask

    if submit and wait is not False:
        raise UsageError("--submit does not wait; leave out --wait")
    if dry_run and (submit or wait is not False):
        raise UsageError("--dry-run creates nothing; leave out --wait and --submit")
    value = read_json(input)
    name, namespace = place_of(template, namespace)
    given: dict[str, Any] = {
        "namespace": namespace,
        "version": version,
        "idempotency_key": idempotency_key,
        "tags": read_tags(tag),
        "metadata": read_object(metadata, "--metadata"),
        "not_before": not_before,
        "timeout_s": timeout_s,
        "priority": priority,
        "correlation_id": correlation_id,
        "requested_by": asked_by(requested_by),
        "reason": reason,
    }
    async with client(common) as service:
        if submit:
            left = await service.submit(NewTask(name, value, **given))
            fields({"idempotency_key": left}, [("submitted with key", left)], common.output)
            return 0
        if dry_run:
            show_reply(await service.preview(NewTask(name, value, **given)), common.output)
            return 0
        handle = await service.create(name, value, **given)
        if wait is False:
            pairs = [("task", handle.task_id), ("position", handle.position), ("duplicate", handle.duplicate or None)]
            pairs += [("debounced", True)] if handle.debounced else []
            fields(handle, pairs, common.output)
            return 0
        known = " (it was there already)" if handle.duplicate else ""
        note(f"task {handle.task_id}{' (it waited for this start)' if handle.debounced else known}")
        return await _await_end(service, handle, None if wait is True else wait, common)


@app.command
async def refusals(*, limit: Limit = 0, common: Common = COMMON) -> None:
    """List submitted commands that were refused lately, oldest first: their callers did not wait for the answer.

    Args:
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.output import time_text
    from tasker.cli.reach import client
    from tasker.cli.showing import page_items_of, show_first

    columns: list[Column] = [
        ("submitted", lambda row: time_text(row.submitted_at)),
        ("command", lambda row: row.verb),
        ("key", lambda row: row.key),
        ("code", lambda row: row.error.code),
        ("detail", lambda row: row.error.detail),
        ("body", lambda row: row.body),
    ]
    async with client(common) as service:
        found = service.refusals(page_items=page_items_of(limit))
        await show_first(found, limit, columns, common.output, empty="no submitted command was refused")


@app.command
async def get(task: str, /, *, common: Common = COMMON) -> None:
    """Show a task as the view has it: state, result or error, what it waits for.

    Args:
        task: its id.
        common: where the service is, and how to print.
    """
    from tasker.cli.output import fields
    from tasker.cli.reach import client
    from tasker.cli.showing import task_fields

    async with client(common) as service:
        view = await service.get(task)
    fields(view, task_fields(view, common), common.output)


@app.command(name="list")
async def list_(
    *,
    state: Annotated[list[str] | None, Parameter(negative="")] = None,
    namespace: str | None = None,
    template: str | None = None,
    tag: Tags = None,
    created_after: str | None = None,
    created_before: str | None = None,
    sort: str | None = None,
    limit: Limit = 100,
    common: Common = COMMON,
) -> None:
    """List tasks, newest first.

    For example:

    $ tasker task list --state blocked --state failed
    $ tasker task list --template order_fulfillment --tag team=core -o jsonl --limit 0

    Args:
        state: pending, running, blocked, paused, compensating, completed, failed or cancelled; may be repeated.
        namespace: of their template.
        template: its name, or NAMESPACE/NAME.
        tag: only tasks with all of these tags.
        created_after: RFC 3339 time.
        created_before: RFC 3339 time.
        sort: a field of the view, "-" before it for descending, as the HTTP API takes it.
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import place_of, read_tags
    from tasker.cli.output import time_text
    from tasker.cli.reach import client
    from tasker.cli.showing import page_items_of, show_first

    columns: list[Any] = [
        ("task", lambda row: row.task_id),
        ("template", lambda row: f"{row.namespace}/{row.template}"),
        ("state", lambda row: row.state),
        ("steps", lambda row: row.steps_completed),
        ("retries", lambda row: row.retries),
        ("created", lambda row: time_text(row.created_at)),
        ("waiting on", lambda row: row.waiting_on),
    ]
    template, namespace = place_of(template, namespace)
    async with client(common) as service:
        listing = service.list(
            states=state,
            namespace=namespace,
            template=template,
            tags=read_tags(tag),
            created_after=created_after,
            created_before=created_before,
            sort=sort,
            page_items=page_items_of(limit),
        )
        await show_first(listing, limit, columns, common.output, empty="no task matches")


@app.command
async def explain(task: str, /, *, common: Common = COMMON) -> None:
    """Say why a task is where it is: what it waits for, who holds it, what helps.

    For example:

    $ tasker task explain 0192f7...

    Args:
        task: its id.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_explanation

    async with client(common) as service:
        show_explanation(await service.explain(task), common)


@app.command
async def wait(
    task: str,
    /,
    *,
    timeout_s: Annotated[float | None, Parameter(name="--timeout-s", validator=Number(gte=0))] = None,
    common: Common = COMMON,
) -> int:
    """Wait until a task has ended or is blocked, and print its result.

    Exit code 8 when it failed, was cancelled or is blocked; 7 when the time is over.

    Args:
        task: its id.
        timeout_s: wait no longer.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client

    async with client(common) as service:
        return await _await_end(service, task, timeout_s, common)


@app.command
async def events(task: str, /, *, after_seq: int = 0, common: Common = COMMON) -> None:
    """Show the recorded events of a task, from the log.

    Args:
        task: its id.
        after_seq: only those behind this one.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import event_columns, show_first

    async with client(common) as service:
        listing = service.events(task, after_seq=after_seq)
        await show_first(listing, 0, event_columns(), common.output, empty="no event")


@app.command
async def show(
    task: str,
    /,
    *,
    at: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    events: Annotated[bool, Parameter(negative="")] = False,
    limit: Limit = 100,
    common: Common = COMMON,
) -> None:
    """Show a task with its steps; --at folds the log up to an event and shows the task as it was then.

    For example:

    $ tasker task show 0192f7... --events
    $ tasker task show 0192f7... --at 6

    Args:
        task: its id.
        at: the state after event number SEQ.
        events: also list the events.
        limit: at most so many steps, and so many events; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.output import document, line, rows
    from tasker.cli.reach import client
    from tasker.cli.showing import event_columns, first_of, note_more, show_task

    recorded: list[EventView] = []
    async with client(common) as service:
        view = await service.get(task)
        steps = await service.steps(task, limit=limit + 1 if limit else None) if at is None else ()
        if events or at is not None:
            recorded = [event async for event in service.events(task) if at is None or event.seq <= at]
    shown: dict[str, Any] = {"task": view, "steps": first_of(steps, limit)}
    if at is not None:
        from tasker.cli.failures import UsageError
        from tasker.cli.folding import state_after

        if not recorded or recorded[-1].seq < at:
            raise UsageError(f"the task has no event {at}: the last is {recorded[-1].seq if recorded else 0}")

        shown = {"at": at, "state": state_after(recorded)}
    if events:
        shown["events"] = first_of(recorded, limit)
    if common.output != "table":
        document(shown, common.output)
    elif at is None:
        show_task(view, shown["steps"], common)
    else:
        document(shown["state"], "json")
    if events and common.output == "table":
        line("")
        rows(shown["events"], event_columns(), "table")
    for found, what in ((steps, "steps"), (recorded if events else (), "events")):
        note_more(found, limit, what)


async def _await_end(service: TaskerClient, task: TaskRef, timeout_s: float | None, common: Common) -> int:
    from tasker.cli.output import json_value, status
    from tasker.cli.patience import telling

    with status("waiting") as change:
        async with telling(service, task, common.output):
            view = await service.wait(
                task,
                timeout_s=timeout_s,
                on_progress=lambda seen: change(f"{seen.state}, {seen.steps_completed} steps completed"),
            )
    if view.state == "completed":
        json_value(view.result)
        return 0
    raise _not_completed(view, common)


def _not_completed(view: TaskView, common: Common) -> Exception:
    from tasker.cli.failures import TaskBlocked, TaskCancelled, TaskFailed

    why = f"{view.error.type}: {view.error.message}" if view.error else view.reason or ""
    at = f" at {', '.join(view.blocked_steps)}" if view.blocked_steps else ""
    detail = f"task {view.task_id} is {view.state}{at}{': ' + why if why else ''}"
    match view.state:
        case "blocked":
            remedy = common.next(view.remedy or f"tasker task retry {view.task_id}")
            return TaskBlocked(detail, task_id=view.task_id, steps=list(view.blocked_steps), remedy=f"`{remedy}`")
        case "cancelled":
            return TaskCancelled(detail, task_id=view.task_id)
        case _:
            shown = common.next(f"tasker task show {view.task_id} --events")
            remedy = f"`{shown}` shows how it came to that"
            return TaskFailed(detail, task_id=view.task_id, remedy=remedy)
