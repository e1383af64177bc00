"""Any message has one pattern, which is its own pattern; numbers, ids and quoted values never tell two apart."""

import string
import uuid

from hypothesis import given
from hypothesis import strategies as st

from tasker.projections.fingerprint import PATTERN_CHARS_MAX, fingerprint_of, pattern_of

WORDS = st.lists(st.text(string.ascii_letters, min_size=1, max_size=7), min_size=1, max_size=6)
VALUES = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda value: f"{value:.3f}"),
)
QUOTED = st.text(string.ascii_letters + string.digits + " /:", max_size=30).map(lambda text: f"'{text}'")
IDS = st.uuids().map(str)


@given(message=st.text(max_size=500), step=st.text(max_size=20), kind=st.text(max_size=20))
def test_any_text_has_a_bounded_pattern_and_one_fingerprint(message: str, step: str, kind: str) -> None:
    pattern = pattern_of(message)
    assert len(pattern) <= PATTERN_CHARS_MAX
    assert "\n" not in pattern
    assert fingerprint_of(kind, step, message) == fingerprint_of(kind, step, message)


@given(words=WORDS, data=st.data())
def test_what_varies_never_tells_two_messages_apart(words: list[str], data: st.DataObject) -> None:
    """The same words with other values between them."""
    kinds = [data.draw(st.sampled_from([VALUES, QUOTED, IDS])) for _ in words]

    def message() -> str:
        return " ".join(f"{word} {data.draw(kind)}" for word, kind in zip(words, kinds, strict=True))

    one, other = message(), message()
    assert pattern_of(one) == pattern_of(other)
    assert fingerprint_of("E", "s", one) == fingerprint_of("E", "s", other)


@given(words=WORDS, value=st.integers())
def test_a_pattern_is_its_own_pattern(words: list[str], value: int) -> None:
    pattern = pattern_of(f"{' '.join(words)} {value} at '{value}' of {uuid.UUID(int=abs(value) % 2**128)}")
    assert pattern_of(pattern) == pattern
