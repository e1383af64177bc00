from typing import Any

from tasker.events.reads import StepView
from tasker.events.task_events import (
    ApprovalAnswered,
    ApprovalDelegated,
    ApprovalEscalated,
    ApprovalRequested,
    EventAwaited,
    EventMatched,
    StepAttemptFailed,
    StepAwaited,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepDispatched,
    StepExpanded,
    StepFailed,
    StepReleased,
    StepResolved,
    StepResultEdited,
    StepRetried,
    StepRetryScheduled,
    StepSignalled,
    StepSkipped,
    StepStarted,
)
from tasker.projections.views.step import StepProjection, to_view
from tests.histories import ERROR, T0_US, Recorder, created, damaged, failed, ran, raw
from tests.view_rows import fold_into

STARTED = StepStarted(step="a", attempt=1, worker="w1", finish_by_us=T0_US, heartbeat_s=1.0)


def fold(*events: Any, step: str = "a") -> StepView:
    recorder = Recorder()
    task_id = recorder.task([created(), *events])
    rows: dict[Any, Any] = {}
    for recorded in recorder.events:
        fold_into(rows, StepProjection(), recorded)
    return to_view(rows[task_id, step])


def test_a_dispatched_step_waits_for_a_worker() -> None:
    step = fold(StepDispatched(step="a", attempt=1))
    assert (step.state, step.attempt, step.worker, step.waiting_on) == ("dispatched", 1, None, "a worker")
    assert step.dispatched_at is not None
    assert step.started_at is None


def test_a_started_step_names_its_worker() -> None:
    step = fold(StepDispatched(step="a", attempt=1), STARTED)
    assert (step.state, step.worker, step.waiting_on) == ("running", "w1", "worker w1 to finish it")


def test_a_completed_step_has_its_result_as_recorded() -> None:
    step = fold(*ran("a", result={"n": 10**40}))
    assert step.state == "completed"
    assert step.result is not None
    assert bytes(step.result) == b'{"n":1' + b"0" * 40 + b"}"
    assert step.ended_at is not None


def test_a_step_between_attempts_says_when_and_why() -> None:
    step = fold(
        StepDispatched(step="a", attempt=1),
        STARTED,
        StepAttemptFailed(step="a", attempt=1, error=ERROR),
        StepRetryScheduled(step="a", attempt=2, delay_s=1.0, retry_at_us=T0_US),
    )
    assert (step.state, step.error) == ("waiting", ERROR)
    assert step.waiting_on == "its retry at 2026-09-21T14:13:20.000000Z"


def test_a_second_attempt_starts_with_a_clean_slate_but_the_last_error() -> None:
    step = fold(*failed("a")[:4])
    assert (step.state, step.attempt, step.worker, step.retry_at, step.error) == ("dispatched", 2, None, None, ERROR)


def test_a_failed_step_that_a_person_retries_is_open_again() -> None:
    failure = fold(*failed("a"))
    assert (failure.state, failure.error, failure.waiting_on) == ("failed", ERROR, None)
    step = fold(*failed("a"), StepRetried(step="a", attempt=3), StepDispatched(step="a", attempt=3))
    assert (step.state, step.attempt, step.ended_at) == ("dispatched", 3, None)


def test_an_item_that_a_person_retries_waits_for_its_turn() -> None:
    item = fold(
        StepDispatched(step="a[0]", attempt=1),
        StepFailed(step="a[0]", attempt=1, reason="permanent_error", error=ERROR),
        StepRetried(step="a[0]", attempt=2),
        step="a[0]",
    )
    assert (item.state, item.waiting_on) == ("waiting", "its turn among the items that are retried")


def test_a_list_that_a_person_retries_waits_for_its_items_again() -> None:
    failure = StepFailed(step="a", attempt=1, reason="items_failed", error=ERROR)
    items = StepExpanded(step="a", items=raw([1, 2]))
    assert fold(items, failure).waiting_on is None
    step = fold(items, failure, StepRetried(step="a", attempt=2))
    assert (step.state, step.attempt, step.waiting_on) == ("waiting", 1, "its items")


def test_a_step_that_is_told_to_stop_says_so_until_it_is_cancelled() -> None:
    told = [StepDispatched(step="a", attempt=1), STARTED]
    told.append(StepCancelRequested(step="a", attempt=1, grace_until_us=T0_US))
    assert fold(*told).waiting_on == "worker w1 to stop it"
    assert fold(*told, StepCancelled(step="a", attempt=1, reason="x")).state == "cancelled"


def test_an_event_that_cannot_be_read_leaves_the_steps_as_they_are() -> None:
    recorder = Recorder()
    task_id = recorder.task([created(), StepDispatched(step="a", attempt=1)])
    recorder.record(task_id, [STARTED], change=damaged)
    rows: dict[Any, Any] = {}
    for recorded in recorder.events:
        fold_into(rows, StepProjection(), recorded)
    assert rows[task_id, "a"].state == "dispatched"


def test_what_a_person_did_to_a_result_is_shown() -> None:
    step = fold(*failed("a"), StepResolved(step="a", attempt=2, result=raw([1]), failed=True))
    assert (step.state, step.error, step.by_hand) == ("completed", None, "resolved")
    assert bytes(step.result or b"") == b"[1]"
    step = fold(StepSkipped(step="a", attempt=0, result=raw(None)))
    assert (step.state, step.attempt, step.by_hand) == ("completed", 0, "skipped")
    step = fold(*ran("a"), StepResultEdited(step="a", result=raw(2)))
    assert (step.state, step.result, step.by_hand) == ("completed", raw(2), "edited")


def test_a_released_retry_is_due() -> None:
    waiting = (StepDispatched(step="a", attempt=1), STARTED, StepAttemptFailed(step="a", attempt=1, error=ERROR))
    later = StepRetryScheduled(step="a", attempt=2, delay_s=1.0, retry_at_us=T0_US * 2)
    before, after = fold(*waiting, later), fold(*waiting, later, StepReleased(step="a", attempt=1))
    assert (before.retry_at or "") > (after.retry_at or "")


def test_a_step_that_waits_for_a_signal_names_it() -> None:
    waits = StepAwaited(step="a", attempt=1, signal="go", deadline_us=T0_US)
    assert fold(waits).waiting_on == "signal go until 2026-09-21T14:13:20.000000Z"
    several = StepAwaited(step="a", attempt=1, signal="vote", count=3)
    assert fold(several).waiting_on == "3 signals vote (0 have come)"
    taken = StepSignalled(step="a", attempt=1, numbers=(4, 5))
    step = fold(several, taken)
    assert (step.state, step.waiting_on) == ("waiting", "3 signals vote (2 have come)")
    step = fold(several, taken, StepCompleted(step="a", attempt=1, result=raw([1])))
    assert (step.state, step.waiting_on) == ("completed", None)


def test_a_step_that_asks_people_says_whom() -> None:
    asks = ApprovalRequested(step="a", attempt=1, assignees=("ada", "bob"), roles=("heads",), approvals=2)
    assert fold(asks).waiting_on == "the approval of ada, bob or the role heads (0 of 2 have)"
    given = ApprovalAnswered(step="a", attempt=1, decision="approved", by="bob")
    handed = ApprovalDelegated(step="a", attempt=1, by="ada", to="eve")
    assert fold(asks, given, handed).waiting_on == "the approval of bob, eve or the role heads (1 of 2 have)"
    plain = ApprovalRequested(step="a", attempt=1, deadline_us=T0_US, escalate_us=T0_US)
    told = "the approval of anybody (escalated at 2026-09-21T14:13:20.000000Z) until 2026-09-21T14:13:20.000000Z"
    assert fold(plain).waiting_on == told
    escalated = ApprovalEscalated(step="a", attempt=1, assignees=("carol",))
    assert fold(plain, escalated).waiting_on == "the approval of carol (escalated) until 2026-09-21T14:13:20.000000Z"
    decided = StepCompleted(step="a", attempt=1, result=raw({"decision": "rejected"}))
    no = ApprovalAnswered(step="a", attempt=1, decision="rejected", by="ada")
    assert (fold(asks, no, decided).state, fold(asks, no, decided).waiting_on) == ("completed", None)


def test_a_step_that_waits_for_an_event_names_it() -> None:
    waits = EventAwaited(step="a", attempt=1, event="payment.captured", deadline_us=T0_US)
    told = "event payment.captured of another task until 2026-09-21T14:13:20.000000Z"
    assert fold(waits).waiting_on == told
    matched = EventMatched(step="a", attempt=1, task_id="t", seq=1, event=raw({}))
    assert fold(waits, matched, StepCompleted(step="a", attempt=1, result=raw({}))).waiting_on is None
