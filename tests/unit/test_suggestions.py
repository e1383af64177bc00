"""The name that was probably meant."""

import pytest

from tasker.suggestions import did_you_mean

KNOWN = ("retry", "after", "timeout_s")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("retri", " (did you mean 'retry'?)"),
        ("needs", " (did you mean 'after'?)"),
        ("both", " (did you mean 'retry' or 'after'?)"),
        ("gone", ""),
        ("zzz", ""),
    ],
)
def test_the_closest_name_or_what_another_word_means_is_told(name: str, hint: str) -> None:
    others = {"needs": ("after",), "both": ("retry", "after"), "gone": ("what is no name here",)}
    assert did_you_mean(name, KNOWN, others) == hint


def test_a_long_name_is_compared_by_its_beginning() -> None:
    assert did_you_mean("timeout_s" + " " * 100_000, KNOWN) == ""
