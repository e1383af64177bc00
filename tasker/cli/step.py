"""`tasker step`: the steps of a task."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from tasker.cli.options import BY, COMMON, By, Common, Limit

app = App(name="step", help="Look at the steps of a task, repair them.")

Result = Annotated[str, Parameter(name=["--result", "-r"], metavar="JSON|@FILE|-")]
Routes = Annotated[list[str] | None, Parameter(name="--route", negative="")]


@app.command(name="list")
async def list_(task: str, /, *, limit: Limit = 100, common: Common = COMMON) -> None:
    """List the steps of a task: those of the template in declared order, then further visits and items.

    For example:

    $ tasker step list 0192f7... -o jsonl --limit 0

    Args:
        task: its id.
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_found, step_columns

    async with client(common) as service:
        found = await service.steps(task, limit=limit + 1 if limit else None)
    show_found(found, limit, step_columns(), common.output, empty="no step has begun")


@app.command
async def explain(task: str, step: str, /, *, common: Common = COMMON) -> None:
    """Say why a step is where it is, also one that has not begun: what it waits for, and what the steps ahead do.

    For example:

    $ tasker step explain 0192f7... ship

    Args:
        task: its id.
        step: its name.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_explanation

    async with client(common) as service:
        show_explanation(await service.explain(task, step), common)


@app.command
async def retry(
    task: str,
    step: str,
    /,
    *,
    attempt: int | None = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Give one failed step a fresh set of attempts.

    For example:

    $ tasker step retry 0192f7... charge --reason "the bank is back"

    Args:
        task: its id.
        step: its name.
        attempt: the failed attempt that you saw; when another one is the last by now, nothing happens.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.step_retry(task, step, attempt=attempt, **by.options())
    show_reply(reply, common.output)


@app.command
async def skip(
    task: str,
    step: str,
    /,
    *,
    result: Result = "null",
    route: Routes = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Complete a step without running it (any more); the task goes on by itself.

    For example:

    $ tasker step skip 0192f7... notify --reason "the customer was called"

    Args:
        task: its id.
        step: its name.
        result: what the steps behind it get, as JSON, a file's content, or stdin.
        route: of a decision, a step that is to run; may be repeated. None: no one.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import read_json
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.step_skip(task, step, result=read_json(result), routes=route or (), **by.options())
    show_reply(reply, common.output)


@app.command
async def resolve(
    task: str,
    step: str,
    /,
    *,
    result: Result,
    route: Routes = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Complete a step with a result that was got in another way; the task goes on by itself.

    For example:

    $ tasker step resolve 0192f7... charge --result '{"receipt": "r-17"}' --requested-by ada

    Args:
        task: its id.
        step: its name.
        result: its result as JSON, a file's content, or stdin.
        route: of a decision, a step that is to run; may be repeated.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import read_json
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.step_resolve(task, step, read_json(result), routes=route or (), **by.options())
    show_reply(reply, common.output)


@app.command
async def reset(
    task: str,
    step: str,
    /,
    *,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Let the failures of an open step count no more, so that it has all its attempts again.

    For example:

    $ tasker step reset 0192f7... charge --reason "the bank is back"

    Args:
        task: its id.
        step: its name.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.step_reset(task, step, **by.options())
    show_reply(reply, common.output)


@app.command
async def edit(
    task: str,
    step: str,
    /,
    *,
    result: Result,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Give a completed step another result. The old one stays in the log; what has used it is not repeated.

    For example:

    $ tasker step edit 0192f7... price --result 17.5 --dry-run

    Args:
        task: its id.
        step: its name.
        result: the new result as JSON, a file's content, or stdin.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import read_json
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.step_edit(task, step, read_json(result), **by.options())
    show_reply(reply, common.output)


@app.command
async def release(
    task: str,
    step: str,
    /,
    *,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """End what a step waits for: its retry or its time comes now; a pending step begins, whatever its parents say.

    For example:

    $ tasker step release 0192f7... cool_down --reason "no need to wait"

    Args:
        task: its id.
        step: its name.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.step_release(task, step, **by.options())
    show_reply(reply, common.output)
