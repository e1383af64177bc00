"""`tasker step`: the steps of a task."""

from __future__ import annotations

from cyclopts import App

from tasker.cli.options import COMMON, Common

app = App(name="step", help="Look at the steps of a task, try one again.")


@app.command(name="list")
async def list_(task: str, /, *, common: Common = COMMON) -> None:
    """List the steps of a task, in declared order."""
    from tasker.cli.output import rows
    from tasker.cli.reach import client
    from tasker.cli.showing import step_columns

    async with client(common) as service:
        steps = await service.steps(task)
    rows(steps, step_columns(), common.output, empty="no step has begun")


@app.command
async def retry(
    task: str,
    step: str,
    /,
    *,
    attempt: int | None = None,
    reason: str | None = None,
    requested_by: str | None = None,
    command_id: str | None = None,
    common: Common = COMMON,
) -> None:
    """Give one failed step a fresh set of attempts.

    For example:

    $ tasker step retry 0192f7... charge --reason "the bank is back"

    Args:
        task: its id.
        step: its name.
        attempt: the failed attempt that you saw; when another one is the last by now, nothing happens.
        reason: why, kept in the event.
        requested_by: who asks, kept in the event.
        command_id: names this command, so that a repetition is the same one.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.step_retry(
            task, step, attempt=attempt, reason=reason, requested_by=requested_by, command_id=command_id
        )
    show_reply(reply, common.output)
