"""Names of instances: what is put together is taken apart again."""

import pytest

from tasker.errors import NameInvalid
from tasker.templates.instances import (
    Instance,
    is_item,
    is_undo,
    item_of,
    name_of,
    node_of,
    parse_instance,
    undo_of,
    undone_by,
    visit_of,
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("check", Instance("check")),
        ("check#2", Instance("check", 2)),
        ("resize[sku-1.7]", Instance("resize", 1, "sku-1.7")),
        ("resize#3[17]", Instance("resize", 3, "17")),
        ("check~undo", Instance("check", undoes=True)),
        ("check#2~undo", Instance("check", 2, undoes=True)),
        ("resize#3[17]~undo", Instance("resize", 3, "17", undoes=True)),
    ],
)
def test_a_name_is_its_parts(text: str, parts: Instance) -> None:
    assert parse_instance(text) == parts
    assert str(parts) == text
    assert name_of(text) == parts.name
    assert node_of(text) == visit_of(parts.name, parts.visit)
    assert is_undo(text) == parts.undoes
    assert is_item(text) == (parts.key is not None and not parts.undoes)


def test_an_undo_is_that_of_one_instance() -> None:
    item = item_of(visit_of("resize", 3), "17")
    assert undone_by(undo_of(item)) == item
    assert undone_by(item) == item


@pytest.mark.parametrize("text", ["", "~undo", "check~", "check~undo~undo", "check~undo#2", "check~undo[1]", "Check"])
def test_what_is_no_instance_is_refused(text: str) -> None:
    with pytest.raises(NameInvalid):
        parse_instance(text)
