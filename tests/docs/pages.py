"""The fenced blocks of the pages, and what each of them is.

A comment right before a block says what it is, `<!-- kind -->` or `<!-- kind: argument -->`; each kind is checked in
its own way, so that nothing on a page is merely claimed.

    (none)      sh, python: is run in the page's folder; json, yaml, toml: is parsed
    fails: N    sh: is run, and ends with the exit code N
    background  sh: runs until the page ends, or until the same command is started again; the next block waits for it
    file: NAME  is written into the page's folder; a second one of that name is added at its end
    copy of: P  is, word for word, the file P of the checkout, and is written into the page's folder at that place
    same as: P  is, word for word, what the file P of the checkout says, or a part of it
    output      is what the block before printed; `...` stands for anything
    json of: T  each value is a T, a struct of `tasker.events.messages`
    template    yaml: is a template without faults
    shown: WHY  is not run, for the reason given

What stands between `<!-- generated: ... -->` and `<!-- end -->` was written by scripts/generate_reference.py, whose
own test says whether it is current.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.architecture.tree import ROOT, project_files

KINDS = {
    "run": ("sh", "python"),
    "fails": ("sh",),
    "background": ("sh",),
    "file": ("python", "yaml", "toml", "json", "text", "sh"),
    "copy of": ("python", "yaml"),
    "same as": ("python", "yaml", "toml", "ini", "sh", "text", "dockerfile", "nginx"),
    "output": ("text", "json"),
    "json of": ("json",),
    "parse": ("json", "yaml", "toml"),
    "template": ("yaml",),
    "shown": ("sh", "python", "text", "sql", "dockerfile", "yaml", "toml", "ini", "json"),
    "generated": ("sh", "python", "text", "console", "json", "yaml", "toml"),
}
"""What a block may be, and in which languages."""

_DEFAULTS = {"sh": "run", "python": "run", "json": "parse", "yaml": "parse", "toml": "parse"}
_WITH_ARGUMENT = {"fails", "file", "copy of", "same as", "json of", "shown"}
_REASON_WORDS_MIN = 4
_COMMENT = re.compile(r"<!--\s*(?P<kind>[a-z][a-z ]*?)(?::\s*(?P<argument>.+?))?\s*-->\s*\Z", re.DOTALL)
_GENERATED = re.compile(r"<!-- generated: \S+ -->")
_NO_PAGES = ("CHANGELOG.md", "tests/")


class Block(msgspec.Struct, frozen=True):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    kind: str
    argument: str
    text: str
    fault: str = ""
    """What keeps it from being checked: nobody says what it is, or it cannot be that."""

    @property
    def place(self) -> str:
        """Where it stands, as an editor opens it."""
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name}:{self.line}"


def pages() -> list[Path]:
    """Return the project's pages."""
    found = [path for path in project_files() if path.suffix == ".md"]
    return [path for path in found if not path.relative_to(ROOT).as_posix().startswith(_NO_PAGES)]


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    found = []
    generated = False
    before: Token | None = None
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            generated = (generated or bool(_GENERATED.search(token.content))) and "<!-- end -->" not in token.content
        elif token.type == "fence":
            assert token.map is not None
            said = _COMMENT.search(before.content) if before is not None and before.type == "html_block" else None
            found.append(_block(page, token.map[0] + 1, token, said, generated=generated))
        before = token
    return found


def _block(page: Path, line: int, token: Token, said: re.Match[str] | None, *, generated: bool) -> Block:
    language = token.info.split()[0] if token.info.split() else ""
    kind, argument = _DEFAULTS.get(language, ""), ""
    if generated:
        kind = "generated"
    elif said is not None and said["kind"] in KINDS:
        kind, argument = said["kind"], " ".join((said["argument"] or "").split())
    block = Block(page, line, language, kind, argument, token.content)
    return msgspec.structs.replace(block, fault=_fault(block))


def _fault(block: Block) -> str:
    language = block.language or "nameless"
    if block.kind not in KINDS:
        return f"{block.place}: say what this {language} block is: <!-- kind: argument -->"
    if block.language not in KINDS[block.kind]:
        return f"{block.place}: a {language} block cannot be of the kind {block.kind!r}"
    if (block.kind in _WITH_ARGUMENT) != bool(block.argument):
        return f"{block.place}: {block.kind!r} {'needs an' if block.kind in _WITH_ARGUMENT else 'takes no'} argument"
    if block.kind == "shown" and len(block.argument.split()) < _REASON_WORDS_MIN:
        return f"{block.place}: why is it not run? {block.argument!r} is no reason"
    return ""
