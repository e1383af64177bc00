"""`tasker circuits`: handlers whose attempts wait because too many of them failed."""

from __future__ import annotations

from typing import Any

from cyclopts import App

from tasker.cli.options import COMMON, Common, DryRun, Limit

app = App(name="circuits", help="Circuits of handlers: what waits because too many attempts failed.")


@app.command(name="list")
async def list_(*, common: Common = COMMON) -> None:
    """Show the circuits that are not closed, and the circuit breakers of the templates in use.

    A circuit that is open holds all attempts of its handler; when its time is over a few begin as a trial.

    Args:
        common: where the service is, and how to print.
    """
    from tasker.cli.output import rows, time_text
    from tasker.cli.reach import client
    from tasker.cli.showing import trial_text
    from tasker.clock import SystemClock
    from tasker.events.reads import CircuitView

    def state(one: Any) -> str:
        if isinstance(one, CircuitView):
            return "half open" if one.circuit.state == "half_open" else "open"
        return f"opens at {one.failure_rate:.0%} of {one.min_attempts} or more in {one.window_s:g} s"

    async with client(common) as service:
        found = await service.controls.circuits()
    now_us = SystemClock().now_us()
    shown: list[Any] = [*found.circuits, *found.declared]
    columns = [
        ("what", lambda one: f"{one.scope} {one.namespace}/{one.name}"),
        ("state", state),
        ("since", lambda one: time_text(one.circuit.opened_at) if isinstance(one, CircuitView) else None),
        ("trial", lambda one: trial_text(one.circuit, now_us) if isinstance(one, CircuitView) else None),
        ("by", lambda one: one.requested_by if isinstance(one, CircuitView) else f"version {one.version}"),
        ("reason", lambda one: one.reason if isinstance(one, CircuitView) else f"of handler {one.handler}"),
        ("last error", lambda one: one.circuit.error if isinstance(one, CircuitView) else None),
    ]
    rows(shown, columns, common.output, empty="no circuit is open, and no template in use has a breaker")


@app.command
async def events(
    name: str | None = None, /, *, namespace: str | None = None, limit: Limit = 50, common: Common = COMMON
) -> None:
    """Show what became of circuits, the newest first: opened when, by whom and why, tried, closed.

    For example:

    $ tasker circuits events charge

    Args:
        name: only of this handler; its name, or NAMESPACE/NAME.
        namespace: only of handlers of this namespace.
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import place_of
    from tasker.cli.reach import client
    from tasker.cli.showing import show_history

    name, namespace = place_of(name, namespace)
    async with client(common) as service:
        await show_history(
            service.controls.events("handler", name, namespace=namespace),
            common.output,
            limit=limit,
            empty="no circuit was opened",
            wanted=lambda event: event.type.startswith("circuit_"),
        )


@app.command(name="open")
async def open_(
    name: str,
    /,
    *,
    reason: str,
    open_s: float = 600.0,
    namespace: str | None = None,
    requested_by: str | None = None,
    command_id: str | None = None,
    dry_run: DryRun = False,
    common: Common = COMMON,
) -> None:
    """Let no attempt of a handler begin, as if too many of them had failed. Attempts that run go on.

    When the time is over a few begin as a trial: they close the circuit, or open it for twice as long.

    For example:

    $ tasker circuits open charge --open-s 1800 --reason "the bank is down until noon"

    Args:
        name: of the handler, or NAMESPACE/NAME.
        reason: why; shown to whoever waits for it.
        open_s: how long until the trial.
        namespace: of the handler; else default.
        requested_by: who asks; your user name unless given.
        command_id: names this command, so that a repetition is the same one.
        dry_run: only show what would happen.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import asked_by, named_place
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        reply = await service.controls.open_circuit(
            name,
            requested_by=asked_by(requested_by),
            reason=reason,
            open_s=open_s,
            namespace=namespace,
            command_id=command_id,
            dry_run=dry_run,
        )
    show_reply(reply, common.output)


@app.command
async def close(
    name: str,
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
    """Let attempts of a handler begin again, as if none of them had failed.

    For example:

    $ tasker circuits close charge --ramp-s 300 --reason "the bank is back"

    Args:
        name: of the handler, or NAMESPACE/NAME.
        reason: why; kept in the event.
        ramp_s: over which time what was held back comes back; else at once.
        namespace: of the handler; else default.
        requested_by: who asks; your user name unless given.
        command_id: names this command, so that a repetition is the same one.
        dry_run: only show what would happen.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import asked_by, named_place
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        reply = await service.controls.close_circuit(
            name,
            requested_by=asked_by(requested_by),
            reason=reason,
            ramp_s=ramp_s,
            namespace=namespace,
            command_id=command_id,
            dry_run=dry_run,
        )
    show_reply(reply, common.output)
