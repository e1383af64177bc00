"""Ratios are of pairs, and a target is met or not by their median."""

from benchmarks.driving import Figures
from benchmarks.report import Round, summarize, targets
from benchmarks.service import Creates


def figures(steps_per_s: float) -> Figures:
    return Figures(
        tasks=1,
        seconds=1.0,
        tasks_per_s=steps_per_s / 4,
        steps_per_s=steps_per_s,
        p50_ms=1e6 / steps_per_s,
        p99_ms=1e6 / steps_per_s,
        cpu_us_per_step={"a": 1e6 / steps_per_s},
        others_cores=0.0,
    )


def paired(floor: float, service: float) -> Round:
    return Round(floor={"linear4": figures(floor)}, service={"linear4": figures(service)})


def test_a_slow_minute_slows_both_halves_of_a_pair() -> None:
    summary = summarize([paired(10_000, 4_000), paired(1_000, 400), paired(5_000, 1_000)])
    ratio = summary["linear4"]["steps_ratio"]
    assert (ratio.median, ratio.min, ratio.max) == (0.4, 0.2, 0.4)


def test_targets_are_held_against_the_median() -> None:
    met = targets(summarize([paired(10, 3), paired(10, 1), paired(10, 9)]), ["linear4"])
    assert [(target.workload, target.met) for target in met] == [("linear4", True)]
    unmet = targets(summarize([paired(10, 2)]), ["linear4"])
    assert [target.met for target in unmet] == [False]


def test_only_what_ran_has_a_target() -> None:
    creates = Creates(tasks=1, creates_per_s=6_000, p50_ms=1, p99_ms=1)
    summary = summarize([Round(creates=creates)])
    assert [target.workload for target in targets(summary, ["one", "creates"])] == ["creates"]


def test_a_limited_step_is_held_against_the_plain_one_of_its_round() -> None:
    ran = ("linear4", "plain4", "capped4")
    rounds = [
        Round(service=dict(zip(ran, map(figures, speeds), strict=True)), floor=dict.fromkeys(ran, figures(10_000)))
        for speeds in ((9_000, 4_000, 2_000), (9_000, 3_000, 3_000), (9_000, 1_000, 800))
    ]
    summary = summarize(rounds)
    assert summary["capped4"]["cpu_of_plain4"].median == 1.25
    assert [(one.workload, one.found.max, one.met) for one in targets(summary, ["capped4"])] == [
        ("capped4", 2.0, False)
    ]
