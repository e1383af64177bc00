"""After a restore to an earlier time: `tasker log renew`."""

from __future__ import annotations

from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import delete_stream
from tasker.cli.options import Format
from tasker.cli.output import fields
from tasker.cli.reach import effective
from tasker.errors import ConfigurationError
from tasker.events.postgres_renewal import renew_log
from tasker.events.subjects import Subjects


async def renew_all(*, output: Format) -> None:
    """Renew the log's id, delete what NATS keeps of the time that was lost, and print the ids.

    Raises:
        ConfigurationError: a server is not named, or a service still owns the log.
        Unavailable: a server cannot be reached. Again is fine.
    """
    settings = effective(wants=("database.url", "nats.url")).settings
    if settings.database.url is None or settings.nats.url is None:
        raise ConfigurationError("set TASKER_DATABASE_URL and TASKER_NATS_URL: both hold what was lost")
    # First, so that nothing is changed when NATS is away.
    bus = await NatsBus.connect(settings.nats.url, name="tasker-renew", inbox_prefix=settings.nats.inbox_prefix)
    try:
        renewed = await renew_log(settings.database.url)
        subjects = Subjects(settings.nats.prefix)
        for stream in (subjects.event_stream, subjects.work_stream):
            await delete_stream(bus, stream)
    finally:
        await bus.close()
    fields(renewed, [("id before", renewed.before), ("id now", renewed.log_id)], output)
