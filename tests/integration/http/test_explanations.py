"""Explanations over HTTP: the sentence, the structure, and who may see them."""

import hashlib
from collections.abc import Mapping
from uuid import UUID

import pytest

from tasker.events.envelope import Meta
from tasker.events.places import KeyName
from tasker.events.reads import PlaceFacts, PlaceHolder, QueueFacts, TurnFacts
from tasker.events.task_events import (
    ErrorInfo,
    LoopTurned,
    PlaceDenied,
    PlaceRequested,
    StepAttemptFailed,
    StepCancelled,
    StepDispatched,
    StepExpanded,
    StepFailed,
    StepResultEdited,
    StepRouted,
    TaskCancelled,
    TaskStopping,
)
from tasker.service.http.turn_facts import STEPS_ASKED
from tasker.templates import RateLimit, StepSpec, TemplateSpec, canonical_bytes
from tasker.templates.model import ItemFailure
from tests.histories import completed_task, created, ran, raw
from tests.integration.http.conftest import Client, Site

LINE = (
    StepSpec(name="first", handler="h", queue="slow"),
    StepSpec(name="second", handler="h", after=("first",)),
    StepSpec(name="third", handler="h", after=("second",)),
)


async def begun(site: Site, *events: object, steps: tuple[StepSpec, ...] = LINE) -> str:
    content = canonical_bytes(TemplateSpec(name="t", namespace="shop", steps=steps))
    digest = hashlib.sha256(content)
    await site.log.put_blob(digest.digest(), content)
    return str(await site.task([created(hash=digest.hexdigest()), *events]))


async def test_a_task_and_its_steps_say_why(site: Site, client: Client) -> None:
    task_id = await begun(site, StepDispatched(step="first", attempt=1))
    asked: list[tuple[str, str, str]] = []

    async def queue_of(tenant: str, namespace: str, queue: str) -> QueueFacts:
        asked.append((tenant, namespace, queue))
        return QueueFacts(namespace=namespace, queue=queue, known=False)

    object.__setattr__(site.services, "queue_of", queue_of)
    why = await client.get(f"/v1/tasks/{task_id}/explain")
    assert why["sentence"] == (
        "The task is running: it waits for a worker: no worker has ever served queue slow of namespace shop "
        "(step first)."
    )
    assert asked == [("default", "shop", "slow")]
    why = await client.get(f"/v1/tasks/{task_id}/steps/third/explain")
    assert (why["step"], why["state"]) == ("third", "pending")
    assert [(cause["kind"], cause["step"]) for cause in why["causes"]] == [
        ("parents", "third"),
        ("worker", "first"),
    ]
    assert why["causes"][1]["queue"] == {"namespace": "shop", "queue": "slow", "known": False, "handler": "h"}
    await client.problem("GET", f"/v1/tasks/{task_id}/steps/fourth/explain", 404, "step_unknown")
    await client.problem("GET", f"/v1/tasks/{task_id}/steps/first[7]/explain", 404, "step_unknown")


@pytest.mark.parametrize("policy", ["continue", "isolate"])
async def test_of_a_long_list_the_items_that_hold_it_up_are_named(
    site: Site, client: Client, policy: ItemFailure
) -> None:
    """Wherever they stand in it, and whatever of it is over; what failed counts where it is waited for."""
    steps = (StepSpec(name="each", handler="h", each="input", on_item_failure=policy), *LINE[:1])
    items = [event for index in range(900) if index not in {7, 777} for event in ran(f"each[{index}]")]
    failure = ErrorInfo(type="ValueError", message="no")
    task_id = await begun(
        site,
        StepExpanded(step="each", items=raw(list(range(900)))),
        StepDispatched(step="each[7]", attempt=1),
        StepAttemptFailed(step="each[7]", attempt=1, error=failure),
        StepFailed(step="each[7]", attempt=1, reason="retries_exhausted", error=failure),
        *items,
        StepDispatched(step="each[777]", attempt=1),
        steps=steps,
    )
    open_and_failed = ["each", "each[777]", *(["each[7]"] if policy == "isolate" else [])]
    for path in ("explain", "steps/each/explain"):
        why = await client.get(f"/v1/tasks/{task_id}/{path}")
        named = [cause["step"] for cause in why["causes"]]
        assert list(dict.fromkeys(named)) == open_and_failed, path
    assert "(step each[777])" in (await client.get(f"/v1/tasks/{task_id}/explain"))["sentence"]
    why = await client.get(f"/v1/tasks/{task_id}/steps/each[7]/explain")
    assert why["sentence"].startswith("Step each[7] failed at ")


async def test_of_a_loop_the_newest_visit_counts(site: Site, client: Client) -> None:
    steps = (
        StepSpec(name="check", handler="h", routes=("again", "done")),
        StepSpec(name="again", handler="h", after=("check",), back_to="check", max_visits=1000),
        StepSpec(name="done", handler="h", after=("check",)),
    )
    visits = []
    for visit in range(1, 600):
        suffix = "" if visit == 1 else f"#{visit}"
        visits += [
            *ran(f"check{suffix}"),
            StepRouted(step=f"check{suffix}", attempt=1, chosen=("again",), closed=("done",)),
            LoopTurned(step="check", by=f"again{suffix}", visit=visit + 1, steps=("check", "again", "done")),
        ]
    task_id = await begun(site, *visits, StepDispatched(step="check#600", attempt=1), steps=steps)
    why = await client.get(f"/v1/tasks/{task_id}/steps/done/explain")
    assert [(cause["kind"], cause["step"]) for cause in why["causes"]] == [("parents", "done"), ("worker", "check#600")]
    [done] = [one for one in (await client.get(f"/v1/tasks/{task_id}/steps"))["items"] if one["step"] == "done"]
    assert done["waiting_on"] == "step check"


async def test_nothing_is_asked_where_no_step_waits_for_a_worker(site: Site, client: Client) -> None:
    task_id = await begun(site, *ran("first"))
    why = await client.get(f"/v1/tasks/{task_id}/steps/first/explain")
    assert why["sentence"].startswith("Step first completed at ")
    assert "causes" not in why


async def test_nobody_is_told_of_a_task_of_another_tenant(site: Site, client: Client) -> None:
    task_id = await site.task(completed_task("s1"), tenant="acme")
    for path in ("explain", "steps/s1/explain"):
        await client.problem("GET", f"/v1/tasks/{task_id}/{path}", 404, "task_unknown")
        assert (await client.get(f"/v1/tasks/{task_id}/{path}", headers={"Tasker-Tenant": "acme"}))["sentence"]


async def test_lists_say_who_holds_a_place(site: Site, client: Client) -> None:
    """Of the task as a whole and of a step; the key is asked by the name that the views know."""
    digest = hashlib.sha256(b"t").hexdigest()
    pending = str(await site.task([created(hash=digest), PlaceRequested(key='"a b"', limit=1, strategy="queue")]))
    waiting = PlaceRequested(key="7", limit=1, strategy="queue", step="first[2]", attempt=2)
    running = str(await site.task([created(hash=digest), waiting]))
    asked: list[tuple[str, str, str]] = []

    async def place_of(name: KeyName, request: str) -> PlaceFacts | None:
        asked.append((name.step, name.key, request))
        if name.key == "7":
            return None
        holder = PlaceHolder(task_id="t1", since="2026-11-26T01:02:03.000000Z")
        return PlaceFacts(key=name.key, limit=1, held=1, waiting=1, ahead=0, holders=(holder,))

    object.__setattr__(site.services, "place_of", place_of)
    found = {task["task_id"]: task["waiting_on"] for task in (await client.get("/v1/tasks"))["items"]}
    words = 'a place under its concurrency key "a b"'
    assert found[pending] == f"{words}: held by task t1 since 2026-11-26T01:02:03.000000Z"
    assert found[running] == "a place under its concurrency key 7 for step first[2]", "nobody could say"
    assert sorted(asked) == [("", '"a b"', pending), ("first", "7", f"{running}:first[2]:2")]
    asked.clear()
    why = await client.get(f"/v1/tasks/{running}/explain")
    assert asked == [("first", "7", f"{running}:first[2]:2")]
    assert "place" not in why["causes"][0]
    why = await client.get(f"/v1/tasks/{pending}/explain")
    assert why["causes"][0]["place"]["holders"] == [{"task_id": "t1", "since": "2026-11-26T01:02:03.000000Z"}]


async def test_the_owner_is_asked_when_a_step_has_its_turn_under_a_limit(site: Site, client: Client) -> None:
    """Of many items a few are asked after: those that are explained, and the first."""
    steps = (StepSpec(name="each", handler="h", each="input", rate_limit=RateLimit(per_s=2.0)), *LINE[:1])
    items = [StepDispatched(step=f"each[{index}]", attempt=1) for index in range(30)]
    expanded = StepExpanded(step="each", items=raw(list(range(30))))
    task_id = await begun(site, expanded, *items, *ran("first")[:1], steps=steps)
    asked: list[tuple[str, dict[str, int]]] = []

    async def turns_of(task: UUID, attempts: Mapping[str, int]) -> dict[str, TurnFacts]:
        asked.append((str(task), dict(attempts)))
        return {"each[27]": TurnFacts(ahead=27, at="2026-11-26T01:02:03.000000Z")}

    object.__setattr__(site.services, "turns_of", turns_of)
    why = await client.get(f"/v1/tasks/{task_id}/steps/each[27]/explain")
    assert why["sentence"] == (
        "Step each[27] waits for a worker, within the limit of 2 a second of step linear4/each "
        "(its turn comes at about 2026-11-26T01:02:03.000000Z, behind 27 others)."
    )
    assert why["causes"][0]["turn"] == {"ahead": 27, "at": "2026-11-26T01:02:03.000000Z"}
    [(task, attempts)] = asked
    assert (task, next(iter(attempts)), len(attempts)) == (task_id, "each[27]", STEPS_ASKED)
    assert "first" not in attempts, "it is under no limit"
    asked.clear()
    await client.get(f"/v1/tasks/{task_id}/steps/first/explain")
    assert len(asked) == 1


async def test_a_decision_says_what_it_chose_wherever_it_stands_in_the_log(site: Site, client: Client) -> None:
    """Also of one whose result was edited long after."""
    steps = (
        StepSpec(name="route", handler="h", routes=("auto", "manager")),
        StepSpec(name="auto", handler="h", after=("route",)),
        StepSpec(name="manager", handler="h", after=("route",)),
    )
    choice = StepRouted(step="route", attempt=1, chosen=("manager",), closed=("auto",), reason="5,000 or more")
    task_id = await begun(site, *ran("route")[:2], choice, *ran("route")[2:], steps=steps)
    words = "; it chose manager, not auto: 5,000 or more."
    why = await client.get(f"/v1/tasks/{task_id}/steps/route/explain")
    assert why["sentence"].endswith(words)
    assert why["route"] == {"chosen": ["manager"], "closed": ["auto"], "reason": "5,000 or more"}
    much = [event for _ in range(200) for event in ran("manager")]
    site.recorder.record(UUID(task_id), [*much, StepResultEdited(step="route", result=raw(2))])
    await site.settle()
    why = await client.get(f"/v1/tasks/{task_id}/steps/route/explain")
    assert why["sentence"].endswith(words)


async def test_a_cancelled_task_says_by_whom_however_many_steps_it_stopped(site: Site, client: Client) -> None:
    steps = (StepSpec(name="each", handler="h", each="input"), *LINE[:1])
    task_id = await begun(site, StepExpanded(step="each", items=raw(list(range(900)))), steps=steps)
    items = [f"each[{index}]" for index in range(900)]
    site.recorder.record(UUID(task_id), [StepDispatched(step=item, attempt=1) for item in items])
    ended = [
        TaskStopping(ending="cancelled", cause="cancel"),
        *(StepCancelled(step=item, attempt=1, reason="the task is stopping: cancel") for item in items),
        TaskCancelled(),
    ]
    site.recorder.record(UUID(task_id), ended, meta=Meta(requested_by="ada", reason="sold out"))
    await site.settle()
    why: dict[str, object] = {}
    for path in ("explain", "steps/first/explain", "steps/each[3]/explain"):
        why = await client.get(f"/v1/tasks/{task_id}/{path}")
        assert str(why["sentence"]).endswith("; ada asked for it: sold out."), why
        assert why["end"] == {"cause": "cancel", "requested_by": "ada", "reason": "sold out"}
    assert "the task is stopping: cancel" in str(why["sentence"])


async def test_a_task_that_its_key_cancelled_says_so(site: Site, client: Client) -> None:
    task_id = await begun(
        site,
        PlaceRequested(key="7", limit=1, strategy="cancel_oldest"),
        PlaceDenied(reason="evicted", taken_by="t7"),
        TaskStopping(ending="cancelled", cause="concurrency"),
        TaskCancelled(),
    )
    why = await client.get(f"/v1/tasks/{task_id}/explain")
    assert why["sentence"].endswith("; it made room for task t7 under its concurrency key.")
    assert why["end"] == {"cause": "concurrency", "place": "evicted", "taken_by": "t7"}
