"""Holding what was answered, recorded, shown and done against what the file implies, row by row."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from examples.orders.expected import Expected
from examples.orders.submitting import Row
from examples.orders.tally import Story, Tally
from tasker import TaskerClient
from tasker.client import TaskHandle
from tasker.errors import TaskerError
from tasker.events.reads import TaskView

STEPS = ("validate_cart", "charge", "reserve_stock", "ship", "notify")
REGISTRATIONS = 1
"""Events of the template, which are in the log beside those of the orders."""

EFFECTS = ("charge", "reservation", "shipment", "mail")
EFFECTS_UNDONE = ("charge", "reservation", "release", "refund")


class Mismatches:
    """What was found wrong, and how much was looked at."""

    def __init__(self) -> None:
        self.checked = 0
        self._found: list[str] = []

    def __len__(self) -> int:
        return len(self._found)

    def same(self, what: str, found: object, wanted: object) -> None:
        """Note it when `found` is not what was `wanted`."""
        self.checked += 1
        if found != wanted:
            self._found.append(f"{what}: {found!r} where the file implies {wanted!r}")

    def first(self, count: int) -> Iterator[str]:
        """Yield the first `count`."""
        return islice(self._found, count)


async def check_all(
    client: TaskerClient, rows: Sequence[Row], tally: Tally, partners_file: Path, verified: dict[str, Any]
) -> Mismatches:
    """Return what is not as it has to be."""
    mismatches = Mismatches()
    mismatches.same("exit code of `log verify`", verified["exit_code"], 0)
    views = {
        view.task_id: view
        async for view in client.list(namespace="shop", template="order_fulfillment", at_least=tally.position)
    }
    mismatches.same("events in the log", verified.get("events"), tally.events + REGISTRATIONS)
    mismatches.same("tasks in the log", verified.get("tasks"), sum(row.expected.outcome != "refused" for row in rows))
    effects = _effects(partners_file)
    for row in rows:
        _check_verdict(mismatches, row)
        if isinstance(row.verdict, TaskHandle):
            _check_events(mismatches, row, tally.stories.get(row.verdict.task_id))
            _check_view(mismatches, row, views.get(row.verdict.task_id))
        _check_effects(mismatches, row, effects)
    accepted = {row.verdict.task_id for row in rows if isinstance(row.verdict, TaskHandle)}
    mismatches.same("tasks in the view that no row started", sorted(set(views) - accepted), [])
    mismatches.same("tasks in the events that no row started", sorted(set(tally.stories) - accepted), [])
    asked = sum(len(_wanted_effects(row)) for row in rows)
    mismatches.same("number of effects", sum(len(found) for found in effects.values()), asked)
    outcomes = Counter(row.expected.outcome for row in rows)
    stats = await client.stats()
    for outcome in ("completed", "failed"):
        mismatches.same(f"{outcome} tasks in /v1/stats", stats.tasks.get(outcome, 0), outcomes[outcome])
    return mismatches


def _check_verdict(mismatches: Mismatches, row: Row) -> None:
    wanted, verdict = row.expected, row.verdict
    if wanted.outcome != "refused":
        mismatches.same(
            f"row {row.number}, answer", "accepted" if isinstance(verdict, TaskHandle) else verdict, "accepted"
        )
        return
    if not isinstance(verdict, TaskerError):
        mismatches.same(f"row {row.number}, answer", verdict, f"refused as {wanted.code}")
        return
    mismatches.same(f"row {row.number}, code of the refusal", verdict.code, wanted.code)
    if wanted.pointer is not None:
        places = [error.pointer for error in verdict.errors]
        mismatches.same(f"row {row.number}, places of the refusal", places, [wanted.pointer])


def _check_events(mismatches: Mismatches, row: Row, story: Story | None) -> None:
    name = f"row {row.number}"
    if story is None:
        mismatches.same(f"{name}, events", "none", "a task")
        return
    wanted = row.expected
    done = _done(wanted)
    tried = STEPS[: len(done) + 1]
    attempts = {step: wanted.charge_attempts if step == "charge" else 1 for step in (*tried, *wanted.undone)}
    mismatches.same(f"{name}, state in the events", story.state, wanted.outcome)
    mismatches.same(f"{name}, seq of its events", story.seqs, list(range(1, len(story.seqs) + 1)))
    mismatches.same(f"{name}, attempts of its steps", dict(story.attempts), attempts)
    mismatches.same(
        f"{name}, completions of its steps", dict(story.completed), dict.fromkeys((*done, *wanted.undone), 1)
    )
    mismatches.same(f"{name}, what is undone, in order", tuple(story.undone), wanted.undone)
    mismatches.same(f"{name}, retries in the events", story.retries, max(0, wanted.charge_attempts - 1))
    mismatches.same(f"{name}, result in the events", story.result, wanted.result)


def _check_view(mismatches: Mismatches, row: Row, view: TaskView | None) -> None:
    name = f"row {row.number}"
    if view is None:
        mismatches.same(f"{name}, in the view", "nothing", "a task")
        return
    wanted = row.expected
    failed = wanted.error is not None
    completed = len(_done(wanted)) + len(wanted.undone)
    mismatches.same(f"{name}, state in the view", view.state, wanted.outcome)
    mismatches.same(f"{name}, key in the view", view.idempotency_key, row.key)
    mismatches.same(f"{name}, completed steps in the view", view.steps_completed, completed)
    mismatches.same(f"{name}, failed steps in the view", view.steps_failed, int(failed))
    mismatches.same(f"{name}, retries in the view", view.retries, max(0, wanted.charge_attempts - 1))
    result = None if view.result is None else json.loads(bytes(view.result))
    mismatches.same(f"{name}, result in the view", result, wanted.result)
    mismatches.same(f"{name}, error in the view", view.error.message if view.error else None, wanted.error)


def _check_effects(mismatches: Mismatches, row: Row, effects: dict[str, list[tuple[str, int]]]) -> None:
    order_id = f"o-{row.number:04}"
    mismatches.same(f"row {row.number}, effects", sorted(effects.get(order_id, [])), sorted(_wanted_effects(row)))


def _wanted_effects(row: Row) -> list[tuple[str, int]]:
    wanted = row.expected
    if wanted.outcome == "completed":
        return list(zip(EFFECTS, (wanted.paid_cents, wanted.items, wanted.items, 1), strict=True))
    if wanted.undone:
        amounts = (wanted.paid_cents, wanted.items, wanted.items, wanted.paid_cents)
        return list(zip(EFFECTS_UNDONE, amounts, strict=True))
    return []


def _done(wanted: Expected) -> tuple[str, ...]:
    """Return the steps that complete; the next one, if any, is where the order fails."""
    return STEPS[: {None: len(STEPS), "card_declined": 1, "hazardous_goods": 3}[wanted.error]]


def _effects(partners_file: Path) -> dict[str, list[tuple[str, int]]]:
    """Return order -> its effects with their amounts."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    with closing(sqlite3.connect(partners_file)) as db:
        for order_id, kind, amount in db.execute("SELECT order_id, kind, amount FROM effect"):
            found[order_id].append((kind, amount))
    return dict(found)
