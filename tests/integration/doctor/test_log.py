"""A log that ends before what was published of it: found where both servers answer."""

import msgspec

from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import delete_stream, ensure_streams
from tasker.doctor.log_checks import examine_log
from tasker.events.codec import encode_message
from tasker.events.messages import Mark
from tasker.events.postgres_log import PostgresLog
from tasker.events.subjects import Subjects
from tasker.settings import DatabaseSettings, NatsSettings, Settings, StreamSettings
from tests.contracts.event_logs import Owner, stream

SMALL = StreamSettings(work_bytes_max=2 * 1024**2, events_bytes_max=2 * 1024**2)


async def test_the_log_was_restored_to_an_earlier_time(database: str, nats_url: str, nats_prefix: str) -> None:
    settings = Settings(database=DatabaseSettings(url=database), nats=NatsSettings(url=nats_url, prefix=nats_prefix))
    subjects = Subjects(nats_prefix)
    async with await PostgresLog.connect(database) as log:
        log_id = (await log.info()).log_id
        await (await Owner(log).take(3)).write(3, stream(2))
    bus = await NatsBus.connect(nats_url, name="test")
    try:
        assert await examine_log(settings) == [], "no stream is there yet"
        await ensure_streams(bus, subjects, SMALL)
        bus.publish(subjects.mark(3), encode_message(Mark(log_id=log_id, shard=3, position=2)))
        bus.publish(subjects.mark(5), encode_message(Mark(log_id="another", shard=5, position=2)))
        await bus.flush()
        assert await examine_log(settings) == []
        bus.publish(subjects.mark(3), encode_message(Mark(log_id=log_id, shard=3, position=9)))
        await bus.flush()
        [found] = await examine_log(settings)
    finally:
        for name in (subjects.work_stream, subjects.event_stream, subjects.command_stream, subjects.refusal_stream):
            await delete_stream(bus, name)
        await bus.close()
    assert found.code == "log_restored"
    assert "has 7 events, of 1 of 16 shards, behind the end of the log" in found.detail
    assert "tasker log renew" in found.remedy
    away = msgspec.structs.replace(settings, nats=NatsSettings(url="nats://127.0.0.1:1"))
    assert await examine_log(away) == [], "that has its own finding"
    assert await examine_log(Settings()) == []
