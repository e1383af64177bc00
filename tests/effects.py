"""I7 as the world shows it: one effect a key, at a sink that keeps the `idempotency_key` of each it let happen."""

from __future__ import annotations

from collections.abc import Iterable

from tasker.replay.findings import Finding, Invariant, Report


def check_effects(effects: Iterable[str], report: Report, *, owed: Iterable[str] = ()) -> None:
    """Check what a sink let happen against the steps that completed.

    Args:
        effects: the idempotency key (`<task>:<step>`) of each effect, once for each time it happened.
        report: takes the findings.
        owed: the keys of the completed steps whose work is such an effect: each must have happened.
    """
    counts: dict[str, int] = {}
    for key in effects:
        counts[key] = counts.get(key, 0) + 1
    for key, count in counts.items():
        if count > 1:
            _find_effect(key, f"the effect of {key} happened {count} times", report)
    for key in owed:
        if key not in counts:
            _find_effect(key, f"{key} completed, and its effect never happened", report)


def _find_effect(key: str, detail: str, report: Report) -> None:
    report(Finding(invariant=Invariant.ONCE, task_id=key.partition(":")[0], detail=detail))
