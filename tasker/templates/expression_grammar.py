"""The grammar of expressions: CEL's, without what JSON has no value for; a text becomes a tree, with places in it.

Lark makes an LALR(1) parser of it: linear in the text, without recursion. It is loaded with the first expression, so
that a program which compiles none does not pay for it.

Source: Common Expression Language, language definition, section Syntax; `.?` and `[?]` from optional types.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

    Node = Tree[Token] | Token

_WORDS: Final = "as break const continue else for function if import let loop package namespace return var void while"
RESERVED: Final = frozenset(re.findall(r"\w+", _WORDS))
"""What CEL keeps for itself: no variable is called so. A member may be."""

_SHOWN_CHARS: Final = 200

GRAMMAR: Final = r"""
?start: expression
?expression: either | either "?" either ":" expression -> conditional
?either: both | both ("||" both)+ -> any_of
?both: relation | relation ("&&" relation)+ -> all_of
?relation: addition | relation (RELATION | IN) addition -> compare
?addition: product | product ((PLUS | MINUS) product)+ -> arithmetic
?product: unary | unary ((STAR | SLASH | PERCENT) unary)+ -> arithmetic
?unary: member | "!" unary -> negation | MINUS unary -> negative
?member: primary
    | member "." IDENTIFIER -> select
    | member ".?" IDENTIFIER -> select_optional
    | member "." IDENTIFIER "(" arguments ")" -> method
    | member "[" expression "]" -> index
    | member "[" "?" expression "]" -> index_optional
?primary: "(" expression ")"
    | IDENTIFIER -> variable
    | IDENTIFIER "(" arguments ")" -> call
    | "[" (expression ("," expression)* ","?)? "]" -> list
    | "{" (entry ("," entry)* ","?)? "}" -> map
    | FLOAT -> float
    | (HEX | INTEGER) -> integer
    | STRING -> string
    | TRUE -> true
    | FALSE -> false
    | NULL -> null
arguments: (expression ("," expression)*)?
entry: expression ":" expression

RELATION: "<=" | ">=" | "==" | "!=" | "<" | ">"
PLUS: "+"
MINUS: "-"
STAR: "*"
SLASH: "/"
PERCENT: "%"
IN.2: /in\b/
TRUE.2: /true\b/
FALSE.2: /false\b/
NULL.2: /null\b/
FLOAT.3: /[0-9]+(\.[0-9]+([eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)(?![\w.])/
HEX.2: /0x[0-9a-fA-F]+(?!\w)/
INTEGER: /[0-9]+(?!\w)/
STRING.2: /[rR]?("(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')/
IDENTIFIER: /[A-Za-z_][A-Za-z0-9_]*/
COMMENT: /\/\/[^\n]*/
SPACE: /[ \t\r\n\f]+/
%ignore COMMENT
%ignore SPACE
"""


class SyntaxFault(Exception):
    """The text is no expression: what is wrong, and at which offset."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


def parse(text: str) -> Node:
    """Return the tree of `text`; each node has `meta` with its place in it.

    Raises:
        SyntaxFault: `text` does not follow the grammar.
    """
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    try:
        return _parser().parse(text)
    except UnexpectedCharacters as error:
        offset: int = error.pos_in_stream  # type: ignore[assignment] # declared as None, set to the offset
        raise SyntaxFault(_stranger(text, offset), offset) from None
    except UnexpectedToken as error:
        if error.token.type == "$END":
            raise SyntaxFault("the expression ends too early", len(text)) from None
        raise SyntaxFault(f"unexpected {str(error.token)[:40]!r}", error.token.start_pos or 0) from None


def _stranger(text: str, offset: int) -> str:
    sign = text[offset]
    if sign in "\"'":
        return "a string that does not end on its line"
    if sign == "=":
        return "unexpected '='; equality is '=='"
    if sign in "&|":
        return f"unexpected {sign!r}; and is '&&', or is '||'"
    return f"unexpected {text[offset : offset + 20]!r}"


@functools.cache
def _parser() -> Lark:
    from lark import Lark

    options: dict[str, Any] = {"parser": "lalr", "propagate_positions": True, "maybe_placeholders": False}
    return Lark(GRAMMAR, **options)


def start_of(node: Any) -> int:
    """Return the offset at which a node of the tree begins in the text."""
    return int(node.meta.start_pos) if hasattr(node.meta, "start_pos") else 0


def place_of(text: str, offset: int) -> str:
    """Return line and column of an offset, as messages name it."""
    line = text.count("\n", 0, offset) + 1
    column = offset - (text.rfind("\n", 0, offset) + 1) + 1
    return f"line {line}, column {column}"


def shown(text: str) -> str:
    """Return a part of an expression in quotes, no longer than messages show."""
    return repr(shortened(text))


def shortened(text: str, chars: int = _SHOWN_CHARS) -> str:
    """Return `text`, or its beginning."""
    return text if len(text) <= chars else text[: chars - 3] + "..."
