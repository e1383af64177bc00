"""The examples, run by a real service and a real worker, end as they say."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from examples import (
    always_fails,
    approval_routing,
    checkpointed_batch,
    csv_inventory,
    data_pipeline,
    diamond4,
    fail_twice,
    fanout100,
    human_review,
    linear4,
    linear_math,
    mixed_dag,
    one,
    parent_child,
    polling_loop,
    tree,
    user_registration,
)
from tasker.client import TaskerClient
from tasker.errors import ApprovalForbidden, InputInvalid
from tasker.events.reads import ApprovalView, StepView, TaskView
from tests.acceptance.conftest import ROOT, Service

APP = Path(__file__).with_name("all_examples.py")
TASK_S_MAX = 30.0

COMPLETE = [
    pytest.param(module.__name__.rpartition(".")[2], given, wanted, id=f"{module.__name__.rpartition('.')[2]}-{number}")
    for module in (
        one,
        linear4,
        diamond4,
        linear_math,
        mixed_dag,
        tree,
        fail_twice,
        data_pipeline,
        approval_routing,
        csv_inventory,
        checkpointed_batch,
        fanout100,
        polling_loop,
    )
    for number, (given, wanted) in enumerate(module.EXPECTED[:1] if module is polling_loop else module.EXPECTED)
]
"""Of the polling loop the case that does not wait; the others are for virtual time."""


@pytest.fixture(scope="module")
def workflows(service: Service) -> Iterator[Service]:
    """The service with a worker that serves every example."""
    with service.worker(APP):
        service.create_when_registered("user_registration", user_registration.REGISTRATION)
        yield service


async def over(client: TaskerClient, template: str, given: object, *, namespace: str = "default") -> TaskView:
    """Return a new task of `template` when it is over."""
    handle = await client.create(template, given, namespace=namespace, wait_s=TASK_S_MAX)
    assert handle.task is not None, "it was not over in time"
    return handle.task


def value_of(view: TaskView | StepView) -> Any:
    return None if view.result is None else json.loads(bytes(view.result))


@pytest.mark.parametrize(("template", "given", "wanted"), COMPLETE)
async def test_completes_with_the_expected_result(
    workflows: Service, template: str, given: object, wanted: object
) -> None:
    async with workflows.client() as client:
        task = await over(client, template, given)
    assert (task.state, value_of(task)) == ("completed", wanted)
    assert type(value_of(task)) is type(wanted)


async def test_a_step_without_attempts_left_blocks_and_nothing_behind_it_runs(workflows: Service) -> None:
    ((given, step, message, attempts),) = always_fails.BLOCKS
    async with workflows.client() as client:
        task = await over(client, "always_fails", given)
        steps = {view.step: view for view in await client.steps(task)}
        events = [event async for event in client.events(task)]
    assert (task.state, task.blocked_steps) == ("blocked", (step,))
    assert task.error is not None
    assert (task.error.type, task.error.message) == ("ConnectionError", message)
    assert (steps[step].state, steps[step].attempt) == ("failed", attempts)
    assert steps["downstream"].state == "pending"
    assert not [event for event in events if json.loads(bytes(event.data)).get("step") == "downstream"]
    assert task.remedy is not None
    assert task.task_id in task.remedy


async def test_an_order_starts_a_task_for_each_parcel_and_waits_for_them(workflows: Service) -> None:
    given, wanted = parent_child.EXPECTED[0]
    async with workflows.client() as client:
        task = await over(client, "shipment", given)
        items = {view.step: view for view in await client.steps(task)}
        child = await client.get(items["parcels[1]"].child_task_id or "")
    assert (task.state, value_of(task)) == ("completed", wanted)
    assert (child.template, child.state, value_of(child)) == ("parcel", "completed", wanted[1])
    assert child.idempotency_key == f"child:{task.task_id}:parcels[1]:1"


async def test_reads_show_what_was_not_chosen_and_page_through_items(workflows: Service) -> None:
    async with workflows.client() as client:
        routed = await over(client, "approval_routing", {"amount": 500})
        steps = {view.step: view for view in await client.steps(routed)}
        mapped = await over(client, "fanout100", {"numbers": list(range(150))})
        items = [view.step for view in await client.steps(mapped)]
    assert routed.not_chosen == dict.fromkeys(("manager", "finance"), "route did not choose it")
    assert {name: step.state for name, step in steps.items() if step.attempt == 0} == dict.fromkeys(
        ("manager", "finance"), "not_chosen"
    )
    assert steps["manager"].waiting_on == "route did not choose it"
    assert items[:2] == ["number", "total"]
    assert sorted(items[2:]) == sorted(f"number[{index}]" for index in range(150))


async def test_a_registration_ends_in_a_profile(workflows: Service) -> None:
    async with workflows.client() as client:
        task = await over(client, "user_registration", user_registration.REGISTRATION)
    profile = value_of(task)
    assert profile.pop("user_id") == f"user-{task.task_id}"
    assert profile == user_registration.PROFILE


async def test_an_input_that_the_schema_forbids_is_refused_with_its_place(workflows: Service) -> None:
    async with workflows.client() as client:
        with pytest.raises(InputInvalid) as refused:
            await client.create("user_registration", {"email": "nobody", "name": "Ada"})
    assert [error.pointer for error in refused.value.errors] == ["/email"]


async def test_an_order_ships(workflows: Service) -> None:
    order = {
        "order_id": "o-1",
        "customer": "Ada",
        "lines": [{"sku": "A-100", "qty": 2, "price_cents": 1250}],
        "card": "tok_visa",
    }
    async with workflows.client() as client:
        task = await over(client, "order_fulfillment", order, namespace="shop")
    assert value_of(task) == {"order_id": "o-1", "paid_cents": 2500, "tracking": "north-o-1"}


async def test_an_order_that_cannot_be_shipped_is_undone_in_reverse(workflows: Service) -> None:
    order = {
        "order_id": "o-2",
        "customer": "Ada",
        "lines": [{"sku": "Z-100", "qty": 2, "price_cents": 1250}],
        "card": "tok_visa",
    }
    async with workflows.client() as client:
        task = await over(client, "order_fulfillment", order, namespace="shop")
        steps = {view.step: value_of(view) for view in await client.steps(task)}
        events = [event async for event in client.events(task)]
    assert task.state == "failed"
    assert task.error is not None
    assert task.error.message == "hazardous_goods"
    assert steps["reserve_stock~undo"] == {"warehouse": "south", "items": 2}
    assert steps["charge~undo"] == {"charge_id": "ch-o-2", "amount_cents": 2500}
    undone = [json.loads(bytes(event.data)) for event in events if event.type == "step_dispatched"][-2:]
    assert [one["step"] for one in undone] == ["reserve_stock~undo", "charge~undo"]


def test_the_command_line_prints_the_result(workflows: Service) -> None:
    done = workflows.run("task", "create", "hello", "--input", '{"name": "Ada"}', "--wait")
    assert (done.returncode, json.loads(done.stdout)) == (0, "HELLO, ADA!"), done.stderr


def test_a_program_with_only_a_nats_client_starts_work_and_sees_it_happen(workflows: Service) -> None:
    script = ROOT / "examples" / "publish_with_nats.py"
    assert "tasker import" not in script.read_text().replace("from tasker import", "tasker import")
    done = subprocess.run(
        [sys.executable, str(script), "Ada"],
        env=workflows.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reply, *events = done.stdout.splitlines()
    assert json.loads(reply)["ok"] is True
    assert [line.split()[1] for line in events] == [
        "tasker.task_created.v1",
        "tasker.step_dispatched.v1",
        "tasker.step_started.v1",
        "tasker.step_completed.v1",
        "tasker.step_dispatched.v1",
        "tasker.step_started.v1",
        "tasker.step_completed.v1",
        "tasker.task_completed.v1",
    ]


def test_hello_is_a_whole_workflow_in_less_than_twenty_lines() -> None:
    assert len((ROOT / "examples" / "hello.py").read_text().splitlines()) < 20


def test_the_log_of_all_that_is_proved(workflows: Service) -> None:
    verified = workflows.run("log", "verify", "-o", "json")
    assert verified.returncode == 0, verified.stdout + verified.stderr


async def test_a_person_reviews_a_draft(workflows: Service) -> None:
    """Listed for who may answer, answered over HTTP and the command line, and told why."""
    async with workflows.client() as client:
        published, dropped = [
            await client.create("human_review", {"title": title}, requested_by="ada") for title in ("Spring", "Autumn")
        ]
        asked: dict[str, ApprovalView] = {}
        while len(asked) < 2:
            await asyncio.sleep(0.02)
            asked = {view.task_id: view async for view in client.approvals.list(roles=["editors"])}
        view = asked[published.task_id]
        assert (view.step, view.title, view.four_eyes) == ("approval", "Publish this draft?", True)
        assert view.form is not None
        assert json.loads(bytes(view.form)) == human_review.FORM
        assert [one.task_id async for one in client.approvals.list(assignee="eve")] == []
        told = (await client.get(published)).waiting_on or ""
        assert told.startswith("the approval of the role editors (escalated at ")
        with pytest.raises(ApprovalForbidden):
            await client.approvals.approve(
                published, "approval", {"channel": "blog"}, requested_by="ada", roles=["editors"]
            )
        async with aiohttp.ClientSession() as http:
            body = {"requested_by": "bob", "roles": ["editors"], "values": {"channel": "blog"}}
            path = f"{workflows.http_url}/v1/tasks/{published.task_id}/steps/approval/approve"
            async with http.post(path, json=body) as answer:
                assert answer.status == 200, await answer.text()
        reject = (
            "approval",
            "reject",
            dropped.task_id,
            "approval",
            "--requested-by",
            "bob",
            "--role",
            "editors",
            "--reason",
            "no",
        )
        done = await asyncio.to_thread(workflows.run, *reject)
        assert done.returncode == 0, done.stderr
        over = [await client.wait(task, timeout_s=TASK_S_MAX) for task in (published, dropped)]
        results = [value_of(one) for one in over]
        assert results[0] == {"publish": {"published": "Spring", "on": "blog", "approved_by": "bob"}}
        assert results[1] == {"rejected": {"by": "bob", "reason": "no"}}
        assert [one async for one in client.approvals.list(at_least=over[1].position)] == []
