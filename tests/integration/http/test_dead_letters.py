"""Reads of dead letters over HTTP, from views that follow a log on PostgreSQL; commands go to their owner."""

import json
from typing import Any
from uuid import UUID

import pytest

from tasker.events.dead_letter_events import (
    DeadLetterAdded,
    DeadLetterAssigned,
    DeadLetterInvestigated,
    DeadLetterNoted,
    DeadLetterResolved,
)
from tasker.events.envelope import Meta
from tasker.events.task_events import (
    ErrorInfo,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepRetried,
    TaskBlocked,
    TaskCancelled,
    TaskResumed,
)
from tasker.ids import investigation_stream_id
from tests.histories import created, raw
from tests.integration.http.conftest import SHARES_SITE, Client, Site

ADA = Meta(requested_by="ada", reason="paid by hand")


def dead(
    site: Site, message: str = "no card 17", *, step: str = "charge", reason: Any = "permanent_error", **more: Any
) -> UUID:
    """Record a task whose step has failed for good."""
    error = ErrorInfo(type="shop.Declined", message=message, retryable=False)
    failed = StepFailed(step=step, attempt=1, reason=reason, error=error)
    blocked = TaskBlocked(reason="step_failed", steps=(step,))
    return site.recorder.task([created(**more), StepDispatched(step=step, attempt=1), failed, blocked])


def person(site: Site, task_id: UUID, *kinds: Any, step: str = "charge", **more: Any) -> None:
    events = [kind(task_id=str(task_id), step=step, attempt=1, **more) for kind in kinds]
    site.recorder.record(investigation_stream_id("default", task_id), events, meta=ADA)


async def listed(client: Client, query: str = "") -> list[str]:
    return [item["task_id"] for item in (await client.get(f"/v1/dlq?{query}"))["items"]]


async def test_a_dead_letter_is_shown_with_its_task(site: Site, client: Client) -> None:
    task_id = dead(site, tags={"team": "core"})
    person(site, task_id, DeadLetterInvestigated)
    person(site, task_id, DeadLetterAssigned, owner="grace")
    person(site, task_id, DeadLetterNoted, note="the bank is down")
    await site.settle()
    (item,) = (await client.get("/v1/dlq"))["items"]
    assert (item["task_id"], item["step"], item["namespace"], item["template"]) == (
        str(task_id),
        "charge",
        "shop",
        "linear4",
    )
    assert (item["reason"], item["state"], item["status"], item["owner"]) == (
        "permanent_error",
        "dead",
        "investigating",
        "grace",
    )
    assert (item["pattern"], item["tags"], item["task_state"], item["notes_count"]) == (
        "no card <n>",
        {"team": "core"},
        "blocked",
        1,
    )
    assert "notes" not in item
    (shown,) = (await client.get(f"/v1/dlq/{task_id}"))["items"]
    assert [(note["note"], note["requested_by"]) for note in shown["notes"]] == [("the bank is down", "ada")]


async def test_what_left_or_is_settled_is_listed_only_where_it_is_asked_for(site: Site, client: Client) -> None:
    open_one, settled, retrying, gone, cancelled = (dead(site) for _ in range(5))
    person(site, settled, DeadLetterResolved)
    retried = [TaskResumed(), StepRetried(step="charge", attempt=2), StepDispatched(step="charge", attempt=2)]
    site.recorder.record(retrying, retried)
    site.recorder.record(gone, [*retried, StepCompleted(step="charge", attempt=2, result=raw(1))])
    site.recorder.record(cancelled, [TaskCancelled()])
    await site.settle()
    assert set(await listed(client)) == {str(open_one), str(retrying)}
    assert await listed(client, "status=resolved") == [str(settled)]
    assert set(await listed(client, "state=left")) == {str(gone), str(cancelled)}
    assert await listed(client, "state=dead&status=open,investigating") == [str(open_one)]
    assert (await client.get("/v1/dlq/count"))["count"] == 2
    assert (await client.get("/v1/dlq/count?state=dead,retrying,left"))["count"] == 5
    assert (await client.get(f"/v1/dlq/{cancelled}"))["items"][0]["left_how"] == "task_cancelled"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("reason=permanent_error", [0, 1]),
        ("reason=retries_exhausted,manual", [2, 3]),
        ("reason=manual", [3]),
        ("template=orders", [1]),
        ("namespace=nowhere", []),
        ("step=ship", [2]),
        ("owner=grace", [0]),
        ("tag=team=core", [0, 1]),
        ("tag=team=core&tag=n=1", [1]),
        ("seen_after=2020-01-01T00:00:00Z", [0, 1, 2, 3]),
        ("seen_before=2020-01-01T00:00:00Z", []),
    ],
)
async def test_filters(site: Site, client: Client, query: str, expected: list[int]) -> None:
    tasks = [
        dead(site, tags={"team": "core"}),
        dead(site, template="orders", tags={"team": "core", "n": "1"}),
        dead(site, step="ship[17]", reason="retries_exhausted"),
        site.recorder.task([created(), StepDispatched(step="charge", attempt=1)]),
    ]
    person(site, tasks[0], DeadLetterAssigned, owner="grace")
    person(site, tasks[3], DeadLetterAdded)
    await site.settle()
    assert set(await listed(client, query)) == {str(tasks[index]) for index in expected}
    assert (await client.get(f"/v1/dlq/count?{query}"))["count"] == len(expected)


async def test_pages_have_every_letter_once(site: Site, client: Client) -> None:
    tasks = [dead(site) for _ in range(7)]
    await site.settle()
    seen: list[str] = []
    after = ""
    while True:
        page = await client.get(f"/v1/dlq?limit=3{after}")
        seen += [item["task_id"] for item in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == [str(task_id) for task_id in reversed(tasks)]


async def test_groups_count_errors_of_one_fingerprint(site: Site, client: Client) -> None:
    for number in range(3):
        dead(site, f"no card {number}")
    other = dead(site, "the bank is closed", step="ship")
    await site.settle()
    first = await client.get("/v1/dlq/groups?limit=1")
    (group,) = first["items"]
    assert (group["count"], group["failures"], group["pattern"], group["step"]) == (3, 3, "no card <n>", "charge")
    assert group["first_seen"] < group["last_seen"]
    second = await client.get(f"/v1/dlq/groups?limit=1&after={first['next']}")
    assert [(one["count"], one["task_id"]) for one in second["items"]] == [(1, str(other))]
    assert second["next"] is None
    assert len(await listed(client, f"fingerprint={group['fingerprint']}")) == 3


async def test_nobody_sees_the_letters_of_another_tenant(site: Site, client: Client) -> None:
    task_id = dead(site)
    await site.settle()
    other = {"Tasker-Tenant": "acme"}
    assert (await client.get("/v1/dlq", headers=other))["items"] == []
    assert (await client.get("/v1/dlq/count", headers=other))["count"] == 0
    await client.problem("GET", f"/v1/dlq/{task_id}", 404, "task_unknown", headers=other)


@pytest.mark.parametrize(
    "query",
    ["state=gone", "status=closed", "reason=tired", "after=x", "step=A", "tag=x", "seen_after=now", "nonsense=1"],
)
@SHARES_SITE
async def test_a_bad_query_is_refused(shared_client: Client, query: str) -> None:
    for path in ("/v1/dlq", "/v1/dlq/groups"):
        status, code = (422, "name_invalid") if query == "step=A" else (400, "parameter_invalid")
        await shared_client.problem("GET", f"{path}?{query}", status, code)


@pytest.mark.parametrize("verb", ["add", "investigate", "resolve", "reopen", "retry"])
async def test_commands_go_to_their_owner(site: Site, client: Client, verb: str) -> None:
    task_id = dead(site)
    site.gateway.answers.append({"ok": True, "task_id": str(task_id), "position": "0:9"})
    body = {"step": "charge", "requested_by": "ada", "reason": "why"}
    await client.ask("POST", f"/v1/dlq/{task_id}/{verb}", json=body, status=200)
    _, sent, data, _ = site.gateway.sent[0]
    assert (sent, json.loads(data)) == (f"dlq.{verb}", body | {"task_id": str(task_id)})
