"""Expressions: what they mean, what they read, how they are refused."""

import subprocess
import sys
import time
from typing import Any

import pytest

from tasker.errors import ExpressionFailed, ExpressionInvalid
from tasker.events.codec import DIGITS_MAX
from tasker.templates import expressions
from tasker.templates.expression_compiler import NESTING_MAX
from tasker.templates.expressions import TEXT_CHARS_MAX, compile_expression

BIG = 10**999
BINDINGS: dict[str, Any] = {
    "input": {
        "total": 120,
        "price": 2.5,
        "big": BIG,
        "name": "Ada Lovelace",
        "note": None,
        "paid": True,
        "xs": [3, 1, 2],
        "tags": {"b": 1, "a": 2},
        "in": "a word of CEL",
        "none": [],
    },
    "results": {"fetch": {"rows": [{"id": "r1", "n": 1}, {"id": "r2", "n": 5}]}, "my-step": {"ok": True}},
    "item": {"id": "x1"},
    "index": 4,
    "state": {"count": 2},
    "task": {"id": "t1", "created_at": "2026-01-02T03:04:05Z", "template": "orders", "tags": {"tenant": "acme"}},
}


def value(text: str, **more: Any) -> Any:
    return compile_expression(text).evaluate(BINDINGS | more)


MEANINGS = [
    # literals
    ("null", None),
    ("[1, 2.5, 'a', true,]", [1, 2.5, "a", True]),
    ("{'a': {'b': []}, \"c\": 0x1F}", {"a": {"b": []}, "c": 31}),
    ("'it\\'s \\u00e9\\x41\\n\\101'", "it's éA\nA"),
    ("r'\\d+'", "\\d+"),
    ("1 // a note\n + 2", 3),
    # members
    ("input.total", 120),
    ("results['my-step'].ok", True),
    ('results["my-step"]["ok"]', True),
    ("results.fetch.rows[1].id", "r2"),
    ("input.in", "a word of CEL"),
    ("task.tags.tenant", "acme"),
    ("index + state.count", 6),
    # what may be missing
    ("has(input.note)", True),
    ("has(input.nothing)", False),
    ("has(input.tags.a) && !has(input.tags.z)", True),
    ("'nothing' in input", False),
    ("input.note == null", True),
    ("input.?nothing.orValue('-')", "-"),
    ("input.?nothing.deeper[0].orValue(7)", 7),
    ("input.?tags.a.orValue(7)", 2),
    ("input.xs[?1].orValue(0)", 1),
    ("input.xs[?9].orValue(0)", 0),
    ("results[?'my-step'].hasValue()", True),
    ("has(input.?nothing.x)", False),
    # numbers: exact, and of two types that mix
    ("input.big * 9 + 1", BIG * 9 + 1),
    ("9223372036854775807 + 1", 2**63),
    ("7 / 2", 3),
    ("-7 / 2", -3),
    ("-7 % 3", -1),
    ("7 % -3", 1),
    ("input.price * 2", 5.0),
    ("7 / 2.0", 3.5),
    ("1 - 2 - 3", -4),
    ("2 + 3 * 4", 14),
    ("-(2)", -2),
    # equality and order
    ("1 == 1.0", True),
    ("[1, {'a': 2}] == [1.0, {'a': 2.0}]", True),
    ("true == 1", False),
    ("[true] == [1]", False),
    ("'1' != 1", True),
    ("{'a': 1} == {'a': 1, 'b': 2}", False),
    ("1 < 1.5 && 'Z' < 'a' && false < true", True),
    ("2 in input.xs && 2.0 in input.xs && !(true in [1])", True),
    # logic: what decides makes up for what fails, on either side
    ("input.nothing || true", True),
    ("true || input.nothing", True),
    ("input.nothing && false", False),
    ("input.paid ? 'yes' : input.nothing", "yes"),
    ("false ? 1 : true ? 2 : 3", 2),
    # macros
    ("input.xs.all(x, x > 0)", True),
    ("input.none.all(x, x > 0)", True),
    ("input.xs.exists(x, 1 / (x - 3) == 0 || x == 1)", True),
    ("input.xs.exists(x, x / (x - 3) == 0)", True),
    ("input.xs.exists_one(x, x > 2)", True),
    ("input.xs.exists_one(x, x > 1)", False),
    ("input.xs.filter(x, x > 1)", [3, 2]),
    ("input.xs.map(x, {'v': x * 2})", [{"v": 6}, {"v": 2}, {"v": 4}]),
    ("input.xs.map(x, x > 1, x * 2)", [6, 4]),
    ("input.tags.map(k, k + string(input.tags[k]))", ["a2", "b1"]),
    ("results.fetch.rows.map(r, input.xs.filter(x, x < r.n).size())", [0, 3]),
    # functions
    ("size('né') + size([1]) + input.tags.size()", 5),
    ("string(1.5) + string(true) + string('s') + string(-3)", "1.5trues-3"),
    ("[int('-12'), int(2.9), int(-2.9)]", [-12, 2, -2]),
    ("[double('1.5'), double(2)]", [1.5, 2.0]),
    ("input.name.contains('Love') && input.name.startsWith('Ada') && input.name.endsWith('lace')", True),
    ("input.name.matches('^[A-Z][a-z]+ L')", True),
    ("input.name.matches('^Love')", False),
    ("input.name.lowerAscii() + 'é'.upperAscii()", "ada lovelaceé"),
    ("' a '.trim() + 'a-b'.replace('-', '+') + 'abcd'.substring(1, 3) + 'abcd'.substring(3)", "aa+bbcd"),
    ("'a,b'.split(',').map(x, x + '!').join('/')", "a!/b!"),
    ("['ab'.split(''), ['a', 'b'].join()]", [["a", "b"], "ab"]),
    ("[input.xs.sum(), input.xs.min(), input.xs.max(), [1, 0.5].sum()]", [6, 1, 3, 1.5]),
    ("[input.xs.sort(), ['b', 'a'].sort()]", [[1, 2, 3], ["a", "b"]]),
    ("[[1, [2]], 3, []].flatten()", [1, [2], 3]),
    ("lists.range(3).map(i, i * i)", [0, 1, 4]),
    ("[math.greatest(1, 2.5), math.least(3, 2)]", [2.5, 2]),
    ("[math.abs(-3), math.ceil(1.2), math.floor(-1.2), math.round(2.5), math.round(-2.5)]", [3, 2.0, -2.0, 3.0, -3.0]),
]


@pytest.mark.parametrize(("text", "meaning"), MEANINGS)
def test_an_expression_means(text: str, meaning: Any) -> None:
    found = value(text)
    assert (found, repr(found)) == (meaning, repr(meaning))


FAILURES = [
    ("input.nothing", "line 1, column 1: input has no member 'nothing'"),
    ("input.note.x", "input.note is null and has no members"),
    ("1 +\n  input.xs[3]", "line 2, column 3: input.xs has 3 items and none at 3"),
    ("input.xs[-1]", "none at -1"),
    ("input.xs['a']", "whose keys are integers"),
    ("input.tags[0]", "whose keys are strings"),
    ("results['no-step']", "results has no member 'no-step'"),
    ("input.total + 'x'", r"line 1, column 13: int \+ string has no meaning"),
    ("true + 1", r"bool \+ int has no meaning"),
    ("input.total < 'x'", "int < string has no meaning"),
    ("null > 1", "null > int"),
    ("[1] < [2]", "list < list"),
    ("'a' in 'abc'", r"found by \.contains\(\)"),
    ("1 / 0", "division by zero"),
    ("1 % 0", "division by zero"),
    ("1.0 / 0.0", "division by zero"),
    ("1e300 * 1e300", "a double gets too large"),
    ("input.big * 1.5", "too large for a double"),
    ("input.big * 10", f"more than {DIGITS_MAX} digits"),
    ("!input.total", "'!' asks for true or false, not int"),
    ("input.note || false", r"\|\| asks for true or false, not null"),
    ("input.total ? 1 : 2", "before '\\?' is true or false, not int"),
    ("-input.name", "-string has no meaning"),
    ("input.total.map(x, x)", r"map\(\) asks for a list or a map, not int"),
    ("input.xs.filter(x, x)", r"filter\(\) asks for true or false, not int"),
    ("input.xs.exists(x, x / 0 == 1)", "division by zero"),
    ("{1: 2}", "the key of a map is a string, not int"),
    ("{'a': 1, 'a': 2}", "stands twice"),
    ("input.?note", r"end \.\? and \[\?\] with \.orValue"),
    ("input.?note == null", "cannot compare an optional"),
    ("[input.?note]", "may be absent"),
    ("input.note.orValue(1)", r"orValue\(\) asks for"),
    ("int('1.5')", "no integer in '1.5'"),
    ("double('nan')", "no number"),
    ("string(input.xs)", r"string\(\) asks for"),
    ("[].min()", "empty list"),
    ("[1, 'a'].sort()", "cannot compare int with string"),
    ("input.total.matches('a')", r"matches\(\) asks for a string, not int"),
    ("'abc'.substring(2, 1)", "no part from 2 to 1"),
]


@pytest.mark.parametrize(("text", "reason"), FAILURES)
def test_a_failure_names_the_expression_and_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ExpressionFailed, match=reason) as caught:
        value(text)
    assert repr(text) in caught.value.detail
    assert caught.value.problem().context["expression"] == text


FAULTS = [
    ("", "empty"),
    ("  // only a note", "ends too early"),
    ("1 +", "line 1, column 4: the expression ends too early"),
    ("(1", "ends too early"),
    ("1 2", "column 3: unexpected '2'"),
    ("total", "no variable 'total'; there are event, index, input, item, left, results, right, signal, state, task"),
    ("input.a = 1", "equality is '=='"),
    ("input.a & 1", "and is '&&'"),
    ("'abc", "does not end on its line"),
    ("'a\\qb'", r"\\q is no escape"),
    ("'\\ud800'", "lone surrogate"),
    ("'\\x00'", r"U\+0000"),
    ("1u", "unexpected '1u'"),
    ("b'a'", "unexpected"),
    ("now()", r"no function now\(\)"),
    ("random()", "no function"),
    ("timestamp('2026-01-01T00:00:00Z')", r"no function timestamp\(\)"),
    ("input.xs.fliter(x, x > 1)", r"did you mean filter\(\)\?"),
    ("contains(input.name, 'a')", r"written value\.contains\(\)"),
    ("input.name.contains()", "takes 1 arguments, not 0"),
    ("has(input)", "asks for a member"),
    ("input.xs.map(1, 2)", "takes a variable"),
    ("input.xs.map(item, item)", "'item' is taken"),
    ("input.xs.map(x, input.xs.map(x, x))", "'x' is taken"),
    ("input.xs.map(for, 1)", "'for' is taken"),
    ("input.name.matches(input.name)", "written out as a string"),
    ("input.name.matches('(a')", "is no pattern"),
    ("input.name.matches('(?=a)b')", "no look-around"),
    ("9" * (DIGITS_MAX + 1), "digits"),
    ("1e999", "too large"),
    (" " * TEXT_CHARS_MAX + "1", "longer than"),
    ("'\ud800'", "surrogate"),
    ("__import__('os')", "no function"),
    ("input.__class__()", "no function"),
    ("\x00", r"U\+0000"),
    ("!" * (NESTING_MAX + 2) + "true", "nests deeper"),
]


@pytest.mark.parametrize(("text", "reason"), FAULTS)
def test_a_text_that_is_no_expression_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(ExpressionInvalid, match=reason):
        compile_expression(text)


@pytest.mark.parametrize(
    ("text", "names", "steps"),
    [
        ("1", set(), set()),
        ("input.a > index", {"input", "index"}, set()),
        ("results.fetch.rows", {"results"}, {"fetch"}),
        ("results['my-step'].ok && has(results.b) && results.?c.hasValue()", {"results"}, {"my-step", "b", "c"}),
        ("'d' in results && results[?'e'].hasValue()", {"results"}, {"d", "e"}),
        ("input.xs.map(r, r.results)", {"input"}, set()),
        ("input.xs.map(x, results.fetch.n + x)", {"input", "results"}, {"fetch"}),
        ("results[input.which]", {"results", "input"}, None),
        ("results.size() + results.fetch.n", {"results"}, None),
        ("results.map(s, s)", {"results"}, None),
        ("results", {"results"}, None),
    ],
)
def test_it_tells_what_it_reads(text: str, names: set[str], steps: set[str] | None) -> None:
    expression = compile_expression(text)
    assert expression.names == names
    assert expression.results_read == steps


def test_an_expression_is_compiled_once() -> None:
    assert compile_expression("input.a == 1") is compile_expression("input.a == 1")


def test_a_place_may_offer_other_variables() -> None:
    expression = compile_expression("event.data.id == input.id", variables=frozenset({"event", "input"}))
    assert expression.test({"event": {"data": {"id": 1}}, "input": {"id": 1}})


def test_a_variable_that_is_not_bound_is_a_failure() -> None:
    with pytest.raises(ExpressionFailed, match="item is not known at this place"):
        compile_expression("item.id").evaluate({"input": {}})


@pytest.mark.parametrize("text", ["1", "null", "'true'", "[true]"])
def test_a_condition_is_true_or_false(text: str) -> None:
    with pytest.raises(ExpressionFailed, match="a condition is true or false, not"):
        compile_expression(text).test(BINDINGS)


def test_items_are_a_list() -> None:
    assert compile_expression("input.xs").items(BINDINGS) == [3, 1, 2]
    with pytest.raises(ExpressionFailed, match="a list is asked for, not map"):
        compile_expression("input.tags").items(BINDINGS)


def test_maps_are_walked_by_key_whatever_their_order() -> None:
    keys = compile_expression("input.map(k, k)")
    assert keys.evaluate({"input": {"b": 1, "a": 2}}) == keys.evaluate({"input": {"a": 2, "b": 1}}) == ["a", "b"]


def test_ten_thousand_items_are_no_trouble() -> None:
    expression = compile_expression("input.filter(n, n % 2 == 0).map(n, {'n': n})")
    assert len(expression.items({"input": list(range(10_000))})) == 5_000


TEXT = "a" * 60_000
HOSTILE: dict[str, Any] = {"input": {"text": TEXT, "xs": list(range(10_000)), "big": BIG, "digits": "7" * 1000}}

BOUNDED = [
    ("input.xs.map(x, input.xs.map(y, input.xs.map(z, x)))", "more work"),
    ("input.xs.exists(x, x < 0 || input.xs.exists(y, y < 0))", "more work"),
    ("input.xs.all(x, input.xs == input.xs)", "more work"),
    ("input.xs.filter(x, x in input.xs)", "more work"),
    ("input.xs.map(x, input.xs.sort())", "more work"),
    ("input.xs.map(x, input.xs + input.xs)", "more work"),
    ("input.xs.map(x, [input.xs, input.xs].flatten())", "more work"),
    ("input.xs.map(x, input.text + 'b')", "more work"),
    ("input.xs.map(x, input.text.split('a'))", "more work"),
    ("input.xs.filter(x, input.text.contains('ab'))", "more work"),
    ("input.xs.filter(x, input.text < input.text + 'b')", "more work"),
    ("input.xs.filter(x, input.text.matches('(a*)*b$'))", "more work"),
    ("lists.range(30000).map(x, string(input.big))", "more work"),
    ("lists.range(30000).map(x, int(input.digits))", "more work"),
    ("lists.range(30000).map(x, input.big % 7)", "more work"),
    ("lists.range(30000).map(x, input.big / 7)", "more work"),
    ("lists.range(1000000000000)", "more work"),
    ("true || input.xs.map(x, input.xs.map(y, y)) == []", None),
    ("input.xs.map(x, input.xs.map(y, y)) == [] || true", "more work"),
    ("[input.text]" + ".map(a, a + a)" * 40, "characters, more than"),
    ("[input.text]" + ".map(a, a.replace('a', 'aa'))" * 40, "characters, more than"),
    ("input.text.replace('a', input.text)", "characters, more than"),
    ("input.text.replace('', input.text)", "characters, more than"),
    ("input.xs.map(x, input.text).join(input.text)", "characters, more than"),
    ("'x'" + " + input.text" * 300, "characters, more than"),
    ("[1]" + ".map(a, [a, a])" * 40, "larger than"),
    ("[{input.text: 1}]" + ".map(a, [a, a])" * 20, "larger than"),
    ("[1]" + ".map(a, [[[a]]])" * 30, "nests deeper than"),
    ("input.xs.map(x, input.big)", "larger than"),
    ("[input.text, input.text]", "larger than"),
    ("input.xs.map(x, input.big * input.big)", "digits"),
    ("input.text.matches('(a*)*b$')", None),
    ("input.text.matches('(a|aa)+$')", None),
    ("input.text.matches('(a?){40}a{40}b')", None),
    ("input.text.matches('(([a-z]{1,50}){1,50}){1,50}')", "too large"),
    ("(" * 2000 + "1" + ")" * 2000, None),
    ("1" + "+1" * 2000, None),
    ("-" * 4000 + "1", "nests deeper"),
    ("[" * 2000 + "]" * 2000, "nests deeper"),
    ("[" * 4000, "too early"),
    ("input" + ".a" * 2000, "nests deeper"),
    ("1 " + "? 1 : 1 " * 500, "nests deeper"),
    ("input" + ".map(x, 1)" * 400, "nests deeper"),
]


@pytest.mark.parametrize(("text", "reason"), BOUNDED)
@pytest.mark.timeout(20)
def test_hostile_expressions_end(text: str, reason: str | None) -> None:
    """Each would take minutes, gigabytes or the stack if nothing bounded it; all together take a second or two."""
    if reason is None:
        compile_expression(text).evaluate(HOSTILE)
        return
    with pytest.raises((ExpressionFailed, ExpressionInvalid), match=reason) as caught:
        compile_expression(text).evaluate(HOSTILE)
    assert len(caught.value.detail) < 600


@pytest.mark.parametrize("name", ["lowerAscii", "upperAscii"])
def test_a_change_of_case_costs_about_the_same_whatever_the_letters(name: str) -> None:
    """One letter beyond ASCII made it fifty times as long for the same work: half a second of nothing else."""
    expression = compile_expression(f"lists.range(240).map(x, input.{name}()).size()")

    def cpu_s(letter: str) -> float:
        begun_s = time.process_time()
        assert expression.evaluate({"input": letter * 60_000}) == 240
        return time.process_time() - begun_s

    assert min(cpu_s("é") for _ in range(3)) < 15 * min(cpu_s("e") for _ in range(3))


def test_the_parser_is_loaded_with_the_first_expression() -> None:
    code = (
        "import sys, tasker.client, tasker.handlers, tasker.cli, tasker.templates.expressions as e\n"
        "assert 'lark' not in sys.modules\n"
        "assert e.compile_expression('1 + 1').evaluate({}) == 2\n"
        "assert 'lark' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_kept_compiled_is_bounded_by_its_size() -> None:
    """4,096 of these took some gigabytes, whoever sent their templates, refused ones too."""
    patterns = " || ".join(f"input.matches('(a|b){{1,9}}[c-z]{{2,40}}{number}')" for number in range(80))
    for number in range(60):
        compile_expression(f"{number} < {number} || {patterns}")
        compile_expression(f"{number}{'+1' * 2000}")
    assert 0 < expressions._kept.nodes <= expressions.KEPT_NODES_MAX
    assert expressions._kept.nodes == sum(nodes for _, nodes in expressions._kept.expressions.values())
    newest = f"59{'+1' * 2000}"
    assert compile_expression(newest) is compile_expression(newest)
    assert f"0{'+1' * 2000}" not in {text for text, _ in expressions._kept.expressions}
