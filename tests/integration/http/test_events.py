import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from tasker.events.task_events import TaskCompleted, TaskUpdated
from tasker.events.template_events import TemplateRegistered
from tasker.ids import template_stream_id
from tasker.projections.queries import PAGE_BYTES_MAX
from tasker.service.http import event_scan, events
from tests.histories import HASH, blocked_task, completed_task, created, damaged, ran, raw
from tests.integration.http.conftest import Client, Site
from tests.raw_http import raw_request

SSE = {"Accept": "text/event-stream"}


class Stream:
    """Server-sent events as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def block(self) -> dict[str, str]:
        """Return the next block that is no comment; {} at the end."""
        while True:
            lines = []
            while (line := (await self.response.content.readline()).decode()).strip():
                lines.append(line.rstrip("\n"))
            if not lines and not line:
                return {}
            fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
            if fields and "retry" not in fields:
                return fields

    async def events(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while len(found) < count:
            block = await asyncio.wait_for(self.block(), 10)
            assert block, found
            if "data" in block:
                found.append(json.loads(block["data"]) | {"id": block["id"], "event": block["event"]})
        return found


@asynccontextmanager
async def stream(client: Client, path: str, **headers: str) -> AsyncIterator[Stream]:
    async with client.session.get(client.url + path, headers=SSE | headers) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        yield Stream(response)


# ---------------------------------------------------------------- of a task


async def test_events_of_a_task_come_in_pages_from_the_log(site: Site, client: Client) -> None:
    task_id = site.recorder.task(completed_task("s1", "s2"))
    await site.append()
    seqs: list[int] = []
    after = ""
    while True:
        page = await client.get(f"/v1/tasks/{task_id}/events?limit=3{after}")
        seqs.extend(event["seq"] for event in page["items"])
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seqs == [1, 2, 3, 4, 5, 6, 7, 8]
    assert page["items"][-1]["type"] == "task_completed"
    for behind in (8, 2**31, 2**53):
        empty = await client.get(f"/v1/tasks/{task_id}/events?after={behind}")
        assert (empty["items"], empty["next"]) == ([], None)
    await client.problem("GET", f"/v1/tasks/{uuid4()}/events", 404, "task_unknown")
    await client.problem("GET", f"/v1/tasks/{uuid4()}/events", 404, "task_unknown", headers=SSE)


async def test_an_event_that_is_no_json_is_shown_in_base64(site: Site, client: Client) -> None:
    task_id = site.recorder.task([created()])
    site.recorder.record(task_id, [TaskCompleted(result=raw(1))], change=damaged)
    await site.append()
    page = await client.get(f"/v1/tasks/{task_id}/events")
    assert page["items"][1]["data"] == {"base64": "/3s="}


async def test_a_template_is_no_task(site: Site, client: Client) -> None:
    stream_id = template_stream_id("default", "shop", "t")
    registered = TemplateRegistered(namespace="shop", name="t", version="1.0.0", hash=HASH)
    site.recorder.record(stream_id, [registered])
    await site.append()
    await client.problem("GET", f"/v1/tasks/{stream_id}/events", 404, "task_unknown")


async def test_a_task_is_followed_to_its_end(site: Site, client: Client) -> None:
    task_id = site.recorder.task([created(), *ran("s1")])
    await site.append()
    async with stream(client, f"/v1/tasks/{task_id}/events") as live:
        assert [event["id"] for event in await live.events(4)] == ["1", "2", "3", "4"]
        site.recorder.record(task_id, [TaskCompleted(result=raw(1))])
        await site.append()
        site.publish()
        assert [event["event"] for event in await live.events(1)] == ["task_completed"]
        assert await live.block() == {}


async def test_a_follower_comes_back_where_it_was(site: Site, client: Client) -> None:
    task_id = site.recorder.task(completed_task("s1"))
    await site.append()
    path = f"/v1/tasks/{task_id}/events"
    async with stream(client, path, **{"Last-Event-ID": "3"}) as live:
        assert [event["seq"] for event in await live.events(2)] == [4, 5]
    async with client.session.get(client.url + path, headers=SSE | {"Last-Event-ID": "5"}) as response:
        assert response.status == 204


# ---------------------------------------------------------------- of the log


async def collect(client: Client, query: str, *, limit: int = 7) -> list[Any]:
    """Return what pages of /v1/events show, until one is empty at the head."""
    found: list[Any] = []
    after = ""
    while True:
        page = await client.get(f"/v1/events?limit={limit}{query}{after}")
        found.extend(page["items"])
        if not page["items"] and page["next"] == page["position"]:
            return found
        after = f"&after={page['next']}"


async def test_the_log_is_read_completely_in_each_shards_order(site: Site, client: Client) -> None:
    for number in range(12):
        site.recorder.task(completed_task("s1") if number % 2 else blocked_task())
    await site.append()
    found = await collect(client, "")
    assert len(found) == len(site.recorder.events)
    positions: dict[int, int] = {}
    for event in found:
        shard, position = (int(part) for part in event["position"].split(":"))
        assert position == positions.get(shard, 0) + 1
        positions[shard] = position
    times = [event["at"] for event in found]
    assert times == sorted(times)


async def test_filters(site: Site, client: Client) -> None:
    one = site.recorder.task(completed_task("s1", template="orders"))
    two = site.recorder.task(completed_task("s1", namespace="lab"))
    await site.settle()
    three = site.recorder.task([created(template="orders")])  # the view does not know it yet
    registered = TemplateRegistered(namespace="shop", name="orders", version="1.0.0", hash=HASH)
    site.recorder.record(template_stream_id("default", "shop", "orders"), [registered])
    await site.append()

    async def tasks(query: str) -> set[str]:
        return {event["task_id"] for event in await collect(client, query)}

    assert await tasks("&type=task_completed") == {str(one), str(two)}
    assert await tasks("&template=orders") == {str(one), str(three), "_"}
    assert await tasks("&namespace=lab") == {str(two)}
    assert await tasks(f"&task_id={three}") == {str(three)}
    assert await tasks("&type=task_created&type=template_registered&namespace=shop") == {str(one), str(three), "_"}
    assert await tasks(f"&task_id={uuid4()}") == set()
    await client.problem("GET", "/v1/events?type=task_exploded", 400, "parameter_invalid")
    await client.problem("GET", "/v1/events?task_id=x", 400, "parameter_invalid")


async def test_the_token_moves_when_nothing_matches(
    site: Site, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_scan, "SCAN_EVENTS_MAX", 10)
    monkeypatch.setattr(event_scan, "READ_EVENTS", 16)
    for _ in range(10):
        site.recorder.task(completed_task("s1"))
    await site.append()
    page = await client.get("/v1/events?type=task_failed")
    assert page["items"] == []
    assert page["next"] != page["position"]
    assert await collect(client, "&type=task_failed") == []


async def test_from_now_on(site: Site, client: Client) -> None:
    site.recorder.task(completed_task("s1"))
    await site.append()
    page = await client.get("/v1/events?after=latest")
    assert (page["items"], page["next"]) == ([], page["position"])


async def test_a_live_stream_of_the_log_resumes_by_its_last_id(site: Site, client: Client) -> None:
    site.recorder.task([created()])
    await site.append()
    query = "/v1/events?type=task_completed"
    async with stream(client, query) as live:
        block = await live.block()
        assert set(block) == {"id"}  # nothing matched, and the token moved all the same
        site.recorder.task(completed_task("s1"))
        await site.append()
        site.publish()
        (event,) = await live.events(1)
        assert event["type"] == "task_completed"
    other = site.recorder.task(completed_task("s1"))
    await site.append()
    async with stream(client, query, **{"Last-Event-ID": event["id"]}) as live:
        assert [event["task_id"] for event in await live.events(1)] == [str(other)]


async def test_a_silent_stream_says_that_it_is_there(site: Site, client: Client) -> None:
    async with stream(client, "/v1/events?after=latest") as live:
        assert await live.response.content.readline() == b"retry: 1000\n"
        lines = [await asyncio.wait_for(live.response.content.readline(), 5) for _ in range(2)]
        assert b": still here\n" in lines


async def test_a_stopped_reader_holds_up_nobody(site: Site, client: Client) -> None:
    """A reader that does not read costs a page and a socket's buffer; others go on."""
    big = raw({"text": "x" * 60_000})
    for _ in range(300):
        site.recorder.task([created(input=big)])
    await site.append()
    async with stream(client, "/v1/events") as stopped:
        await stopped.block()
        await site.runner.catch_up()
        for _ in range(20):
            await asyncio.wait_for(client.get("/v1/stats"), 5)
        reading = asyncio.wait_for(collect(client, "&type=task_created", limit=100), 20)
        assert len(await reading) == 300


@pytest.mark.parametrize("path", ["/v1/events", "/v1/tasks/{}/events", "/v1/tasks/{}/stream"])
async def test_a_stream_that_only_the_headers_are_wanted_of_has_no_body(site: Site, path: str) -> None:
    """What followed them would be taken for the answer to the next request on the connection."""
    task_id = await site.task([created(), *ran("s1")])
    answer = await raw_request(
        int(site.url.rpartition(":")[2]), b"HEAD", path.format(task_id).encode(), {b"Accept": b"text/event-stream"}
    )
    assert answer == (200, "text/event-stream", "")


async def test_a_page_is_no_larger_than_memory_should_hold_for_a_reader(site: Site, client: Client) -> None:
    """Neither of the log nor of one task, and of a live stream what waits for its reader is less."""
    big = raw({"text": "x" * 60_000})
    for _ in range(100):
        site.recorder.task([created(input=big)])
    one = site.recorder.task([created(input=big)])
    site.recorder.record(one, [TaskUpdated(metadata=big) for _ in range(99)])
    await site.append()
    for path, count in (("/v1/events?limit=500", 200), (f"/v1/tasks/{one}/events?limit=500", 100)):
        found = []
        after: str | None = ""
        while after is not None:
            async with client.session.get(client.url + path + after) as response:
                body = await response.read()
            assert len(body) < PAGE_BYTES_MAX + 200_000
            page = json.loads(body)
            found += page["items"]
            is_last = page["next"] is None or not page["items"]
            after = None if is_last else f"&after={page['next']}"
        assert len({event["position"] for event in found}) == len(found) == count
    services = site.services
    scan = event_scan.EventScan(services.tail, services.log, services.queries)
    shards = dict.fromkeys(range(services.info.shards), 0)
    for frames, count in (
        (events._task_stream(services, "default", one, 0), 100),
        (events._log_stream(services, scan, event_scan.EventFilter(tenant="default"), shards), 200),
    ):
        seen = 0
        async for frame in frames:
            assert len(frame) < 1_500_000
            seen += frame.count(b"data: ")
            if seen == count:
                break
        await frames.aclose()


async def test_scans_do_not_make_each_other_forget(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whose template a task is a run is kept for later scans, a bounded number; a scan under way knows its own."""
    monkeypatch.setattr(event_scan, "PLACES_MAX", 1)
    services = site.services
    asked, go_on, slow = asyncio.Event(), asyncio.Event(), [False]

    class Queries:
        """Those of the site; a question may take its time."""

        async def places(self, task_ids: Any) -> Any:
            if slow[0]:
                slow[0] = False
                asked.set()
                await go_on.wait()
            return await services.queries.places(task_ids)

    scan = event_scan.EventScan(services.tail, services.log, Queries())  # type: ignore[arg-type]
    wanted = event_scan.EventFilter(tenant="default", types=frozenset({"task_completed"}), template="orders")
    start = behind = dict.fromkeys(range(services.info.shards), 0)
    tasks = []
    for _ in range(2):
        tasks.append(await site.task(completed_task("s1", template="orders")))
        behind = (await scan.page(wanted, behind, limit=10)).after
    tasks.append(await site.task(completed_task("s1", template="orders")))
    slow[0] = True
    reading = asyncio.create_task(scan.page(wanted, start, limit=10))
    await asked.wait()
    for _ in range(2):
        assert len((await scan.page(wanted, behind, limit=10)).events) == 1
    go_on.set()
    assert [event.stream_id for event in (await reading).events] == tasks


async def test_too_many_streams_are_refused(site: Site, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.service.http.events.STREAMS_MAX", 1)
    async with stream(client, "/v1/events?after=latest"):
        await client.problem("GET", "/v1/events", 429, "busy", headers=SSE)


async def test_streams_of_one_tenant_leave_room_for_those_of_others(
    site: Site, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.service.http.events.STREAMS_MAX", 5)
    latest = "/v1/events?after=latest"
    async with AsyncExitStack() as open_streams:
        for _ in range(4):
            await open_streams.enter_async_context(stream(client, latest))
        await client.problem("GET", latest, 429, "busy", headers=SSE)
        async with stream(client, latest, **{"Tasker-Tenant": "acme"}):
            await client.problem("GET", latest, 429, "busy", headers=SSE | {"Tasker-Tenant": "acme"})


async def test_streams_and_waits_end_when_the_service_drains(site: Site, client: Client) -> None:
    task_id = await site.task([created()])
    waiting = asyncio.create_task(client.get(f"/v1/tasks/{task_id}?wait_s=5"))
    async with stream(client, "/v1/events?after=latest") as live:
        await asyncio.sleep(0.05)
        site.services.stopping.set()
        assert (await asyncio.wait_for(waiting, 2))["state"] == "running"
        while await asyncio.wait_for(live.block(), 2):
            pass
