"""What goes to stdout: tables for people, JSON for programs. Notes and progress go to stderr.

The form is `table` unless asked otherwise, on a terminal and in a pipe alike: the same command always says
the same. A table in a pipe is plain text that is never cut. `json` is one indented document; `jsonl` is one
line an item, and what endless commands (`log tail --follow`) print for `json` too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from tasker.cli.options import Format

Column = tuple[str, Callable[[Any], object]]
"""A title, and what a row shows below it."""

_STYLES = {
    "completed": "green",
    "running": "cyan",
    "dispatched": "cyan",
    "blocked": "yellow",
    "compensating": "yellow",
    "paused": "yellow",
    "waiting": "yellow",
    "failed": "red",
    "cancelled": "magenta",
}
_INDENT = 2
_GAP = "  "
_FOLDED_MIN = 24
"""Characters of a terminal's line below which the last column is not folded further: the terminal breaks the lines."""


def note(text: str) -> None:
    """Say something to the person, not to the program that reads stdout."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 the one door to stderr


def line(text: str) -> None:
    """Write one line of data."""
    print(text, flush=True)  # noqa: T201 the one door to stdout


def plain(text: str) -> str:
    """Return `text` as a terminal may be given it: what would steer it is written as an escape.

    Messages and stacks come from whoever runs handlers or creates tasks.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


def document(value: object, output: Format) -> None:
    """Write `value` as JSON: indented, or in one line for `jsonl`."""
    data = msgspec.json.encode(value)
    line((data if output == "jsonl" else msgspec.json.format(data, indent=_INDENT)).decode())


def json_value(raw: msgspec.Raw | bytes | None) -> None:
    """Write a user's JSON value, indented, every number as it was recorded."""
    line(msgspec.json.format(bytes(raw or b"null"), indent=_INDENT).decode())


def fields(value: object, pairs: Sequence[tuple[str, object]], output: Format) -> None:
    """Write one thing: as name and value, or as the JSON of `value`."""
    if output != "table":
        document(value, output)
        return
    shown = [(name, _cell(item)) for name, item in pairs if item is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        line(f"{name:<{width}}{_GAP}{text}")


def rows(items: Sequence[object], columns: Sequence[Column], output: Format, *, empty: str = "") -> None:
    """Write many things: as a table, one array, or a line each; `empty` is noted when there are none."""
    if output == "json":
        document(list(items), output)
    elif output == "jsonl":
        for item in items:
            document(item, output)
    elif items:
        _table([[_cell(cell(item)) for _, cell in columns] for item in items], [title for title, _ in columns])
    elif empty:
        note(empty)


@contextmanager
def one_by_one(output: Format) -> Iterator[Callable[[object], None]]:
    """Yield what writes many things as they come: a line each, for `json` together one array.

    Where the body fails the array stays open, so that nobody takes it for the whole.
    """
    if output != "json":
        yield lambda value: document(value, "jsonl")
        return
    before = "["

    def write(value: object) -> None:
        nonlocal before
        line(before)
        before = msgspec.json.encode(value).decode() + ","

    yield write
    line("[]" if before == "[" else before.removesuffix(",") + "\n]")


def on_terminal() -> bool:
    """Say whether a person watches stderr, so that progress may be drawn there."""
    return sys.stderr.isatty()


@contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """Show a line that changes while the body runs, on a terminal only; yields what changes it."""
    if not on_terminal():
        yield lambda _text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as shown:
        yield shown.update


@contextmanager
def progress(text: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with a rate while the body runs, on a terminal only; yields what takes (done, total)."""
    if not on_terminal():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def time_text(at: str | None) -> str | None:
    """Return an RFC 3339 time as tables show it: to the second, in UTC."""
    return f"{at[:10]} {at[11:19]}Z" if at else None


def _table(cells: list[list[str]], titles: list[str]) -> None:
    if sys.stdout.isatty():
        _rich_table(cells, titles)
        return
    widths = [max(len(row[index]) for row in [titles, *cells]) for index in range(len(titles))]
    for row in [[title.upper() for title in titles], *cells]:
        line(_GAP.join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())


def _rich_table(cells: Sequence[Sequence[str]], titles: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [[title.upper() for title in titles], *cells]
    widths = [max(len(row[index]) for row in rows) for index in range(len(titles))]
    console = Console()
    # An id or a time that is broken over lines cannot be copied: only the last column, the words, is folded.
    console.width = max(console.width, sum(widths[:-1]) + len(_GAP) * len(widths[:-1]) + min(widths[-1], _FOLDED_MIN))
    table = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="bold")
    for title in titles[:-1]:
        table.add_column(title.upper(), no_wrap=True)
    table.add_column(titles[-1].upper(), overflow="fold")
    for row in cells:
        table.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in row))
    console.print(table)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "-"
    return plain(str(value)).replace("\n", " ")
