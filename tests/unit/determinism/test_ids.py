"""Ids that come from names are the same in every build, for ever: the log is full of them."""

from uuid import RFC_4122

import pytest

from tasker.ids import task_id_of, uuid8


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("default", "shop", "order", "key-17"), "cccc7067-f6a4-80aa-9f44-7b9a86483c48"),
        (("t", "n", "m", "ключ"), "83564c28-7cb2-86a7-9f08-8ab9857bd621"),
    ],
)
def test_the_id_of_a_task_comes_from_its_names(names: tuple[str, str, str, str], expected: str) -> None:
    found = task_id_of(*names)
    assert str(found) == expected
    assert found == uuid8("task", *names)
    assert (found.version, found.variant) == (8, RFC_4122)


def test_names_are_told_apart_by_where_they_end() -> None:
    assert task_id_of("t", "n", "mk", "ey") != task_id_of("t", "n", "m", "key")
