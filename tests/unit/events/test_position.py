"""The public position token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.errors import PositionInvalid
from tasker.events.position import format_position, parse_position

positions = st.dictionaries(st.integers(0, 15), st.integers(0, 10**18 - 1), min_size=1)


@given(positions)
def test_a_token_comes_back(known: dict[int, int]) -> None:
    token = format_position(known)
    assert parse_position(token, log_id="abc", shards=16) == known
    assert parse_position(f"abc/{token}", log_id="abc", shards=16) == known


def test_shards_stand_ascending() -> None:
    assert format_position({3: 812, 0: 12}) == "0:12,3:812"


@pytest.mark.parametrize(
    "token",
    [
        *("", ":", "3", "3:", ":1", "3:-1", "3:1,", ",3:1", "3:1 ", "3:1\n", "a:1", "3:1x", "16:1", "3:1,3:2"),
        *("99999:1", "3:1;4:1", "3:" + "9" * 19, "/3:1", "ABC/3:1", "3:1," * 20_000 + "3:1"),
        "\u0663:1",
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(PositionInvalid):
        parse_position(token, log_id="abc", shards=16)


def test_a_token_of_another_log_is_refused_and_says_so() -> None:
    with pytest.raises(PositionInvalid, match="start again"):
        parse_position("xyz/3:1", log_id="abc", shards=16)
