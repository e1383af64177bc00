"""Lists that every change adds to say each thing once."""

import re
from collections import Counter
from typing import get_args

from tasker.events.messages import CancelAttempt, Report, ReportReply, Work, WorkerSlots
from tasker.events.messages.reports import RefusalReason, ReportKind
from tests.architecture.tree import ROOT

DECISIONS = ROOT / "docs" / "decisions"


def twice(found: list[str]) -> list[str]:
    return [one for one, times in Counter(found).items() if times > 1]


def test_a_term_has_one_meaning() -> None:
    rows = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert twice([row for row in rows if not set(row) <= {"-", " "}]) == []


def test_a_change_is_told_once() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert twice([line for line in lines if line.startswith("- ")]) == []


def test_a_decision_has_a_number_and_a_line_of_its_own() -> None:
    names = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    assert twice([name[:4] for name in names]) == []
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if index.count(f"]({name})") != 1] == []


def test_every_example_is_on_the_page_of_them() -> None:
    page = (ROOT / "docs" / "reference" / "workloads.md").read_text(encoding="utf-8")
    names = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
    assert [name for name in names if page.count(f"](../../examples/{name})") != 1] == []


def test_the_page_of_the_wire_has_all_that_a_worker_reads_and_says() -> None:
    """A worker in another language is written from it: what is not there would be missed without a word."""
    page = (ROOT / "docs" / "reference" / "wire.md").read_text(encoding="utf-8")
    said = set(re.findall(r'[`"](\w+)', page[page.index("## Work") : page.index("## Events")]))
    for message in (Work, Report, ReportReply, WorkerSlots, CancelAttempt):
        assert set(message.__struct_fields__) - said == set(), message.__name__
    assert {*get_args(ReportKind), *get_args(RefusalReason)} - said == set()
