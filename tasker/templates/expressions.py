"""Expressions in templates: a condition, a list to map over, a value, a key, told in CEL over plain JSON values.

An expression comes from outside and runs where tasks are decided, so it is pure and bounded:

- The same bindings give the same value: there is no clock, no chance, no name that is not bound. Maps are walked by
  key, in code point order.
- Its text, its nesting, the work of one evaluation (`WORK_MAX`) and what it gives (`RESULT_BYTES_MAX`) are bounded.
- Patterns are literals and run on an engine of linear time, the one that JSON Schema's patterns run on.

    text -> tree (`expression_grammar`) -> closures (`expression_compiler`) -> a value of the bindings

Nothing is converted: values in are the caller's own, and may be parts of the value that comes out, so neither is to be
changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NoReturn

from tasker.errors import ExpressionFailed, ExpressionInvalid
from tasker.events import codec
from tasker.events.codec import DEPTH_MAX, INPUT_BYTES_MAX, KEYS_MAX, JsonValue
from tasker.templates.expression_compiler import Compiler, Frame, Run
from tasker.templates.expression_grammar import SyntaxFault, parse, place_of, shortened, shown
from tasker.templates.expression_values import Fault, Meter, Optional, WorkSpent, kind_of

TEXT_CHARS_MAX: Final = 4096

KEPT_NODES_MAX: Final = 200_000
"""Nodes of the compiled expressions that are kept: about half a kilobyte each."""

_PATTERN_NODES: Final = 64
"""So many nodes take the memory of one pattern."""

RESULT_BYTES_MAX: Final = INPUT_BYTES_MAX
"""Largest value of an expression, in canonical bytes."""

VARIABLES: Final = frozenset({"input", "results", "item", "index", "state", "task", "signal", "event", "left", "right"})
"""What an expression may read, where its place in the template binds it."""


class Expression:
    """A compiled expression.

    Attributes:
        text: as it was written.
        names: the variables that it reads.
        results_read: the steps whose results it reads; None when only the evaluation can tell, because it takes
            `results` as a whole or by a computed name.
    """

    __slots__ = ("_builds", "_run", "_slots", "names", "results_read", "text")

    def __init__(
        self,
        text: str,
        run: Run,
        *,
        names: frozenset[str],
        results_read: frozenset[str] | None,
        slots: int,
        builds: bool,
    ) -> None:
        self.text = text
        self.names = names
        self.results_read = results_read
        self._run = run
        self._slots = slots
        self._builds = builds

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def evaluate(self, bindings: Mapping[str, JsonValue]) -> JsonValue:
        """Return the value of the expression, a JSON value as codec defines it.

        Raises:
            ExpressionFailed: it has none: a type does not fit, a member is missing, a bound is reached.
        """
        frame = Frame(bindings, self._slots)
        try:
            value = self._run(frame)
            kind = type(value)
            if kind is bool or value is None:
                return value
            self._check_size(value)
        except Fault as fault:
            self._fail(fault.reason, fault.offset)
        except WorkSpent:
            self._fail("it takes more work than is allowed; loop over less, or let a handler do it")
        except RecursionError:
            self._fail("its values nest too deep")
        return value

    def test(self, bindings: Mapping[str, JsonValue]) -> bool:
        """Return the value, which is true or false.

        Raises:
            ExpressionFailed: it is neither, or there is none.
        """
        value = self.evaluate(bindings)
        if type(value) is not bool:
            self._fail(f"a condition is true or false, not {kind_of(value)}")
        return value

    def items(self, bindings: Mapping[str, JsonValue]) -> list[JsonValue]:
        """Return the value, which is a list.

        Raises:
            ExpressionFailed: it is none, or there is none.
        """
        value = self.evaluate(bindings)
        if type(value) is not list:
            self._fail(f"a list is asked for, not {kind_of(value)}")
        return value

    def _check_size(self, value: JsonValue) -> None:
        try:
            if self._builds or type(value) is Optional:
                _check_built(value, Meter(RESULT_BYTES_MAX), 0)
        except WorkSpent:
            bytes_count = RESULT_BYTES_MAX + 1
        else:
            bytes_count = len(codec.canonical(value))
        if bytes_count > RESULT_BYTES_MAX:
            raise Fault(f"its value is larger than {RESULT_BYTES_MAX} bytes")

    def _fail(self, reason: str, offset: int | None = None) -> NoReturn:
        place = "" if offset is None else f" at {place_of(self.text, offset)}"
        raise ExpressionFailed(
            f"expression {shown(self.text)}{place}: {shortened(reason)}", expression=shortened(self.text)
        )


class _Kept:
    """Compiled expressions, so that each is compiled once; the first to come is the first to go.

    Bounded by nodes, not by expressions: one of 4,096 characters may take two megabytes, and comes from outside.
    """

    def __init__(self) -> None:
        self.expressions: OrderedDict[tuple[str, frozenset[str]], tuple[Expression, int]] = OrderedDict()
        self.nodes = 0

    def keep(self, text: str, variables: frozenset[str], expression: Expression, nodes: int) -> None:
        self.expressions[text, variables] = (expression, nodes)
        self.nodes += nodes
        while self.nodes > KEPT_NODES_MAX:
            self.nodes -= self.expressions.popitem(last=False)[1][1]


_kept = _Kept()


def compile_expression(text: str, *, variables: frozenset[str] = VARIABLES) -> Expression:
    """Return the compiled form of `text`, which may read `variables`.

    Raises:
        ExpressionInvalid: it cannot be one; the detail says what is wrong and where.
    """
    kept = _kept.expressions.get((text, variables))
    return _compiled(text, variables) if kept is None else kept[0]


def _compiled(text: str, variables: frozenset[str]) -> Expression:
    if len(text) > TEXT_CHARS_MAX:
        raise ExpressionInvalid(f"an expression of {len(text)} characters is longer than the {TEXT_CHARS_MAX} allowed")
    if not text.strip():
        raise ExpressionInvalid("the expression is empty")
    if not codec.is_text(text):
        raise ExpressionInvalid("the expression has U+0000 or a lone surrogate")
    compiler = Compiler(text, variables)
    try:
        run = compiler.compiled(parse(text), 0)
    except SyntaxFault as fault:
        raise ExpressionInvalid(
            f"expression {shown(text)} at {place_of(text, fault.offset)}: {shortened(fault.reason)}",
            expression=shortened(text),
            offset=fault.offset,
        ) from None
    steps = compiler.results_read
    expression = Expression(
        text,
        run,
        names=frozenset(compiler.names),
        results_read=None if steps is None else frozenset(steps),
        slots=compiler.slots,
        builds=compiler.builds,
    )
    _kept.keep(text, variables, expression, compiler.nodes + compiler.patterns * _PATTERN_NODES)
    return expression


def _check_built(value: JsonValue, left: Meter, depth: int) -> None:
    """Return when `value` is JSON as codec keeps it and its size is in proportion to the bytes that are `left`.

    Parts that stand in it many times count each time, so that what follows may write it out.
    """
    kind = type(value)
    if kind is list or kind is dict:
        if depth >= DEPTH_MAX:
            raise Fault(f"its value nests deeper than {DEPTH_MAX}")
        left.spend(2 + len(value))
        if kind is dict:
            if len(value) > KEYS_MAX:
                raise Fault(f"a map gets more than {KEYS_MAX} keys")
            left.spend(sum(map(len, value)))
        for part in value.values() if kind is dict else value:
            if type(part) is not bool and part is not None:
                _check_built(part, left, depth + 1)
    elif kind is str:
        left.spend(len(value))
    elif kind is int:
        left.spend(value.bit_length() // 4)
    elif kind is Optional:
        raise Fault("its value may be absent; end .? and [?] with .orValue(default)")
