"""The tables of the reference are what the code says."""

import re
from pathlib import Path

import msgspec
import pytest

from scripts.generate_reference import ERRORS_PAGE, PAGE, PAGES, TABLES, render
from tasker.errors import TaskerError


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_is_generated_is_current(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert render(page) == page, "run: python -m scripts.generate_reference"


def test_everything_that_can_be_generated_stands_on_a_page() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert [name for name in TABLES if f"<!-- generated: {name} -->" not in pages] == []


def test_a_stale_table_is_seen() -> None:
    page = ERRORS_PAGE.read_text(encoding="utf-8")
    assert render(page.replace("| `busy` | 429 |", "| `busy` | 430 |")) == page


def test_every_argument_of_every_command_is_explained_and_every_usage_names_its_options() -> None:
    page = ERRORS_PAGE.with_name("cli.md").read_text(encoding="utf-8")
    assert re.findall(r"^\* `[^`]*`: *(?:\*.*)?$", page, re.MULTILINE) == []
    assert "\ntasker pause --reason STR [OPTIONS] SCOPE [ARGS]\n" in page
    usages = re.findall(r"^tasker (?:[a-z][a-z-]* )+(.*\[OPTIONS\].*)$", page, re.MULTILINE)
    assert len(usages) > 50
    assert [usage for usage in usages if not re.match(r"(--[a-z-]+ [^ ]+ )*\[OPTIONS\]", usage)] == []


def test_the_type_of_a_problem_is_made_as_the_page_says() -> None:
    problem = msgspec.json.decode(msgspec.json.encode(TaskerError.leaves["input_invalid"]().problem()))
    assert problem["type"] == "urn:tasker:error:input_invalid"
    assert '"type": "urn:tasker:error:input_invalid"' in PAGE.read_text(encoding="utf-8")
