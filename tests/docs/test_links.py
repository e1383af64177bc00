"""The pages point at what is there, and are about this project alone."""

import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, project_files

PAGES = [path for path in project_files() if path.suffix == ".md"]
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
TEST = re.compile(r"\[`(?P<name>test_\w+)`\]\((?P<target>[^)]+)\)")


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for link in LINK.finditer(text):
        target, anchor = link["target"], link["anchor"]
        if ":" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and file.is_file() and anchor not in anchors_of(file)):
            broken.append(link[0])
    assert broken == []


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_a_named_test_is_in_the_file_it_points_to(page: Path) -> None:
    missing = [
        link[0]
        for link in TEST.finditer(page.read_text(encoding="utf-8"))
        if f"def {link['name']}(" not in (page.parent / link["target"]).read_text(encoding="utf-8")
    ]
    assert missing == []


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
