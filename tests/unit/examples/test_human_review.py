"""The workload with a person in it, in process: approve publishes, reject ends in `rejected`, silence escalates."""

from __future__ import annotations

import pytest

from examples import human_review
from tasker.errors import ApprovalForbidden, ApprovalInvalid, BodyInvalid
from tasker.testing import TaskerTest


@pytest.fixture
def tasker_templates() -> list[object]:
    return [human_review]


async def test_approve_publishes(tasker: TaskerTest) -> None:
    run = await tasker.start({"title": "Spring"}, requested_by="ada")
    await tasker.advance(hours=40)
    await tasker.crash_service(down_s=3600)
    with pytest.raises(ApprovalForbidden):
        await run.approve("approval", {"channel": "blog"}, requested_by="ada", roles=["editors"])
    with pytest.raises(ApprovalInvalid):
        await run.approve("approval", {"channel": "radio"}, requested_by="bob", roles=["editors"])
    await run.approve("approval", {"channel": "blog"}, requested_by="bob", roles=["editors"], reason="nice")
    await run.wait()
    assert run.result == {"publish": {"published": "Spring", "on": "blog", "approved_by": "bob"}}
    assert run.steps["rejected"].state == "not_chosen"


async def test_reject_ends_in_rejected(tasker: TaskerTest) -> None:
    run = await tasker.start({"title": "Spring"}, requested_by="ada")
    await run.reject("approval", requested_by="bob", roles=["editors"], reason="too short")
    await run.wait()
    assert run.result == {"rejected": {"by": "bob", "reason": "too short"}}


async def test_silence_escalates_and_it_waits_on(tasker: TaskerTest) -> None:
    run = await tasker.start({"title": "Spring"}, requested_by="ada")
    await tasker.advance(hours=47)
    with pytest.raises(ApprovalForbidden):
        await run.approve("approval", {"channel": "blog"}, requested_by="chief")
    await tasker.advance(hours=1)
    assert run.events_of("approval_escalated")[0].assignees == ("chief",)
    await tasker.advance(days=30)
    assert run.state == "running"
    await run.approve("approval", {"channel": "newsletter"}, requested_by="chief")
    await run.wait()
    assert run.result["publish"]["approved_by"] == "chief"


async def test_who_creates_it_must_be_known(tasker: TaskerTest) -> None:
    with pytest.raises(BodyInvalid, match="requested_by"):
        await tasker.start({"title": "Spring"})
