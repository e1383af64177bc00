"""`tasker log`: follow the log, prove it, renew it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tasker.cli.options import COMMON, Common, Limit, Output

app = App(name="log", help="Follow the log, prove it, renew it after a restore.")


@app.command
async def tail(
    *,
    from_: Annotated[str | None, Parameter(name="--from", metavar="TOKEN|start")] = None,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    namespace: str | None = None,
    template: str | None = None,
    task: str | None = None,
    type_: Annotated[list[str] | None, Parameter(name="--type", negative="")] = None,
    limit: Limit = 0,
    common: Common = COMMON,
) -> None:
    """Show recorded events, oldest first.

    Without --follow it ends at the head of the log, and then names the position to go on from on stderr.

    For example:

    $ tasker log tail --follow
    $ tasker log tail --from start -o jsonl > events.jsonl
    $ tasker log tail --from 0:812,3:77 --template order_fulfillment

    Args:
        from_: a position that was printed before, or "start"; shards that it does not name go on from now. Else the
            start, or with --follow from now on.
        follow: go on with what happens from now on, until Ctrl-C.
        namespace: only events of its tasks.
        template: only events of its tasks; its name, or NAMESPACE/NAME.
        task: only events of this one.
        type_: only events of this type, such as task_blocked; several times for several.
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.following import follow_events, known_types, read_events
    from tasker.cli.given import place_of
    from tasker.cli.reach import client
    from tasker.client.subscription import EventFilter

    template, namespace = place_of(template, namespace)
    async with client(common) as service:
        types = known_types(type_ or ())
        wanted = EventFilter(namespace=namespace, template=template, task_id=task, types=types)
        if follow:
            await follow_events(service, start=from_, wanted=wanted, limit=limit, output=common.output)
        else:
            await read_events(service, start=from_, wanted=wanted, limit=limit, output=common.output)


@app.command
async def verify(
    *,
    workers: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    data: Path | None = None,
    output: Output = "table",
) -> None:
    """Refold the log and compare it with the views: gapless, one epoch at a time, an unbroken chain, every fold.

    Reads Postgres directly (TASKER_DATABASE_URL, or the stack that runs here). Exit code 9 when it finds anything.

    Args:
        workers: processes that fold side by side; one a core unless given.
        data: data directory of a running `tasker up`, instead of TASKER_DATABASE_URL.
        output: the form of the report.
    """
    from tasker.cli.reach import database_url

    dsn = database_url(data)
    from tasker.cli.verifying import verify_log

    await verify_log(dsn, workers=workers, output=output)


@app.command
async def renew(*, output: Output = "table") -> None:
    """Give a log that was restored to an earlier time a new id, so that nothing of the lost time is taken for new.

    Stop every `tasker serve` first, and start them after. The streams of events and of work are deleted, as they hold
    what the log no longer has; the service makes and fills them again. Ids of events differ from then on, and positions
    that readers have stored are refused: they start again.

    Takes TASKER_DATABASE_URL and TASKER_NATS_URL. A log that was not restored needs none of this.

    For example:

    $ tasker log renew

    Args:
        output: the form of what is printed.
    """
    from tasker.cli.renewing import renew_all

    await renew_all(output=output)
