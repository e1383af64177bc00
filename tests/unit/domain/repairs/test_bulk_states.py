"""In which states a bulk's command is refused: what a preview counts is what the decider says."""

from collections.abc import Callable

import pytest

from tasker.errors import CommandRejected
from tasker.events.bulk import REFUSED_IN, STATES_OF
from tasker.events.messages import BulkVerb
from tasker.events.reads import TASK_STATUSES
from tasker.events.task_events import ErrorInfo
from tasker.service.domain.repairs.restart import original_of
from tests.runs import T0_US, Run, linear

ERROR = ErrorInfo(type="Bad", message="no", retryable=False)
BEGUN: dict[str, Callable[[Run], object]] = {
    "pending": lambda run: run.create(not_before_us=T0_US + 10**12),
    "running": lambda run: run.create(),
    "paused": lambda run: (run.create(), run.pause()),
    "blocked": lambda run: (run.create(), run.start("s1"), run.fail("s1", error=ERROR)),
    "completed": lambda run: (run.create(), run.force_complete(1)),
    "failed": lambda run: (run.create(), run.force_fail(ERROR)),
    "cancelled": lambda run: (run.create(), run.cancel()),
}
GIVEN: dict[BulkVerb, Callable[[Run], object]] = {
    "task.cancel": Run.cancel,
    "task.fail": lambda run: run.force_fail(ERROR),
    "task.retry": Run.retry,
    "task.pause": Run.pause,
    "task.resume": Run.resume,
    "task.update": lambda run: run.update(tags={"a": "b"}),
    "task.deadline": lambda run: run.deadline(within_s=60),
    "task.restart": lambda run: original_of(run.state, run.template),
}


def test_every_command_is_looked_at() -> None:
    assert set(GIVEN) == set(STATES_OF) == set(REFUSED_IN)
    assert {*BEGUN, "compensating"} == set(TASK_STATUSES)


@pytest.mark.parametrize("verb", GIVEN)
@pytest.mark.parametrize("state", BEGUN)
def test_a_state_in_which_a_command_is_said_to_be_refused_refuses_it(verb: BulkVerb, state: str) -> None:
    run = Run(linear(2))
    BEGUN[state](run)
    assert run.state.status == state
    if state in REFUSED_IN[verb]:
        assert state not in STATES_OF[verb]
        with pytest.raises(CommandRejected):
            GIVEN[verb](run)
    elif state in STATES_OF[verb]:
        GIVEN[verb](run)
