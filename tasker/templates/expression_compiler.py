"""The tree of an expression becomes closures, bottom up; what it reads is noted on the way.

Straight-line parts are bounded by the text and count nothing; each turn of a macro pays for the nodes of its body.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Final

from tasker.events.codec import DIGITS_MAX, JsonValue
from tasker.templates.expression_functions import FUNCTIONS, METHODS, Function, spend_match
from tasker.templates.expression_grammar import RESERVED, SyntaxFault, shortened, start_of
from tasker.templates.expression_literals import literal, pattern_of
from tasker.templates.expression_values import ABSENT, BINARY, Fault, Meter, Optional, kind_of, negate

NESTING_MAX: Final = 48
"""Deepest an expression nests. Parentheses that change nothing do not count, nor do the terms of one sum."""

_MACROS: Final = {"all": 2, "exists": 2, "exists_one": 2, "filter": 2, "map": 3}
_SHORT_MAP: Final = 2
_namespaces = frozenset(name.partition(".")[0] for name in FUNCTIONS if "." in name)


class Frame:
    """What one evaluation reads: bindings, the variables of macros, the work that is left."""

    __slots__ = ("bindings", "meter", "slots")

    def __init__(self, bindings: Mapping[str, JsonValue], slots: int) -> None:
        self.bindings = bindings
        self.slots: list[JsonValue] = [None] * slots
        self.meter = Meter()


Run = Callable[[Frame], Any]


class Compiler:
    """Makes closures of a tree, bottom up, and notes what the expression reads."""

    def __init__(self, text: str, variables: frozenset[str]) -> None:
        self.names: set[str] = set()
        self.results_read: set[str] | None = set()
        self.slots = 0
        self.builds = False
        self.patterns = 0
        self._text = text
        self._variables = variables
        self._bound: list[str] = []
        self.nodes = 0

    def compiled(self, node: Any, depth: int) -> Run:
        """Return the closure of a node of the tree."""
        if depth > NESTING_MAX:
            raise SyntaxFault(f"it nests deeper than {NESTING_MAX}", start_of(node))
        self.nodes += 1
        make: Callable[[Any, int], Run] = getattr(self, f"_{node.data}")
        return make(node, depth + 1)

    # ---- literals

    def _true(self, _node: Any, _depth: int) -> Run:
        return lambda _frame: True

    def _false(self, _node: Any, _depth: int) -> Run:
        return lambda _frame: False

    def _null(self, _node: Any, _depth: int) -> Run:
        return lambda _frame: None

    def _integer(self, node: Any, _depth: int) -> Run:
        digits = str(node.children[0])
        if len(digits) > DIGITS_MAX:
            raise SyntaxFault(f"an integer has more than {DIGITS_MAX} digits", start_of(node))
        value = int(digits, 16 if digits.startswith("0x") else 10)
        if value >= 10**DIGITS_MAX:
            raise SyntaxFault(f"an integer has more than {DIGITS_MAX} digits", start_of(node))
        return lambda _frame: value

    def _float(self, node: Any, _depth: int) -> Run:
        value = float(node.children[0])
        if value in (float("inf"), float("-inf")):
            raise SyntaxFault("a number is too large for a double", start_of(node))
        return lambda _frame: value

    def _string(self, node: Any, _depth: int) -> Run:
        value = literal(node)
        return lambda _frame: value

    def _list(self, node: Any, depth: int) -> Run:
        self.builds = True
        runs = [self.compiled(child, depth) for child in node.children]
        return lambda frame: [run(frame) for run in runs]

    def _map(self, node: Any, depth: int) -> Run:
        self.builds = True
        entries = [tuple(self.compiled(part, depth) for part in entry.children) for entry in node.children]
        offset = start_of(node)

        def run(frame: Frame) -> JsonValue:
            made: dict[str, JsonValue] = {}
            for key_run, value_run in entries:
                key = key_run(frame)
                if type(key) is not str:
                    raise Fault(f"the key of a map is a string, not {kind_of(key)}", offset)
                if key in made:
                    raise Fault(f"the key {key[:80]!r} stands twice in one map", offset)
                made[key] = value_run(frame)
            return made

        return run

    # ---- names and members

    def _variable(self, node: Any, _depth: int) -> Run:
        name = str(node.children[0])
        if name in self._bound:
            slot = len(self._bound) - 1 - self._bound[::-1].index(name)
            return lambda frame: frame.slots[slot]
        self._note_root(node, name)
        if name == "results":
            self.results_read = None  # as a whole; `_operand` sees to its members
        return self._root(node, name)

    def _note_root(self, node: Any, name: str) -> None:
        if name not in self._variables:
            known = ", ".join(sorted(self._variables))
            raise SyntaxFault(f"there is no variable {name[:80]!r}; there are {known}", start_of(node))
        self.names.add(name)

    def _root(self, node: Any, name: str) -> Run:
        offset = start_of(node)

        def run(frame: Frame) -> JsonValue:
            try:
                return frame.bindings[name]
            except KeyError:
                raise Fault(f"{name} is not known at this place", offset) from None

        return run

    def _operand(self, node: Any, key: str | None, depth: int) -> Run:
        """Return the closure of what stands before a dot or a bracket that asks for `key` (None: computed)."""
        if key is None or not self._is_results(node):
            return self.compiled(node, depth)
        self.nodes += 1
        self._note_root(node, "results")
        if self.results_read is not None:
            self.results_read.add(key)
        return self._root(node, "results")

    def _is_results(self, node: Any) -> bool:
        return node.data == "variable" and node.children[0] == "results" and "results" not in self._bound

    def _select(self, node: Any, depth: int) -> Run:
        name = str(node.children[1])
        return self._member(node, self._operand(node.children[0], name, depth), name)

    def _member(self, node: Any, operand: Run, name: str) -> Run:
        offset = start_of(node)
        owner = self._source(node.children[0])

        def run(frame: Frame) -> JsonValue:
            value = operand(frame)
            if type(value) is dict:
                try:
                    return value[name]
                except KeyError:
                    raise Fault(f"{owner} has no member {name[:80]!r}; has() asks for it", offset) from None
            if type(value) is Optional:
                return _optional_member(value, name)
            raise Fault(f"{owner} is {kind_of(value)} and has no members", offset)

        return run

    def _select_optional(self, node: Any, depth: int) -> Run:
        name = str(node.children[1])
        operand = self._operand(node.children[0], name, depth)
        return self._maybe(node, operand, lambda _frame: name)

    def _index(self, node: Any, depth: int) -> Run:
        operand, key_run = self._indexed(node, depth)
        offset = start_of(node)
        owner = self._source(node.children[0])

        def run(frame: Frame) -> JsonValue:
            value = operand(frame)
            key = key_run(frame)
            if type(value) is Optional:
                return _optional_member(value, key)
            _check_key(value, key, owner, offset)
            if type(value) is dict:
                if key not in value:
                    raise Fault(f"{owner} has no member {key[:80]!r}", offset)
            elif not 0 <= key < len(value):
                raise Fault(f"{owner} has {len(value)} items and none at {str(key)[:40]}", offset)
            return value[key]

        return run

    def _index_optional(self, node: Any, depth: int) -> Run:
        operand, key = self._indexed(node, depth)
        return self._maybe(node, operand, key)

    def _indexed(self, node: Any, depth: int) -> tuple[Run, Run]:
        key_node = node.children[1]
        key = literal(key_node) if key_node.data == "string" else None
        return self._operand(node.children[0], key, depth), self.compiled(key_node, depth)

    def _maybe(self, node: Any, operand: Run, key_run: Run) -> Run:
        offset = start_of(node)
        owner = self._source(node.children[0])

        def run(frame: Frame) -> JsonValue:
            value = operand(frame)
            key = key_run(frame)
            if type(value) is not Optional:
                _check_key(value, key, owner, offset)
                value = Optional(is_present=True, value=value)
            return _optional_member(value, key)

        return run

    # ---- operators

    def _conditional(self, node: Any, depth: int) -> Run:
        test, then, otherwise = (self.compiled(child, depth) for child in node.children)
        offset = start_of(node)

        def run(frame: Frame) -> JsonValue:
            value = test(frame)
            if type(value) is not bool:
                raise Fault(f"what stands before '?' is true or false, not {kind_of(value)}", offset)
            return then(frame) if value else otherwise(frame)

        return run

    def _any_of(self, node: Any, depth: int) -> Run:
        return self._decided(node, depth, decisive=True)

    def _all_of(self, node: Any, depth: int) -> Run:
        return self._decided(node, depth, decisive=False)

    def _decided(self, node: Any, depth: int, *, decisive: bool) -> Run:
        """`||` and `&&`: a term that decides makes up for one that fails, whichever comes first."""
        runs = [(self.compiled(child, depth), start_of(child)) for child in node.children]
        sign = "||" if decisive else "&&"

        def run(frame: Frame) -> bool:
            first: Fault | None = None
            for term, offset in runs:
                try:
                    value = term(frame)
                    if type(value) is not bool:
                        raise Fault(f"{sign} asks for true or false, not {kind_of(value)}", offset)  # noqa: TRY301
                except Fault as fault:
                    first = first or fault
                    continue
                if value is decisive:
                    return decisive
            if first is not None:
                raise first
            return not decisive

        return run

    def _compare(self, node: Any, depth: int) -> Run:
        left_node, sign, right_node = node.children
        left = self.compiled(left_node, depth)
        key = literal(left_node) if left_node.data == "string" and sign == "in" else None
        return self._binary(left, sign, self._operand(right_node, key, depth))

    def _arithmetic(self, node: Any, depth: int) -> Run:
        self.builds = True
        run = self.compiled(node.children[0], depth)
        signs, operands = node.children[1::2], [self.compiled(child, depth) for child in node.children[2::2]]
        if len(signs) == 1:
            return self._binary(run, signs[0], operands[0])
        rest = [(BINARY[str(sign)], sign.start_pos, operand) for sign, operand in zip(signs, operands, strict=True)]

        def fold(frame: Frame) -> JsonValue:
            value = run(frame)
            for operate, offset, operand in rest:
                other = operand(frame)
                value = _placed(offset, operate, frame.meter, value, other)
            return value

        return fold

    def _binary(self, left: Run, sign: Any, right: Run) -> Run:
        operate, offset = BINARY[str(sign)], sign.start_pos

        def run(frame: Frame) -> JsonValue:
            one, other = left(frame), right(frame)
            try:
                return operate(frame.meter, one, other)
            except Fault as fault:
                raise Fault(fault.reason, offset) from None

        return run

    def _negation(self, node: Any, depth: int) -> Run:
        operand = self.compiled(node.children[0], depth)
        offset = start_of(node)

        def run(frame: Frame) -> bool:
            value = operand(frame)
            if type(value) is not bool:
                raise Fault(f"'!' asks for true or false, not {kind_of(value)}", offset)
            return not value

        return run

    def _negative(self, node: Any, depth: int) -> Run:
        operand = self.compiled(node.children[1], depth)
        offset = start_of(node)
        return lambda frame: _placed(offset, negate, frame.meter, operand(frame))

    # ---- calls

    def _call(self, node: Any, depth: int) -> Run:
        name, arguments = str(node.children[0]), node.children[1].children
        if name == "has":
            return self._has(node, arguments, depth)
        return self._called(node, FUNCTIONS, name, arguments, depth)

    def _has(self, node: Any, arguments: list[Any], depth: int) -> Run:
        if len(arguments) != 1 or arguments[0].data != "select":
            raise SyntaxFault(
                'has() asks for a member, as in has(input.note); a key is tested by "key" in map', start_of(node)
            )
        (select,) = arguments
        name = str(select.children[1])
        operand = self._operand(select.children[0], name, depth)
        owner, offset = self._source(select.children[0]), start_of(node)

        def run(frame: Frame) -> bool:
            value = operand(frame)
            if type(value) is Optional:
                return _optional_member(value, name).is_present
            if type(value) is not dict:
                raise Fault(f"{owner} is {kind_of(value)} and has no members", offset)
            return name in value

        return run

    def _method(self, node: Any, depth: int) -> Run:
        operand, name_token, arguments = node.children
        name = str(name_token)
        if operand.data == "variable":
            namespace = str(operand.children[0])
            if namespace in _namespaces and namespace not in self._bound:
                return self._called(node, FUNCTIONS, f"{namespace}.{name}", arguments.children, depth)
        if name in _MACROS:
            return self._macro(node, operand, name, arguments.children, depth)
        if name == "matches":
            return self._matches(node, operand, arguments.children, depth)
        return self._called(node, METHODS, name, [operand, *arguments.children], depth)

    def _called(self, node: Any, functions: dict[str, Function], name: str, arguments: list[Any], depth: int) -> Run:
        function = functions.get(name)
        if function is None:
            raise SyntaxFault(_no_function(functions, name), start_of(node))
        if not function.count_min <= len(arguments) <= function.count_max:
            own = 1 if functions is METHODS else 0
            counts = " or ".join(str(count - own) for count in sorted({function.count_min, function.count_max}))
            raise SyntaxFault(f"{name}() takes {counts} arguments, not {len(arguments) - own}", start_of(node))
        self.builds = True
        runs = [self.compiled(argument, depth) for argument in arguments]
        operate, offset = function.run, start_of(node)
        if len(runs) == 1:
            (only,) = runs
            return lambda frame: _placed(offset, operate, frame.meter, only(frame))
        return lambda frame: _placed(offset, operate, frame.meter, *[run(frame) for run in runs])

    def _matches(self, node: Any, operand: Any, arguments: list[Any], depth: int) -> Run:
        if len(arguments) != 1 or arguments[0].data != "string":
            raise SyntaxFault("matches() takes one pattern, written out as a string", start_of(node))
        pattern, offset = literal(arguments[0]), start_of(node)
        is_match = pattern_of(pattern, start_of(arguments[0]))
        self.patterns += 1
        text_run = self.compiled(operand, depth)

        def run(frame: Frame) -> bool:
            text = text_run(frame)
            _placed(offset, spend_match, frame.meter, text)
            return is_match(text)

        return run

    def _macro(self, node: Any, operand: Any, name: str, arguments: list[Any], depth: int) -> Run:
        if len(arguments) not in {2, _MACROS[name]} or arguments[0].data != "variable":
            raise SyntaxFault(
                f"{name}() takes a variable and an expression, as in list.{name}(x, x > 1)", start_of(node)
            )
        variable = str(arguments[0].children[0])
        if variable in self._variables or variable in self._bound or variable in RESERVED or variable in _namespaces:
            raise SyntaxFault(f"the variable {variable[:80]!r} is taken; choose another name", start_of(arguments[0]))
        items_run = self.compiled(operand, depth)
        slot = len(self._bound)
        self._bound.append(variable)
        self.slots = max(self.slots, len(self._bound))
        before = self.nodes
        bodies = [self.compiled(body, depth) for body in arguments[1:]]
        cost = 1 + self.nodes - before
        self._bound.pop()
        loop = _Loop(items_run, slot, cost, start_of(node), name)
        match name:
            case "all":
                return loop.decided(bodies[0], decisive=False)
            case "exists":
                return loop.decided(bodies[0], decisive=True)
            case "exists_one":
                return loop.one(bodies[0])
            case "filter":
                self.builds = True
                return loop.mapped(bodies[0], lambda frame: frame.slots[slot])
            case _:
                self.builds = True
                return loop.mapped(bodies[0] if len(bodies) == _SHORT_MAP else None, bodies[-1])

    def _source(self, node: Any) -> str:
        return shortened(self._text[node.meta.start_pos : node.meta.end_pos], 60)


class _Loop:
    """The turns of a macro: each binds the variable and pays for the nodes of the body."""

    def __init__(self, items: Run, slot: int, cost: int, offset: int, name: str) -> None:
        self._items = items
        self._slot = slot
        self._cost = cost
        self._offset = offset
        self._name = name

    def _list(self, frame: Frame) -> list[JsonValue]:
        value = self._items(frame)
        if type(value) is list:
            return value
        if type(value) is dict:
            frame.meter.spend(len(value))
            return sorted(value)
        raise Fault(f"{self._name}() asks for a list or a map, not {kind_of(value)}", self._offset)

    def _test(self, value: JsonValue) -> bool:
        if type(value) is not bool:
            raise Fault(f"{self._name}() asks for true or false, not {kind_of(value)}", self._offset)
        return value

    def decided(self, body: Run, *, decisive: bool) -> Run:
        """`all`, `exists`: an item that decides makes up for one that fails."""

        def run(frame: Frame) -> bool:
            first: Fault | None = None
            for item in self._list(frame):
                frame.meter.spend(self._cost)
                frame.slots[self._slot] = item
                try:
                    if self._test(body(frame)) is decisive:
                        return decisive
                except Fault as fault:
                    first = first or fault
            if first is not None:
                raise first
            return not decisive

        return run

    def one(self, body: Run) -> Run:
        """`exists_one`."""

        def run(frame: Frame) -> bool:
            found = 0
            for item in self._list(frame):
                frame.meter.spend(self._cost)
                frame.slots[self._slot] = item
                found += self._test(body(frame))
            return found == 1

        return run

    def mapped(self, test: Run | None, body: Run) -> Run:
        """`map`, `filter`."""

        def run(frame: Frame) -> list[JsonValue]:
            made = []
            for item in self._list(frame):
                frame.meter.spend(self._cost)
                frame.slots[self._slot] = item
                if test is None or self._test(test(frame)):
                    made.append(body(frame))
            return made

        return run


def _placed(offset: int, operate: Callable[..., JsonValue], meter: Meter, *values: JsonValue) -> JsonValue:
    try:
        return operate(meter, *values)
    except Fault as fault:
        raise Fault(fault.reason, offset) from None


def _optional_member(value: Optional, key: JsonValue) -> Optional:
    """Return the member or item `key` of what may be absent; absent when either is."""
    owner = value.value
    if not value.is_present:
        return ABSENT
    if type(owner) is dict and type(key) is str:
        return Optional(is_present=True, value=owner[key]) if key in owner else ABSENT
    if type(owner) is list and type(key) is int:
        return Optional(is_present=True, value=owner[key]) if 0 <= key < len(owner) else ABSENT
    raise Fault(f"{kind_of(owner)} has no {kind_of(key)} members")


def _check_key(value: JsonValue, key: JsonValue, owner: str, offset: int) -> None:
    if type(value) not in {dict, list}:
        raise Fault(f"{owner} is {kind_of(value)} and has no members", offset)
    asked = str if type(value) is dict else int
    if type(key) is not asked:
        raise Fault(f"{owner} is {kind_of(value)}, whose keys are {'strings' if asked is str else 'integers'}", offset)


def _no_function(functions: dict[str, Function], name: str) -> str:
    near = difflib.get_close_matches(name, [*functions, *(_MACROS if functions is METHODS else ())], 1)
    hint = f"; did you mean {near[0]}()?" if near else ""
    if functions is FUNCTIONS and name in METHODS:
        hint = f"; it is written value.{name}()"
    return f"there is no function {name[:80]}(){hint}"
