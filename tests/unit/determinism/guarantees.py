"""The tests that hold what is guaranteed, and a plugin of pytest in whose runs none of them is skipped."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import pytest

HELD: Final = frozenset(
    {
        "test_results_merge_in_edge_order_whatever_finished_first",
        "test_the_same_commands_give_the_same_bytes_and_the_same_hash",
        "test_results_do_not_depend_on_the_order_of_finishing",
        "test_ten_thousand_instances_have_ten_thousand_ids",
        "test_a_thousand_tasks_at_once_have_one_outcome_a_step",
        "test_killed_workers_lose_nothing",
        "test_a_thousand_tasks_at_once_on_real_servers_have_one_outcome_each",
        "test_a_seq_twice_is_refused",
        "test_the_second_of_three_items_waits_and_nothing_deadlocks",
        "test_a_queue_of_depth_one_holds_back_new_tasks_and_no_step_of_those_that_run",
        "test_random_numbers_are_those_of_the_attempt",
        "test_the_state_merges_in_edge_order_whatever_finished_first",
        "test_a_hundred_signals_at_once_to_one_task_are_all_counted",
    }
)
"""What `docs/explanation/determinism.md` must name; a new guarantee is added here and there."""

RACES: Final = frozenset(
    {
        "test_a_result_before_the_cancel_wins",
        "test_a_result_behind_the_cancel_is_late",
        "test_a_result_within_the_grace_is_kept_and_the_task_is_cancelled_all_the_same",
        "test_of_a_cancellation_and_a_result_one_wins",
        "test_of_an_answer_and_the_deadline_the_first_decides",
        "test_of_an_approval_and_its_deadline_one_wins",
        "test_a_signal_counts_on_either_side_of_the_start",
        "test_a_signal_that_meets_the_start_of_its_task_is_taken_or_refused_by_name",
        "test_the_start_and_end_of_a_child_race_with_its_parents_cancel",
        "test_a_cancel_that_meets_the_start_or_the_end_of_a_child_is_decided_once",
        "test_one_key_a_hundred_times_at_once_is_one_task",
    }
)
"""The same of what excludes each other."""

MAY_NOT_BE_SKIPPED: Final = "holds a guarantee of docs/explanation/determinism.md, and was skipped"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a test that holds a guarantee as failed when anything skips it: a mark, a fixture, the machine."""
    report = yield
    if report.skipped and getattr(item, "originalname", None) in HELD | RACES:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} {MAY_NOT_BE_SKIPPED}: {report.longrepr}"
        if hasattr(report, "wasxfail"):
            del report.wasxfail  # else it counts as a failure that was expected
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Count a module as an error that skips all of its tests, with one of them among these."""
    report = yield
    if report.skipped and isinstance(collector, pytest.Module):
        text = collector.path.read_text(encoding="utf-8")
        named = sorted(name for name in HELD | RACES if f"def {name}(" in text)
        if named:
            report.outcome = "failed"
            report.longrepr = f"{collector.nodeid}: {', '.join(named)} {MAY_NOT_BE_SKIPPED}: {report.longrepr}"
    return report
