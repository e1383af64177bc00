import asyncio
import hashlib
import json
from typing import Any

from tasker.bus.streams import ensure_streams
from tasker.errors import TemplateConflict, Unavailable
from tasker.events.codec import encode_message
from tasker.events.messages import RefusedCommand
from tasker.events.template_events import TemplateRegistered, TemplateUsed
from tasker.ids import template_stream_id
from tasker.settings import StreamSettings
from tests.histories import blocked_task, completed_task, created
from tests.integration.http.conftest import Client, Site

CONTENT = b'{"name":"orders","steps":[]}'
DIGEST = hashlib.sha256(CONTENT)


async def register(site: Site, name: str, *versions: str, used: str | None = None, tenant: str = "default") -> None:
    await site.log.put_blob(DIGEST.digest(), CONTENT)
    fields: dict[str, Any] = {"namespace": "shop", "name": name, "hash": DIGEST.hexdigest()}
    events: list[Any] = [TemplateRegistered(version=version, **fields) for version in versions]
    if used is not None:
        events.append(TemplateUsed(version=used, **fields))
    site.recorder.record(template_stream_id(tenant, "shop", name), events, tenant=tenant)
    await site.settle()


async def test_the_version_in_use_comes_with_its_document(site: Site, client: Client) -> None:
    await register(site, "orders", "1.0.0", "2.0.0", used="1.0.0")
    found = await client.get("/v1/templates/shop/orders")
    assert (found["version"], found["in_use"], found["document"]) == ("1.0.0", True, json.loads(CONTENT))
    found = await client.get("/v1/templates/shop/orders/2.0.0")
    assert (found["version"], found.get("in_use", False)) == ("2.0.0", False)


async def test_what_is_not_registered_is_unknown(site: Site, client: Client) -> None:
    await register(site, "orders", "1.0.0", tenant="acme")
    for path in ("shop/orders", "shop/orders/1.0.0", "shop/other", "shop/orders/%00"):
        await client.problem("GET", f"/v1/templates/{path}", 404, "template_unknown")
    await client.problem("GET", "/v1/templates/Shop/orders", 422, "name_invalid")
    await client.get("/v1/templates/shop/orders", headers={"Tasker-Tenant": "acme"})


async def test_templates_are_listed_page_by_page(site: Site, client: Client) -> None:
    await register(site, "orders", "1.0.0", "2.0.0", "3.0.0")
    await register(site, "billing", "1.0.0")
    seen: list[tuple[str, str, bool]] = []
    after = ""
    while True:
        page = await client.get(f"/v1/templates?limit=2{after}")
        seen.extend((one["name"], one["version"], one.get("in_use", False)) for one in page["items"])
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == [
        ("billing", "1.0.0", True),
        ("orders", "1.0.0", False),
        ("orders", "2.0.0", False),
        ("orders", "3.0.0", True),
    ]
    assert len((await client.get("/v1/templates?name=billing"))["items"]) == 1
    assert (await client.get("/v1/templates?namespace=lab"))["items"] == []
    await client.problem("GET", "/v1/templates?after=WzFd", 400, "parameter_invalid")


async def test_registering_and_choosing_go_to_the_owner(site: Site, client: Client) -> None:
    template = {"namespace": "shop", "name": "orders", "version": "1.0.0", "hash": "ab"}
    site.gateway.answers.extend([{"ok": True, "template": template}] * 2)
    _, body = await client.ask("PUT", "/v1/templates", json={"template": {"name": "orders"}}, status=200)
    assert body["template"] == template
    await client.ask("POST", "/v1/templates/shop/orders/use", json={"version": "1.0.0"}, status=200)
    sent = [(verb, json.loads(body)) for _, verb, body, _ in site.gateway.sent]
    assert sent == [
        ("template.register", {"template": {"name": "orders"}}),
        ("template.use", {"namespace": "shop", "name": "orders", "version": "1.0.0"}),
    ]
    site.gateway.refuse(TemplateConflict("other content"))
    await client.problem("PUT", "/v1/templates", 409, "template_conflict", json={})


# ---------------------------------------------------------------- health and figures


async def test_stats_count_by_state_and_tell_the_lag(site: Site, client: Client) -> None:
    await site.task(completed_task("s1"))
    await site.task(blocked_task())
    await site.task([created()])
    site.recorder.task([created()])
    await site.append()
    stats = await client.get("/v1/stats")
    assert stats["tasks"] == {"completed": 1, "blocked": 1, "running": 1}
    assert (stats["events"], stats["lag_events"]) == (15, 1)


async def test_alive(client: Client) -> None:
    assert await client.get("/health/live") == {"live": True}


async def test_ready_says_what_is_wrong(site: Site, client: Client) -> None:
    health = await client.get("/health/ready")
    assert (health["ready"], health["checks"]) == (True, {"log": None})

    async def broken() -> str | None:
        raise Unavailable("the disk is full")

    async def slow() -> str | None:
        await asyncio.sleep(60)
        return None

    checks = site.services.checks
    assert isinstance(checks, dict)
    checks.update(disk=broken, clock=slow)
    _, health = await client.ask("GET", "/health/ready", status=503)
    assert health["checks"] == {"log": None, "disk": "the disk is full", "clock": "no answer within 0.2 s"}


async def test_refusals_of_submitted_commands_come_in_pages_of_their_tenant(site: Site, client: Client) -> None:
    assert await client.get("/v1/refusals") == {"items": [], "next": None}
    await ensure_streams(site.bus, site.subjects, StreamSettings())
    for number in range(5):
        refused = RefusedCommand(
            tenant="default" if number else "other",
            verb="task.create",
            submitted=number,
            submitted_at="2026-11-21T10:00:00Z",
            error=TemplateConflict("other content").problem(),
            body="{}",
        )
        site.bus.publish(site.subjects.refused(refused.tenant), encode_message(refused))
    first = await client.get("/v1/refusals?limit=3")
    assert [(one["submitted"], one["error"]["code"]) for one in first["items"]] == [
        (number, "template_conflict") for number in (1, 2, 3)
    ]
    rest = await client.get(f"/v1/refusals?after={first['next']}")
    assert ([one["submitted"] for one in rest["items"]], rest["next"]) == ([4], None)
    await client.problem("GET", "/v1/refusals?after=x", 400, "position_invalid")
