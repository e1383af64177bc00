"""The reference workloads, in process: every step gives what the page says, errors end as they should."""

from __future__ import annotations

import pytest

from examples import diamond4, fail_twice, linear4, linear_math, mixed_dag, tree
from tasker.testing import TaskerTest

MODULES = [linear4, diamond4, mixed_dag, tree]


@pytest.fixture
def tasker_templates() -> list[object]:
    return [*MODULES, linear_math, fail_twice]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
async def test_each_step_has_its_expected_result(tasker: TaskerTest, module) -> None:
    name = module.__name__.rpartition(".")[2]
    run = await tasker.run(module.EXPECTED[0][0], template=name)
    assert {step.name: step.result for step in run.steps.values()} == module.STEPS
    assert {(step.state, step.attempts) for step in run.steps.values()} == {("completed", 1)}


@pytest.mark.parametrize(("given", "step", "message"), linear_math.FAILS)
async def test_a_permanent_error_fails_at_once(tasker: TaskerTest, given: object, step: str, message: str) -> None:
    run = await tasker.run(given, template="linear_math")
    assert run.state == "failed"
    assert run.error is not None
    assert (run.error.type, run.error.message, run.error.retryable) == ("PermanentError", message, False)
    assert (run.steps[step].state, run.steps[step].attempts) == ("failed", 1)
    assert run.events_of("step_retry_scheduled") == ()


async def test_a_step_that_fails_twice_is_tried_three_times(tasker: TaskerTest) -> None:
    run = await tasker.run(template="fail_twice")
    assert (run.steps["flaky"].state, run.steps["flaky"].attempts) == ("completed", 3)
    assert len(run.events_of("step_attempt_failed")) == len(run.events_of("step_retry_scheduled")) == 2
