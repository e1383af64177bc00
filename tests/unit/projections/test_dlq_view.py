"""What enters the dead letters, how it goes on, and how it leaves."""

import uuid
from typing import Any
from uuid import UUID

import pytest

from tasker.events.dead_letter_events import (
    DeadLetterAdded,
    DeadLetterAssigned,
    DeadLetterIgnored,
    DeadLetterInvestigated,
    DeadLetterNoted,
    DeadLetterReopened,
    DeadLetterResolved,
)
from tasker.events.envelope import Meta
from tasker.events.reads import DeadLetterView
from tasker.events.task_events import (
    ErrorInfo,
    StaleEnded,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepFailureAccepted,
    StepGathered,
    StepRetried,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskResumed,
    WentStale,
)
from tasker.ids import investigation_stream_id, shard_of
from tasker.projections.views.dlq import NOTES_MAX, DeadLetterProjection, DeadLetterTask, to_view
from tests.histories import Recorder, blocked_task, created, damaged, failed, ran, raw
from tests.runs import Run, linear
from tests.view_rows import fold_into

ADA = Meta(requested_by="ada", reason="paid by hand")
TASK = DeadLetterTask(namespace="shop", template="orders", version="1.0.0", state="blocked", tags='{"team":"core"}')


class Story:
    """One task and what people do about it."""

    def __init__(self, *events: Any) -> None:
        self.recorder = Recorder()
        self.task_id = self.recorder.task(events)

    def goes_on(self, *events: Any, **more: Any) -> "Story":
        self.recorder.record(self.task_id, events, **more)
        return self

    def person(
        self, kind: Any, *, step: str = "charge", attempt: int = 2, tenant: str = "default", **more: Any
    ) -> "Story":
        event = kind(task_id=str(self.task_id), step=step, attempt=attempt, **more)
        stream_id = investigation_stream_id(tenant, self.task_id)
        self.recorder.record(stream_id, [event], meta=ADA, tenant=tenant)
        return self

    def rows(self) -> dict[tuple[UUID, str], Any]:
        rows: dict[tuple[UUID, str], Any] = {}
        for recorded in self.recorder.events:
            fold_into(rows, DeadLetterProjection(), recorded)
        return rows

    def letter(self, step: str = "charge") -> DeadLetterView:
        return to_view(self.rows()[self.task_id, step], TASK, with_notes=True)


def again(step: str = "charge", attempt: int = 3) -> list[Any]:
    return [TaskResumed(), StepRetried(step=step, attempt=attempt), StepDispatched(step=step, attempt=attempt)]


def failure(
    message: str, *, attempt: int = 2, kind: str = "ValueError", reason: Any = "retries_exhausted"
) -> StepFailed:
    return StepFailed(step="charge", attempt=attempt, reason=reason, error=ErrorInfo(type=kind, message=message))


def test_a_step_that_ran_out_is_dead_and_open() -> None:
    letter = Story(*blocked_task("charge")).letter()
    assert (letter.state, letter.status, letter.reason) == ("dead", "open", "retries_exhausted")
    assert (letter.error_type, letter.message, letter.attempt, letter.failures) == ("ValueError", "no such card", 2, 1)
    assert (letter.namespace, letter.template, letter.tags) == ("shop", "orders", {"team": "core"})
    assert letter.remedy == f"tasker dlq retry {letter.task_id} --step 'charge' --reason WHY"


def test_errors_that_differ_in_what_varies_have_one_fingerprint() -> None:
    letters = [Story(created(), failure(f"no card {number}")).letter() for number in range(3)]
    assert len({letter.fingerprint for letter in letters}) == 1
    assert letters[0].pattern == "no card <n>"


@pytest.mark.parametrize(
    ("reason", "told"),
    [("retries_exhausted", "retries_exhausted"), ("permanent_error", "permanent_error")],
)
def test_the_reason_is_that_of_the_failure(reason: str, told: str) -> None:
    assert Story(created(), failure("x", reason=reason)).letter().reason == told


def test_an_attempt_that_no_worker_took_in_time_has_no_worker() -> None:
    """As the task's own core words it."""
    run = Run(linear(1, schedule_to_start_s=5.0, retry={"max_attempts": 1}))
    run.create()
    failed_step = next(event for event in run.fire_at("start_by:s1:1") if isinstance(event, StepFailed))
    assert Story(created(), failed_step).letter("s1").reason == "no_worker"
    run = Run(linear(1, retry={"max_attempts": 1}))
    run.create()
    run.start("s1")
    failed_step = next(event for event in run.fire_at("finish_by:s1:1") if isinstance(event, StepFailed))
    assert Story(created(), failed_step).letter("s1").reason == "retries_exhausted"


@pytest.mark.parametrize(
    "story",
    [
        Story(created(), *ran("charge")).goes_on(TaskCompleted(result=raw(1)), change=damaged),
        Story(created(), TaskBlocked(reason="poison", detail="event 3: no")),
        Story(created(), TaskBlocked(reason="history_limit", detail="100 events of at most 100")),
        Story(created(), TaskBlocked(reason="no_progress", detail="no step can begin, and none is open")),
    ],
)
def test_a_task_that_cannot_go_on_is_poison(story: Story) -> None:
    letter = story.letter("")
    assert (letter.reason, letter.state, letter.attempt) == ("poison", "dead", 0)
    assert letter.error_type in ("poison", "history_limit", "no_progress")
    assert set(story.rows()) == {(story.task_id, "")}


def test_a_poisoned_task_is_counted_once() -> None:
    story = Story(created())
    for _ in range(3):
        story.goes_on(TaskCompleted(result=raw(1)), change=damaged)
    assert story.letter("").failures == 1


def test_a_blocked_task_is_no_letter_of_its_own() -> None:
    story = Story(*blocked_task("charge"))
    assert set(story.rows()) == {(story.task_id, "charge")}


def test_a_first_attempt_that_completes_says_nothing() -> None:
    assert Story(created(), *ran("charge"), TaskCompleted(result=raw(1))).rows() == {}


def test_a_retried_step_leaves_when_it_completes() -> None:
    story = Story(*blocked_task("charge"), *again())
    letter = story.letter()
    assert (letter.state, letter.remedy) == ("retrying", None)
    letter = story.goes_on(StepCompleted(step="charge", attempt=3, result=raw(1))).letter()
    assert (letter.state, letter.left_how) == ("left", "step_completed")
    assert letter.left_at is not None


def test_a_step_that_fails_again_is_dead_again_and_counted() -> None:
    letter = Story(*blocked_task("charge"), *again(), failure("no funds", attempt=3)).letter()
    assert (letter.state, letter.failures, letter.attempt, letter.message) == ("dead", 2, 3, "no funds")
    assert letter.first_seen < letter.last_seen


@pytest.mark.parametrize(
    ("event", "how"),
    [
        (StepFailureAccepted(step="charge", joins=("all",)), "failure_accepted"),
        (StepGathered(step="charge", completed=3, failed=1), "step_completed"),
    ],
)
def test_a_failure_that_holds_nothing_up_any_more_leaves(event: Any, how: str) -> None:
    story = Story(*blocked_task("charge"), event)
    assert story.letter().left_how == how
    assert story.goes_on(*again()).letter().left_how is None


@pytest.mark.parametrize(
    ("end", "how"), [(TaskCancelled(), "task_cancelled"), (TaskCompleted(result=raw(1)), "task_completed")]
)
def test_a_task_takes_all_its_letters_along(end: Any, how: str) -> None:
    story = Story(*blocked_task("charge"), *failed("ship"), end)
    assert {letter.left_how for letter in (story.letter(), story.letter("ship"))} == {how}


def test_letters_of_a_failed_task_stay() -> None:
    letter = Story(created(), failure("x"), TaskFailed(cause="step_failed", step="charge")).letter()
    assert letter.state == "dead"


def test_who_looks_into_it_is_told() -> None:
    story = Story(*blocked_task("charge")).person(DeadLetterInvestigated)
    story.person(DeadLetterAssigned, owner="ada").person(DeadLetterNoted, note="the bank is down")
    letter = story.letter()
    assert (letter.status, letter.owner, letter.notes_count) == ("investigating", "ada", 1)
    (note,) = letter.notes
    assert (note.note, note.requested_by) == ("the bank is down", "ada")
    assert story.person(DeadLetterAssigned).letter().owner is None


def test_a_row_keeps_the_newest_notes() -> None:
    story = Story(*blocked_task("charge"))
    for number in range(NOTES_MAX + 3):
        story.person(DeadLetterNoted, note=f"note {number}")
    letter = story.letter()
    assert letter.notes_count == NOTES_MAX + 3
    assert [note.note for note in letter.notes] == [f"note {number}" for number in range(3, NOTES_MAX + 3)]


@pytest.mark.parametrize(("kind", "status"), [(DeadLetterResolved, "resolved"), (DeadLetterIgnored, "ignored")])
def test_a_settled_letter_says_by_whom_and_why(kind: Any, status: str) -> None:
    story = Story(*blocked_task("charge")).person(kind)
    letter = story.letter()
    assert (letter.status, letter.settled_by, letter.settled_reason) == (status, "ada", "paid by hand")
    assert story.person(DeadLetterReopened).letter().status == "open"
    assert story.letter().settled_by is None


def test_a_resolution_holds_for_the_failure_that_was_seen() -> None:
    story = Story(*blocked_task("charge")).person(DeadLetterResolved)
    story.goes_on(*again(), failure("no funds", attempt=3))
    assert story.letter().status == "open"
    assert story.person(DeadLetterResolved, attempt=2).letter().status == "open"
    assert story.person(DeadLetterResolved, attempt=3).letter().status == "resolved"


def test_a_person_puts_something_there() -> None:
    story = Story(created(), StepDispatched(step="charge", attempt=1)).person(DeadLetterAdded, attempt=1)
    letter = story.letter()
    assert (letter.reason, letter.message, letter.status) == ("manual", "paid by hand", "open")
    assert story.goes_on(TaskCancelled()).letter().left_how == "task_cancelled"


def test_what_is_no_letter_is_not_investigated() -> None:
    assert Story(created()).person(DeadLetterNoted, note="x").person(DeadLetterResolved).rows() == {}


def test_nobody_settles_the_letters_of_another_tenant() -> None:
    story = Story(*blocked_task("charge")).person(DeadLetterResolved, tenant="acme")
    assert story.letter().status == "open"


def test_an_investigation_that_cannot_be_read_harms_nothing() -> None:
    story = Story(*blocked_task("charge"))
    event = DeadLetterResolved(task_id=str(story.task_id), step="charge", attempt=2)
    story.recorder.record(investigation_stream_id("default", story.task_id), [event], change=damaged)
    assert story.letter().status == "open"
    assert len(story.rows()) == 1


def test_an_investigation_lies_in_the_slot_of_its_task() -> None:
    for _ in range(5):
        task_id = uuid.uuid4()
        other = investigation_stream_id("default", task_id)
        assert other != investigation_stream_id("acme", task_id)
        assert {shard_of(one, shards) for one in (other, task_id) for shards in (1024,)} == {shard_of(task_id, 1024)}
        assert other.version == 8


def test_what_stands_still_is_stale_until_it_moves() -> None:
    story = Story(created(), WentStale(state="paused", after_s=60.0))
    letter = story.letter("")
    assert (letter.state, letter.reason, letter.error_type) == ("dead", "stale", "stale")
    assert letter.message == "the task has been paused for longer than 60 s"
    assert letter.remedy == f"tasker task retry {letter.task_id}"  # of a task that is blocked
    left = story.goes_on(StaleEnded()).letter("")
    assert (left.state, left.left_how) == ("left", "moved_on")
    again_stale = story.goes_on(WentStale(state="paused", after_s=60.0)).letter("")
    assert (again_stale.state, again_stale.failures) == ("dead", 2)


def test_a_step_that_waits_too_long_is_stale() -> None:
    story = Story(created(), WentStale(step="w", attempt=1, state="waiting", after_s=1.5))
    letter = story.letter("w")
    assert letter.message == "a step has waited for longer than 1.5 s"
    assert letter.remedy == f"tasker task show {letter.task_id}"
    assert story.goes_on(StaleEnded(step="w")).letter("w").state == "left"


def test_what_is_dead_for_another_reason_stays_so_when_it_was_stale() -> None:
    story = Story(*blocked_task("charge"), WentStale(step="charge", attempt=2, state="waiting", after_s=1.0))
    assert story.letter().reason == "retries_exhausted"
    failed_later = Story(created(), WentStale(step="charge", attempt=1, state="waiting", after_s=1.0), failure("x"))
    assert failed_later.goes_on(StaleEnded(step="charge")).letter().state == "dead"
    assert failed_later.goes_on(TaskFailed(cause="step_failed", step="charge")).letter().state == "dead"
