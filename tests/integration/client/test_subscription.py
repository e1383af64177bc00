"""Subscriptions over a real event stream, and a scripted log behind it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import delete_stream, ensure_streams
from tasker.cli.following import follow_events, read_events
from tasker.cli.options import Format
from tasker.client import TaskerClient, TaskerSyncClient
from tasker.client.subscription import START, EventFilter, Subscription
from tasker.client.sync_subscription import SyncSubscription
from tasker.errors import ConfigurationError, NameInvalid, PositionInvalid
from tasker.events.messages import LifecycleEvent
from tasker.events.reads import EventPage
from tasker.events.subjects import Subjects
from tasker.settings import StreamSettings
from tests.integration.client.scripted import LOG_ID, ScriptedLog, ScriptedPublisher, http_service, log_endpoint

SETTINGS = StreamSettings(work_bytes_max=64 * 1024**2, events_bytes_max=64 * 1024**2)


class World(NamedTuple):
    bus: NatsBus
    subjects: Subjects
    log: ScriptedLog
    publisher: ScriptedPublisher
    nats_url: str
    http_url: str

    def client(self, *, http: bool = True, nats: bool = True) -> TaskerClient:
        return TaskerClient(
            self.nats_url if nats else "",
            self.http_url if http else "",
            nats_prefix=self.subjects.prefix,
            environ={},
            timeout_s=5,
        )


@pytest.fixture
async def world(nats_url: str, nats_prefix: str) -> AsyncIterator[World]:
    bus = await NatsBus.connect(nats_url, name="scripted")
    subjects = Subjects(nats_prefix)
    await ensure_streams(bus, subjects, SETTINGS)
    log = ScriptedLog()
    async with http_service(log_endpoint(log)) as http_url:
        yield World(bus, subjects, log, ScriptedPublisher(bus, subjects), nats_url, http_url)
    await delete_stream(bus, subjects.event_stream)
    await delete_stream(bus, subjects.work_stream)
    await bus.close()


async def take(events: Subscription, count: int) -> list[LifecycleEvent]:
    return [await anext(events) for _ in range(count)]


def ids(events: list[LifecycleEvent]) -> list[str]:
    return [event.id.removeprefix(f"{LOG_ID}:") for event in events]


async def test_from_now_on(world: World) -> None:
    await world.publisher.publish(world.log.append("a", "task_created"))
    async with world.client() as client, client.subscribe() as events:
        await world.publisher.publish(world.log.append("a", "task_completed"))
        (event,) = await take(events, 1)
        assert (event.type, event.subject, events.position) == (
            "tasker.task_completed.v1",
            "a",
            f"{LOG_ID}/0:2,1:0,2:0,3:0",
        )


async def test_an_event_that_is_published_twice_comes_once(world: World) -> None:
    first, second = world.log.append("a", "task_created"), world.log.append("a", "task_completed")
    async with world.client(http=False) as client, client.subscribe() as events:
        await world.publisher.publish(first)
        await world.publisher.publish(first, message_id="other")
        await world.publisher.publish(second)
        assert ids(await take(events, 2)) == ["0:1", "0:2"]


async def test_what_the_publisher_sends_late_is_not_lost(world: World) -> None:
    """The stream lost 0:2 before it stored it; the publisher goes back and sends it behind 0:3."""
    one, two, three = (world.log.append("a", "task_created") for _ in range(3))
    async with world.client(http=False) as client, client.subscribe() as events:
        await world.publisher.publish(one, three, two)
        assert ids(await take(events, 3)) == ["0:1", "0:3", "0:2"]


async def test_resumes_from_a_position_through_log_and_stream(world: World) -> None:
    """Before the position: nothing. Then the log, then the stream, each event once."""
    old = [world.log.append("a", "task_created", shard=shard) for shard in (0, 1, 0, 1)]
    await world.publisher.publish(*old)
    async with world.client() as client, client.subscribe(start="0:1,1:1") as events:
        new = world.log.append("b", "task_created", shard=0)
        await world.publisher.publish(new)
        assert ids(await take(events, 3)) == ["0:2", "1:2", "0:3"]
        saved = events.position
    assert saved == f"{LOG_ID}/0:3,1:2,2:0,3:0"
    async with world.client() as client, client.subscribe(start=saved) as events:
        await world.publisher.publish(world.log.append("b", "task_completed", shard=1))
        assert ids(await take(events, 1)) == ["1:3"]


async def test_a_position_from_the_start_on_names_every_shard_from_the_first_event_on(world: World) -> None:
    for shard in (0, 1, 3):
        world.log.append("a", "task_created", shard=shard)
    async with world.client() as client, client.subscribe(start=START) as events:
        assert ids(await take(events, 1)) == ["0:1"]
        assert events.position == f"{LOG_ID}/0:1,1:0,2:0,3:0"


@pytest.mark.parametrize("output", ["table", "jsonl"])
async def test_tail_shows_of_shards_that_its_position_does_not_name_what_comes_from_now_on(
    world: World, output: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    for shard in (0, 1, 1):
        world.log.append("a", "task_created", shard=shard)
    read: dict[str, Any] = {"wanted": EventFilter(), "limit": 0, "output": output}
    async with world.client() as client:
        await read_events(client, start="1:1", **read)
        out, err = capsys.readouterr()
        assert (out.count("task_created"), err) == (1, f"1 events; next: --from {LOG_ID}/0:1,1:2,2:0,3:0\n")
        await read_events(client, start=START, **{**read, "limit": 1})
        assert capsys.readouterr().err == f"next: --from {LOG_ID}/0:1,1:0,2:0,3:0\n"
        await world.publisher.publish(*world.log.events)
        await follow_events(client, start="1:1", **{**read, "limit": 1})
        assert capsys.readouterr().err == f"next: --from {LOG_ID}/0:1,1:2,2:0,3:0\n"
        with pytest.raises(PositionInvalid, match="'now' is no position token"):
            await read_events(client, start="now", **read)


async def test_tail_ends_where_the_log_ended_when_it_began_however_busy_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each page finds something that came since the last one."""
    page = world.log.page

    def busy(query: Any) -> EventPage:
        found = page(query)
        for shard in (0, 1):
            world.log.append("b", "task_created", shard=shard)
        return found

    monkeypatch.setattr(world.log, "page", busy)
    for shard in (0, 1, 3):
        world.log.append("a", "task_created", shard=shard)
    async with world.client() as client, asyncio.timeout(20):
        await read_events(client, start=START, wanted=EventFilter(), limit=0, output="table")
    assert capsys.readouterr().err == f"3 events; next: --from {LOG_ID}/0:1,1:1,2:0,3:1\n"
    assert world.log.pages_read == 1


async def test_a_timeout_around_the_next_event_loses_nothing(world: World) -> None:
    async with world.client() as client, client.subscribe(start=START) as events:
        for number in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(events)
            await world.publisher.publish(world.log.append("a", "task_created", shard=number))
            assert ids(await take(events, 1)) == [f"{number}:1"]


async def test_from_the_start_comes_from_the_log_when_the_stream_has_lost_it(world: World) -> None:
    for _ in range(1201):
        world.log.append("a", "task_created")
    async with world.client() as client, client.subscribe(start=START) as events:
        await world.publisher.publish(world.log.append("a", "task_completed"))
        found = await take(events, 1202)
    assert ids(found) == [f"0:{position}" for position in range(1, 1203)]
    assert (found[0].id, found[0].correlationid) == (f"{LOG_ID}:0:1", "c")


async def test_a_stream_made_anew_leaves_a_gap_that_the_log_fills(world: World) -> None:
    async with world.client() as client, client.subscribe() as events:
        await world.publisher.publish(world.log.append("a", "task_created"))
        assert ids(await take(events, 1)) == ["0:1"]
        world.log.append("a", "step_dispatched")
        await delete_stream(world.bus, world.subjects.event_stream)
        await ensure_streams(world.bus, world.subjects, SETTINGS)
        await world.publisher.publish(world.log.append("a", "task_completed"))
        assert ids(await take(events, 2)) == ["0:2", "0:3"]


async def test_marks_move_the_position_of_a_filtered_subscription(world: World) -> None:
    async with world.client(http=False) as client, client.subscribe(types=["task_completed"]) as events:
        await world.publisher.publish(world.log.append("a", "task_created", shard=2))
        await world.publisher.mark(2, 1)
        await world.publisher.publish(world.log.append("b", "task_completed", shard=1))
        assert ids(await take(events, 1)) == ["1:1"]
        assert events.position == f"{LOG_ID}/1:1,2:1"


@pytest.mark.parametrize("saved", ["renewed/0:1", f"{LOG_ID}/0:1"])
async def test_positions_of_another_log_are_refused_without_http_as_well(world: World, saved: str) -> None:
    """Whose events these are is told by the first event, or mark, that the stream has."""
    await world.publisher.publish(world.log.append("a", "task_created"))
    await world.publisher.mark(0, 1, log_id="renewed")
    async with world.client(http=False) as client, client.subscribe(start=saved) as events:
        with pytest.raises(PositionInvalid, match="restored to an earlier time"):
            await take(events, 1)


async def test_filters_by_template_task_and_type(world: World) -> None:
    created, other, done = (
        world.log.append("a", "task_created"),
        world.log.append("b", "task_completed"),
        world.log.append("a", "task_completed"),
    )
    async with (
        world.client() as client,
        client.subscribe(task="a") as of_task,
        client.subscribe(types=["task_completed"]) as of_type,
        client.subscribe(template="other") as of_template,
    ):
        for events in (of_task, of_type, of_template):
            assert events.position is not None
        await world.publisher.publish(
            *(world.log.append(task, type) for task, type in (("a", "x"), ("b", "task_completed"), ("a", "y")))
        )
        await world.publisher.publish(world.log.append("c", "z"), template="other")
        assert ids(await take(of_task, 2)) == ["0:4", "0:6"]
        assert ids(await take(of_type, 1)) == ["0:5"]
        assert ids(await take(of_template, 1)) == ["0:7"]
    assert created.seq == done.seq - 1 == other.seq == 1


async def test_live(world: World) -> None:
    async with world.client() as client, client.subscribe(live=True, task="a") as events:
        await world.publisher.publish(world.log.append("b", "task_created"), world.log.append("a", "task_created"))
        assert ids(await take(events, 1)) == ["0:2"]
        with pytest.raises(ConfigurationError):
            client.subscribe(live=True, start=START)


async def test_over_http_alone_the_log_is_polled(world: World) -> None:
    world.log.append("a", "task_created")
    async with world.client(nats=False) as client, client.subscribe(start=START) as events:
        assert ids(await take(events, 1)) == ["0:1"]
        world.log.append("a", "task_completed")
        assert ids(await take(events, 1)) == ["0:2"]


async def test_over_nats_alone_the_stream_must_reach_back(world: World) -> None:
    await world.publisher.publish(world.log.append("a", "task_created"), world.log.append("a", "task_completed"))
    async with world.client(http=False) as client:
        async with client.subscribe(start="0:1") as events:
            assert ids(await take(events, 1)) == ["0:2"]
        await purge(world)
        await world.publisher.publish(world.log.append("b", "task_created"))
        async with client.subscribe(start="0:1") as events:
            with pytest.raises(PositionInvalid, match="TASKER_HTTP_URL"):
                await anext(events)


async def test_a_busy_log_is_read_up_to_where_its_head_was_and_then_the_stream(world: World) -> None:
    """However fast events come meanwhile: each page of the log costs the service a read of all shards."""
    publisher, log = world.publisher, world.log
    log.on_page = lambda: log.append("a", "task_created")
    log.append("a", "task_created")
    async with world.client() as client, client.subscribe(start=START) as events:
        found = await take(events, 2)
        log.append("a", "task_completed")
        await publisher.publish(*log.events)
        found += await take(events, 1)
    assert (ids(found), log.pages_read) == (["0:1", "0:2", "0:3"], 1)


async def test_a_blocking_subscription_counts_what_it_showed(world: World) -> None:
    """An event that comes between two calls is not in the position yet: it would be lost to who resumes there."""

    def begin() -> SyncSubscription:
        assert events.next(timeout_s=0.01) is None
        return events

    client = await asyncio.to_thread(
        TaskerSyncClient, world.nats_url, world.http_url, nats_prefix=world.subjects.prefix, environ={}
    )
    events = await asyncio.to_thread(client.subscribe)
    await asyncio.to_thread(events.__enter__)
    before = events.position
    await asyncio.to_thread(begin)
    await world.publisher.publish(world.log.append("a", "task_created"))
    async with asyncio.timeout(20):
        while not (events._coming is not None and events._coming.done()):  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)
    assert events.position == before == f"{LOG_ID}/0:0,1:0,2:0,3:0"
    event = await asyncio.to_thread(events.next)
    assert event is not None
    assert (event.position, events.position) == ("1", f"{LOG_ID}/0:1,1:0,2:0,3:0")
    await asyncio.to_thread(events.__exit__, None, None, None)
    await asyncio.to_thread(client.close)


async def test_wait_without_http_needs_no_more_of_the_stream_than_the_task(world: World) -> None:
    """The stream drops what is old; of a task whose creation it has dropped nobody can tell without HTTP."""
    template = {"namespace": "default", "name": "hello", "version": "v", "hash": "h"}
    created = {"template": template, "input": None, "request_hash": "r"}
    log, publish = world.log, world.publisher.publish
    await publish(log.append("old", "task_created", data=created))
    await purge(world)
    await publish(
        log.append("a", "task_created", data=created),
        log.append("a", "task_completed", data={"result": 1}),
        log.append("old", "task_completed", data={"result": 1}),
    )
    async with world.client(http=False) as client:
        assert (await client.wait("a", timeout_s=20)).state == "completed"
        with pytest.raises(PositionInvalid, match=r"behind the creation of task old.*TASKER_HTTP_URL"):
            await client.wait("old", timeout_s=20)


async def test_names_that_are_none_are_refused(world: World) -> None:
    """Over NATS they would be part of a subject, which nothing is published under."""
    async with world.client() as client:
        for names in ({"namespace": "Shop"}, {"template": "a.b"}, {"template": "*"}):
            with pytest.raises(NameInvalid):
                client.subscribe(**names)  # type: ignore[arg-type]


async def test_wait_without_http_follows_the_events(world: World) -> None:
    template = {"namespace": "default", "name": "hello", "version": "v", "hash": "h"}
    created = {"template": template, "input": {"n": 1}, "request_hash": "r"}
    error = {"type": "CardDeclined", "message": "no"}
    failed = {"step": "charge", "attempt": 3, "reason": "retries_exhausted", "error": error}
    log, publish = world.log, world.publisher.publish
    await publish(
        log.append("a", "task_created", data=created),
        log.append("a", "step_failed", data=failed),
        log.append("a", "task_blocked", data={"reason": "step_failed", "steps": ["charge"]}),
        log.append("b", "task_created", data=created),
    )
    async with world.client(http=False) as client:
        blocked = await client.wait("a", timeout_s=10)
        assert (blocked.state, blocked.blocked_steps) == ("blocked", ("charge",))
        assert blocked.error is not None
        assert blocked.error.type == "CardDeclined"
        await publish(
            log.append("a", "task_resumed", data={}), log.append("a", "task_completed", data={"result": [1, 2]})
        )
        done = await client.wait("a", timeout_s=10)
    assert (done.state, bytes(done.result or b""), bytes(done.input)) == ("completed", b"[1,2]", b'{"n":1}')


async def purge(world: World) -> None:
    subject = f"$JS.API.STREAM.PURGE.{world.subjects.event_stream}"
    await world.bus.request(subject, b"", timeout_s=5)
