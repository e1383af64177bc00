"""The tables of the reference are what the code says."""

import msgspec

from scripts.generate_reference import PAGE, render
from tasker.errors import TaskerError


def test_the_tables_are_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert render(page) == page, "run: python scripts/generate_reference.py"


def test_a_stale_table_is_seen() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert render(page.replace("| `busy` | 429 |", "| `busy` | 430 |")) == page


def test_the_type_of_a_problem_is_made_as_the_page_says() -> None:
    problem = msgspec.json.decode(msgspec.json.encode(TaskerError.leaves["input_invalid"]().problem()))
    assert problem["type"] == "urn:tasker:error:input_invalid"
    assert '"type": "urn:tasker:error:input_invalid"' in PAGE.read_text(encoding="utf-8")
