"""How attempts that ended of late are counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasker import CircuitBreaker
from tasker.controls.outcomes import Window

BREAKER = CircuitBreaker(failure_rate=0.5, min_attempts=4, window_s=10)


def counted(failed: str) -> Window:
    """Return what is counted of attempts, a tenth of a second apart; x: it failed."""
    window = Window(BREAKER)
    for number, one in enumerate(failed):
        window.add(number / 10, failed=one == "x")
    return window


def test_a_share_of_enough_attempts_is_too_bad() -> None:
    assert not counted("xxx").is_too_bad(1)
    assert counted("xx--").is_too_bad(1)
    assert not counted("xx---").is_too_bad(1)


def test_what_is_out_of_the_window_does_not_count() -> None:
    window = counted("xxxx")
    assert window.is_too_bad(9)
    assert not window.is_too_bad(12)
    assert (window.attempts, window.failures) == (0, 0)


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=60))
def test_it_counts_what_is_younger_than_nine_tenths_and_nothing_older_than_the_window(
    found: list[tuple[float, bool]],
) -> None:
    window, at_s = Window(BREAKER), 0.0
    times: list[tuple[float, bool]] = []
    for wait_s, failed in found:
        at_s += wait_s / 10
        times.append((at_s, failed))
        window.add(at_s, failed=failed)
    surely = [failed for one_s, failed in times if one_s > at_s - 9]
    perhaps = [failed for one_s, failed in times if one_s > at_s - 10]
    assert len(surely) <= window.attempts <= len(perhaps)
    assert sum(surely) <= window.failures <= sum(perhaps)
