"""Cutting many creates into arrays, and giving each item its own verdict."""

import msgspec
import pytest

from tasker.client.batches import Item, body_of, pack, verdicts_of
from tasker.errors import BodyTooLarge, InputInvalid, KeyConflict, OutcomeUnknown, TaskerError
from tasker.events.codec import BODY_BYTES_MAX
from tasker.events.messages import Reply, TaskCreate


def item(index: int, data: bytes = b"{}") -> Item:
    return Item(index, TaskCreate(template="t"), data)


def test_batches_keep_order_and_bounds() -> None:
    items = [item(index, b"x" * 10) for index in range(1003)]
    batches = list(pack(items))
    assert [len(batch) for batch in batches] == [500, 500, 3]
    assert [one.index for batch in batches for one in batch] == list(range(1003))


@pytest.mark.parametrize("item_bytes", [1, 1000, 200_000, BODY_BYTES_MAX - 2])
def test_a_body_is_never_too_large(item_bytes: int) -> None:
    for batch in pack([item(index, b"x" * item_bytes) for index in range(9)]):
        assert len(body_of(batch)) <= BODY_BYTES_MAX


def test_one_item_above_the_bound_stands_alone_and_is_refused() -> None:
    batches = list(pack([item(0), item(1, b"x" * BODY_BYTES_MAX), item(2)]))
    assert [[one.index for one in batch] for batch in batches] == [[0], [1], [2]]
    with pytest.raises(BodyTooLarge):
        body_of(batches[1])


def test_each_item_has_its_verdict() -> None:
    answer = msgspec.json.encode([{"ok": True, "task_id": "a"}, {"ok": False, "error": InputInvalid("no").problem()}])
    first, second = verdicts_of([item(0), item(1)], answer, unreadable=OutcomeUnknown)
    assert isinstance(first, Reply)
    assert first.task_id == "a"
    assert isinstance(second, InputInvalid)


def test_one_refusal_may_be_for_all() -> None:
    answer = msgspec.json.encode({"ok": False, "error": KeyConflict("no").problem()})
    assert all(
        isinstance(said, KeyConflict) for said in verdicts_of([item(0), item(1)], answer, unreadable=OutcomeUnknown)
    )


@pytest.mark.parametrize("answer", [b"", b"[]", b'[{"ok":true}]', b"nonsense"])
def test_an_answer_that_does_not_fit_leaves_every_item_open(answer: bytes) -> None:
    said = verdicts_of([item(0), item(1)], answer, unreadable=OutcomeUnknown)
    assert [isinstance(one, OutcomeUnknown) for one in said if isinstance(one, TaskerError)] == [True, True]
