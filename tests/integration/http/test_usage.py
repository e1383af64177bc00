"""Totals of usage over HTTP."""

from typing import Any

from tasker.events.task_events import UsageRecorded
from tests.histories import completed_task, created, ran
from tests.integration.http.conftest import Client, Site


def used(step: str, meter: str, amount: str, **more: Any) -> UsageRecorded:
    return UsageRecorded(step=step, attempt=1, meter=meter, amount=amount, **more)


def priced(amount: str, cost: str, prices: str = "v1") -> dict[str, Any]:
    return {"model": "opus", "unit": "token", "cost": cost, "currency": "USD", "price": "0.01", "prices": prices}


async def filled(site: Site) -> list[str]:
    """Two tasks of one template, one of another, and one of another tenant."""
    tokens = [used("a", "tokens_in", "10", **priced("10", "0.1")), used("b", "tokens_in", "5", **priced("5", "0.05"))]
    pages = used("b", "pages", "0.25")
    one = await site.task([created("orders"), *ran("a"), *tokens, pages])
    two = await site.task([created("orders"), used("a", "tokens_in", "1", **priced("1", "0.02", "v2"))])
    await site.task([created("bills"), used("a", "pages", "3", unit="page")])
    await site.task([created("orders"), used("a", "pages", "99")], tenant="other")
    await site.task(completed_task("s1"))
    return [str(one), str(two)]


def told(page: Any, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(item.get(name) for name in names) for item in page["items"]]


async def test_usage_is_added_up_by_template(site: Site, client: Client) -> None:
    await filled(site)
    page = await client.get("/v1/usage")
    assert told(page, "template", "model", "meter", "amount", "cost", "currency", "attempts") == [
        ("bills", None, "pages", "3", None, None, 1),
        ("orders", None, "pages", "0.25", None, None, 1),
        ("orders", "opus", "tokens_in", "16", "0.17", "USD", 3),
    ]
    assert page["items"][2]["prices"] == ["v1", "v2"]
    assert page["position"]


async def test_usage_is_added_up_by_step_task_and_tenant(site: Site, client: Client) -> None:
    one, two = await filled(site)
    page = await client.get("/v1/usage?by=step&template=orders&model=opus")
    assert told(page, "step", "amount", "task_id") == [("a", "11", None), ("b", "5", None)]
    page = await client.get(f"/v1/usage?by=step&task_id={one}")
    assert told(page, "step", "meter", "amount") == [
        ("a", "tokens_in", "10"),
        ("b", "pages", "0.25"),
        ("b", "tokens_in", "5"),
    ]
    page = await client.get("/v1/usage?by=task&model=opus")
    assert sorted(told(page, "task_id", "amount")) == sorted([(one, "15"), (two, "1")])
    page = await client.get("/v1/usage?by=tenant&model=opus")
    assert told(page, "template", "amount", "cost") == [(None, "16", "0.17")]


async def test_pages_have_every_total_once(site: Site, client: Client) -> None:
    await filled(site)
    whole = (await client.get("/v1/usage?by=task"))["items"]
    found: list[Any] = []
    after = ""
    while True:
        page = await client.get(f"/v1/usage?by=task&limit=1{after}")
        found += page["items"]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert found == whole
    assert len(whole) == 4


async def test_another_tenant_sees_its_own(site: Site, client: Client) -> None:
    await filled(site)
    page = await client.get("/v1/usage", headers={"Tasker-Tenant": "other"})
    assert told(page, "amount") == [("99",)]


async def test_a_cursor_of_another_list_and_an_unknown_way_to_add_up_are_refused(site: Site, client: Client) -> None:
    await client.problem("GET", "/v1/usage?after=abc", 400, "parameter_invalid")
    await client.problem("GET", "/v1/usage?by=day", 400, "parameter_invalid")


async def test_a_page_goes_on_with_what_the_one_before_added_up(site: Site, client: Client) -> None:
    await filled(site)
    page = await client.get("/v1/usage?by=step&limit=1")
    problem = await client.problem("GET", f"/v1/usage?by=task&after={page['next']}", 400, "parameter_invalid")
    assert problem["detail"] == "the cursor is of totals by step, not task"
