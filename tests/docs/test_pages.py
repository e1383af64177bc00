"""Every fenced block of every page is run, or held against what it is said to be."""

import asyncio
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from scripts.build_site import TUTORIAL
from tasker.embedded._binaries import find_nats
from tests.acceptance.conftest import Service, free_port, running_service
from tests.architecture.tree import ROOT
from tests.docs.pages import Block, blocks_of, pages
from tests.docs.reader import Reader, check_text, matches, values_of
from tests.servers import SharedCluster

CHAPTERS = [ROOT / "docs" / "tutorial" / name for name in TUTORIAL]
OWN_SERVERS = ROOT / "docs" / "howto" / "deploy.md"
"""It begins with servers that are there."""

TEMPLATE = re.compile(r"""Template\(\s*["']([\w-]+)|^name: ([\w-]+)""", re.MULTILINE)
DONE = {"run", "fails", "background", "file", "copy of", "output"}


def is_followed(page: Path) -> bool:
    return page not in CHAPTERS and page != OWN_SERVERS and any(block.kind in DONE for block in blocks_of(page))


def begins_with_up(page: Path) -> bool:
    """Say whether a page starts a stack of its own; else it takes for granted that one runs."""
    return any(block.kind == "background" and block.text.startswith("tasker up") for block in blocks_of(page))


def named(found: list[Path]) -> list:
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in found]


def plain_environment() -> dict[str, str]:
    """Return the environment of somebody who has set nothing of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TASKER_", "PYTEST_"))}


@pytest.fixture(scope="session")
def shared(cluster: SharedCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that pages share; each runs the workers that it needs."""
    with running_service(cluster, tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture
def service(request: pytest.FixtureRequest, cluster: SharedCluster, tmp_path: Path) -> Iterator[Service]:
    """The shared one; one of its own for a page whose templates another page has, too: it would meet their tasks."""
    if not templates_of(request.getfixturevalue("page")) & taken_twice():
        yield request.getfixturevalue("shared")
        return
    (tmp_path / "service").mkdir()
    with running_service(cluster, tmp_path / "service") as own:
        yield own


def templates_of(page: Path) -> set[str]:
    """Return the names of the templates that a page makes and has run by a worker."""
    blocks = blocks_of(page)
    found = "\n".join(block.text for block in blocks) if any(one.kind == "background" for one in blocks) else ""
    return {one or other for one, other in TEMPLATE.findall(found)}


@cache
def taken_twice() -> set[str]:
    """Return the names of templates that several pages make."""
    times = Counter(name for page in pages() if is_followed(page) for name in templates_of(page))
    return {name for name, count in times.items() if count > 1}


@pytest.mark.parametrize("page", named(pages()))
def test_each_block_says_what_it_is_and_holds(page: Path) -> None:
    blocks = blocks_of(page)
    assert [block.fault for block in blocks if block.fault] == []
    for block in blocks:
        if block.kind not in DONE:
            check_text(block)


@pytest.mark.parametrize("page", named([page for page in pages() if is_followed(page) and not begins_with_up(page)]))
@pytest.mark.timeout(240)
def test_a_page_can_be_followed(service: Service, page: Path, tmp_path: Path) -> None:
    # Only the prefix differs from what a reader has: the tests of a run share one nats-server.
    follow([page], tmp_path, service.environ, {'"tasker.default.': f'"{service.nats_prefix}.default.'})


@pytest.mark.parametrize(
    "chapters",
    [
        pytest.param(CHAPTERS, id="tutorial"),
        *(
            pytest.param([page], id=page.relative_to(ROOT).as_posix())
            for page in pages()
            if is_followed(page) and begins_with_up(page)
        ),
    ],
)
@pytest.mark.timeout(300)
def test_pages_that_start_everything_can_be_followed(chapters: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    follow(chapters, folder, plain_environment() | {"TASKER_DATA": str(folder / "data")})


def follow(chapters: list[Path], folder: Path, environ: dict[str, str], replaced: dict[str, str] | None = None) -> None:
    """Do what the pages say, one after the other, in one folder."""
    with Reader(folder, environ, replaced) as reader:
        for block in (block for page in chapters for block in blocks_of(page)):
            if block.kind in DONE:
                reader.follow(block)


@pytest.fixture
def deployed_nats(tmp_path: Path) -> Iterator[str]:
    """The URL of a nats-server on deploy/nats.conf; only its ports are others."""
    port, log = free_port(), tmp_path / "nats.log"
    with log.open("wb") as said:
        server = subprocess.Popen(
            [
                str(find_nats(None)),
                *("-c", str(ROOT / "deploy" / "nats.conf"), "-a", "127.0.0.1"),
                *("-p", str(port), "-m", str(free_port())),
            ],
            env={"NATS_PASSWORD": "changeMe", "NATS_STORE": str(tmp_path / "nats")},
            stderr=said,
        )
    try:
        while b"Server is ready" not in log.read_bytes():
            assert server.poll() is None, log.read_text()
            time.sleep(0.02)
        yield f"nats://tasker:changeMe@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.timeout(240)
def test_own_servers_can_be_deployed_on(cluster: SharedCluster, deployed_nats: str, tmp_path: Path) -> None:
    dsn = asyncio.run(cluster.create_empty_database())
    replaced = {
        "postgresql://tasker:secret@db.internal/tasker": dsn,
        "nats://tasker:secret@nats.internal:4222": deployed_nats,
        "8080": str(free_port()),
    }
    try:
        follow([OWN_SERVERS], tmp_path, plain_environment(), replaced)
    finally:
        asyncio.run(cluster.drop_database(dsn))


# ---- the checks see what they are for


def page_with(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def block_with(tmp_path: Path, text: str) -> Block:
    (block,) = blocks_of(page_with(tmp_path, text))
    return block


@pytest.mark.parametrize(
    "text",
    [
        "```text\nwhat is this\n```\n",
        "```\nnameless\n```\n",
        "<!-- shown: because -->\n```sh\nrm -rf /\n```\n",
        "<!-- output -->\n```python\nprint()\n```\n",
        "<!-- file -->\n```python\nprint()\n```\n",
    ],
)
def test_a_block_that_nobody_vouches_for_is_refused(tmp_path: Path, text: str) -> None:
    assert "page.md:" in block_with(tmp_path, text).fault


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"a": 1,}\n```\n',
        "```yaml\na: [\n```\n",
        "```toml\na = \n```\n",
        '<!-- json of: TaskCreate -->\n```json\n{"input": 1}\n```\n',
        "<!-- template -->\n```yaml\nname: x\n```\n",
        "<!-- same as: examples/hello.py -->\n```python\nimport antigravity\n```\n",
    ],
)
def test_a_false_block_is_found(tmp_path: Path, text: str) -> None:
    with pytest.raises(Exception, match=r".+"):
        check_text(block_with(tmp_path, text))


@pytest.mark.parametrize("text", ["```sh\nfalse\n```\n", "```python\nraise SystemExit(3)\n```\n"])
def test_a_block_that_fails_is_found(tmp_path: Path, text: str) -> None:
    with Reader(tmp_path, plain_environment()) as reader, pytest.raises(AssertionError, match=r"page\.md:1 ended with"):
        reader.follow(block_with(tmp_path, text))


def test_other_output_than_shown_is_found(tmp_path: Path) -> None:
    ran, wrong, right = blocks_of(
        page_with(
            tmp_path,
            "```sh\nname=Ada; echo hello $name\n```\n<!-- output -->\n```text\nhello Bob\n```\n"
            "<!-- output -->\n```text\nhello ...\n```\n",
        )
    )
    with Reader(tmp_path, plain_environment()) as reader:
        reader.follow(ran)
        reader.follow(right)
        with pytest.raises(AssertionError, match="hello Bob"):
            reader.follow(wrong)


def test_what_a_block_sets_is_there_in_the_next(tmp_path: Path) -> None:
    first, second = blocks_of(page_with(tmp_path, "```sh\nname='A da'\n```\n\n```sh\ntest \"$name\" = 'A da'\n```\n"))
    with Reader(tmp_path, plain_environment()) as reader:
        reader.follow(first)
        reader.follow(second)


def test_a_file_may_be_shown_in_parts(tmp_path: Path) -> None:
    parts = blocks_of(
        page_with(
            tmp_path,
            "<!-- file: part.py -->\n```python\na = 1\n```\n<!-- file: part.py -->\n```python\nb = a\n```\n",
        )
    )
    with Reader(tmp_path, plain_environment()) as reader:
        for part in parts:
            reader.follow(part)
    assert (tmp_path / "part.py").read_text() == "a = 1\n\n\nb = a\n"


def test_dots_stand_for_anything_and_nothing_else_does() -> None:
    assert matches("a ... c\n...\nz", "a  b c\n\nx\ny\nz\n")
    assert not matches("a ... c", "a b d")
    assert not matches("a.c", "abc")


def test_json_values_may_follow_each_other() -> None:
    assert values_of('{"a": 1}\n[2]\n') == [{"a": 1}, [2]]
