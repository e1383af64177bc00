"""Pydantic models and attrs classes as inputs and results."""

import dataclasses
import datetime as dt
from typing import Any

import attrs
import msgspec
import pydantic
import pytest

from tasker.errors import ConfigurationError, ValueInvalid
from tasker.events.codec import encode_value
from tasker.handlers import Template
from tasker.handlers.handler import HandlerSpec, InputMismatch, parameters_of
from tasker.handlers.models import schema_of


class Item(pydantic.BaseModel):
    sku: str
    quantity: int = pydantic.Field(gt=0)


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    items: list[Item]
    day: dt.date


@attrs.define
class Cart:
    total: int
    items: list[str] = attrs.field(factory=list)


class Batch(msgspec.Struct):
    orders: list[Order]


def call(function: Any, input: bytes) -> Any:
    spec = HandlerSpec(name="f", queue=None, function=function, parameters=parameters_of(function, ())[0])
    return spec.bind(None, input, {})()


def test_a_model_is_validated_by_its_own_rules() -> None:
    def take(input: Order) -> Order:
        return input

    order = call(take, b'{"items": [{"sku": "s", "quantity": 2}], "day": "2026-11-25"}')
    assert order == Order(items=[Item(sku="s", quantity=2)], day=dt.date(2026, 11, 25))
    with pytest.raises(InputMismatch, match="greater than 0"):
        call(take, b'{"items": [{"sku": "s", "quantity": 0}], "day": "2026-11-25"}')
    with pytest.raises(InputMismatch, match="Extra inputs"):
        call(take, b'{"items": [], "day": "2026-11-25", "more": 1}')


def test_a_model_may_stand_within_other_types() -> None:
    def many(input: dict[str, list[Item]]) -> Any:
        return input

    def struct(input: Batch) -> Any:
        return input

    assert call(many, b'{"a": [{"sku": "s", "quantity": 2}]}') == {"a": [Item(sku="s", quantity=2)]}
    assert call(struct, b'{"orders": [{"items": [], "day": "2026-11-25"}]}').orders[0].items == []
    with pytest.raises(InputMismatch, match="greater than 0"):
        call(many, b'{"a": [{"sku": "s", "quantity": 0}]}')


def test_attrs_classes_are_taken_by_field() -> None:
    def take(input: Cart) -> Any:
        return input

    assert call(take, b'{"total": 3}') == Cart(3)
    with pytest.raises(InputMismatch):
        call(take, b'{"total": "3"}')


def test_results_are_encoded_wherever_a_model_stands() -> None:
    order = Order(items=[Item(sku="s", quantity=2)], day=dt.date(2026, 11, 25))
    text = b'{"day":"2026-11-25","items":[{"quantity":2,"sku":"s"}]}'
    assert encode_value(order) == text
    assert encode_value(Batch([order])) == b'{"orders":[' + text + b"]}"
    assert encode_value([Cart(1, ["a"])]) == b'[{"items":["a"],"total":1}]'


def test_a_model_smuggles_nothing_in_that_json_has_not() -> None:
    class Ratio(pydantic.BaseModel):
        value: float

    with pytest.raises(ValueInvalid):
        encode_value(Ratio(value=float("nan")))


@pytest.mark.parametrize(("kind", "required"), [(Order, ["items", "day"]), (Cart, ["total"])])
def test_the_input_schema_is_derived_from_them(kind: type, required: list[str]) -> None:
    flow = Template("flow")

    def first(input: Any) -> None: ...

    first.__annotations__["input"] = kind
    flow.step(first)
    schema = flow.document()["input_schema"]
    assert required == (schema.get("required") or schema["$defs"]["Cart"]["required"])


def test_a_class_that_json_cannot_give_is_still_refused() -> None:
    class Strange:
        pass

    def take(input: list[Strange]) -> None: ...

    with pytest.raises(ConfigurationError, match=r"cannot be decoded as .*: JSON cannot give a Strange"):
        call(take, b"[]")


def test_an_object_is_any_value() -> None:
    @dataclasses.dataclass
    class Loose:
        value: object
        rest: list[object]

    def take(input: dict[str, object]) -> Any:
        return input

    def take_record(input: Loose) -> Any:
        return input

    assert call(take, b'{"a": [1, null]}') == {"a": [1, None]}
    assert call(take_record, b'{"value": {"b": 2}, "rest": ["x", 3]}') == Loose({"b": 2}, ["x", 3])
    schema = schema_of(Loose)
    assert schema is not None
    assert schema["$defs"]["Loose"]["properties"] == {
        "value": {"description": "Any value."},
        "rest": {"type": "array", "items": {"description": "Any value."}},
    }
