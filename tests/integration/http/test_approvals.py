"""The list of open approvals, over real views."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tasker.events.task_events import (
    ApprovalAnswered,
    ApprovalDelegated,
    ApprovalEscalated,
    ApprovalRequested,
    StepCompleted,
)
from tests.histories import created, raw
from tests.integration.http.conftest import Client, Site


async def asked(site: Site, *more: Any, tenant: str = "default", template: str = "t", **fields: Any) -> UUID:
    """A task whose step `ask` asks people."""
    request = ApprovalRequested(step="ask", attempt=1, **fields)
    return await site.task([created(template=template), request, *more], tenant=tenant)


async def listed(client: Client, query: str = "") -> list[str]:
    return [one["task_id"] for one in (await client.get(f"/v1/approvals?{query}"))["items"]]


async def test_open_approvals_are_listed_for_who_may_answer(site: Site, client: Client) -> None:
    ada = str(await asked(site, assignees=("ada",), title="Publish?", form=raw({"type": "object"})))
    heads = str(await asked(site, roles=("heads",), approvals=2))
    anybody = str(await asked(site, template="other"))
    await asked(site, StepCompleted(step="ask", attempt=1, result=raw({})), assignees=("ada",))
    handed = str(await asked(site, ApprovalDelegated(step="ask", attempt=1, by="bob", to="ada"), assignees=("bob",)))
    escalated = str(
        await asked(site, ApprovalEscalated(step="ask", attempt=1, roles=("heads",)), assignees=("bob",), escalate_us=5)
    )
    assert await listed(client) == [ada, heads, anybody, handed, escalated]
    assert await listed(client, "assignee=ada") == [ada, anybody, handed]
    assert await listed(client, "assignee=bob") == [anybody, escalated]
    assert await listed(client, "role=heads&role=cooks") == [heads, anybody, escalated]
    assert await listed(client, "assignee=ada&role=heads&template=t") == [ada, heads, handed, escalated]
    first = await client.get("/v1/approvals?limit=2")
    assert [one["task_id"] for one in first["items"]] == [ada, heads]
    assert await listed(client, f"limit=2&after={first['next']}") == [anybody, handed]
    (one,) = (await client.get("/v1/approvals?limit=1"))["items"]
    requested_at = one.pop("requested_at")
    assert requested_at.startswith("20")
    assert one.pop("position").partition(":")[2]
    assert one == {
        "task_id": ada,
        "step": "ask",
        "attempt": 1,
        "namespace": "shop",
        "template": "t",
        "title": "Publish?",
        "assignees": ["ada"],
        "form": {"type": "object"},
    }


async def test_who_has_approved_is_told(site: Site, client: Client) -> None:
    answer = ApprovalAnswered(step="ask", attempt=1, decision="approved", by="ada")
    await asked(site, answer, approvals=2, four_eyes=True, deadline_us=1_790_000_000_000_000)
    (one,) = (await client.get("/v1/approvals"))["items"]
    assert (one["approved_by"], one["approvals"], one["four_eyes"]) == (["ada"], 2, True)
    assert one["deadline_at"] == "2026-09-21T14:13:20.000000Z"


async def test_nobody_sees_the_approvals_of_another_tenant(site: Site, client: Client) -> None:
    await asked(site, tenant="acme")
    assert await listed(client) == []


@pytest.mark.parametrize("query", ["after=x", "state=open", "assignee=a&assignee=b"])
async def test_a_bad_query_is_refused(client: Client, query: str) -> None:
    await client.problem("GET", f"/v1/approvals?{query}", 400, "parameter_invalid")
