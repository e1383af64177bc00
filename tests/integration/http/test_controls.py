"""Controls over HTTP: commands, what is held back, and what tasks and steps say of it."""

import hashlib
import json
from typing import Any

import pytest

from tasker.events.control_events import (
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    RateLimitSet,
    WorkPaused,
    WorkResumed,
)
from tasker.events.envelope import Meta
from tasker.events.task_events import StepDispatched
from tasker.events.template_events import TemplateRegistered
from tasker.ids import control_stream_id, template_stream_id
from tasker.service.http import histories
from tasker.templates import CircuitBreaker, RateLimit, StepSpec, TemplateSpec, canonical_bytes
from tests.histories import created
from tests.integration.http.conftest import Client, Site

WHO: dict[str, str] = {"requested_by": "ada", "reason": "the bank is down"}


async def test_commands_go_to_their_owner(site: Site, client: Client) -> None:
    site.gateway.answers += [{"ok": True, "position": "3:1"}] * 2
    body = {"scope": "queue", "name": "till"} | WHO
    await client.ask("POST", "/v1/controls/pause", json=body, status=200)
    await client.ask("POST", "/v1/controls/resume", json=body | {"ramp_s": 60}, status=200)
    assert [(verb, json.loads(sent)) for _, verb, sent, _ in site.gateway.sent] == [
        ("control.pause", body),
        ("control.resume", body | {"ramp_s": 60}),
    ]


async def test_what_is_held_back_is_shown_with_who_and_why(site: Site, client: Client) -> None:
    """To its tenant: the pauses of another one are none of its business, those of everything are."""
    stream_id, ada = control_stream_id(), Meta(**WHO)
    site.recorder.record(stream_id, [WorkPaused(scope="queue", namespace="shop", name="till")], meta=ada)
    site.recorder.record(stream_id, [WorkPaused(scope="everything"), WorkPaused(scope="tenant")], meta=ada)
    site.recorder.record(stream_id, [WorkResumed(scope="tenant", ramp_s=1e9)], meta=ada)
    await site.append()
    found = await client.get("/v1/controls")
    assert [(one["scope"], one.get("name"), one["requested_by"], one["reason"]) for one in found["pauses"]] == [
        ("everything", None, "ada", "the bank is down"),
        ("queue", "till", "ada", "the bank is down"),
    ]
    assert [one["scope"] for one in found["ramps"]] == ["tenant"]
    assert found["limits"] == []
    assert found["ramps"][0]["until"] > found["ramps"][0]["since"]
    other = await client.get("/v1/controls", headers={"Tasker-Tenant": "acme"})
    assert ([one["scope"] for one in other["pauses"]], other["ramps"]) == (["everything"], [])


async def test_tasks_and_steps_say_what_holds_them_back(site: Site, client: Client) -> None:
    spec = TemplateSpec(
        name="orders", namespace="shop", steps=(StepSpec(name="charge", queue="till", handler="charge"),)
    )
    blob = canonical_bytes(spec)
    digest = hashlib.sha256(blob).hexdigest()
    await site.log.put_blob(bytes.fromhex(digest), blob)
    task_id = await site.task([created("orders", hash=digest), StepDispatched(step="charge", attempt=1)])
    steps = f"/v1/tasks/{task_id}/steps"
    assert (await client.get(steps))["items"][0]["waiting_on"] == "a worker"
    ada = Meta(**WHO)
    target: dict[str, Any] = {"scope": "queue", "namespace": "shop", "name": "till"}
    site.recorder.record(control_stream_id(), [WorkPaused(**target)], meta=ada)
    await site.append()
    await site.services.controls.look()
    words = (await client.get(steps))["items"][0]["waiting_on"]
    assert words.startswith("a person to resume queue shop/till; paused by ada at 20")
    assert words.endswith(": the bank is down")
    found = (await client.get(steps))["items"][0]["waiting_facts"]
    assert found["kind"] == "hold"
    assert found["hold"] == target | {
        "since": found["hold"]["since"],
        "requested_by": "ada",
        "reason": "the bank is down",
    }
    for path in (f"/v1/tasks/{task_id}/explain", f"{steps}/charge/explain"):
        why = await client.get(path)
        assert [(cause["kind"], cause["text"]) for cause in why["causes"]] == [("hold", words)]
        assert why["causes"][0]["remedy"] == "tasker resume queue till --namespace shop --reason WHY"
        assert words in why["sentence"]
    site.recorder.record(control_stream_id(), [WorkResumed(**target), WorkPaused(scope="tenant")], meta=ada)
    await site.append()
    await site.services.controls.look()
    task = await client.get(f"/v1/tasks/{task_id}")
    assert task["waiting_on"].startswith("a person to resume tenant default; paused by ada")
    assert (await client.get("/v1/tasks"))["items"][0]["waiting_on"] == task["waiting_on"]
    why = await client.get(f"/v1/tasks/{task_id}/explain")
    assert why["causes"][0]["remedy"] == "tasker resume tenant --reason WHY"
    # Recorded months ago: of a ramp of thirty years the first hundredth part has come back already.
    site.recorder.record(control_stream_id(), [WorkResumed(scope="tenant", ramp_s=2e11)], meta=ada)
    await site.append()
    await site.services.controls.look()
    why = await client.get(f"/v1/tasks/{task_id}/explain")
    assert why["causes"][0]["remedy"] == "tasker controls"


async def test_limits_are_set_shown_and_said_of_a_step(site: Site, client: Client) -> None:
    site.gateway.answers += [{"ok": True, "position": "3:1"}] * 2
    body = {"scope": "handler", "name": "pay", "per_s": 2.5} | WHO
    await client.ask("POST", "/v1/limits/set", json=body, status=200)
    await client.ask("POST", "/v1/limits/remove", json={"scope": "handler", "name": "pay"} | WHO, status=200)
    assert [verb for _, verb, _, _ in site.gateway.sent] == ["limit.set", "limit.remove"]
    charge = StepSpec(name="charge", queue="till", handler="pay")
    blob = canonical_bytes(TemplateSpec(name="orders", namespace="shop", steps=(charge,)))
    digest = hashlib.sha256(blob).hexdigest()
    await site.log.put_blob(bytes.fromhex(digest), blob)
    task_id = await site.task([created("orders", hash=digest), StepDispatched(step="charge", attempt=1)])
    limit = RateLimitSet(scope="handler", namespace="shop", name="pay", per_s=2.5, burst=3, key="input.n")
    site.recorder.record(control_stream_id(), [limit], meta=Meta(**WHO))
    await site.append()
    [found] = (await client.get("/v1/controls"))["limits"]
    assert (found["scope"], found["name"], found["per_s"], found["burst"], found["key"]) == (
        "handler",
        "pay",
        2.5,
        3,
        "input.n",
    )
    step = (await client.get(f"/v1/tasks/{task_id}/steps"))["items"][0]
    assert step["waiting_on"] == "a worker, within the limit of 2.5 a second for each input.n of handler shop/pay"
    limits = [{"scope": "handler", "namespace": "shop", "name": "pay", "per_s": 2.5, "key": "input.n"}]
    assert (step["waiting_facts"]["kind"], step["waiting_facts"]["limits"]) == ("worker", limits)


async def test_limits_of_templates_are_shown_beside_those_of_operators(site: Site, client: Client) -> None:
    charge = StepSpec(name="charge", handler="pay", rate_limit=RateLimit(per_s=2, key="input.n"))
    spec = TemplateSpec(name="orders", namespace="shop", steps=(charge, StepSpec(name="ship", handler="ship")))
    blob = canonical_bytes(spec)
    digest = hashlib.sha256(blob).hexdigest()
    await site.log.put_blob(bytes.fromhex(digest), blob)
    registered = TemplateRegistered(namespace="shop", name="orders", version="1.0.0", hash=digest)
    site.recorder.record(template_stream_id("default", "shop", "orders"), [registered])
    task_id = await site.task([created("orders", hash=digest), StepDispatched(step="charge", attempt=1)])
    found = await client.get("/v1/limits")
    assert found == {
        "limits": [],
        "declared": [
            {"namespace": "shop", "name": "orders/charge", "handler": "pay", "version": "1.0.0"}
            | {"per_s": 2.0, "burst": 1, "key": "input.n"}
        ],
    }
    steps = f"/v1/tasks/{task_id}/steps"
    words = "a worker, within the limit of 2 a second for each input.n of step orders/charge"
    assert (await client.get(steps))["items"][0]["waiting_on"] == words
    limit = RateLimitSet(scope="handler", namespace="shop", name="pay", per_s=9)
    site.recorder.record(control_stream_id(), [limit], meta=Meta(**WHO))
    await site.append()
    found = await client.get("/v1/limits")
    assert (found["limits"][0]["per_s"], found["declared"][0]["overridden"]) == (9.0, True)
    words = "a worker, within the limit of 9 a second of handler shop/pay"
    assert (await client.get(steps))["items"][0]["waiting_on"] == words


async def test_an_open_circuit_is_shown_and_said_of_tasks_and_steps(site: Site, client: Client) -> None:
    site.gateway.answers += [{"ok": True, "position": "3:1"}] * 2
    of_pay = {"name": "pay", "namespace": "shop"}
    await client.ask("POST", "/v1/circuits/open", json=of_pay | {"open_s": 60} | WHO, status=200)
    await client.ask("POST", "/v1/circuits/close", json=of_pay | WHO, status=200)
    assert [verb for _, verb, _, _ in site.gateway.sent] == ["circuit.open", "circuit.close"]
    pay = StepSpec(name="pay", handler="pay", circuit_breaker=CircuitBreaker(min_attempts=5))
    blob = canonical_bytes(TemplateSpec(name="orders", namespace="shop", steps=(pay,)))
    digest = hashlib.sha256(blob).hexdigest()
    await site.log.put_blob(bytes.fromhex(digest), blob)
    registered = TemplateRegistered(namespace="shop", name="orders", version="1.0.0", hash=digest)
    site.recorder.record(template_stream_id("default", "shop", "orders"), [registered])
    task_id = await site.task([created("orders", hash=digest), StepDispatched(step="pay", attempt=1)])
    at: Any = {"scope": "handler", **of_pay}
    opened = CircuitOpened(**at, open_s=60, open_s_max=600, probes=3, failures=4, attempts=5, error="Down: no answer")
    by_itself = Meta(requested_by="tasker", reason="4 of 5 attempts failed")
    site.recorder.record(control_stream_id(), [opened], meta=by_itself)
    await site.append()
    found = await client.get("/v1/circuits")
    [shown] = found["circuits"]
    assert (shown["name"], shown["requested_by"], shown["circuit"]["state"]) == ("pay", "tasker", "open")
    assert shown["circuit"]["trial_at"] > shown["circuit"]["opened_at"]
    assert found["declared"] == [
        {"namespace": "shop", "name": "orders/pay", "handler": "pay", "version": "1.0.0", "failure_rate": 0.5}
        | {"min_attempts": 5, "window_s": 60.0, "open_s": 30.0, "open_s_max": 600.0, "probes": 3}
    ]
    assert (await client.get("/v1/controls"))["circuits"] == [shown]
    assert (await client.get("/v1/circuits", headers={"Tasker-Tenant": "acme"}))["circuits"] == []
    words = (await client.get(f"/v1/tasks/{task_id}/steps"))["items"][0]["waiting_on"]
    assert words.startswith("the circuit of handler shop/pay, open since 20")
    assert "; 4 of 5 attempts failed, the last with Down: no answer; the next trial is at 20" in words
    assert (await client.get(f"/v1/tasks/{task_id}"))["waiting_on"] == f"{words} (step pay)"
    why = await client.get(f"/v1/tasks/{task_id}/explain")
    assert [(cause["kind"], cause["remedy"]) for cause in why["causes"]] == [
        ("hold", "tasker circuits events pay --namespace shop")
    ]
    site.recorder.record(control_stream_id(), [CircuitHalfOpened(**at)], meta=by_itself)
    await site.append()
    await site.services.controls.look()
    words = (await client.get(f"/v1/tasks/{task_id}/steps"))["items"][0]["waiting_on"]
    assert words.endswith("; its trial runs")


async def test_the_history_of_controls_tells_who_and_why_the_newest_first(site: Site, client: Client) -> None:
    """Page by page, of everything or of one handler; another tenant's is none of its business, but of everything."""
    stream_id, ada = control_stream_id(), Meta(**WHO)
    pay: dict[str, Any] = {"scope": "handler", "namespace": "shop", "name": "pay"}
    opened = CircuitOpened(**pay, open_s=30, open_s_max=60, probes=1, failures=5, attempts=6, error="Boom: no")
    site.recorder.record(stream_id, [WorkPaused(scope="queue", namespace="shop", name="pay")], meta=ada)
    site.recorder.record(stream_id, [opened, CircuitHalfOpened(**pay)], meta=Meta(requested_by="tasker", reason="5/6"))
    site.recorder.record(stream_id, [CircuitClosed(**pay, anew=True), WorkPaused(scope="everything")], meta=ada)
    await site.append()
    newest = ["work_paused", "circuit_closed", "circuit_half_opened", "circuit_opened", "work_paused"]
    found = await client.get("/v1/controls/events")
    assert ([one["type"] for one in found["items"]], found["next"]) == (newest, None)
    told = [(one["type"], one["meta"]["requested_by"], one["meta"]["reason"]) for one in found["items"]]
    assert told[2:4] == [("circuit_half_opened", "tasker", "5/6"), ("circuit_opened", "tasker", "5/6")]
    assert found["items"][3]["data"]["error"] == "Boom: no"
    assert found["position"] == found["items"][0]["position"]
    circuits = await client.get("/v1/controls/events?scope=handler&name=pay&namespace=shop")
    assert [one["type"] for one in circuits["items"]] == newest[1:4]
    assert (await client.get("/v1/controls/events?name=refund"))["items"] == []
    page = await client.get("/v1/controls/events?limit=2")
    assert [one["type"] for one in page["items"]] == newest[:2]
    page = await client.get(f"/v1/controls/events?limit=9&after={page['next']}")
    assert ([one["type"] for one in page["items"]], page["next"]) == (newest[2:], None)
    other = await client.get("/v1/controls/events", headers={"Tasker-Tenant": "acme"})
    assert [one["data"]["scope"] for one in other["items"]] == ["everything"]
    await client.problem("GET", "/v1/controls/events?after=x", 400, "position_invalid")
    await client.problem("GET", "/v1/controls/events?scope=planet", 400, "parameter_invalid")


async def test_a_page_of_a_history_costs_a_bounded_look(
    site: Site, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "READ_EVENTS", 2)
    monkeypatch.setattr(histories, "LOOKED_AT_MAX", 4)
    pause: dict[str, Any] = {"scope": "queue", "namespace": "shop"}
    site.recorder.record(control_stream_id(), [WorkPaused(**pause, name=name) for name in "abcdefg"])
    await site.append()
    path, found = "/v1/controls/events?name=a", []
    page = await client.get(path)
    assert (page["items"], page["next"]) == ([], "4")
    while page["next"] is not None:
        page = await client.get(f"{path}&after={page['next']}")
        found += page["items"]
    assert [one["seq"] for one in found] == [1]
