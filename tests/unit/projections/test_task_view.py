"""Given events, when applied, then a row; and the row as reads show it."""

from typing import Any
from uuid import uuid4

import msgspec
import pytest

from tasker.events.envelope import Meta
from tasker.events.task_events import (
    ErrorInfo,
    StepCancelled,
    StepCancelRequested,
    StepDispatched,
    StepRetried,
    StepSkipped,
    StepStarted,
    StepYielded,
    TaskBlocked,
    TaskCancelled,
    TaskCompensating,
    TaskCompleted,
    TaskDeadlinePassed,
    TaskDeadlineSet,
    TaskFailed,
    TaskPaused,
    TaskPostponed,
    TaskResumed,
    TaskStarted,
    TaskStopping,
    TaskUnpaused,
)
from tasker.projections.projection import differences
from tasker.projections.views.reasons import Standing
from tasker.projections.views.task import TaskProjection, TaskRow, to_view
from tests.histories import ERROR, T0_US, Recorder, blocked_task, completed_task, created, damaged, failed, ran, raw
from tests.view_rows import fold_into


def open_step(step: str, state: str, worker: str | None, retry_at_us: int | None) -> Standing:
    return Standing(step, state, worker=worker, retry_at_us=retry_at_us)


def fold(*events: Any, **more: Any) -> TaskRow:
    recorder = Recorder()
    task_id = recorder.task(events, **more)
    rows: dict[Any, Any] = {}
    for recorded in recorder.events:
        fold_into(rows, TaskProjection(), recorded)
    return rows[task_id, ""]


def test_a_created_task_runs_and_keeps_the_facts_of_its_creation() -> None:
    row = fold(
        created(tags={"b": "2", "a": "1"}, idempotency_key="k", deadline_us=T0_US + 5),
        meta=Meta(correlation_id="c", requested_by="ann", reason="test"),
    )
    view = to_view(row)
    assert (view.state, view.seq, view.namespace, view.template, view.version) == (
        "running",
        1,
        "shop",
        "linear4",
        "1.0.0",
    )
    assert view.tags == {"a": "1", "b": "2"}
    assert (view.idempotency_key, view.correlation_id, view.requested_by, view.reason) == ("k", "c", "ann", "test")
    assert bytes(view.input) == b'{"n":6}'
    assert view.deadline_at is not None
    assert view.position == f"{row.shard}:1"


def test_a_task_with_a_start_time_is_pending_until_it_starts() -> None:
    row = fold(created(not_before_us=T0_US))
    assert to_view(row).state == "pending"
    assert to_view(row).waiting_on == "its start time, 2026-09-21T14:13:20.000000Z"
    assert fold(created(not_before_us=T0_US), TaskStarted()).state == "running"


def test_a_postponed_task_shows_the_newest_input_and_its_new_times() -> None:
    due_us, deadline_us = T0_US + 1, T0_US + 2
    other = TaskPostponed(
        start=str(uuid4()), request_hash="2", input=raw({"n": 2}), not_before_us=due_us, deadline_us=deadline_us
    )
    row = fold(created(not_before_us=T0_US), other)
    assert (row.state, row.not_before_us, row.deadline_us) == ("pending", due_us, deadline_us)
    assert bytes(to_view(row).input) == b'{"n":2}'


def test_a_completed_task_has_its_result_and_counts() -> None:
    view = to_view(fold(*completed_task("s1", "s2")))
    assert view.state == "completed"
    assert view.result is not None
    assert bytes(view.result) == b"36"
    assert (view.steps_dispatched, view.steps_completed, view.steps_failed, view.retries) == (2, 2, 0, 0)
    assert view.ended_at == view.updated_at
    assert view.waiting_on is None
    assert view.remedy is None


def test_a_blocked_task_says_for_whom_it_waits_and_what_repairs_it() -> None:
    row = fold(*blocked_task("charge"))
    view = to_view(row)
    assert (view.state, view.blocked_steps, view.error) == ("blocked", ("charge",), ERROR)
    assert view.waiting_on == "a person: step charge failed"
    assert view.remedy == f"tasker task retry {row.task_id}"
    assert (view.steps_dispatched, view.steps_failed, view.retries) == (1, 1, 1)


def test_a_retried_task_goes_on_without_the_error() -> None:
    view = to_view(
        fold(
            *blocked_task("charge"),
            TaskResumed(),
            StepRetried(step="charge", attempt=3),
            StepDispatched(step="charge", attempt=3),
        ),
        [open_step("charge", "dispatched", None, None)],
    )
    assert (view.state, view.steps_failed, view.blocked_steps, view.error) == ("running", 0, (), None)
    assert view.waiting_on == "a worker for step charge"


def test_items_that_were_cancelled_with_their_list_had_not_failed_when_they_are_retried() -> None:
    row = fold(
        *blocked_task("each"),
        *(StepRetried(step=f"each[{index}]", attempt=2, cancelled=index > 0) for index in range(3)),
    )
    assert (row.steps_failed, row.retries) == (0, 4)


def test_an_attempt_that_is_called_again_is_no_retry() -> None:
    again = StepYielded(step="s1", attempt=1, checkpoint=raw({}), delay_s=1.0, resume_at_us=T0_US)
    row = fold(created(), StepDispatched(step="s1", attempt=1), again, *ran("s1", attempt=2))
    assert (row.steps_dispatched, row.steps_completed, row.retries) == (1, 1, 0)


@pytest.mark.parametrize(
    ("ending", "state"),
    [(TaskCancelled(), "cancelled"), (TaskFailed(cause="timeout", error=ERROR), "failed")],
)
def test_a_stopping_task_ends_as_it_said(ending: Any, state: str) -> None:
    running = [created(), *ran("s1")[:2], StepCancelRequested(step="s1", attempt=1, grace_until_us=T0_US)]
    stopping = TaskStopping(ending="failed" if state == "failed" else "cancelled", cause="cancel")
    waiting = to_view(fold(*running, stopping), [open_step("s1", "running", "w1", None)])
    assert waiting.state == "running"
    assert waiting.waiting_on == f"running steps to stop (s1); it ends as {state}"
    ended = to_view(fold(*running, stopping, StepCancelled(step="s1", attempt=1, reason="x"), ending))
    assert (ended.state, ended.waiting_on) == (state, None)
    assert (ended.error is not None) == (state == "failed")


def test_a_compensating_task_says_so_and_what_holds_it_up() -> None:
    begun = [
        created(),
        *ran("charge"),
        TaskStopping(ending="cancelled", cause="cancel"),
        TaskCompensating(steps=("charge",), instances=1),
        StepDispatched(step="charge~undo", attempt=1),
    ]
    view = to_view(fold(*begun), [open_step("charge~undo", "dispatched", None, None)])
    assert (view.state, view.waiting_on) == (
        "compensating",
        "its compensations (a worker for step charge~undo); it ends as cancelled",
    )
    lost = [*begun, *failed("charge~undo")[1:], TaskBlocked(reason="compensation_failed", steps=("charge~undo",))]
    row = fold(*lost)
    view = to_view(row)
    assert (view.state, view.blocked_steps, view.error) == ("blocked", ("charge~undo",), ERROR)
    assert view.waiting_on == "a person: compensation charge~undo failed; the task ends as cancelled behind it"
    assert view.remedy == f"tasker task retry {row.task_id}"
    assert to_view(fold(*lost, TaskResumed())).state == "compensating"
    assert to_view(fold(*lost, TaskResumed(), TaskCancelled())).state == "cancelled"


def test_waiting_on_names_a_few_open_steps() -> None:
    row = fold(created())
    steps = [
        open_step("a", "dispatched", None, None),
        open_step("b", "running", "w7", None),
        open_step("c", "waiting", None, T0_US),
        open_step("d", "dispatched", None, None),
    ]
    assert to_view(row, steps).waiting_on == (
        "a worker for step a; step b on worker w7; the retry of step c at 2026-09-21T14:13:20.000000Z; more steps"
    )


def test_the_history_limit_names_the_command_that_ends_the_task() -> None:
    row = fold(created(), TaskBlocked(reason="history_limit", detail="it has 100,000 events"))
    view = to_view(row)
    assert view.remedy == f"tasker task cancel {row.task_id}"
    assert view.error == ErrorInfo(type="history_limit", message="it has 100,000 events", retryable=False)


def test_an_event_that_cannot_be_decoded_blocks_its_task_for_good() -> None:
    recorder = Recorder()
    task_id, other = recorder.task([created(), *ran("s1")]), recorder.task([created()])
    recorder.record(task_id, [TaskCompleted(result=raw(1))], change=damaged)
    recorder.record(task_id, [TaskCompleted(result=raw(1))])
    recorder.record(other, [TaskCompleted(result=raw(1))])
    rows: dict[Any, Any] = {}
    for recorded in recorder.events:
        fold_into(rows, TaskProjection(), recorded)
    view = to_view(rows[task_id, ""])
    assert (view.state, view.seq, view.remedy) == ("blocked", 6, None)
    assert view.waiting_on is not None
    assert "event 5" in view.waiting_on
    assert view.error is not None
    assert view.error.type == "poison"
    assert rows[other, ""].state == "completed"


def test_a_task_whose_creation_cannot_be_read_has_a_row_all_the_same() -> None:
    recorder = Recorder()
    task_id = uuid4()
    recorder.record(task_id, [created()], change=damaged)
    recorder.record(task_id, ran("s1"))
    rows: dict[Any, Any] = {}
    for recorded in recorder.events:
        fold_into(rows, TaskProjection(), recorded)
    assert to_view(rows[task_id, ""]).state == "blocked"
    assert rows[task_id, ""].tenant == "default"


def test_an_event_that_crashes_the_fold_poisons_its_task_only() -> None:
    class Crashing(TaskProjection):
        def apply(self, row: Any, recorded: Any, event: Any) -> Any:
            if recorded.type == "step_started":
                raise ZeroDivisionError("boom")
            return super().apply(row, recorded, event)

    recorder = Recorder()
    task_id = recorder.task([created(), *ran("s1")])
    rows: dict[Any, Any] = {}
    for recorded in recorder.events:
        fold_into(rows, Crashing(), recorded)
    row = rows[task_id, ""]
    assert (row.blocked_reason, row.seq) == ("poison", 4)
    assert "ZeroDivisionError" in row.blocked_detail


def test_a_step_that_fails_while_others_go_on_shows_no_error_yet() -> None:
    view = to_view(fold(created(), *failed("a"), StepDispatched(step="b", attempt=1)))
    assert (view.state, view.error, view.steps_failed) == ("running", None, 1)


def test_rows_that_are_not_equal_name_what_differs() -> None:
    row = fold(created(), StepStarted(step="a", attempt=1, worker="w", finish_by_us=1, heartbeat_s=1.0))
    other = msgspec.structs.replace(row, state="completed", seq=9)
    assert differences(row, msgspec.structs.replace(row)) == []
    assert differences(row, other) == ["state", "seq"]


def test_a_paused_task_says_by_whom_and_why_and_what_resumes_it() -> None:
    row = fold(created(), TaskPaused(), meta=Meta(requested_by="ada", reason="the bank is down"))
    view = to_view(row)
    assert (view.state, view.error) == ("paused", None)
    assert view.waiting_on == "a person to resume it; it is paused by ada: the bank is down"
    assert view.remedy == f"tasker task resume {view.task_id}"
    assert to_view(fold(created(), TaskPaused())).waiting_on == "a person to resume it; it is paused"
    view = to_view(fold(created(), TaskPaused(), TaskUnpaused()))
    assert (view.state, view.waiting_on, view.remedy) == ("running", None, None)


def test_a_task_that_is_paused_before_its_start_is_pending_again() -> None:
    assert to_view(fold(created(not_before_us=T0_US), TaskPaused())).state == "paused"
    assert to_view(fold(created(not_before_us=T0_US), TaskPaused(), TaskUnpaused())).state == "pending"


def test_a_task_that_is_blocked_before_its_start_is_pending_behind_another_deadline() -> None:
    late = [created(not_before_us=T0_US), TaskDeadlinePassed(then="block"), TaskBlocked(reason="deadline_passed")]
    assert to_view(fold(*late, TaskDeadlineSet(goes_on=True, pending=True))).state == "pending"
    paused = [*late, TaskPaused(), TaskDeadlineSet(pending=True)]
    assert to_view(fold(*paused)).state == "paused"
    assert to_view(fold(*paused, TaskUnpaused())).state == "pending"


def test_a_paused_task_that_is_cancelled_stops() -> None:
    row = fold(created(), TaskPaused(), TaskStopping(ending="cancelled", cause="cancel"))
    assert (row.state, row.blocked_detail) == ("running", None)


def test_a_failed_step_that_is_skipped_counts_as_completed() -> None:
    skipped = StepSkipped(step="s1", attempt=2, result=raw(None), failed=True)
    row = fold(*blocked_task("s1"), TaskResumed(), skipped)
    assert (row.steps_completed, row.steps_failed) == (1, 0)
