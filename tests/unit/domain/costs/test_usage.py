"""Usage is settled, priced and recorded with its outcome; a budget stops a task."""

from decimal import Decimal
from typing import Any

import pytest

from tasker.errors import StateForbids
from tasker.events.messages import EmittedEvent, Report, ReportReply, UsageLine
from tasker.events.task_events import (
    AnyTaskEvent,
    DomainEventRaised,
    StepAttemptFailed,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepGathered,
    StepRetried,
    StepRetryScheduled,
    StepStarted,
    StepYielded,
    TaskBlocked,
    TaskBudgetSet,
    TaskCancelled,
    TaskCompensating,
    TaskCompleted,
    TaskFailed,
    TaskStopping,
    TaskUnpaused,
    UsageRecorded,
)
from tasker.events.usage import budget_remedy, excess_cost, excess_running, excess_tokens
from tasker.service.domain.commands import (
    CompleteAttempt,
    FailAttempt,
    RecordUsage,
    ResolveStep,
    SetBudget,
    YieldAttempt,
)
from tasker.service.domain.costs.prices import price_table
from tasker.service.domain.costs.usage import late_usage_of
from tasker.service.domain.reports import command_of
from tasker.service.domain.state import TaskStatus
from tasker.service.domain.state_document import state_document
from tasker.service.domain.steps.outcome_facts import settle_facts
from tests.runs import DIAMOND, ERROR, Run, created, linear, raw, template, types

PRICES = price_table(
    {"version": "v7", "models": {"m": {"tokens_in": "0.000015", "tokens_out": "0.000075"}}, "meters": {"pages": "0.01"}}
)
BUDGET = {"tokens_max": 100}
NO_WAIT = {"backoff": "none"}


def tokens(amount: int, **more: Any) -> UsageLine:
    return UsageLine(meter="tokens_in", amount=str(amount), unit="token", model="m", **more)


def complete(run: Run, step: str, *usage: UsageLine, attempt: int = 1) -> tuple[AnyTaskEvent, ...]:
    command = CompleteAttempt(
        step=step, attempt=attempt, worker="w1", result=raw(1), at_us=run.now_us, usage=tuple(usage)
    )
    return run.do(command)


def fail(run: Run, step: str, *usage: UsageLine, attempt: int = 1) -> tuple[AnyTaskEvent, ...]:
    command = FailAttempt(
        step=step, attempt=attempt, worker="w1", error=ERROR, jitter=0.5, at_us=run.now_us, usage=tuple(usage)
    )
    return run.do(command)


# ---------------------------------------------------------------- recorded


def test_it_stands_before_the_domain_events_and_the_outcome_of_its_attempt() -> None:
    run = created(Run(template({"a": []}, steps={"a": {"emits": [{"name": "paid"}]}})))
    command = CompleteAttempt(
        step="a",
        attempt=1,
        worker="w1",
        result=raw(1),
        at_us=run.now_us,
        emitted=(EmittedEvent(name="paid"),),
        usage=(tokens(5), UsageLine(meter="pages", amount="2")),
    )
    events = run.do(command)
    assert types(events) == [
        StepStarted,
        UsageRecorded,
        UsageRecorded,
        DomainEventRaised,
        StepCompleted,
        TaskCompleted,
    ]
    assert events[1] == UsageRecorded(step="a", attempt=1, meter="tokens_in", amount="5", unit="token", model="m")


def test_that_of_a_failed_attempt_is_recorded_too() -> None:
    run = created(Run(linear(1, retry=NO_WAIT)))
    assert types(fail(run, "s1", tokens(5))) == [
        StepStarted,
        UsageRecorded,
        StepAttemptFailed,
        StepRetryScheduled,
        StepDispatched,
    ]
    complete(run, "s1", tokens(7), attempt=2)
    assert (run.state.usage or {})["tokens"] == 12


def test_the_state_says_what_was_used_only_once_something_was() -> None:
    run = created(Run(linear(2)))
    assert "usage" not in state_document(run.state)
    complete(run, "s1", tokens(5, cost="0.5", currency="USD"))
    assert state_document(run.state)["usage"] == {"tokens": "5", "cost:USD": "0.5"}


def test_an_outcome_that_is_not_recorded_meters_nothing() -> None:
    run = created(Run(linear(1)))
    complete(run, "s1", tokens(5))
    assert complete(run, "s1", tokens(5)) == ()
    assert (run.state.usage or {})["tokens"] == 5


# ---------------------------------------------------------------- told late


def told_late(run: Run, step: str, *usage: UsageLine, attempt: int = 1, kind: Any = "completed") -> RecordUsage | None:
    """What a report amounts to whose outcome is not recorded; it is done."""
    report = Report(
        kind=kind, task_id="t", step=step, attempt=attempt, worker="w1", error=ERROR, result=raw(1), usage=tuple(usage)
    )
    answer = command_of(run.state, report, at_us=run.now_us, jitter=0.5)
    assert isinstance(answer, ReportReply)
    command = late_usage_of(run.state, report, answer, run.now_us)
    if command is not None:
        run.do(command)
    return command


def timed_out(**keys: Any) -> Run:
    run = created(Run(linear(2, retry=NO_WAIT, **keys)))
    run.start("s1")
    run.fire_at("finish_by:s1:1")
    return run


def late_lines(run: Run) -> list[tuple[int, str]]:
    return [(one.attempt, one.amount) for one in run.events if isinstance(one, UsageRecorded) and one.late]


def test_that_of_an_attempt_that_had_timed_out_is_recorded_once() -> None:
    run = timed_out()
    assert told_late(run, "s1", tokens(5), kind="failed") is not None
    assert told_late(run, "s1", tokens(5), kind="failed") is None, "an answer that was lost is asked for again"
    complete(run, "s1", tokens(7), attempt=2)
    assert told_late(run, "s1", tokens(9), kind="failed") is None
    assert late_lines(run) == [(1, "5")]
    assert (run.state.usage or {})["tokens"] == 12


def test_that_of_a_step_that_a_person_resolved_is_recorded() -> None:
    run = created(Run(linear(2)))
    run.start("s1")
    run.do(ResolveStep(step="s1", result=raw(1), at_us=run.now_us))
    assert told_late(run, "s1", tokens(5)) is not None
    assert late_lines(run) == [(1, "5")]


def test_what_was_recorded_with_its_outcome_is_not_late() -> None:
    run = created(Run(linear(2, retry=NO_WAIT)))
    fail(run, "s1", tokens(5))
    assert told_late(run, "s1", tokens(5), kind="failed") is None, "another attempt is open by now"
    complete(run, "s1", attempt=2)
    assert told_late(run, "s1", tokens(5), attempt=2) is None, "a repetition that equals what is recorded"
    assert late_lines(run) == []


def test_nothing_is_recorded_behind_the_end_of_a_task_nor_of_what_never_was() -> None:
    run = timed_out()
    assert told_late(run, "s1", tokens(5), attempt=3) is None
    assert told_late(run, "s1", kind="failed") is None
    assert told_late(run, "s2", tokens(5)) is None
    complete(run, "s1", attempt=2)
    complete(run, "s2")
    assert run.state.ended
    assert told_late(run, "s1", tokens(5)) is None


@pytest.mark.parametrize(("on_exceeded", "status"), [("block", TaskStatus.BLOCKED), ("fail", TaskStatus.FAILED)])
def test_a_budget_counts_what_is_told_late(on_exceeded: str, status: TaskStatus) -> None:
    run = timed_out(budget={**BUDGET, "on_exceeded": on_exceeded})
    told_late(run, "s1", tokens(101), kind="failed")
    assert run.state.over_budget is not None
    assert run.state.status is status
    complete(run, "s1", attempt=2)
    assert "s2" not in run.state.steps


# ---------------------------------------------------------------- settled


def settled(*usage: UsageLine, kind: Any = "completed") -> Report:
    report = Report(kind=kind, task_id="t", step="s1", attempt=1, worker="w1", result=raw(1), usage=tuple(usage))
    if kind == "failed":
        report.error = ERROR
    settle_facts(linear(1), report, PRICES)
    return report


def test_what_has_no_cost_gets_it_from_the_prices_exactly_and_says_which() -> None:
    (line,) = settled(tokens(1_234_567)).usage
    assert (line.cost, line.currency, line.price, line.prices) == ("18.518505", "USD", "0.000015", "v7")


def test_what_a_handler_told_the_cost_of_is_not_priced() -> None:
    (line,) = settled(tokens(10, cost="0.5", currency="EUR")).usage
    assert (line.cost, line.currency, line.price, line.prices) == ("0.5", "EUR", None, None)


def test_what_the_prices_do_not_know_has_no_cost() -> None:
    (line,) = settled(UsageLine(meter="gpu_s", amount="3")).usage
    assert (line.cost, line.prices) == (None, None)


def test_equal_lines_are_one_and_a_worker_names_no_prices() -> None:
    lines = settled(tokens(1), tokens(2, price="9", prices="mine")).usage
    assert [(one.amount, one.price, one.prices) for one in lines] == [("3", "0.000015", "v7")]


@pytest.mark.parametrize("bad", [UsageLine(meter="Pages", amount="1"), UsageLine(meter="pages", amount="-1")])
def test_what_is_no_exact_amount_fails_a_completed_attempt_for_good(bad: UsageLine) -> None:
    report = settled(tokens(1), bad)
    assert report.error is not None
    assert (report.kind, report.error.type, report.error.retryable, report.usage) == (
        "failed",
        "usage_invalid",
        False,
        (),
    )
    report = settled(tokens(1), bad, kind="failed")
    assert report.error is not None
    assert report.error.type == ERROR.type
    assert "usage was not recorded" in report.error.message


# ---------------------------------------------------------------- the budget


def allow(run: Run, *, cost_max: str | None = None, tokens_max: int | None = None) -> tuple[AnyTaskEvent, ...]:
    return run.do(SetBudget(cost_max=cost_max, tokens_max=tokens_max, at_us=run.now_us))


def test_within_the_budget_nothing_is_different() -> None:
    run = created(Run(linear(2, budget=BUDGET)))
    assert types(complete(run, "s1", tokens(100)))[-1] is StepDispatched


def test_over_it_nothing_more_begins_until_a_person_allows_more() -> None:
    run = created(Run(linear(3, budget=BUDGET)))
    events = complete(run, "s1", tokens(101))
    assert types(events) == [StepStarted, UsageRecorded, StepCompleted, TaskBlocked]
    assert events[-1] == TaskBlocked(reason="budget_exceeded", detail="its budget: 101 tokens of at most 100")
    assert run.owes() == {}
    assert allow(run, tokens_max=201) == (
        TaskBudgetSet(tokens_max=201, goes_on=True),
        StepDispatched(step="s2", attempt=1),
    )
    assert types(complete(run, "s2", tokens(100)))[-1] is StepDispatched, "all of it counts, from the beginning"
    assert types(complete(run, "s3", tokens(1)))[-1] is TaskCompleted, "nothing was left to begin"
    assert run.state.status is TaskStatus.COMPLETED


def test_the_command_that_helps_names_what_was_exceeded() -> None:
    """Of tasks that the recorded words of their budget blocked, whoever recorded them."""
    helps = {
        excess_tokens(Decimal(101), 100): "--tokens-max TOKENS",
        excess_cost(Decimal("2.50"), "1", "USD"): "--cost-max COST",
        excess_running(60.5, 60): "--running-s-max SECONDS",
    }
    for words, option in helps.items():
        assert budget_remedy("t1", words) == f"tasker task budget t1 {option}"
    assert list(helps) == [
        "its budget: 101 tokens of at most 100",
        "its budget: 2.5 USD of at most 1",
        "its budget: its steps ran for 60.5 s of at most 60",
    ]


def test_what_is_allowed_must_be_more_than_was_used_and_there_must_be_a_budget() -> None:
    run = created(Run(linear(2, budget=BUDGET | {"cost_max": "1"})))
    complete(run, "s1", tokens(101))
    for refused in ({"tokens_max": 100}, {"cost_max": "2"}):
        with pytest.raises(StateForbids, match="101 tokens of at most 100"):
            allow(run, **refused)
    assert run.state.status is TaskStatus.BLOCKED
    allow(run, tokens_max=101)
    assert allow(run, tokens_max=101) == ()
    run = created(Run(linear(1)))
    with pytest.raises(StateForbids, match="no budget"):
        allow(run, tokens_max=1)


def test_more_may_be_allowed_ahead() -> None:
    run = created(Run(linear(2, budget=BUDGET)))
    assert allow(run, tokens_max=200) == (TaskBudgetSet(tokens_max=200),)
    assert types(complete(run, "s1", tokens(150)))[-1] is StepDispatched


def test_a_cost_counts_in_the_budgets_currency() -> None:
    run = created(Run(linear(3, budget={"cost_max": "0.30", "currency": "EUR"})))
    complete(run, "s1", tokens(1, cost="9", currency="USD"))
    assert run.state.status is TaskStatus.RUNNING
    complete(run, "s2", tokens(1, cost="0.1", currency="EUR"), tokens(1, cost="0.2", currency="EUR"))
    assert run.state.status is TaskStatus.RUNNING
    run = created(Run(linear(2, budget={"cost_max": "0.30", "currency": "EUR"})))
    events = complete(run, "s1", tokens(1, cost="0.300000000001", currency="EUR"))
    assert events[-1] == TaskBlocked(reason="budget_exceeded", detail="its budget: 0.300000000001 EUR of at most 0.3")


@pytest.mark.parametrize("retry", [NO_WAIT, {"delay_s": 20}])
def test_a_retry_waits_for_the_person_too(retry: dict[str, Any]) -> None:
    run = created(Run(linear(1, budget=BUDGET, retry=retry)))
    events = fail(run, "s1", tokens(101))
    assert types(events)[-2:] == [StepRetryScheduled, TaskBlocked]
    assert run.owes() == {}
    allow(run, tokens_max=1000)
    run.now_us += 25_000_000
    assert run.fire_at("retry:s1:2") == (StepDispatched(step="s1", attempt=2),)


def test_a_part_that_is_given_back_meters_too_and_the_next_waits() -> None:
    run = created(Run(linear(1, budget=BUDGET)))
    command = YieldAttempt(
        step="s1", attempt=1, worker="w1", checkpoint=raw(1), delay_s=0, at_us=run.now_us, usage=(tokens(101),)
    )
    assert types(run.do(command)) == [StepStarted, UsageRecorded, StepYielded, TaskBlocked]
    assert run.owes() == {}
    allow(run, tokens_max=1000)
    assert list(run.owes()) == ["retry:s1:2"]


def test_steps_that_run_may_end_and_what_follows_them_waits() -> None:
    run = created(Run(template(DIAMOND, budget=BUDGET)))
    complete(run, "a")
    run.start("c")
    assert types(complete(run, "b", tokens(101)))[-1] is TaskBlocked
    assert types(complete(run, "c", tokens(1))) == [UsageRecorded, StepCompleted]
    assert run.state.status is TaskStatus.BLOCKED
    assert allow(run, tokens_max=1000) == (
        TaskBudgetSet(tokens_max=1000, goes_on=True),
        StepDispatched(step="d", attempt=1),
    )


def test_offered_attempts_are_taken_back_and_offered_again() -> None:
    run = created(Run(template({"a": [], "b": []}, budget=BUDGET)))
    complete(run, "a", tokens(101))
    assert run.owes() == {}
    report = Report(kind="claim", task_id="t", step="b", attempt=1, worker="w2")
    answer = command_of(run.state, report, at_us=run.now_us, jitter=0)
    assert isinstance(answer, ReportReply)
    assert answer.reason == "gone"
    allow(run, tokens_max=1000)
    assert list(run.owes()) == ["offer:b:1"]


def test_a_list_stops_between_its_items_and_goes_on() -> None:
    run = Run(template({"a": []}, steps={"a": {"each": "input", "max_parallel": 2}}, budget=BUDGET))
    run.create(input=raw([1, 2, 3, 4]))
    assert run.offered() == ["a[0]", "a[1]"]
    assert types(complete(run, "a[0]", tokens(101)))[-1] is TaskBlocked
    complete(run, "a[1]")
    assert run.offered() == []
    allow(run, tokens_max=1000)
    assert run.offered() == ["a[2]", "a[3]"]
    complete(run, "a[2]")
    complete(run, "a[3]")
    assert run.state.status is TaskStatus.COMPLETED


def test_a_step_that_failed_is_retried_once_the_budget_allows_it() -> None:
    run = created(
        Run(template({"a": [], "b": [], "c": ["a"]}, steps={"b": {"retry": {"max_attempts": 1}}}, budget=BUDGET))
    )
    complete(run, "a", tokens(101))
    fail(run, "b")
    assert types(run.retry()) == [StepRetried]
    assert run.state.status is TaskStatus.BLOCKED
    assert run.offered() == []
    dispatched = [event.step for event in allow(run, tokens_max=1000) if isinstance(event, StepDispatched)]
    assert sorted(dispatched) == ["b", "c"]


def test_pause_and_budget_each_hold_the_task_by_themselves() -> None:
    run = created(Run(template({"a": [], "b": ["a"]}, budget=BUDGET)))
    run.start("a")
    run.pause()
    assert types(complete(run, "a", tokens(101))) == [UsageRecorded, StepCompleted]
    assert run.state.status is TaskStatus.PAUSED
    assert types(run.resume()) == [TaskUnpaused, TaskBlocked]
    run.pause()
    assert types(allow(run, tokens_max=1000)) == [TaskBudgetSet]
    assert run.state.status is TaskStatus.PAUSED
    assert types(run.resume()) == [TaskUnpaused, StepDispatched]


def test_a_task_of_which_nothing_is_left_to_begin_completes() -> None:
    run = created(Run(linear(1, budget=BUDGET)))
    assert types(complete(run, "s1", tokens(1000)))[-1] is TaskCompleted
    run = created(Run(template({"a": [], "b": []}, budget=BUDGET)))
    run.start("b")
    assert types(complete(run, "a", tokens(1000)))[-1] is TaskBlocked
    assert types(complete(run, "b")) == [StepCompleted, TaskCompleted]


@pytest.mark.parametrize("on_exceeded", ["block", "fail"])
def test_a_task_is_done_too_when_the_last_item_of_a_list_is(on_exceeded: str) -> None:
    """It failed, or was blocked, with all of its work done: only its list had not been gathered."""
    keys = {"each": "[1, 2]", "on_item_failure": "continue"}
    budget = BUDGET | {"on_exceeded": on_exceeded}
    run = created(Run(template({"a": []}, steps={"a": keys}, budget=budget)))
    complete(run, "a[1]")
    assert types(complete(run, "a[0]", tokens(101)))[-3:] == [StepCompleted, StepGathered, TaskCompleted]
    assert run.result() == [1, 1]

    run = created(Run(template({"a": [], "b": ["a"]}, steps={"a": keys}, budget=budget)))
    complete(run, "a[1]")
    assert StepGathered not in types(complete(run, "a[0]", tokens(101))), "a step is left to begin"
    isolated = {**keys, "on_item_failure": "isolate", "retry": {"max_attempts": 1}}
    run = created(Run(template({"a": []}, steps={"a": isolated}, budget=budget)))
    fail(run, "a[1]")
    assert StepGathered not in types(complete(run, "a[0]", tokens(101))), "an item is left to repair"


def test_a_task_without_a_failed_step_has_nothing_to_retry_and_says_what_helps() -> None:
    run = created(Run(linear(2, budget=BUDGET)))
    complete(run, "s1", tokens(1000))
    with pytest.raises(StateForbids, match="tasker task budget"):
        run.retry()
    with pytest.raises(StateForbids, match="tasker task budget"):
        run.resume()
    with pytest.raises(StateForbids, match="tasker task budget"):
        run.release("s2")


def test_a_blocked_task_is_cancelled_as_any_other() -> None:
    run = created(Run(linear(2, budget=BUDGET)))
    complete(run, "s1", tokens(1000))
    assert types(run.cancel()) == [TaskStopping, TaskCancelled]


def test_a_budget_may_end_the_task() -> None:
    run = created(Run(linear(2, budget=BUDGET | {"on_exceeded": "fail"})))
    events = complete(run, "s1", tokens(101))
    assert types(events) == [StepStarted, UsageRecorded, StepCompleted, TaskStopping, TaskFailed]
    failed = events[-1]
    assert isinstance(failed, TaskFailed)
    assert failed.error is not None
    assert (failed.cause, failed.step, failed.error.type) == ("budget_exceeded", "s1", "budget_exceeded")
    assert "101 tokens" in failed.error.message


@pytest.mark.parametrize(("attempts", "said"), [(2, StepRetryScheduled), (1, StepFailed)])
def test_a_failed_attempt_that_used_too_much_ends_the_task(attempts: int, said: type) -> None:
    run = created(
        Run(
            linear(
                2,
                budget=BUDGET | {"on_exceeded": "fail"},
                retry={"max_attempts": attempts} | (NO_WAIT if attempts > 1 else {}),
            )
        )
    )
    events = types(fail(run, "s1", tokens(101)))
    assert events[:4] == [StepStarted, UsageRecorded, StepAttemptFailed, said]
    assert StepDispatched not in events
    assert events[-1] is TaskFailed
    assert run.state.open == 0


def test_a_paused_task_that_was_done_and_is_given_more_to_do_fails_by_its_budget_when_it_is_resumed() -> None:
    run = created(
        Run(
            template(
                {"a": [], "b": ["a"], "c": []},
                steps={"a": {"retry": {"max_attempts": 1}}, "b": {"join": "all_settled"}},
                budget=BUDGET | {"on_exceeded": "fail"},
            )
        )
    )
    fail(run, "a")
    complete(run, "b")
    run.start("c")
    run.pause()
    assert TaskStopping not in types(complete(run, "c", tokens(101))), "nothing is left to begin"
    run.retry("a")
    assert not run.state.ended
    assert types(run.resume()) == [TaskUnpaused, TaskStopping, StepCancelled, TaskFailed]
    failed = run.events[-1]
    assert isinstance(failed, TaskFailed)
    assert failed.cause == "budget_exceeded"
    assert failed.error is not None
    assert "101 tokens" in failed.error.message


def test_running_steps_have_their_grace_when_a_budget_ends_the_task() -> None:
    run = created(Run(template({"a": [], "b": []}, budget=BUDGET | {"on_exceeded": "fail"})))
    run.start("b")
    events = complete(run, "a", tokens(101))
    assert types(events)[-2:] == [TaskStopping, StepCancelRequested]
    events = complete(run, "b", tokens(1))
    failed = events[-1]
    assert isinstance(failed, TaskFailed)
    assert failed.error is not None
    assert (failed.cause, failed.error.type) == ("budget_exceeded", "budget_exceeded")


def test_what_was_done_is_undone_when_a_budget_ends_the_task_whatever_that_uses() -> None:
    budget = BUDGET | {"on_exceeded": "fail"}
    run = created(Run(template({"a": [], "b": ["a"]}, steps={"a": {"compensate": "undo_a"}}, budget=budget)))
    complete(run, "a", tokens(50))
    events = types(complete(run, "b", tokens(51)))
    assert events[-1] is TaskCompleted, "nothing was left to begin"
    run = created(
        Run(template({"a": [], "b": ["a"], "c": ["b"]}, steps={"a": {"compensate": "undo_a"}}, budget=budget))
    )
    complete(run, "a", tokens(50))
    events = types(complete(run, "b", tokens(51)))
    assert events[-3:] == [TaskStopping, TaskCompensating, StepDispatched]
    assert types(complete(run, "a~undo", tokens(1000)))[-1] is TaskFailed


def test_what_a_budget_holds_is_the_same_after_a_replay() -> None:
    run = created(Run(template(DIAMOND, budget=BUDGET)))
    complete(run, "a", tokens(101))
    assert state_document(run.state)["over_budget"] == "its budget: 101 tokens of at most 100"
    allow(run, tokens_max=500)
    assert "over_budget" not in state_document(run.state)
    assert state_document(run.state)["budget"] == {"cost_max": None, "tokens_max": 500}


def test_a_budget_ends_a_task_of_which_only_a_loop_is_left() -> None:
    run = created(Run(template({"a": []}, steps={"a": {"back_to": "a"}}, budget=BUDGET | {"on_exceeded": "fail"})))
    assert types(complete(run, "a", tokens(101)))[-2:] == [TaskStopping, TaskFailed]
