"""What running attempts say live, over HTTP."""

import asyncio
import hashlib
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
import pytest

from tasker.events.messages import LiveUpdate, Progress, StepProgress
from tasker.events.task_events import StepDispatched, StepExpanded, StepGathered, TaskCompleted
from tasker.service.http import live
from tasker.templates import StepSpec, TemplateSpec, canonical_bytes
from tasker.templates.instances import name_of
from tests.histories import completed_task, created, raw
from tests.integration.http.conftest import Client, Site

STREAM = {"Accept": "text/event-stream"}


def update(task: Any, number: int, step: str = "a", attempt: int = 1, **more: Any) -> bytes:
    return msgspec.json.encode(
        LiveUpdate(task_id=str(task), step=step, attempt=attempt, worker="w1", number=number, at="now", **more)
    )


def say(site: Site, task: Any, number: int, *, step: str = "a", attempt: int = 1, **more: Any) -> None:
    subject = site.subjects.live("default", str(task), name_of(step))
    site.bus.publish(subject, update(task, number, step, attempt, **more))


async def frame(response: aiohttp.ClientResponse) -> tuple[str, Any]:
    """Return the next event of a stream, but for the progress that it begins with: its name and its data."""
    while (found := await any_frame(response))[0] == "now":
        pass
    return found


async def any_frame(response: aiohttp.ClientResponse) -> tuple[str, Any]:
    async with asyncio.timeout(60):
        name = ""
        while True:
            line = (await response.content.readline()).decode().rstrip("\n")
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return name, msgspec.json.decode(line.removeprefix("data: "))


async def listening(site: Site, task: Any, step: str = "any") -> None:
    """Return when the site listens to a task."""
    subject = site.subjects.live("default", str(task), step)
    async with asyncio.timeout(60):
        while not site.bus.broker.interested(subject):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.005)


async def test_what_attempts_say_comes_at_once_and_the_end_of_the_task_ends_it(site: Site, client: Client) -> None:
    task = await site.task([created(), StepDispatched(step="a", attempt=1)])
    async with client.session.get(f"{client.url}/v1/tasks/{task}/stream", headers=STREAM) as response:
        assert response.status == 200
        await listening(site, task)
        say(site, task, 1, chunks=(raw("Hel"), raw("lo")), progress=Progress(done=1, total=2))
        name, data = await frame(response)
        assert (name, data["chunks"], data["progress"]["done"]) == ("live", ["Hel", "lo"], 1)
        say(site, task, 2, step="b", ended=True)
        name, data = await frame(response)
        assert (data["step"], data["ended"]) == ("b", True)
        site.recorder.record(task, [TaskCompleted(result=raw(1))])
        await site.settle()
        site.publish()
        assert await frame(response) == ("end", {"state": "completed"})
        async with asyncio.timeout(60):
            assert await response.content.read() == b"\n"


async def test_one_step_can_be_followed(site: Site, client: Client) -> None:
    task = await site.task([created()])
    async with client.session.get(f"{client.url}/v1/tasks/{task}/stream?step=b", headers=STREAM) as response:
        await listening(site, task, "b")
        say(site, task, 1)
        say(site, task, 1, step="b")
        assert (await frame(response))[1]["step"] == "b"


async def test_one_item_of_a_step_can_be_followed(site: Site, client: Client) -> None:
    task = await site.task([created()])
    url = f"{client.url}/v1/tasks/{task}/stream?step=b%5Bx.1%5D"
    async with client.session.get(url, headers=STREAM) as response:
        await listening(site, task, "b")
        say(site, task, 1, step="b[x.2]")
        say(site, task, 1, step="b[x.1]")
        assert (await frame(response))[1]["step"] == "b[x.1]"


async def test_a_step_that_the_template_does_not_have_is_no_silent_stream(site: Site, client: Client) -> None:
    content = canonical_bytes(TemplateSpec(name="t", namespace="shop", steps=(StepSpec(name="a", handler="h"),)))
    digest = hashlib.sha256(content)
    await site.log.put_blob(digest.digest(), content)
    task = await site.task([created(hash=digest.hexdigest())])
    for headers in (STREAM, {}):
        await client.problem("GET", f"/v1/tasks/{task}/stream?step=b", 404, "step_unknown", headers=headers)
    assert await client.get(f"/v1/tasks/{task}/stream?step=a%5B7%5D") == {"steps": {}}


async def test_who_comes_late_is_told_the_progress_first(site: Site, client: Client) -> None:
    task = await site.task([created()])
    told = {name: StepProgress(attempt=1, at="now", done=1) for name in ("a", "b")}

    async def progress_of(tenant: str, task_id: Any) -> dict[str, StepProgress]:
        return told

    object.__setattr__(site.services, "progress_of", progress_of)
    async with client.session.get(f"{client.url}/v1/tasks/{task}/stream?step=b", headers=STREAM) as response:
        name, data = await any_frame(response)
        assert (name, list(data["steps"])) == ("now", ["b"])


async def test_a_worker_that_was_replaced_is_not_heard_any_more(site: Site, client: Client) -> None:
    task = await site.task([created()])
    async with client.session.get(f"{client.url}/v1/tasks/{task}/stream", headers=STREAM) as response:
        await listening(site, task)
        say(site, task, 1)
        say(site, task, 1, attempt=2)
        say(site, task, 2, chunks=(raw("late"),))
        say(site, task, 2, attempt=2, ended=True)
        said = [(await frame(response))[1] for _ in range(3)]
        assert [(one["attempt"], one["number"]) for one in said] == [(1, 1), (2, 1), (2, 2)]


async def test_what_is_no_update_of_the_task_is_left_out(site: Site, client: Client) -> None:
    task, other = await site.task([created()]), await site.task([created()])
    subject = site.subjects.live("default", str(task), "a")
    async with client.session.get(f"{client.url}/v1/tasks/{task}/stream", headers=STREAM) as response:
        await listening(site, task)
        for body in (b"", b"\xff", b"[]", b"{}", b'"\n\nevent: end"', update(other, 1)):
            site.bus.publish(subject, body)
        say(site, task, 7)
        assert (await frame(response))[1]["number"] == 7


async def test_a_reader_that_is_too_slow_misses_the_oldest_and_is_told_how_many() -> None:
    buffer = live.LiveBuffer("t")
    for number in range(live.WAITING_UPDATES_MAX + 5):
        buffer.put(message(update("t", number)))
    found, lost = buffer.take()
    first = msgspec.json.decode(found[0])["number"]
    assert (len(found), first, lost) == (live.WAITING_UPDATES_MAX, 5, 5)
    large = update("t", 1, chunks=(raw("x" * (live.WAITING_BYTES_MAX // 5)),))
    for _ in range(10):
        buffer.put(message(large))
    found, lost = buffer.take()
    assert (len(found), lost) == (4, 6)
    assert buffer.take() == ([], 0)


async def test_an_update_between_a_look_and_the_wait_for_more_is_not_waited_for() -> None:
    """A stream looks how its task is in between, which takes a question to the database."""
    buffer = live.LiveBuffer("t")
    assert buffer.take() == ([], 0)
    buffer.put(message(update("t", 1)))
    async with asyncio.timeout(5):
        await buffer.more(60)
    assert len(buffer.take()[0]) == 1


async def test_what_a_buffer_knows_of_steps_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STEPS_KNOWN_MAX", 3)
    buffer = live.LiveBuffer("t")
    for number in range(10):
        buffer.put(message(update("t", 1, f"a[{number}]", 2)))
    buffer.take()
    buffer.put(message(update("t", 1, "a[9]", 1)))
    buffer.put(message(update("t", 1, "a[0]", 1)))
    assert len(buffer.take()[0]) == 1, "only the last ones are known to be over"


def message(data: bytes) -> Any:
    return msgspec.defstruct("M", [("data", bytes)])(data)


async def test_what_ended_and_what_does_not_exist_is_not_streamed(site: Site, client: Client) -> None:
    task = await site.task(completed_task("s1"))
    async with client.session.get(f"{client.url}/v1/tasks/{task}/stream", headers=STREAM) as response:
        assert response.status == 204
    await client.problem("GET", f"/v1/tasks/{'0' * 8}-0000-7000-8000-{'0' * 12}/stream", 404, "task_unknown")
    await client.problem("GET", f"/v1/tasks/{task}/stream?step=A", 422, "name_invalid")


async def test_without_a_stream_the_progress_of_the_moment_is_shown(site: Site, client: Client) -> None:
    task = await site.task([created()])
    told = {name: StepProgress(attempt=1, at="now", done=1) for name in ("a", "b")}

    async def progress_of(tenant: str, task_id: Any) -> dict[str, StepProgress]:
        return told

    object.__setattr__(site.services, "progress_of", progress_of)
    assert set((await client.get(f"/v1/tasks/{task}/stream"))["steps"]) == {"a", "b"}
    assert set((await client.get(f"/v1/tasks/{task}/stream?step=b"))["steps"]) == {"b"}


async def test_a_step_that_waits_for_its_items_says_how_many_are_over(site: Site, client: Client) -> None:
    task = await site.task([created(), StepExpanded(step="each", items=raw([1, 2, 3]))])
    asked: list[UUID] = []

    async def progress_of(tenant: str, task_id: UUID) -> dict[str, StepProgress]:
        asked.append(task_id)
        return {"each": StepProgress(attempt=1, at="now", done=1, total=3, failed=2)}

    object.__setattr__(site.services, "progress_of", progress_of)
    [each] = (await client.get(f"/v1/tasks/{task}/steps"))["items"]
    assert each["progress"] == {"attempt": 1, "at": "now", "done": 1, "total": 3, "failed": 2}
    site.recorder.record(task, [StepGathered(step="each", completed=3)])
    await site.settle()
    [each] = (await client.get(f"/v1/tasks/{task}/steps"))["items"]
    assert ("progress" in each, asked) == (False, [task])


@pytest.fixture(autouse=True)
def _live(site: Site) -> None:
    object.__setattr__(site.services, "live", live.BusLive(site.bus, site.subjects))
