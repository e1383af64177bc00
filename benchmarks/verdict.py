"""Whether a long run was flat: growth of memory, descriptors and lag over the last two thirds, against stated bounds.

Growth is the slope of the straight line through a series (least squares) times the length of the window: a saw tooth
does not count, a leak does. The first third is warm-up: caches fill, partitions come, allocators find their size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import linear_regression, median
from typing import Final

import msgspec

WARM_UP_SHARE: Final = 1 / 3
SAMPLES_MIN: Final = 6
WINDOW_S_MIN: Final = 60.0
"""Fewer samples behind the warm-up, or less time, say nothing."""

RSS_GROWTH_MIB: Final = 10.0
RSS_GROWTH_SHARE: Final = 0.05
"""A process may grow by so much, or by this share of what it holds, whichever is more."""

DESCRIPTORS_GROWTH: Final = 5.0
THREADS_GROWTH: Final = 2.0
CONNECTIONS_GROWTH: Final = 2.0
LAG_S_MAX: Final = 10.0
LAG_S_USUAL: Final = 2.0
"""How far behind publisher and views may be: at any moment, and in the middle of all moments."""

KEPT_SHARE: Final = 0.99
"""Of the tasks that the rate asks for so many must have been started."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen at one moment.

    Attributes:
        at_s: since the load began.
        rss_mib, descriptors, threads, pids: by process.
        publisher_lag, view_lag: events that the stream, and the views, are behind the log.
        connections: of PostgreSQL, the harness's own left out.
        streams_mib: by stream of NATS.
        asked, started, ended: tasks since the load began.
        p50_ms, p99_ms: of the tasks that ended since the sample before; None: there were none.
    """

    at_s: float
    rss_mib: dict[str, float]
    descriptors: dict[str, int]
    threads: dict[str, int]
    pids: dict[str, int]
    publisher_lag: int
    view_lag: int
    connections: int
    streams_mib: dict[str, float]
    asked: int
    started: int
    ended: int
    p50_ms: float | None
    p99_ms: float | None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One bound, and what was found."""

    what: str
    unit: str
    found: float
    bound: float
    met: bool


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What all bounds together say; `from_s` and `to_s` are the window that they were held against."""

    flat: bool
    from_s: float
    to_s: float
    findings: list[Finding]


def growth(times_s: Sequence[float], values: Sequence[float]) -> float:
    """Return by how much the line through a series rises from its first moment to its last."""
    if len(set(times_s)) < 2:
        return 0.0
    return linear_regression(times_s, values).slope * (times_s[-1] - times_s[0])


def judge(samples: Sequence[Sample], *, events_per_s: float) -> Verdict:
    """Hold the samples behind the warm-up against every bound.

    Args:
        samples: in their order.
        events_per_s: what the load appends; it makes seconds of events that something is behind.
    """
    end_s = samples[-1].at_s if samples else 0.0
    window = [sample for sample in samples if sample.at_s >= WARM_UP_SHARE * end_s]
    length_s = end_s - window[0].at_s if window else 0.0
    findings = [
        _at_least("samples behind the warm-up", "", len(window), SAMPLES_MIN),
        _at_least("time behind the warm-up", "s", length_s, WINDOW_S_MIN),
    ]
    if all(finding.met for finding in findings):
        findings += _grown(window)
        findings += _behind(window, events_per_s)
        findings.append(_same_processes(samples))
        findings.append(_kept(samples))
    return Verdict(
        flat=all(finding.met for finding in findings),
        from_s=window[0].at_s if window else 0.0,
        to_s=end_s,
        findings=findings,
    )


def _grown(window: Sequence[Sample]) -> list[Finding]:
    times_s = [sample.at_s for sample in window]
    findings = []
    for process in window[-1].rss_mib:
        held = [sample.rss_mib.get(process, 0.0) for sample in window]
        bound = max(RSS_GROWTH_MIB, RSS_GROWTH_SHARE * median(held))
        findings.append(_at_most(f"memory of the {process} grew by", "MiB", growth(times_s, held), bound))
    series: tuple[tuple[str, Callable[[Sample], dict[str, int]], float], ...] = (
        ("descriptors", lambda sample: sample.descriptors, DESCRIPTORS_GROWTH),
        ("threads", lambda sample: sample.threads, THREADS_GROWTH),
    )
    for what, of, bound in series:
        for process in of(window[-1]):
            counts = [of(sample).get(process, 0) for sample in window]
            findings.append(_at_most(f"{what} of the {process} grew by", "", growth(times_s, counts), bound))
    connections = [sample.connections for sample in window]
    findings.append(_at_most("connections of PostgreSQL grew by", "", growth(times_s, connections), CONNECTIONS_GROWTH))
    return findings


def _behind(window: Sequence[Sample], events_per_s: float) -> list[Finding]:
    findings = []
    for what, lags in (
        ("event stream", [sample.publisher_lag for sample in window]),
        ("views", [sample.view_lag for sample in window]),
    ):
        behind_s = [lag / events_per_s for lag in lags]
        findings.append(_at_most(f"the {what} behind the log, at most", "s", max(behind_s), LAG_S_MAX))
        findings.append(_at_most(f"the {what} behind the log, median", "s", median(behind_s), LAG_S_USUAL))
    return findings


def _same_processes(samples: Sequence[Sample]) -> Finding:
    """A process that was started again has forgotten what it leaked."""
    changed = {name for sample in samples for name, pid in sample.pids.items() if samples[0].pids.get(name) != pid}
    return _at_most("processes that were started again", "", len(changed), 0)


def _kept(samples: Sequence[Sample]) -> Finding:
    last = samples[-1]
    return _at_least("tasks started of those asked for", "", last.started / max(1, last.asked), KEPT_SHARE)


def _at_most(what: str, unit: str, found: float, bound: float) -> Finding:
    return Finding(what=what, unit=unit, found=round(found, 3), bound=round(bound, 3), met=found <= bound)


def _at_least(what: str, unit: str, found: float, bound: float) -> Finding:
    return Finding(what=what, unit=unit, found=round(found, 3), bound=round(bound, 3), met=found >= bound)
