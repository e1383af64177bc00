"""`tasker schedule`: start tasks by the clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tasker.cli.options import BY, COMMON, By, Common, File, Limit, Tags

if TYPE_CHECKING:
    from tasker.cli.output import Column
    from tasker.events.messages import ScheduleDocument
    from tasker.events.reads import OpenBackfill, ScheduleFire, ScheduleView

app = App(name="schedule", help="Start tasks by the clock: cron, intervals, single times.")

_DOCUMENT = Parameter(name="*", group="Schedule")


@dataclass(frozen=True)
class Document:
    """The schedule's document, by options or as a file.

    Attributes:
        file: a YAML or JSON file with the document (`-`: stdin), in place of the other options of this group.
        template: of the tasks; its name, or NAMESPACE/NAME.
        version: of the template; else the one in use at each fire.
        cron: five fields (minute hour day month weekday), or @hourly, @daily, @weekly, @monthly, @yearly.
        timezone: in which cron is read, such as Europe/Zurich; else UTC.
        every_s: seconds between fire times.
        at: a single fire time, RFC 3339; several times for several.
        input: of each task, as JSON, as `@file`, or `-` for stdin.
        time_key: the key of the input, an object, that gets the fire time.
        tag: of each task.
        timeout_s: of each task.
        jitter_s: each fire is late by a chance of up to so much.
        start_at: no fire time lies before.
        end_at: all fire times lie before.
        fires_max: so many fires at most.
        overlap: what a fire does while a task of the schedule runs; else skip.
        catch_up_s: a fire later than this is not made up for; else a day. 10 s are not late.
    """

    file: File | None = None
    template: str | None = None
    version: str | None = None
    cron: str | None = None
    timezone: str | None = None
    every_s: float | None = None
    at: Annotated[list[str] | None, Parameter(negative="")] = None
    input: str | None = None
    time_key: str | None = None
    tag: Tags = None
    timeout_s: float | None = None
    jitter_s: float | None = None
    start_at: str | None = None
    end_at: str | None = None
    fires_max: int | None = None
    overlap: Literal["skip", "buffer_one", "buffer_all", "cancel_running", "allow"] | None = None
    catch_up_s: float | None = None


NO_DOCUMENT = Document()


@app.command
async def create(
    name: str,
    /,
    *,
    document: Annotated[Document, _DOCUMENT] = NO_DOCUMENT,
    namespace: str | None = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Begin a schedule. The same document again is fine; another one under its name is refused.

    For example:

    $ tasker schedule create nightly --template report --cron "30 2 * * *" --timezone Europe/Zurich

    Args:
        name: of the schedule, one of its namespace; or NAMESPACE/NAME.
        document: when it fires and what it starts.
        namespace: of the schedule and of its template; else default.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace, given = _placed(name, document, namespace)
    async with client(common) as service:
        reply = await service.schedules.create(name, given, namespace=namespace, **by.options())
    show_reply(reply, common.output)


@app.command
async def update(
    name: str,
    /,
    *,
    document: Annotated[Document, _DOCUMENT] = NO_DOCUMENT,
    namespace: str | None = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Give a schedule another document, whole: what is not given has its default.

    Args:
        name: of the schedule, or NAMESPACE/NAME.
        document: what it starts, and when.
        namespace: of the schedule; else default.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace, given = _placed(name, document, namespace)
    async with client(common) as service:
        reply = await service.schedules.update(name, given, namespace=namespace, **by.options())
    show_reply(reply, common.output)


@app.command(name="list")
async def list_(
    *,
    state: Annotated[list[str] | None, Parameter(negative="")] = None,
    namespace: str | None = None,
    template: str | None = None,
    limit: Limit = 100,
    common: Common = COMMON,
) -> None:
    """List schedules: active, paused and finished ones, or those in the states given.

    Args:
        state: active, paused, finished, deleted or poisoned; may be repeated.
        namespace: only schedules of it.
        template: only those that start its tasks; its name, or NAMESPACE/NAME.
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import place_of
    from tasker.cli.output import time_text
    from tasker.cli.reach import client
    from tasker.cli.showing import page_items_of, show_first

    template, namespace = place_of(template, namespace)
    columns: list[Column] = [
        ("schedule", lambda row: f"{row.namespace}/{row.name}"),
        ("template", lambda row: row.schedule.template),
        ("state", lambda row: row.state),
        ("when", lambda row: _when(row.schedule)),
        ("next", lambda row: time_text(row.next_fires[0].fire_time) if row.next_fires else None),
        ("last", lambda row: _fire_text(row.last_fires[0]) if row.last_fires else None),
        ("note", lambda row: row.note),
    ]
    unfiltered = state is None and namespace is None and template is None
    empty = "there is no schedule; `tasker schedule create --help` makes one" if unfiltered else "no schedule matches"
    async with client(common) as service:
        found = service.schedules.list(
            states=state, namespace=namespace, template=template, page_items=page_items_of(limit)
        )
        await show_first(found, limit, columns, common.output, empty=empty)


@app.command
async def show(name: str, /, *, namespace: str | None = None, common: Common = COMMON) -> None:
    """Show a schedule: its document, its state, its last fires and its next.

    Args:
        name: of the schedule, or NAMESPACE/NAME.
        namespace: of the schedule; else default.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import named_place
    from tasker.cli.output import document, fields, line, rows, time_text
    from tasker.cli.reach import client

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        view = await service.schedules.get(name, namespace=namespace)
    if common.output != "table":
        document(view, common.output)
        return
    fields(view, _fields(view), "table")
    if view.last_fires:
        line("")
        columns = [
            ("fire time", lambda fire: time_text(fire.fire_time)),
            ("outcome", lambda fire: fire.outcome),
            ("cause", lambda fire: fire.cause or fire.reason),
            ("at", lambda fire: time_text(fire.at)),
            ("task", lambda fire: fire.task_id),
            ("detail", lambda fire: fire.error or (f"{fire.count} fire times" if fire.count else fire.until)),
        ]
        rows(view.last_fires, columns, "table")


@app.command
async def pause(
    name: str,
    /,
    *,
    note: str | None = None,
    namespace: str | None = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Let fire times start nothing until `tasker schedule resume`; `--note` is shown with the schedule.

    Args:
        name: of the schedule, or NAMESPACE/NAME.
        note: what others should know of it; shown with the schedule.
        namespace: of the schedule; else default.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import named_place
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        reply = await service.schedules.pause(name, note, namespace=namespace, **by.options())
    show_reply(reply, common.output)


@app.command
async def resume(
    name: str,
    /,
    *,
    note: str | None = None,
    namespace: str | None = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Let fire times count again, from now on. Those of the pause are skipped: `backfill` makes up for them.

    Args:
        name: of the schedule, or NAMESPACE/NAME.
        note: in place of the one of the pause.
        namespace: of the schedule; else default.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import named_place
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        reply = await service.schedules.resume(name, note, namespace=namespace, **by.options())
    show_reply(reply, common.output)


@app.command
async def trigger(
    name: str,
    /,
    *,
    namespace: str | None = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Start a task of a schedule now, whatever runs, and print its id.

    Args:
        name: of the schedule, or NAMESPACE/NAME.
        namespace: of the schedule; else default.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import named_place
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        reply = await service.schedules.trigger(name, namespace=namespace, **by.options())
    show_reply(reply, common.output)


@app.command
async def backfill(
    name: str,
    /,
    *,
    start: str,
    end: str,
    overlap: Literal["buffer_all", "allow"] = "buffer_all",
    namespace: str | None = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Start the tasks of past fire times that have none.

    For example:

    $ tasker schedule backfill nightly --start 2026-11-01T00:00:00Z --end 2026-11-08T00:00:00Z

    Args:
        name: of the schedule, or NAMESPACE/NAME.
        start: of the range, RFC 3339.
        end: of the range, itself not included; not after now.
        overlap: buffer_all: one after another; allow: all at once.
        namespace: of the schedule; else default.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import named_place
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        reply = await service.schedules.backfill(
            name,
            start,
            end,
            overlap=overlap,
            namespace=namespace,
            **by.options(),
        )
    show_reply(reply, common.output)


@app.command(name="stop-backfill")
async def stop_backfill(
    name: str,
    /,
    *,
    end: str | None = None,
    namespace: str | None = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Let the open backfills of a schedule start nothing more. `show` has them, and how far they are.

    Tasks that they started go on; `tasker task bulk cancel --tag schedule=NAME` ends those, and all others of it.

    For example:

    $ tasker schedule stop-backfill nightly --reason "the wrong year"

    Args:
        name: of the schedule, or NAMESPACE/NAME.
        end: only those up to this end, RFC 3339; else all of them.
        namespace: of the schedule; else default.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import named_place
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        reply = await service.schedules.stop_backfill(name, end=end, namespace=namespace, **by.options())
    show_reply(reply, common.output)


@app.command(name="next")
async def next_(
    name: str | None = None,
    /,
    *,
    count: Annotated[int, Parameter(validator=Number(gte=1))] = 5,
    document: Annotated[Document, _DOCUMENT] = NO_DOCUMENT,
    namespace: str | None = None,
    common: Common = COMMON,
) -> None:
    """Show the next fire times of a schedule, or of a document that is none yet, which asks no service.

    For example:

    $ tasker schedule next nightly

    $ tasker schedule next --cron "30 2 * * *" --timezone Europe/Zurich --count 3

    Args:
        name: of a schedule, or NAMESPACE/NAME; else the options say when.
        count: so many of them.
        document: what it starts, and when.
        namespace: of the schedule; else default.
        common: where the service is, and how to print.
    """
    from tasker.cli.failures import UsageError
    from tasker.cli.given import named_place
    from tasker.cli.output import rows
    from tasker.cli.reach import client
    from tasker.events.reads import FireTime

    if name is not None and document != NO_DOCUMENT:
        raise UsageError("give the name of a schedule, or a document, not both")
    if name is None:
        from datetime import UTC, datetime

        from tasker.client.schedules import upcoming
        from tasker.times import from_datetime, to_rfc3339

        _, _, given = _placed("any", document, namespace, template="any")
        times = upcoming(given, after=datetime.now(UTC), count=count)
        found = [FireTime(fire_time=to_rfc3339(from_datetime(one))) for one in times]
    else:
        name, namespace = named_place(name, namespace)
        async with client(common) as service:
            found = list(await service.schedules.next(name, namespace=namespace, count=count))
    columns = [("fire time", lambda row: row.fire_time[:19] + "Z"), ("due", lambda row: row.due_at)]
    rows(found, columns, common.output, empty="no fire time lies ahead")


@app.command
async def events(name: str, /, *, namespace: str | None = None, limit: Limit = 50, common: Common = COMMON) -> None:
    """Show what happened to a schedule, the newest first: fires, skips, and what people did to it, when and why.

    For example:

    $ tasker schedule events nightly

    Args:
        name: of the schedule, or NAMESPACE/NAME.
        namespace: of the schedule; else default.
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import named_place
    from tasker.cli.reach import client
    from tasker.cli.showing import show_history

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        history = service.schedules.events(name, namespace=namespace)
        await show_history(history, common.output, limit=limit, empty="nothing happened")


@app.command
async def delete(
    name: str,
    /,
    *,
    namespace: str | None = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """End a schedule. Tasks that it started go on; its name is free.

    Args:
        name: of the schedule, or NAMESPACE/NAME.
        namespace: of the schedule; else default.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import named_place
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        reply = await service.schedules.delete(name, namespace=namespace, **by.options())
    show_reply(reply, common.output)


def _placed(
    name: str, document: Document, namespace: str | None, *, template: str | None = None
) -> tuple[str, str, ScheduleDocument]:
    """Return name, namespace and document of a schedule, which lies where its template does.

    Args:
        name: as `named_place` takes it.
        document: whose template may have its namespace, too.
        namespace: that of `--namespace`.
        template: where the document names none.

    Raises:
        UsageError: the name, the template and `--namespace` have different ones.
    """
    from dataclasses import replace

    from tasker.cli.given import place_of

    name, within = place_of(name, namespace)
    if document.template is not None:
        bare, within = place_of(document.template, within)
        document = replace(document, template=bare)
    return name, "default" if within is None else within, _document(document, template=template)


def _document(given: Document, *, template: str | None = None) -> ScheduleDocument:
    """Return the document that options or a file spell; `template` where none is named."""
    from dataclasses import asdict

    from tasker.cli.failures import UsageError
    from tasker.cli.given import read_json, read_tags
    from tasker.client.schedules import document_from

    options = {name: value for name, value in asdict(given).items() if value is not None}
    file = options.pop("file", None)
    if file is not None:
        if options:
            raise UsageError(f"--file has the whole document; leave out --{next(iter(options)).replace('_', '-')}")
        return document_from(_read(file))
    if "tag" in options:
        options["tags"] = read_tags(options.pop("tag"))
    if "input" in options:
        options["input"] = read_json(options["input"])
    options.setdefault("template", template)
    if options["template"] is None:
        raise UsageError("a schedule needs --template, or --file with its document")
    return document_from(options)


def _read(file: Path) -> dict[str, Any]:
    import yaml

    from tasker.cli.failures import UsageError
    from tasker.cli.given import read_text

    try:
        found = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise UsageError(f"{file}: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file}: a schedule's document is a mapping")
    return found


def _when(schedule: ScheduleDocument) -> str:
    if schedule.cron is not None:
        return f"{schedule.cron} {schedule.timezone}"
    return f"every {schedule.every_s:g} s" if schedule.every_s is not None else f"{len(schedule.at)} times"


def _fire_text(fire: ScheduleFire) -> str:
    from tasker.cli.output import time_text

    return f"{time_text(fire.fire_time)} {fire.outcome}{f' ({fire.reason})' if fire.reason else ''}"


def _fields(view: ScheduleView) -> list[tuple[str, object]]:
    from tasker.cli.output import time_text

    schedule = view.schedule
    running: object = view.running or None
    if schedule.overlap == "allow" and running:
        # Nothing depends on their end, so the schedule asks after none.
        running = f"see `tasker task list --tag schedule={view.name} --state running`"
    return [
        ("schedule", f"{view.namespace}/{view.name}"),
        ("state", view.state),
        ("note", view.note),
        ("template", schedule.template + (f" {schedule.version}" if schedule.version else "")),
        ("when", _when(schedule)),
        ("from", time_text(schedule.start_at)),
        ("until", time_text(schedule.end_at)),
        ("jitter", f"up to {schedule.jitter_s:g} s" if schedule.jitter_s else None),
        ("overlap", schedule.overlap),
        ("catch up", f"{schedule.catch_up_s:g} s"),
        ("fires at most", schedule.fires_max),
        ("input", schedule.input),
        ("tags", schedule.tags or None),
        ("next", [time_text(one.fire_time) for one in view.next_fires] or None),
        ("may still run", running),
        ("waiting", view.waiting or None),
        ("backfills", [_backfill_text(one) for one in view.backfills] or None),
        ("fires", f"{view.fires} started by the clock, {view.skips} skipped, {view.refusals} refused"),
        ("created", time_text(view.created_at)),
        ("requested by", view.requested_by),
        ("reason", view.reason),
        ("position", view.position),
    ]


def _backfill_text(one: OpenBackfill) -> str:
    """Return how far a backfill is, for people."""
    from tasker.cli.output import time_text

    done = f"{one.started} started" if one.fires is None else f"{one.started} of {one.fires} started"
    by = "" if one.requested_by is None else f", for {one.requested_by}"
    return f"{time_text(one.start)} to {time_text(one.end)} ({one.overlap}): {done}, next {time_text(one.next)}{by}"
