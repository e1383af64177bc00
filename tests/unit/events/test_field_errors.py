"""A wrong field of a body is told with its place, and with what may stand there."""

from enum import StrEnum
from typing import Any, Literal

import msgspec
import pytest

from tasker.errors import FieldError
from tasker.events.field_errors import field_error


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Leaf(msgspec.Struct, forbid_unknown_fields=True):
    word: Literal["up", "down"] | None = None
    colour: Colour = Colour.RED
    size_s: float = 0.0


class Named(msgspec.Struct):
    name: str
    tag: str = ""


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    leaf: Leaf | None = None
    leaves: list[Leaf] = []
    by_name: dict[str, Leaf] = {}
    pairs: tuple[Leaf, ...] = ()
    free: dict[str, Any] = {}
    named: list[Named] = []


TREE = "there are leaf, leaves, by_name, pairs, free, named"
LEAF = "there are word, colour, size_s"


@pytest.mark.parametrize(
    ("data", "pointer", "detail"),
    [
        (b'{"leaf":{"word":"dwn"}}', "/leaf/word", "there is no 'dwn' (did you mean 'down'?); there are down, up"),
        (b'{"leaf":{"word":"left"}}', "/leaf/word", "there is no 'left'; there are down, up"),
        (b'{"leaf":{"colour":"blue"}}', "/leaf/colour", "there is no 'blue'; there are red, green"),
        (b'{"leaves":[{},{"size":1}]}', "/leaves/1", f"there is no field 'size' (did you mean 'size_s'?); {LEAF}"),
        (b'{"by_name":{"a":{"x":1}}}', "/by_name/...", f"there is no field 'x'; {LEAF}"),
        (b'{"pairs":[{"word":"x"}]}', "/pairs/0/word", "there is no 'x'; there are down, up"),
        (b'{"leafs":[]}', "", f"there is no field 'leafs' (did you mean 'leaf'?); {TREE}"),
        (b'{"named":[{"tag":"x"}]}', "/named/0", "the field 'name' is missing; there are name, tag"),
        (b'{"leaf":{"size_s":"x"}}', "/leaf/size_s", "Expected `float`, got `str`"),
    ],
)
def test_a_fault_has_its_place_and_what_may_stand_there(data: bytes, pointer: str, detail: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(data, type=Tree)
    assert field_error(caught.value, Tree) == FieldError(pointer, detail)


def test_what_came_is_shortened() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(b'{"leaf":{"word":"%b"}}' % (b"x" * 5000), type=Tree)
    assert field_error(caught.value, Tree).detail == f"there is no '{'x' * 60}'; there are down, up"
