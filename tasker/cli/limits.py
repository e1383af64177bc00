"""`tasker limits`: how many attempts may begin in a time."""

from __future__ import annotations

from typing import Any, Literal

from cyclopts import App

from tasker.cli.options import COMMON, Common, DryRun

app = App(name="limits", help="Pace the attempts of a queue or a handler.")

Scope = Literal["queue", "handler"]


@app.command(name="list")
async def list_(*, common: Common = COMMON) -> None:
    """Show the limits: those that operators set (since when, by whom, why), and those of the templates in use.

    The limit of a step holds until an operator sets one for its handler, which takes its place.

    Args:
        common: where the service is, and how to print.
    """
    from tasker.cli.output import rows, time_text
    from tasker.cli.reach import client

    async with client(common) as service:
        found = await service.controls.limits()
    shown: list[Any] = [*found.limits, *found.declared]
    columns = [
        ("what", lambda one: f"{one.scope} {one.namespace}/{one.name}"),
        ("per second", lambda one: one.per_s),
        ("burst", lambda one: one.burst),
        ("for each", lambda one: one.key),
        ("since", lambda one: time_text(one.since) if hasattr(one, "since") else None),
        ("by", lambda one: one.requested_by if hasattr(one, "since") else f"version {one.version}"),
        ("reason", _reason),
    ]
    rows(shown, columns, common.output, empty="nothing is limited")


def _reason(one: Any) -> str | None:
    if hasattr(one, "reason"):
        return str(one.reason)
    return f"the limit of handler {one.handler} holds instead" if one.overridden else None


@app.command(name="set")
async def set_(
    scope: Scope,
    name: str,
    /,
    *,
    per_s: float,
    reason: str,
    burst: int = 1,
    key: str | None = None,
    namespace: str | None = None,
    requested_by: str | None = None,
    command_id: str | None = None,
    dry_run: DryRun = False,
    common: Common = COMMON,
) -> None:
    """Let so many attempts of a queue or a handler begin in a time, over all nodes, in place of a limit before.

    For example:

    $ tasker limits set handler charge --per-s 5 --burst 10 --key input.customer --reason "the bank asks for it"

    Args:
        scope: queue or handler.
        name: of the queue or the handler, or NAMESPACE/NAME.
        per_s: attempts a second; 0.1 is one in ten seconds.
        reason: why; kept in the event.
        burst: so many may begin at once when none did for a while.
        key: an expression over the task's input; each of its values has the limit for itself.
        namespace: of the queue or the handler; else default.
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
        reply = await service.controls.set_limit(
            scope,
            name,
            per_s=per_s,
            burst=burst,
            key=key,
            requested_by=asked_by(requested_by),
            reason=reason,
            namespace=namespace,
            command_id=command_id,
            dry_run=dry_run,
        )
    show_reply(reply, common.output)


@app.command
async def remove(
    scope: Scope,
    name: str,
    /,
    *,
    reason: str,
    namespace: str | None = None,
    requested_by: str | None = None,
    command_id: str | None = None,
    dry_run: DryRun = False,
    common: Common = COMMON,
) -> None:
    """Let attempts of a queue or a handler begin as they come.

    Args:
        scope: queue or handler.
        name: of the queue or the handler, or NAMESPACE/NAME.
        reason: why; kept in the event.
        namespace: of the queue or the handler; else default.
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
        reply = await service.controls.remove_limit(
            scope,
            name,
            requested_by=asked_by(requested_by),
            reason=reason,
            namespace=namespace,
            command_id=command_id,
            dry_run=dry_run,
        )
    show_reply(reply, common.output)
