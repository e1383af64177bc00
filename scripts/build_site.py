"""Builds the documentation site into build/site, and fails on a link that leads nowhere.

    python scripts/build_site.py

The pages of docs/ are staged as they are. What they link to outside of docs/ (a test, an example, the changelog)
comes along as a page of its own, so that the site needs no repository host; its links are rewritten to that page.
The navigation is what lies in the folders: a page that is there is in it.
"""  # noqa: INP001 - a folder of scripts

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
BUILD: Final = ROOT / "build"
SECTIONS: Final = {
    "tutorial": "Tutorial",
    "howto": "How to",
    "reference": "Reference",
    "explanation": "Explanation",
    "decisions": "Decisions",
}
TUTORIAL: Final = ("first-task.md", "own-workflow.md", "test-it.md", "break-it.md")
_SOURCES: Final = "sources"
_LANGUAGES: Final = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".sql": "sql", ".json": "json"}
_LINK = re.compile(r"(?P<lead>\[[^\]\n]*\]\()(?P<target>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^# (.+)$", re.MULTILINE)


class Stage:
    """A folder that takes pages with what they link to."""

    def __init__(self, docs: Path, folder: Path) -> None:
        self.docs = docs
        self.root = docs.parent
        self.folder = folder
        self._staged: set[Path] = set()

    def fill(self) -> None:
        """Stage every file of docs/, and all that their links reach in the checkout."""
        for file in sorted(self.docs.rglob("*")):
            if file.is_file():
                self.add(file)

    def add(self, file: Path) -> None:
        """Stage one file of the checkout."""
        if file in self._staged:
            return
        self._staged.add(file)
        place = self.folder / self.place_of(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            place.write_text(self._listing(file), encoding="utf-8")
        elif file.suffix == ".md":
            place.write_text(self._page(file), encoding="utf-8")
        elif file.is_relative_to(self.docs):
            shutil.copyfile(file, place)
        else:
            place.write_text(_source_page(file.relative_to(self.root), file), encoding="utf-8")

    def place_of(self, file: Path) -> PurePosixPath:
        """Return where a file of the checkout stands in the site."""
        if file.is_relative_to(self.docs):
            inside = PurePosixPath(file.relative_to(self.docs).as_posix())
            # A section's own page is its index.
            return inside.with_name("index.md") if inside.name == "README.md" else inside
        inside = PurePosixPath(_SOURCES, file.relative_to(self.root).as_posix())
        if file.is_dir():
            return inside / "index.md"
        return inside if inside.suffix == ".md" else inside.with_name(f"{inside.name}.md")

    def _page(self, file: Path) -> str:
        text = file.read_text(encoding="utf-8")
        pieces, at = [], 0
        for fence in _FENCED.finditer(text):
            pieces += [self._linked(file, text[at : fence.start()]), fence[0]]
            at = fence.end()
        return "".join([*pieces, self._linked(file, text[at:])])

    def _linked(self, file: Path, text: str) -> str:
        here = self.place_of(file).parent

        def rewritten(link: re.Match[str]) -> str:
            target = Path(os.path.normpath(file.parent / link["target"]))
            if not target.exists() or not target.is_relative_to(self.root):
                return link[0]  # the build says that it leads nowhere
            if not target.is_relative_to(self.docs):
                self.add(target)
            place = os.path.relpath(self.place_of(target), here)
            return f"{link['lead']}{PurePosixPath(place)}{link['anchor'] or ''})"

        return _LINK.sub(rewritten, text)

    def _listing(self, folder: Path) -> str:
        lines = [f"# {folder.relative_to(self.root).as_posix()}/", ""]
        for file in sorted(folder.iterdir()):
            if file.is_file():
                self.add(file)
                place = os.path.relpath(self.place_of(file), self.place_of(folder).parent)
                lines.append(f"- [{file.name}]({PurePosixPath(place)})")
        return "\n".join([*lines, ""])


def _source_page(name: Path, file: Path) -> str:
    text = file.read_text(encoding="utf-8", errors="replace")
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"# {name.as_posix()}\n\n{fence}{_LANGUAGES.get(file.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


def navigation(docs: Path) -> list[dict[str, object]]:
    """Return the navigation: the pages on top, then a section a folder, by title."""
    top = [docs / "index.md", docs / "glossary.md", docs / "style.md"]
    found: list[dict[str, object]] = [{title_of(page): page.name} for page in top[:1] if page.exists()]
    for folder, title in SECTIONS.items():
        pages = [page for page in (docs / folder).glob("*.md") if page.name != "README.md"]
        entries: list[object] = []
        if (docs / folder / "README.md").exists():
            entries.append(f"{folder}/index.md")
        entries += [{title_of(page): f"{folder}/{page.name}"} for page in sorted(pages, key=_place_in_section)]
        if entries:
            found.append({title: entries})
    found += [{title_of(page): page.name} for page in top[1:] if page.exists()]
    return found


def _place_in_section(page: Path) -> tuple[int, str]:
    """Return what sorts pages: chapters follow each other, decisions are numbered, others are found by their titles."""
    if page.parent.name == "tutorial" and page.name in TUTORIAL:
        return TUTORIAL.index(page.name), ""
    return len(TUTORIAL), page.name if page.parent.name == "decisions" else title_of(page)


def title_of(page: Path) -> str:
    """Return a page's first heading."""
    heading = _HEADING.search(page.read_text(encoding="utf-8"))
    return heading[1].replace("`", "") if heading else page.stem


def build(root: Path = ROOT, into: Path = BUILD) -> subprocess.CompletedProcess[str]:
    """Stage and build the site of the checkout at `root` into `into`/site; a bad link or anchor is a failure."""
    docs = root / "docs"
    shutil.rmtree(into / "site-src", ignore_errors=True)
    into.mkdir(parents=True, exist_ok=True)
    Stage(docs, into / "site-src").fill()
    settings = (root / "zensical.toml").read_text(encoding="utf-8")
    config = into / "zensical.toml"
    config.write_text(settings.replace("nav = []", f"nav = {_toml(navigation(docs))}"), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(config)],
        cwd=into,
        capture_output=True,
        text=True,
        check=False,
    )


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)


def main() -> int:
    """Build the site of this checkout."""
    done = build()
    sys.stderr.write(done.stdout + done.stderr)
    if done.returncode == 0:
        sys.stderr.write(f"the site: {(BUILD / 'site' / 'index.html').relative_to(ROOT)}\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
