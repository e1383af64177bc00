"""Schemas of structs say what the structs and their docstrings say."""

from typing import Annotated, Any, Literal
from uuid import UUID

import jsonschema_rs
import msgspec
import pytest

from tasker.contracts.schemas import Schemas, attributes_of, closed, summary_of
from tasker.events import messages, reads
from tasker.events.stored import TYPE_OF, to_new_event
from tests.compat.forms import FORMS


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    """What is inside."""

    at: int


class Outer(msgspec.Struct, kw_only=True):
    """The first sentence.

    More,
    over two lines.

    Attributes:
        number: how many; None: as many
            as there are. texts: some words.
        steps_*: counts. pair: two: of them.
    """

    number: int | None = None
    texts: list[str]
    steps_a: int = 0
    steps_b: int = 0
    pair: tuple[int, str]
    inner: Inner | None = None
    name: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^a"})] = "a"
    raw: msgspec.Raw = msgspec.Raw(b"null")
    choice: Literal["x", "y"]
    by_number: dict[int, float] = {}


def test_a_struct_is_described_with_its_docstring() -> None:
    schemas = Schemas("#/x/")
    assert schemas.of(Outer) == {"$ref": "#/x/Outer"}
    outer = schemas.components["Outer"]
    assert outer["description"] == "The first sentence.\n\nMore, over two lines."
    assert outer["required"] == ["texts", "pair", "choice"]
    properties = outer["properties"]
    assert properties["number"] == {
        "type": ["integer", "null"],
        "description": "how many; null: as many as there are.",
    }
    assert properties["texts"] == {"type": "array", "items": {"type": "string"}, "description": "some words."}
    assert (properties["steps_a"]["description"], properties["steps_b"]["description"]) == ("counts.", "counts.")
    assert properties["pair"]["description"] == "two: of them."
    assert properties["inner"] == {"anyOf": [{"$ref": "#/x/Inner"}, {"type": "null"}]}
    assert properties["name"] == {"type": "string", "pattern": "^a", "default": "a"}
    assert properties["raw"] == {}
    assert properties["choice"] == {"type": "string", "enum": ["x", "y"]}
    assert schemas.components["Inner"]["additionalProperties"] is False


def test_what_has_no_schema_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON Schema"):
        Schemas().of(set[str])


def test_a_closed_schema_refuses_members_that_it_does_not_name() -> None:
    schemas = Schemas("#/$defs/")
    reference = schemas.of(reads.Live)
    validator = jsonschema_rs.validator_for({**reference, "$defs": closed(schemas.components)})
    assert validator.is_valid({"live": True})
    assert not validator.is_valid({"live": True, "more": 1})


@pytest.mark.parametrize("name", TYPE_OF.values())
def test_every_recorded_form_of_an_event_matches_its_schema(name: str) -> None:
    for event in FORMS[name, 1]:
        schemas = Schemas("#/$defs/")
        reference = schemas.of(type(event))
        validator = jsonschema_rs.validator_for({**reference, "$defs": closed(schemas.components)})
        stored = to_new_event(event, stream_id=UUID(int=1), seq=1, tenant="t", at_us=1, meta=b"{}")
        validator.validate(msgspec.json.decode(stored.payload))


@pytest.mark.parametrize("kind", [*messages.COMMANDS.values(), messages.Work, messages.Report, reads.TaskView])
def test_no_description_is_left_in_the_docstring(kind: Any) -> None:
    """A field that is told of with other words than its name would be lost unseen."""
    names = [field.name for field in msgspec.structs.fields(kind)]
    assert "Attributes" not in summary_of(kind)
    section = (kind.__doc__ or "").partition("Attributes:")[2]
    told = attributes_of(kind, names)
    assert bool(section.strip()) <= bool(told)
    assert set(told) <= set(names)
