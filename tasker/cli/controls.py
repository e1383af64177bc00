"""`tasker pause`, `tasker resume`, `tasker controls`: hold back the work of many tasks at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tasker.cli.options import COMMON, Common, DryRun, Limit

Scope = Literal["queue", "template", "tenant", "everything"]


async def pause(
    scope: Scope,
    name: str | None = None,
    /,
    *,
    reason: str,
    namespace: str | None = None,
    requested_by: str | None = None,
    command_id: str | None = None,
    dry_run: DryRun = False,
    common: Common = COMMON,
) -> None:
    """Let no attempt of a queue, a template, a tenant or of everything begin. Attempts that run go on.

    Tasks are created, timers run on and results are recorded; what would begin waits, and says whom it waits for.
    A single task is paused by `tasker task pause`.

    For example:

    $ tasker pause queue charges --reason "the bank is down"

    Args:
        scope: queue, template, tenant (that of --tenant) or everything.
        name: of the queue or the template, or NAMESPACE/NAME.
        reason: why; shown to whoever meets the pause.
        namespace: of the queue or the template; else default.
        requested_by: who asks; your user name unless given.
        command_id: names this command, so that a repetition is the same one.
        dry_run: only show what would happen.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import asked_by, place_of
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace = place_of(name, namespace)
    async with client(common) as service:
        reply = await service.controls.pause(
            scope,
            name,
            requested_by=asked_by(requested_by),
            reason=reason,
            namespace=namespace,
            command_id=command_id,
            dry_run=dry_run,
        )
    show_reply(reply, common.output)


async def resume(
    scope: Scope,
    name: str | None = None,
    /,
    *,
    reason: str,
    ramp_s: float = 0.0,
    namespace: str | None = None,
    requested_by: str | None = None,
    command_id: str | None = None,
    dry_run: DryRun = False,
    common: Common = COMMON,
) -> None:
    """Let attempts begin again, all at once or evenly spread over a while.

    For example:

    $ tasker resume queue charges --reason "the bank is back" --ramp-s 600

    Args:
        scope: queue, template, tenant (that of --tenant) or everything.
        name: of the queue or the template, or NAMESPACE/NAME.
        reason: why; kept in the event.
        ramp_s: over which time what was held back comes back; else at once.
        namespace: of the queue or the template; else default.
        requested_by: who asks; your user name unless given.
        command_id: names this command, so that a repetition is the same one.
        dry_run: only show what would happen.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import asked_by, place_of
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace = place_of(name, namespace)
    async with client(common) as service:
        reply = await service.controls.resume(
            scope,
            name,
            requested_by=asked_by(requested_by),
            reason=reason,
            ramp_s=ramp_s,
            namespace=namespace,
            command_id=command_id,
            dry_run=dry_run,
        )
    show_reply(reply, common.output)


async def controls(
    *, events: Annotated[bool, Parameter(negative="")] = False, limit: Limit = 50, common: Common = COMMON
) -> None:
    """Show what is paused, whose circuit is open and what comes back slowly: since when, by whom, why.

    For example:

    $ tasker controls --events

    Args:
        events: show instead what was paused, limited, opened, resumed and closed, the newest first.
        limit: of events: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.output import rows, time_text
    from tasker.cli.reach import client
    from tasker.cli.showing import trial_text
    from tasker.clock import SystemClock
    from tasker.events.reads import CircuitView, RampView

    def state(one: Any) -> str:
        match one:
            case CircuitView():
                trial = f"trial {trial_text(one.circuit, now_us)}"
                return trial if one.circuit.state == "half_open" else f"open, {trial}"
            case RampView():
                return f"back by {time_text(one.until)}"
            case _:
                return "paused"

    if events:
        from tasker.cli.showing import show_history

        async with client(common) as service:
            await show_history(service.controls.events(), common.output, limit=limit, empty="nothing was held back")
        return
    async with client(common) as service:
        found = await service.controls.get()
    now_us = SystemClock().now_us()
    shown: list[Any] = [*found.pauses, *found.circuits, *found.ramps]
    columns = [
        ("what", lambda one: f"{one.scope} {one.namespace}/{one.name}" if one.name else one.scope),
        ("state", state),
        ("since", lambda one: time_text(one.since)),
        ("by", lambda one: one.requested_by),
        ("reason", lambda one: one.reason),
    ]
    rows(shown, columns, common.output, empty="nothing is held back")
