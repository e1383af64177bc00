"""`make demo`: the main job, from nothing to a verified log, with a kill -9 in the middle.

Starts `tasker up` on data of its own, submits every row of orders.jsonl over NATS, kills the service when 40 % of
the orders are done, lets it come back, and holds what was recorded, shown and done against what the file implies
(`expected.py`): also the orders that fail when they are paid, and are undone. Exit code 0: every number is right.

    make demo
    make demo KEEP=1          stays up until Ctrl-C
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from examples.orders.checking import Mismatches, check_all
from examples.orders.expected import expected
from examples.orders.report import Progress, print_further, print_summary
from examples.orders.stack import DemoStack, DidNotStart
from examples.orders.submitting import Row, submit_all
from examples.orders.tally import Tally
from tasker import TaskerClient
from tasker.errors import TaskerError

HERE = Path(__file__).resolve().parent
KILL_SHARE = 0.4
RECOVERY_S_MAX = 60.0
JOB_S_MAX = 180.0

console = Console(highlight=False, soft_wrap=True)


async def job(stack: DemoStack, client: TaskerClient, rows: list[Row]) -> Mismatches:
    """Do the main job on a stack that is ready; returns what is not as the file implies."""
    tally = Tally()
    to_settle = sum(row.expected.outcome != "refused" for row in rows)
    async with asyncio.timeout(JOB_S_MAX), client.subscribe(namespace="shop", template="order_fulfillment") as events:
        following = asyncio.create_task(tally.follow(events), name="follow")
        with Progress(console, tally, of=to_settle) as progress:
            started_s = time.monotonic()
            submitting = asyncio.create_task(submit_all(client, stack.nats_url, rows, tally), name="submit")
            await tally.until(round(to_settle * KILL_SHARE))
            progress.say(
                f"[bold red]kill -9[/] of the service: {stack.kill_service()} processes, {tally.settled} orders done"
            )
            recovery_s = await _recovered(tally)
            progress.say(f"[bold green]recovered[/] {recovery_s:.1f} s later: it was started again and goes on")
            await submitting
            await tally.until(to_settle)
            job_s = time.monotonic() - started_s
        await tally.quiet()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    console.print(f"checking the log: {stack.command('log', 'verify')}")
    verified = await stack.verify()
    mismatches = await check_all(client, rows, tally, stack.partners_file, verified)
    print_summary(console, rows, tally, verified, job_s=job_s, recovery_s=recovery_s)
    return mismatches


async def _recovered(tally: Tally) -> float:
    """Return how long nothing new was recorded: until the first event with a time after the kill."""
    killed_s, before_s = time.time(), time.monotonic()
    async with asyncio.timeout(RECOVERY_S_MAX):
        await tally.until_recorded_after(killed_s)
    return time.monotonic() - before_s


async def run(stack: DemoStack, *, keep: bool) -> int:
    """Run the demo; returns the exit code."""
    rows = [Row(number, line, expected(line)) for number, line in enumerate(_lines(), start=1)]
    console.print(f"starting PostgreSQL, nats-server, the service and a worker in {stack.folder}")
    console.print(f"  their log: {stack.log_file}")
    started_s = time.monotonic()
    await stack.start()
    console.print(f"  ready after {time.monotonic() - started_s:.1f} s: {stack.http_url}")
    console.print(f"submitting {len(rows)} orders over NATS")
    async with TaskerClient(stack.nats_url, stack.http_url, environ={}, timeout_s=60.0) as client:
        mismatches = await job(stack, client, rows)
    for mismatch in mismatches.first(10):
        console.print(f"[bold red]wrong[/] {escape(mismatch)}")
    print_further(console, stack, keep=keep)
    if mismatches:
        console.print(f"[bold red]{len(mismatches)} of {mismatches.checked} checks failed[/]")
        return 1
    console.print(f"[bold green]all {mismatches.checked} checks hold[/]: every order ended as the file implies")
    return 0


def stay(stack: DemoStack) -> None:
    """Return at Ctrl-C."""
    console.print("it stays up until Ctrl-C")
    with contextlib.suppress(KeyboardInterrupt):
        stack.wait()
    console.print("stopping")


def _lines() -> list[str]:
    return (HERE / "orders.jsonl").read_text(encoding="utf-8").splitlines()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM into what Ctrl-C does, so that nothing is left running."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> int:
    with _ended_by_signals(), DemoStack(HERE / "orders.py") as stack:
        keep = os.environ.get("KEEP", "") not in ("", "0")
        try:
            code = asyncio.run(run(stack, keep=keep))
        except KeyboardInterrupt:
            console.print("stopping")
            return 130
        except (DidNotStart, TaskerError, TimeoutError) as error:
            console.print(f"[bold red]the demo did not come through[/]: {str(error) or 'it took too long'}")
            console.print(f"the end of {stack.log_file}:\n{stack.log_end()}", markup=False)
            return 1
        if keep:
            stay(stack)
        return code


if __name__ == "__main__":
    sys.exit(main())
