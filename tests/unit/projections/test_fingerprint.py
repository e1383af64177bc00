"""What varies between two failures is masked; what tells two errors apart is not."""

import pytest

from tasker.projections.fingerprint import PATTERN_CHARS_MAX, fingerprint_of, pattern_of


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        ("order 17 of 3.5 kg, -4e+3", "order <n> of <n> kg, <n>"),
        ("no card 'visa 12' of \"Ada\" in `cards`", "no card <text> of <text> in <text>"),
        ("it's Ada's card, and it isn't valid", "it's Ada's card, and it isn't valid"),
        ("GET https://ada:pw@api.example/v1/cards?id=7 failed", "GET <url> failed"),
        ("no mail for ada.b+c@example.org", "no mail for <email>"),
        ("task 0192f7aa-1b2c-7d3e-8f90-a1b2c3d4e5f6 is gone", "task <id> is gone"),
        ("order ord_17AB9z and req9f8a7c", "order <n> and <n>"),
        ("since 2026-11-21T10:00:00.123Z, last at 09:15:00", "since <time>, last at <time>"),
        ("connect to db.internal:5432, 10.0.0.7:80 or 10.0.0.8", "connect to <address> or <address>"),
        ("no such file /var/lib/x 1/../a.txt", "no such file <path> <n>/..<path>"),
        ("cannot read C:\\data\\in.csv", "cannot read <path>"),
        ("object at 0x7f3a, sha deadbeef01", "object at <n>, sha <n>"),
        ("facade and decade are words", "facade and decade are words"),
        ("items [1, 2, 3], then 4; 5", "items [<n>], then <n>"),
        ("two\n  lines", "two lines"),
        ("", ""),
    ],
)
def test_what_varies_is_masked(message: str, pattern: str) -> None:
    assert pattern_of(message) == pattern


def test_a_pattern_has_a_bounded_length() -> None:
    assert len(pattern_of("no such word " * 1000)) == PATTERN_CHARS_MAX


def test_class_step_and_words_tell_errors_apart() -> None:
    one = fingerprint_of("ValueError", "charge", "no card 17")
    assert one == fingerprint_of("ValueError", "charge", "no card 18")
    others = {
        fingerprint_of("KeyError", "charge", "no card 17"),
        fingerprint_of("ValueError", "ship", "no card 17"),
        fingerprint_of("ValueError", "charge", "no purse 17"),
    }
    assert len(others | {one}) == 4


def test_a_fingerprint_is_the_same_on_every_machine_and_for_ever() -> None:
    assert fingerprint_of("shop.CardDeclined", "charge", "no funds on card 4711") == "1-e34da32370b73216"


@pytest.mark.parametrize("instance", ["resize", "resize#2", "resize[17]", "resize#12[sku-17]"])
def test_instances_of_a_step_count_as_the_step(instance: str) -> None:
    assert fingerprint_of("E", instance, "x") == fingerprint_of("E", "resize", "x")
