"""How a function's parameters are bound, and how bytes become arguments."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from tasker.errors import ConfigurationError
from tasker.handlers.handler import HandlerSpec, InputMismatch, handler, plain_handlers_of
from tests.unit.handlers import sample_app

if TYPE_CHECKING:
    from somewhere import StepContext  # type: ignore[import-not-found]

ORDER = b'{"id":"o-1","items":[{"sku":"s"}]}'
CONTEXT = object()


def spec_of(name: str) -> HandlerSpec:
    return next(step.spec for step in sample_app.orders.handlers() if step.spec.name == name)


def test_values_are_decoded_by_annotation() -> None:
    call = spec_of("charge").bind(CONTEXT, ORDER, {"validate_cart": b'{"total":2.5}'})
    assert call.keywords == {  # type: ignore[attr-defined]
        "ctx": CONTEXT,
        "input": sample_app.Order("o-1", [sample_app.Item("s", 1)]),
        "validate_cart": sample_app.Cart(2.5),
    }


def test_the_call_runs_the_function() -> None:
    spec = spec_of("send")
    results = {"reserve-stock": b'["s"]', "charge": b'{"paid":1.5}', "validate_cart": b"[1,{}]"}
    assert not spec.is_async
    assert spec.bind(CONTEXT, ORDER, results)() == {"skus": ["s"], "paid": 1.5, "cart": [1, {}]}


def test_async_functions_are_told_apart() -> None:
    assert spec_of("charge").is_async


@pytest.mark.parametrize(
    ("input_bytes", "results", "parameter", "detail"),
    [
        (
            b'{"id":7,"items":[]}',
            {"validate_cart": b'{"total":1.0}'},
            "input",
            "/input: Expected `str`, got `int` - at `$.id`",
        ),
        (ORDER, {"validate_cart": b'{"total":"1"}'}, "validate_cart", "/results/validate_cart: Expected `float`"),
        (ORDER, {}, "validate_cart", "no parent 'validate_cart'"),
        (b"{", {"validate_cart": b'{"total":1.0}'}, "input", "/input: Input data was truncated"),
    ],
)
def test_a_mismatch_names_parameter_and_place(
    input_bytes: bytes, results: dict[str, bytes], parameter: str, detail: str
) -> None:
    with pytest.raises(InputMismatch) as caught:
        spec_of("charge").bind(CONTEXT, input_bytes, results)
    assert caught.value.parameter == parameter
    assert caught.value.detail.startswith(f"parameter {parameter!r}: ")
    assert detail in caught.value.detail


def test_a_plain_handler_keeps_its_defaults() -> None:
    (spec,) = plain_handlers_of(sample_app.notify)
    assert (spec.name, spec.queue, spec.needed_steps) == ("notify", None, ("ship",))
    assert spec.bind(CONTEXT, b"{}", {"ship": b"{}"})() == 7
    assert spec.bind(CONTEXT, b"{}", {"ship": b"{}", "extra": b"9"})() == 9


def test_big_integers_come_exact() -> None:
    @handler("h")
    def run(input: int, a, ctx: StepContext) -> Any:
        return input, a

    (spec,) = plain_handlers_of(run)
    big = b"9" * 60
    assert spec.bind(CONTEXT, big, {"a": big})() == (int(big), int(big))


def test_the_context_is_known_by_its_type_or_its_name() -> None:
    def one(anything: StepContext, ctx: Any) -> None: ...

    (spec,) = plain_handlers_of(handler("h")(one))
    assert [parameter.source for parameter in spec.parameters] == ["ctx", "ctx"]


def test_one_function_may_have_several_names() -> None:
    @handler("a")
    @handler("b", queue="q")
    def run() -> None: ...

    assert [(spec.name, spec.queue) for spec in plain_handlers_of(run)] == [("b", "q"), ("a", None)]


@pytest.mark.parametrize("name", ["Bad", "", "a.b"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="must match"):
        handler(name)
    with pytest.raises(ConfigurationError, match="must match"):
        handler("good", queue=name)


def test_a_function_that_cannot_be_called_by_name_is_refused() -> None:
    def run(*results: Any) -> None: ...

    with pytest.raises(ConfigurationError, match=r"run\(\) in test_handler\.py:\d+: parameter 'results'"):
        handler("h")(run)


def test_an_annotation_that_cannot_be_resolved_is_told() -> None:
    def run(input: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    (spec,) = plain_handlers_of(handler("h")(run))
    with pytest.raises(ConfigurationError, match="annotation 'Nowhere' of parameter 'input'"):
        spec.check_types()


@pytest.mark.parametrize("kind", [type[int], object(), Exception, list[HandlerSpec | Exception]])
def test_a_type_that_json_cannot_give_is_told(kind: Any) -> None:
    def run(input: Any) -> None: ...

    run.__annotations__["input"] = kind

    (spec,) = plain_handlers_of(handler("h")(run))
    with pytest.raises(ConfigurationError, match="cannot be decoded"):
        spec.check_types()


def test_a_handler_is_given_its_name_and_labels_have_values() -> None:
    function: Any = len
    labels: Any = ["gpu"]
    with pytest.raises(ConfigurationError, match=r"handler\(\) is given the name that steps say, such as 'len'"):
        handler(function)
    with pytest.raises(ConfigurationError, match=r"requires is labels with their values, .* not a list"):
        handler("h", queue="q", requires=labels)


@pytest.mark.parametrize("value", [functools.partial(len, "a"), len, int, 5])
def test_what_is_no_function_is_refused(value: Any) -> None:
    """Planted bug: it was marked, and not found when the app was loaded."""
    with pytest.raises(ConfigurationError, match=r"^test_handler\.py:\d+: @handler\('h'\) marks a function, not "):
        handler("h")(value)
