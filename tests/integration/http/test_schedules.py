import json
from typing import Any

from tasker.errors import ScheduleConflict
from tasker.events.schedule_events import ScheduleDeleted
from tasker.ids import schedule_stream_id
from tests.histories import scheduled
from tests.integration.http.conftest import Client, Site

DOCUMENT = {"template": "report", "cron": "0 * * * *"}


async def record(site: Site, name: str, *more: Any) -> None:
    stream_id = schedule_stream_id("default", "shop", name)
    site.recorder.record(stream_id, [*scheduled(name=name), *more])
    await site.settle()


async def test_a_schedule_shows_what_it_did_and_will_do(site: Site, client: Client) -> None:
    await record(site, "nightly")
    found = await client.get("/v1/schedules/shop/nightly")
    assert (found["state"], found["fires"], found["skips"], found["refusals"], found["waiting"]) == (
        "active",
        2,
        3,
        1,
        1,
    )
    document = found["schedule"]
    assert (document["template"], document["cron"], document["overlap"]) == ("report", "30 * * * *", "buffer_one")
    assert document["input"] == {"city": "Zürich"}
    assert found["running"] == ["t-0"]
    told = [(one["outcome"], one.get("reason"), one.get("cause"), one.get("count")) for one in found["last_fires"]]
    assert told == [
        ("waiting", None, None, None),
        ("skipped", "paused", None, 2),
        ("started", None, "backfill", None),
        ("refused", None, "buffered", None),
        ("skipped", "overlap", None, None),
        ("started", None, "time", None),
    ]
    assert len(found["next_fires"]) == 5
    assert len((await client.get("/v1/schedules/shop/nightly/next?count=7"))["items"]) == 7
    await client.problem("GET", "/v1/schedules/shop/nightly/next?count=0", 400, "parameter_invalid")


async def test_a_schedule_tells_its_history_the_newest_first(site: Site, client: Client) -> None:
    await record(site, "nightly")
    path = "/v1/schedules/shop/nightly/events"
    found = await client.get(path)
    seqs = [one["seq"] for one in found["items"]]
    assert seqs == list(range(len(seqs), 0, -1))
    assert (found["items"][-1]["type"], found["next"]) == ("schedule_created", None)
    page = await client.get(f"{path}?limit=3")
    rest = await client.get(f"{path}?after={page['next']}")
    assert [one["seq"] for one in (*page["items"], *rest["items"])] == seqs
    await client.problem("GET", "/v1/schedules/shop/never/events", 404, "schedule_unknown")


async def test_schedules_are_listed_page_by_page_without_the_deleted(site: Site, client: Client) -> None:
    for name in ("a", "b", "c"):
        await record(site, name)
    await record(site, "gone", ScheduleDeleted())
    page = await client.get("/v1/schedules?limit=2")
    assert [one["name"] for one in page["items"]] == ["a", "b"]
    page = await client.get(f"/v1/schedules?limit=2&after={page['next']}")
    assert ([one["name"] for one in page["items"]], page["next"]) == (["c"], None)
    assert [one["name"] for one in (await client.get("/v1/schedules?state=deleted"))["items"]] == ["gone"]
    assert (await client.get("/v1/schedules?template=other"))["items"] == []
    for path in ("shop/gone", "shop/never", "lab/a", "shop/gone/next"):
        await client.problem("GET", f"/v1/schedules/{path}", 404, "schedule_unknown")
    await client.problem("GET", "/v1/schedules?after=WzFd", 400, "parameter_invalid")
    await client.problem("GET", "/v1/schedules?state=asleep", 400, "parameter_invalid")


async def test_commands_go_to_the_owner(site: Site, client: Client) -> None:
    named = {"namespace": "shop", "name": "nightly"}
    site.gateway.answers.extend([{"ok": True, "schedule": named}] * 8)
    await client.ask("POST", "/v1/schedules", json={**named, "schedule": DOCUMENT}, status=200)
    path = "/v1/schedules/shop/nightly"
    await client.ask("PUT", path, json={"schedule": DOCUMENT}, status=200)
    for verb, body in (("pause", {"note": "closed"}), ("resume", None), ("trigger", None)):
        await client.ask("POST", f"{path}/{verb}", json=body, status=200) if body else await client.ask(
            "POST", f"{path}/{verb}", status=200
        )
    span = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
    await client.ask("POST", f"{path}/backfill", json=span, status=200)
    await client.ask("POST", f"{path}/stop_backfill", json={"end": span["end"]}, status=200)
    await client.ask("DELETE", path, status=200)
    assert [(verb, json.loads(body)) for _, verb, body, _ in site.gateway.sent] == [
        ("schedule.create", {**named, "schedule": DOCUMENT}),
        ("schedule.update", {**named, "schedule": DOCUMENT}),
        ("schedule.pause", {**named, "note": "closed"}),
        ("schedule.resume", named),
        ("schedule.trigger", named),
        ("schedule.backfill", {**named, **span}),
        ("schedule.stop_backfill", {**named, "end": span["end"]}),
        ("schedule.delete", named),
    ]
    site.gateway.refuse(ScheduleConflict("another document"))
    await client.problem("POST", "/v1/schedules", 409, "schedule_conflict", json={})


async def test_a_document_that_is_no_schedule_is_previewed(client: Client) -> None:
    _, found = await client.ask("POST", "/v1/schedules/next", json={"schedule": DOCUMENT, "count": 3}, status=200)
    assert len(found["items"]) == 3
    assert all(one["fire_time"].endswith(":00:00.000000Z") for one in found["items"])
    bad = {"schedule": {"template": "report", "cron": "61 * * * *"}}
    await client.problem("POST", "/v1/schedules/next", 422, "schedule_invalid", json=bad)
    await client.problem("POST", "/v1/schedules/next", 400, "body_invalid", json={"schedule": {"crom": "x"}})
