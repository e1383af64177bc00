"""The chain: every column counts, and so does the order."""

from uuid import UUID

import msgspec
import pytest

from tasker.events.chain import GENESIS, digest_of_batch, leaf_of
from tasker.events.envelope import NewEvent, RecordedEvent

EVENT = NewEvent(
    stream_id=UUID(int=1),
    kind="task",
    seq=2,
    type="step_completed",
    version=1,
    tenant="default",
    at_us=3,
    meta=b'{"command_id":"c"}',
    payload=b'{"step":"a"}',
    encoding="json",
)
PLACE = {"shard": 4, "position": 5, "epoch": 6}
CHANGED = {
    "stream_id": UUID(int=2),
    "kind": "template",
    "seq": 3,
    "type": "step_started",
    "version": 2,
    "tenant": "other",
    "at_us": 4,
    "meta": b"{}",
    "payload": b'{"step":"b"}',
    "encoding": "zstd",
}


def test_every_column_has_a_case() -> None:
    assert set(CHANGED) == set(NewEvent.__struct_fields__)
    assert set(CHANGED) | set(PLACE) | {"chain"} == set(RecordedEvent.__struct_fields__)


@pytest.mark.parametrize("column", CHANGED)
def test_a_change_of_a_column_changes_the_leaf(column: str) -> None:
    other = msgspec.structs.replace(EVENT, **{column: CHANGED[column]})
    assert leaf_of(other, **PLACE) != leaf_of(EVENT, **PLACE)


@pytest.mark.parametrize("column", PLACE)
def test_a_change_of_place_changes_the_leaf(column: str) -> None:
    assert leaf_of(EVENT, **{**PLACE, column: 9}) != leaf_of(EVENT, **PLACE)


@pytest.mark.parametrize("column", ["meta", "payload"])
def test_one_bit_changes_the_leaf(column: str) -> None:
    value = getattr(EVENT, column)
    other = msgspec.structs.replace(EVENT, **{column: bytes([value[0] ^ 1]) + value[1:]})
    assert leaf_of(other, **PLACE) != leaf_of(EVENT, **PLACE)


def test_text_that_moves_between_columns_changes_the_leaf() -> None:
    one = msgspec.structs.replace(EVENT, kind="ab", type="c")
    two = msgspec.structs.replace(EVENT, kind="a", type="bc")
    assert leaf_of(one, **PLACE) != leaf_of(two, **PLACE)


def test_what_was_recorded_has_the_leaf_of_what_was_appended() -> None:
    recorded = RecordedEvent(shard=4, position=5, epoch=6, **msgspec.structs.asdict(EVENT), chain=b"any")
    assert leaf_of(recorded, **PLACE) == leaf_of(EVENT, **PLACE)


def test_the_digest_depends_on_what_came_before_and_on_the_order() -> None:
    one, two = (leaf_of(EVENT, **{**PLACE, "position": position}) for position in (1, 2))
    digest = digest_of_batch(GENESIS, [one, two])
    assert digest != digest_of_batch(GENESIS, [two, one])
    assert digest != digest_of_batch(digest, [one, two])
    assert digest != digest_of_batch(GENESIS, [one])


def test_leaf_and_digest_are_for_ever() -> None:
    """Stored digests were computed so: a change here needs a new format of the log."""
    leaf = leaf_of(EVENT, **PLACE)
    assert leaf.hex() == "9272dd34179b4399a7b0b13c111ffa43c2df336aa67c4083b6e7686535e5d3b1"
    assert digest_of_batch(GENESIS, [leaf]).hex() == "44d88669ddc024ed182f8c5babc63b83d43b3f34c0caa8920b3ae78fd0f6b207"
