"""Any text over any values: one value, always the same, or one of two errors."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasker.errors import ExpressionFailed, ExpressionInvalid
from tasker.events.codec import canonical, encode_value
from tasker.templates import expressions as expressions_module
from tasker.templates.expressions import compile_expression

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | texts | st.sampled_from([10**999, "a" * 3000]),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["a", "b", "c-d", "é"]), inner, max_size=4)
    ),
    max_leaves=15,
)
bindings = st.fixed_dictionaries(
    {"input": values, "results": values}, optional={"item": values, "index": st.integers(0, 9)}
)

leaves = st.sampled_from(
    [
        "input",
        "results",
        "item",
        "index",
        "1",
        "-2",
        "2.5",
        "'a'",
        "''",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        "x",
        "[1, 2]",
    ]
)
FORMS = """
{0} + {1}~{0} - {1}~{0} * {1}~{0} / {1}~{0} % {1}~{0} == {1}~{0} != {1}~{0} < {1}~{0} >= {1}~{0} in {1}~{0} && {1}
{0} || {1}~!{0}~-{0}~({0})~({0} ? {1} : {2})~{0}.a~{0}.?b~{0}[{1}]~{0}[?{1}]~[{0}, {1}]~{{'a': {0}, {1}: {2}}}
has({0}.a)~{0}.orValue({1})~{0}.hasValue()~{0}.map(x, {1})~{0}.map(x, {1}, {2})~{0}.filter(x, {1})~{0}.all(x, {1})
{0}.exists(x, {1})~{0}.exists_one(x, {1})~size({0})~string({0})~int({0})~double({0})~lists.range({0})~math.round({0})
math.greatest({0}, {1})~{0}.contains({1})~{0}.matches('a+')~{0}.split({1})~{0}.join({1})~{0}.replace({1}, {2})
{0}.substring({1})~{0}.sum()~{0}.min()~{0}.sort()~{0}.flatten()~{0}.trim()
"""
forms = st.sampled_from(re.split("[~\n]", FORMS.strip()))
expressions = st.recursive(
    leaves,
    lambda inner: st.builds(lambda form, *parts: form.format(*parts), forms, inner, inner, inner),
    max_leaves=12,
)
TOKENS = "input results . .? [ ] ( ) { } , : ? + - * / % ! == < && || in has map x 1 2.5 'a' \" ' \\ // true"
tokens = st.lists(st.sampled_from(TOKENS.split(" ")), max_size=25).map(" ".join)


def outcome(text: str, given_values: dict[str, Any]) -> bytes | str:
    try:
        return canonical(compile_expression(text).evaluate(given_values))
    except (ExpressionInvalid, ExpressionFailed) as error:
        return error.detail


@settings(deadline=None)
@given(expressions | tokens | st.text(max_size=60), bindings)
def test_the_same_twice_is_the_same_and_only_two_errors_escape(text: str, given_values: dict[str, Any]) -> None:
    before = canonical(given_values)
    first = outcome(text, given_values)
    expressions_module._kept = expressions_module._Kept()  # it is compiled anew
    assert outcome(text, given_values) == first
    assert canonical(given_values) == before


@settings(deadline=None)
@given(expressions, bindings)
def test_a_value_is_one_that_can_be_kept(text: str, given_values: dict[str, Any]) -> None:
    form = outcome(text, given_values)
    if isinstance(form, bytes):
        assert encode_value(compile_expression(text).evaluate(given_values)) == form


@pytest.mark.parametrize("form", ["{'a': [input, 1 + 1], 'b': results}", "input.a + 1 == 2 || has(results.b)"])
def test_the_forms_above_do_reach_values(form: str) -> None:
    assert isinstance(outcome(form, {"input": {"a": 1}, "results": {}}), bytes)
