"""A run is flat or not: a planted leak is found, a saw tooth and a warm-up are none."""

import math
from typing import Any

import msgspec
import pytest

from benchmarks.verdict import Sample, Verdict, growth, judge

RATE = 100.0
EVENTS_PER_S = 14 * RATE
HOUR = 360


def run(samples: int = HOUR, **changed: Any) -> list[Sample]:
    """A flat run with a saw tooth in its memory; `changed` takes a moment and says what is different."""
    series = []
    for number in range(1, samples + 1):
        at_s = 10.0 * number
        tooth = 20.0 * (number % 7) / 7
        sample = Sample(
            at_s=at_s,
            rss_mib={"write side": 130.0 + tooth, "worker": 90.0},
            descriptors={"write side": 40 + number % 3, "worker": 20},
            threads={"write side": 6, "worker": 7},
            pids={"write side": 11, "worker": 12},
            publisher_lag=number % 200,
            view_lag=number % 900,
            connections=12,
            streams_mib={"work": 0.0, "events": 0.1 * number},
            asked=int(RATE * at_s),
            started=int(RATE * at_s),
            ended=int(RATE * at_s) - 3,
            p50_ms=10.0,
            p99_ms=40.0,
        )
        series.append(msgspec.structs.replace(sample, **{name: value(sample) for name, value in changed.items()}))
    return series


def unmet(verdict: Verdict) -> list[str]:
    return [finding.what for finding in verdict.findings if not finding.met]


def test_a_saw_tooth_is_flat() -> None:
    verdict = judge(run(), events_per_s=EVENTS_PER_S)
    assert unmet(verdict) == []
    assert verdict.flat
    assert (verdict.from_s, verdict.to_s) == (1200.0, 3600.0)


def test_growth_is_that_of_the_line_not_of_two_moments() -> None:
    times_s = [float(number) for number in range(101)]
    assert growth(times_s, [3.0 + 0.5 * at_s for at_s in times_s]) == pytest.approx(50.0)
    assert abs(growth(times_s, [math.sin(at_s) for at_s in times_s])) < 1
    assert growth([1.0, 1.0], [2.0, 9.0]) == 0.0


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (
            {"rss_mib": lambda sample: sample.rss_mib | {"worker": 90.0 + sample.at_s / 200}},
            "memory of the worker grew by",
        ),
        (
            {"descriptors": lambda sample: sample.descriptors | {"write side": 40 + int(sample.at_s // 300)}},
            "descriptors of the write side grew by",
        ),
        (
            {"threads": lambda sample: sample.threads | {"worker": 7 + int(sample.at_s // 600)}},
            "threads of the worker grew by",
        ),
        ({"connections": lambda sample: 12 + int(sample.at_s // 600)}, "connections of PostgreSQL grew by"),
        (
            {"publisher_lag": lambda sample: 20_000 if sample.at_s == 3000 else 10},
            "the event stream behind the log, at most",
        ),
        ({"view_lag": lambda sample: 5_000}, "the views behind the log, median"),
        (
            {"pids": lambda sample: sample.pids | {"worker": 12 if sample.at_s < 500 else 99}},
            "processes that were started again",
        ),
        ({"started": lambda sample: int(sample.asked * 0.98)}, "tasks started of those asked for"),
    ],
)
def test_a_planted_fault_is_found(changed: dict[str, Any], found: str) -> None:
    verdict = judge(run(**changed), events_per_s=EVENTS_PER_S)
    assert not verdict.flat
    assert unmet(verdict) == [found]


def test_a_slow_leak_is_found_below_a_saw_tooth() -> None:
    """A hundred bytes a task."""
    leak = run(rss_mib=lambda sample: {"write side": sample.rss_mib["write side"] + sample.started * 100 / 2**20})
    assert unmet(judge(leak, events_per_s=EVENTS_PER_S)) == ["memory of the write side grew by"]


def test_a_warm_up_is_no_leak() -> None:
    warm = run(rss_mib=lambda sample: {"write side": 60 + min(sample.at_s, 1000) / 10})
    assert judge(warm, events_per_s=EVENTS_PER_S).flat


def test_what_fell_behind_in_the_warm_up_does_not_count() -> None:
    late = run(view_lag=lambda sample: 50_000 if sample.at_s < 1000 else 0)
    assert judge(late, events_per_s=EVENTS_PER_S).flat


@pytest.mark.parametrize(
    ("samples", "found"),
    [
        (0, ["samples behind the warm-up", "time behind the warm-up"]),
        (5, ["samples behind the warm-up", "time behind the warm-up"]),
        (8, ["time behind the warm-up"]),
    ],
)
def test_a_run_that_is_too_short_is_no_verdict_of_flat(samples: int, found: list[str]) -> None:
    verdict = judge(run(samples), events_per_s=EVENTS_PER_S)
    assert not verdict.flat
    assert unmet(verdict) == found
