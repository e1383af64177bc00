"""What PostgreSQL and NATS show only together: a log that ends before what was published of it. Nothing is written."""

from __future__ import annotations

from tasker.bus.nats_bus import NatsBus
from tasker.doctor.finding import Finding
from tasker.errors import TaskerError
from tasker.events.postgres_log import PostgresLog
from tasker.events.subjects import Subjects
from tasker.service.actors.publication.stream_end import published_upto
from tasker.settings import Settings


async def examine_log(settings: Settings) -> list[Finding]:
    """Return whether the log was restored to an earlier time; nothing where a server does not answer."""
    if settings.database.url is None or settings.nats.url is None:
        return []
    try:
        async with await PostgresLog.connect(settings.database.url, committers=0) as log:
            bus = await NatsBus.connect(
                settings.nats.url, name="tasker-doctor", inbox_prefix=settings.nats.inbox_prefix
            )
            try:
                return await _compare(log, bus, Subjects(settings.nats.prefix))
            finally:
                await bus.close()
    except TaskerError:
        return []  # has its own finding: a server that is away, a schema or a stream that is not there


async def _compare(log: PostgresLog, bus: NatsBus, subjects: Subjects) -> list[Finding]:
    info = await log.info()
    upto = await published_upto(bus, subjects, info.log_id, range(info.shards))
    # Read after the stream: whoever published so far had committed it.
    lost = {
        head.shard: upto[head.shard] - head.position
        for head in await log.heads(range(info.shards))
        if upto[head.shard] > head.position
    }
    if not lost:
        return []
    return [
        Finding(
            code="log_restored",
            detail=f"the stream {subjects.event_stream} has {sum(lost.values())} events, of {len(lost)} of "
            f"{info.shards} shards, behind the end of the log: the database was restored to an earlier time, or a "
            "standby took over that lacked them",
            remedy="stop every `tasker serve`, run `tasker log renew`, and start again; what the log lacks is lost",
        )
    ]
