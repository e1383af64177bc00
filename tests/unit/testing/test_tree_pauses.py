"""A task is paused with its child tasks, and theirs, in the real service on a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest

from tasker import Template
from tasker.replay.state_at import folded
from tasker.service.actors.children.child_tasks import ChildTasks
from tasker.service.domain.state import TaskState
from tasker.testing import TaskerTest

WHO: dict[str, Any] = {"requested_by": "ada", "reason": "the crane is broken"}

leaf = Template("leaf")
leaf.delay("grow", 1_000)
branch = Template("branch")
branch.child("leaves", "leaf", each="input", child_input="item")
tree = Template("tree")
tree.child("branches", "branch", child_input="input")


@pytest.fixture
def tasker_templates() -> list[Template]:
    return [leaf, branch, tree]


def state_of(tasker: TaskerTest, task: str) -> TaskState:
    return folded(tasker._world.recorded(task))


def children_of(tasker: TaskerTest, task: str) -> list[str]:
    return [step.child for step in state_of(tasker, task).steps.values() if step.child is not None]


async def grown(tasker: TaskerTest) -> tuple[str, str, list[str]]:
    """A tree with a branch and three leaves, all of which run."""
    run = await tasker.start([1, 2, 3], template=tree)
    (limb,) = children_of(tasker, run.task_id)
    leaves = children_of(tasker, limb)
    assert len(leaves) == 3
    return run.task_id, limb, leaves


async def do(tasker: TaskerTest, work: Any) -> None:
    await tasker._do(tasker._command(work))


def are_paused(tasker: TaskerTest, *tasks: str) -> list[bool]:
    return [state_of(tasker, task).paused for task in tasks]


async def test_a_pause_and_its_end_go_down_the_tree(tasker: TaskerTest) -> None:
    root, limb, leaves = await grown(tasker)
    client = tasker._world.client
    await do(tasker, client.pause(root, children=True, **WHO))
    assert are_paused(tasker, root, limb, *leaves) == [True] * 5
    await tasker.advance(10_000)
    assert not any(state_of(tasker, task).ended for task in (root, limb, *leaves))
    await do(tasker, client.resume(root, children=True, **WHO))
    await tasker.advance(10_000)
    assert [str(state_of(tasker, task).status) for task in (root, limb, *leaves)] == ["completed"] * 5


async def test_who_was_paused_by_somebody_else_stays_so(tasker: TaskerTest) -> None:
    """Also when the resumption is told again, later."""
    root, limb, leaves = await grown(tasker)
    client = tasker._world.client
    await do(tasker, client.pause(leaves[0], **WHO))
    await do(tasker, client.pause(root, children=True, **WHO))
    await do(tasker, client.resume(root, children=True, **WHO))
    assert are_paused(tasker, root, limb, *leaves) == [False, False, True, False, False]
    await do(tasker, client.pause(leaves[1], **WHO))
    await tasker.advance(10_000)
    assert are_paused(tasker, root, limb, *leaves) == [False, False, True, True, False]


async def test_a_task_that_is_paused_alone_leaves_its_children_alone(tasker: TaskerTest) -> None:
    root, limb, leaves = await grown(tasker)
    await do(tasker, tasker._world.client.pause(root, **WHO))
    assert are_paused(tasker, root, limb, *leaves) == [True, False, False, False, False]


async def test_a_service_that_dies_before_it_told_the_children_tells_them_when_it_is_back(
    tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is lost here was recorded: whoever looks after a child tells it."""
    root, limb, leaves = await grown(tasker)
    client = tasker._world.client
    for verb, is_pause in ((client.pause, True), (client.resume, False)):
        with monkeypatch.context() as lost:
            lost.setattr(ChildTasks, "hold", lambda *_: None)
            await do(tasker, verb(root, children=True, **WHO))
            await tasker.crash_service()
            assert are_paused(tasker, root, limb, *leaves) == [is_pause] + [not is_pause] * 4
        await tasker.advance(90)
        assert are_paused(tasker, root, limb, *leaves) == [is_pause] * 5
