"""`tasker stats` and `tasker health`: how the service is."""

from __future__ import annotations

from tasker.cli.options import COMMON, Common


async def stats(*, common: Common = COMMON) -> None:
    """Show how many tasks there are by state, and how far the views are behind the log."""
    from tasker.cli.output import fields
    from tasker.cli.reach import client

    async with client(common) as service:
        found = await service.stats()
    pairs = [*found.tasks.items(), ("events", found.events), ("views behind by", f"{found.lag_events} events")]
    fields(found, pairs, common.output)


async def health(*, common: Common = COMMON) -> int:
    """Say whether the service is ready, and if not, why. Exit code 7 when it is not."""
    from tasker.cli.failures import NotReady
    from tasker.cli.output import fields
    from tasker.cli.reach import client

    async with client(common) as service:
        found = await service.health()
    checks = [(name, wrong or "ok") for name, wrong in found.checks.items()]
    fields(found, [("ready", found.ready), *checks, ("version", found.version)], common.output)
    if not found.ready:
        raise NotReady("; ".join(f"{name}: {wrong}" for name, wrong in found.checks.items() if wrong))
    return 0
