"""YAML as people mean it, with the lines of its faults."""

import time
from typing import Any

import pytest

from tasker.errors import TemplateInvalid
from tasker.templates import load_yaml
from tasker.templates.yaml import parse_yaml

ORDERS = """\
name: order_fulfillment
namespace: shop
version: "1.0.0"
steps:
  - name: validate_cart
  - name: charge
    after: [validate_cart]
    retry: {max_attempts: 5, non_retryable: [CardDeclined]}
    start_to_close_s: 60
"""


def refusal(text: str) -> str:
    with pytest.raises(TemplateInvalid) as caught:
        load_yaml(text)
    return "\n".join(fault.detail for fault in caught.value.errors)


def test_a_template_is_read() -> None:
    spec = load_yaml(ORDERS)
    assert (spec.namespace, spec.version, [step.name for step in spec.steps]) == (
        "shop",
        "1.0.0",
        ["validate_cart", "charge"],
    )
    assert spec.steps[1].retry.non_retryable == ("CardDeclined",)


def test_faults_name_their_lines() -> None:
    text = ORDERS.replace("[validate_cart]", "[validate_card]").replace("start_to_close_s", "start_to_clos_s")
    assert refusal(text).splitlines() == [
        "line 9: unknown key 'start_to_clos_s' (did you mean 'start_to_close_s'?)",
        "line 7: unknown step 'validate_card' (did you mean 'validate_cart'?)",
    ]


def test_keys_that_stand_twice_hide_no_other_fault() -> None:
    text = ORDERS.replace("namespace: shop", "namespace: shop\nname: again").replace("start_to_close_s", "after")
    assert refusal(text.replace("5, non", "0, non")).splitlines() == [
        "line 3: the key 'name' stands twice in one object",
        "line 10: the key 'after' stands twice in one object",
        "line 10: must be a list of steps, not the number 60",
        "line 9: must be at least 1 and at most 1000, not 0",
    ]
    with pytest.raises(TemplateInvalid, match="stands twice"):
        parse_yaml("a: 1\na: 2")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("2026-11-21", "2026-11-21"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-7", -7),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("'7'", "7"),
        ("!!str 7", "7"),
        (".inf", ".inf"),
        ("1.0.0", "1.0.0"),
        ("9" * 50, int("9" * 50)),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("", None),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    found, _ = parse_yaml(f"key: {text}")
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


def test_keys_are_text() -> None:
    assert parse_yaml("on: 1\n7: 2\nnull: 3")[0] == {"on": 1, "7": 2, "null": 3}


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands twice"),
        ("a: !!python/object:os.system x", "line 1: the tag"),
        ("a: !!timestamp 2026-11-21", "line 1: the tag"),
        ("a: &x 1\nb:\n  <<: *x\n", "line 3: merge keys"),
        ("a: 1\n---\nb: 1\n", "line 2: a second document"),
        ("a: &x [*x]\n", "line 1: the alias *x"),
        ("a: *nothing\n", "line 1: the alias *nothing"),
        ("? [a, b]\n: 1\n", "line 1: a key must be text"),
        ("a: [1\nb: 2\n", "not YAML"),
        ("\ta: 1", "not YAML"),
        ("a: \x00", "not YAML"),
        ("a: \ud800", "lone surrogate"),
        ("a: " + "[" * 200_000, "nested deeper than 64"),
        ("a: " + "9" * 1001, "more than 1000 digits"),
        ("#" * (512 * 1024 + 1), "more than the 524288 allowed"),
        ("", "a template must be an object, not null"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, detail: str) -> None:
    started = time.monotonic()
    assert detail in refusal(text)
    assert time.monotonic() - started < 5


def test_aliases_work() -> None:
    assert parse_yaml("a: &x {k: [1]}\nb: *x\n")[0] == {"a": {"k": [1]}, "b": {"k": [1]}}


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert "more than 100000 values" in refusal("\n".join(lines))


def test_lines_are_known_by_pointer() -> None:
    _, lines = parse_yaml(ORDERS)
    assert lines["/steps/1/retry/max_attempts"] == 8
    assert lines["/steps/1"] == 6


def test_aliases_do_not_multiply_a_long_text() -> None:
    text = "x" * 60_000
    schema = "name: t\nsteps: [{name: a}]\ninput_schema: {const: &a " + text + ", enum: [%s]}"
    assert "more than 1048576 characters, aliases written out" in refusal(schema % ", ".join(["*a"] * 17))
    assert "more than the 65536 allowed" in refusal(schema % "*a, *a")


def test_long_keys_above_many_values_are_refused() -> None:
    """The line of every value is kept by its pointer, which holds all keys above it."""
    key = "k" * 10_000
    assert "the keys are too long" in refusal(f'? "{key}"\n: [{"1, " * 4000}]')
    parse_yaml(f'? "{key}"\n: [{"1, " * 2000}]')
