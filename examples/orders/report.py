"""What the demo shows: live progress, the summary, and where to look further."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import rich.progress
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from examples.orders.stack import DemoStack
from examples.orders.submitting import Row
from examples.orders.tally import Tally
from tasker.errors import TaskerError

TICK_S = 0.2
LINE_S = 2.0
_NUMBER = re.compile(r"^-?\d+ ")
"""What differs from order to order; the rest of a detail is the reason."""


class Progress:
    """A bar on a terminal, a line each two seconds elsewhere."""

    def __init__(self, console: Console, tally: Tally, *, of: int) -> None:
        self._console = console
        self._tally = tally
        self._of = of
        self._started_s = time.monotonic()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("  orders"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[rate]}"),
            rich.progress.TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._row = self._bar.add_task("orders", total=of, rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        self._ticker.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._ticker.join()
        self._show()
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(f"  {text}")

    def _tick(self) -> None:
        line_due_s = self._started_s + LINE_S
        while not self._over.wait(TICK_S):
            if self._console.is_terminal:
                self._show()
            elif time.monotonic() >= line_due_s:
                line_due_s += LINE_S
                self._show()

    def _show(self) -> None:
        settled, elapsed_s = self._tally.settled, time.monotonic() - self._started_s
        rate = f"{self._tally.events} events"
        if self._console.is_terminal:
            self._bar.update(self._row, completed=settled, rate=rate)
        else:
            self._console.print(f"  {elapsed_s:5.1f} s  {settled:4} of {self._of} orders  {rate}")


def print_summary(
    console: Console,
    rows: Sequence[Row],
    tally: Tally,
    verified: dict[str, Any],
    *,
    job_s: float,
    recovery_s: float,
) -> None:
    """Print what became of the rows, and how fast."""
    stories = tally.stories.values()
    states = Counter(story.state for story in stories)
    refused = Counter(_reason(row.verdict) for row in rows if isinstance(row.verdict, TaskerError))
    failed = Counter(story.errors[-1] for story in stories if story.state == "failed" and story.errors)
    undone = sum(bool(story.undone) for story in stories)
    latencies_s = sorted(story.settled_s - story.created_s for story in stories if story.state == "completed")
    attempts = sum(story.attempts.total() for story in stories)

    outcomes = Table(title=f"{len(rows)} orders", title_justify="left", title_style="bold")
    outcomes.add_column("outcome")
    outcomes.add_column("orders", justify="right")
    outcomes.add_column("why")
    for state, count in sorted(states.items()):
        why = ", ".join(f"{number} x {reason}" for reason, number in failed.items()) if state == "failed" else ""
        outcomes.add_row(state, str(count), escape(why))
    for reason, count in refused.most_common():
        outcomes.add_row("refused", str(count), escape(reason))
    console.print(outcomes)

    figures = Table(show_header=False)
    figures.add_column("what")
    figures.add_column("figure", justify="right")
    figures.add_column("note")
    figures.add_row("steps completed", f"{sum(story.completed.total() for story in stories):,}", "")
    figures.add_row("attempts", f"{attempts:,}", "")
    figures.add_row("retries", f"{sum(story.retries for story in stories):,}", "")
    figures.add_row("undone", f"{undone:,} orders", "stock released, then refunded")
    figures.add_row("events", f"{tally.events:,}", "each seen once over NATS")
    figures.add_row("time", f"{job_s:.1f} s", "from the first order to the last, the kill included")
    figures.add_row("without service", f"{recovery_s:.1f} s", "from the kill to the next recorded event")
    figures.add_row("throughput", f"{len(stories) / job_s:,.0f} tasks/s", f"{attempts / job_s:,.0f} attempts/s")
    figures.add_row("latency of a task", f"p50 {_quantile(latencies_s, 0.5) * 1000:,.0f} ms", "created to completed")
    figures.add_row("", f"p99 {_quantile(latencies_s, 0.99) * 1000:,.0f} ms", "the kill included")
    green = verified["exit_code"] == 0
    figures.add_row("log verify", "[green]green[/]" if green else "[bold red]red[/]", escape(_verify_note(verified)))
    console.print(figures)


def print_further(console: Console, stack: DemoStack, *, keep: bool) -> None:
    """Print where to look further."""
    console.print("look further:")
    if not keep:
        console.print("  its data stays until the next demo; this starts it again:")
        console.print(f"  {stack.command('up')}", markup=False)
    else:
        console.print(f"  {stack.http_url}/v1/tasks?state=failed", markup=False)
        console.print(f"  {stack.http_url}/v1/stats", markup=False)
    for words in (
        ("task", "list", "--state", "failed"),
        ("dlq", "list"),
        ("log", "tail", "--from", "start", "--limit", "20"),
        ("log", "verify"),
    ):
        console.print(f"  {stack.command(*words)}", markup=False)
    console.print(f"  log of the service: {stack.log_file}", markup=False)


def _reason(error: object) -> str:
    if not isinstance(error, TaskerError):
        return ""
    if not error.errors:
        return f"{error.code}: {error.detail.partition(':')[0]}"
    first = error.errors[0]
    return f"{error.code}: {_NUMBER.sub('', first.detail)}, at {first.pointer or 'the order itself'}"


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def _verify_note(verified: dict[str, Any]) -> str:
    if "events_per_s" not in verified:
        return str(verified.get("stderr", ""))[-80:]
    counts = f"{verified['events']:,} events, {verified['tasks']:,} tasks, {verified['rows']:,} rows of views"
    return f"{counts}; {verified['events_per_s']:,.0f} events/s"
