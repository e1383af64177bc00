"""The site builds, is whole, and needs nobody else."""

import re
import shutil
from pathlib import Path

import pytest

from scripts.build_site import build
from tests.architecture.tree import ROOT

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|embed|object)\b[^>]*?\b(?:src|data)=["']?(?P<src>[^"'\s>]+)"""
    r"""|<link\b(?![^>]*rel=["']?(?:canonical|alternate|next|prev))[^>]*?\bhref=["']?(?P<href>[^"'\s>]+)"""
    r"""|url\(["']?(?P<url>[^)"']+)""",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("build")
    done = build(ROOT, into)
    assert done.returncode == 0, done.stdout + done.stderr
    return into / "site"


def test_every_page_is_there(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    built = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    wanted = {
        (page.with_name("index.md") if page.name == "README.md" else page).with_suffix("").as_posix() for page in pages
    }
    assert wanted <= built


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    found = set()
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        for match in LOADED.finditer(path.read_text(encoding="utf-8")):
            target = match["src"] or match["href"] or match["url"]
            if re.match(r"(https?:)?//", target):
                found.add(f"{path.relative_to(site)}: {target}")
    assert found == set()


def test_a_promise_leads_to_the_test_that_holds_it(site: Path) -> None:
    page = (site / "explanation" / "promises.html").read_text(encoding="utf-8")
    assert 'href="../sources/tests/acceptance/test_faults.py.html"' in page
    source = (site / "sources" / "tests" / "acceptance" / "test_faults.py.html").read_text(encoding="utf-8")
    assert "test_nats_may_lose_everything" in source


@pytest.mark.parametrize("target", ["nowhere.md", "own.md#no-such-heading"])
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, target: str) -> None:
    root = tmp_path / "checkout"
    (root / "docs").mkdir(parents=True)
    shutil.copyfile(ROOT / "zensical.toml", root / "zensical.toml")
    (root / "docs" / "index.md").write_text(f"# A page\n\n[a link]({target})\n", encoding="utf-8")
    (root / "docs" / "own.md").write_text("# Another\n", encoding="utf-8")
    done = build(root, tmp_path / "build")
    assert done.returncode != 0
    assert "does not exist" in done.stdout + done.stderr
