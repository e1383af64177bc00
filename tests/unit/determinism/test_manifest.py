"""Every guarantee of `docs/explanation/determinism.md` has a test that exists and is never skipped."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

PAGE = ROOT / "docs" / "explanation" / "determinism.md"
TEST = re.compile(r"\[`(?P<name>test_\w+)`\]\((?P<target>[^)]+)\)")
BULLET = re.compile(r"^- .*?(?=^- |\Z)", re.MULTILINE | re.DOTALL)
MAY_SKIP = re.compile(r"\b(skip|skipif|xfail|importorskip|whole)\b")

HELD = {
    "test_results_merge_in_edge_order_whatever_finished_first",
    "test_the_same_commands_give_the_same_bytes_and_the_same_hash",
    "test_results_do_not_depend_on_the_order_of_finishing",
    "test_ten_thousand_instances_have_ten_thousand_ids",
    "test_a_thousand_tasks_at_once_have_one_outcome_a_step",
    "test_killed_workers_lose_nothing",
    "test_a_thousand_tasks_at_once_on_real_servers_have_one_outcome_each",
    "test_a_seq_twice_is_refused",
    "test_the_second_of_three_items_waits_and_nothing_deadlocks",
    "test_random_numbers_are_those_of_the_attempt",
    "test_the_state_merges_in_edge_order_whatever_finished_first",
    "test_a_hundred_signals_at_once_to_one_task_are_all_counted",
}
"""What the page must name; a new guarantee is added here and there."""

RACES = {
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
"""The same of what excludes each other."""

SECTIONS = {"Guarantees": HELD, "Races": RACES}


def section(title: str) -> str:
    return PAGE.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]


def faults_of(name: str, file: Path) -> list[str]:
    """Return why a test does not hold its guarantee."""
    if not file.is_file():
        return [f"{file} is missing"]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    if len(found) != 1:
        return [f"{name} is {len(found)} times in {file}"]
    # Marks of the module or a class count as well as the test's own.
    around = [
        node for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node.targets[0])
    ]
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and found[0] in node.body]
    marks = [*(ast.unparse(one) for one in around), *(ast.unparse(d) for c in classes for d in c.decorator_list)]
    marks += [ast.unparse(one) for one in found[0].decorator_list]
    called = [ast.unparse(one.func) for one in ast.walk(found[0]) if isinstance(one, ast.Call)]
    if MAY_SKIP.search(" ".join([*marks, *called])):
        return [f"{name} may be skipped"]
    return []


@pytest.mark.parametrize("title", SECTIONS)
def test_the_page_names_every_guarantee_and_nothing_else(title: str) -> None:
    assert {link["name"] for link in TEST.finditer(section(title))} == SECTIONS[title]
    assert all(TEST.search(bullet[0]) for bullet in BULLET.finditer(section(title)))


@pytest.mark.parametrize(
    ("title", "name"), [(title, name) for title, names in SECTIONS.items() for name in sorted(names)]
)
def test_a_guarantee_is_held_by_a_test_that_runs(title: str, name: str) -> None:
    [target] = {link["target"] for link in TEST.finditer(section(title)) if link["name"] == name}
    assert faults_of(name, (PAGE.parent / target).resolve()) == []


def test_a_missing_and_a_skipped_test_are_found(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    assert faults_of("test_one", file)
    file.write_text("def test_two(): ...\n")
    assert faults_of("test_one", file)
    file.write_text("@pytest.mark.skip\ndef test_one(): ...\n")
    assert faults_of("test_one", file)
    file.write_text("def test_one():\n    pytest.skip()\n")
    assert faults_of("test_one", file)
    file.write_text("pytestmark = pytest.mark.skipif(True)\ndef test_one(): ...\n")
    assert faults_of("test_one", file)
    file.write_text("def test_one(): ...\n")
    assert faults_of("test_one", file) == []
