"""The tables of the reference are what the code says."""

from pathlib import Path

import msgspec
import pytest

from scripts.generate_reference import PAGE, PAGES, render
from tasker.errors import TaskerError


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_tables_are_current(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert render(page) == page, "run: python scripts/generate_reference.py"


def test_a_stale_table_is_seen() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert render(page.replace("| `busy` | 429 |", "| `busy` | 430 |")) == page


def test_the_type_of_a_problem_is_made_as_the_page_says() -> None:
    problem = msgspec.json.decode(msgspec.json.encode(TaskerError.leaves["input_invalid"]().problem()))
    assert problem["type"] == "urn:tasker:error:input_invalid"
    assert '"type": "urn:tasker:error:input_invalid"' in PAGE.read_text(encoding="utf-8")
