"""Waits between attempts, and when there is no further one."""

import pytest

from tasker.events.task_events import (
    ErrorInfo,
    StepAttemptFailed,
    StepDispatched,
    StepFailed,
    StepRetryScheduled,
    TaskBlocked,
)
from tasker.service.domain.steps.retry import RETRY_AFTER_S_MAX, retry_delay_s
from tasker.templates import Retry
from tests.runs import ERROR, T0_US, Run, linear

MIDDLE = 0.5
"""A draw that leaves the wait as it is."""


def waits(policy: Retry, count: int) -> list[float]:
    return [retry_delay_s(policy, failures=failures, jitter=MIDDLE) for failures in range(1, count + 1)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Retry(), [1, 2, 4, 8, 16, 30, 30]),
        (Retry(delay_s=0.5, factor=3.0, delay_s_max=10.0), [0.5, 1.5, 4.5, 10, 10]),
        (Retry(backoff="linear", delay_s=2.0, delay_s_max=7.0), [2, 4, 6, 7, 7]),
        (Retry(backoff="fibonacci", delay_s_max=9.0), [1, 1, 2, 3, 5, 8, 9]),
        (Retry(backoff="constant", delay_s=45.0, delay_s_max=45.0), [45, 45, 45]),
        (Retry(backoff="none"), [0, 0, 0]),
    ],
)
def test_the_wait_grows_as_the_backoff_says(policy: Retry, expected: list[float]) -> None:
    assert waits(policy, len(expected)) == expected


def test_jitter_spreads_to_both_sides_after_the_bound() -> None:
    """So that the waits of a burst stay apart even when all have reached the bound."""
    policy = Retry(delay_s=100.0, delay_s_max=100.0, jitter=0.15)
    assert retry_delay_s(policy, failures=1, jitter=0.0) == 85
    assert retry_delay_s(policy, failures=1, jitter=0.999999) == pytest.approx(115, abs=0.001)
    assert retry_delay_s(Retry(jitter=0.0), failures=1, jitter=0.99) == 1


def test_a_small_factor_grows_up_to_the_bound_as_well() -> None:
    """However many failures that takes: it stood still after the 65th."""
    policy = Retry(factor=1.02, max_attempts=1000)
    assert [retry_delay_s(policy, failures=failures, jitter=MIDDLE) for failures in (101, 151, 201)] == [
        pytest.approx(1.02**100),
        pytest.approx(1.02**150),
        30,
    ]
    assert retry_delay_s(Retry(factor=1.0, max_attempts=1000), failures=999, jitter=MIDDLE) == 1


@pytest.mark.parametrize("backoff", ["exponential", "fibonacci", "linear"])
def test_a_thousandth_failure_waits_no_longer_than_the_bound(backoff: str) -> None:
    policy = Retry(backoff=backoff, max_attempts=1000, factor=2.0)  # type: ignore[arg-type]
    assert retry_delay_s(policy, failures=999, jitter=MIDDLE) == 30


def test_retry_after_is_a_lower_bound_with_a_limit() -> None:
    """To come earlier is what the target refused; to be told to come in a year is not obeyed."""
    policy = Retry()
    assert retry_delay_s(policy, failures=1, jitter=MIDDLE, retry_after_s=7.5) == 7.5
    assert retry_delay_s(policy, failures=4, jitter=MIDDLE, retry_after_s=7.5) == 8
    assert retry_delay_s(policy, failures=1, jitter=MIDDLE, retry_after_s=1e9) == RETRY_AFTER_S_MAX
    assert retry_delay_s(policy, failures=1, jitter=MIDDLE, retry_after_s=-3.0) == 1
    assert retry_delay_s(Retry(backoff="none"), failures=1, jitter=MIDDLE, retry_after_s=2.0) == 2


# ---------------------------------------------------------------- decided


def failing(**keys: object) -> Run:
    run = Run(linear(1, **keys))
    run.create()
    run.start("s1")
    return run


def test_a_failure_schedules_the_next_attempt_with_the_chosen_wait() -> None:
    """The wait is recorded, so a replay waits just as long."""
    run = failing()
    assert run.fail("s1", jitter=0.0) == (
        StepAttemptFailed(step="s1", attempt=1, error=ERROR),
        StepRetryScheduled(step="s1", attempt=2, delay_s=0.85, retry_at_us=T0_US + 850_000),
    )


def test_the_next_attempt_is_dispatched_when_its_time_has_come() -> None:
    run = failing()
    run.fail("s1")
    assert run.fire_at("retry:s1:2") == (StepDispatched(step="s1", attempt=2),)
    assert run.fire("retry:s1:2") == ()


def test_no_backoff_dispatches_at_once() -> None:
    run = failing(retry={"backoff": "none"})
    assert run.fail("s1")[1:] == (
        StepRetryScheduled(step="s1", attempt=2, delay_s=0.0, retry_at_us=T0_US),
        StepDispatched(step="s1", attempt=2),
    )


def test_max_attempts_counts_all_runs() -> None:
    run = failing(retry={"max_attempts": 3})
    for attempt in (1, 2):
        run.fail("s1", attempt)
        run.fire_at(f"retry:s1:{attempt + 1}")
    assert run.fail("s1", 3)[-2:] == (
        StepFailed(step="s1", attempt=3, reason="retries_exhausted", error=ERROR),
        TaskBlocked(reason="step_failed", steps=("s1",)),
    )


def test_one_attempt_is_one_run() -> None:
    run = failing(retry={"max_attempts": 1})
    assert [type(one) for one in run.fail("s1")] == [StepAttemptFailed, StepFailed, TaskBlocked]


def test_a_permanent_error_has_no_further_attempt() -> None:
    run = failing()
    error = ErrorInfo(type="NoSuchCard", message="no", retryable=False)
    assert run.fail("s1", error=error)[1] == StepFailed(step="s1", attempt=1, reason="permanent_error", error=error)


def test_a_type_that_the_template_does_not_retry_has_no_further_attempt() -> None:
    run = failing(retry={"non_retryable": ["ValueError"]})
    assert run.fail("s1")[1] == StepFailed(step="s1", attempt=1, reason="permanent_error", error=ERROR)


def test_what_the_target_asked_for_is_waited() -> None:
    run = failing()
    run.fail("s1", error=ErrorInfo(type="Busy", message="later", retry_after_s=60.0))
    assert run.owes() == {"retry:s1:2": T0_US + 60_000_000}


def test_a_loss_and_a_timeout_count_as_attempts() -> None:
    """So that a step that kills its worker ends."""
    run = failing(retry={"max_attempts": 2})
    run.fire_at("heartbeat:s1:1")
    run.fire_at("retry:s1:2")
    run.start("s1", 2)
    assert [type(one) for one in run.fire_at("finish_by:s1:2")] == [StepAttemptFailed, StepFailed, TaskBlocked]
