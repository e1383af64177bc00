"""What the string literals of an expression spell: texts, and patterns, which are compiled with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import jsonschema_rs

from tasker.events import codec
from tasker.templates.expression_grammar import SyntaxFault, shown, start_of

PATTERN_CHARS_MAX: Final = 256
PATTERN_BYTES_MAX: Final = 16 * 1024
"""Largest compiled pattern, in memory."""

_PATTERN_CACHE_BYTES: Final = 1 << 20

_escape = re.compile(
    r"""\\(?:([abfnrtv\\'"`?])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.?))""", re.DOTALL
)
_ESCAPED: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_CODE_POINT_MAX: Final = 0x10FFFF


def literal(node: Any) -> str:
    """Return the text that a string literal spells."""
    token = str(node.children[0])
    if token[0] in "rR":
        return token[2:-1]
    text = _escape.sub(lambda found: _unescaped(found, start_of(node)), token[1:-1])
    if not codec.is_text(text):
        raise SyntaxFault("a string has U+0000 or a lone surrogate", start_of(node))
    return text


def _unescaped(found: re.Match[str], offset: int) -> str:
    sign, short, middle, long, octal, other = found.groups()
    if sign:
        return _ESCAPED.get(sign, sign)
    if other is not None:
        raise SyntaxFault(f"\\{other} is no escape; a backslash itself is \\\\", offset)
    code = int(octal, 8) if octal else int(short or middle or long, 16)
    if code > _CODE_POINT_MAX:
        raise SyntaxFault(f"there is no character {code:x}", offset)
    return chr(code)


def pattern_of(pattern: str, offset: int) -> Callable[[str], bool]:
    """Return the test whether a text has a part that fits `pattern`, which stands at `offset`.

    Raises:
        SyntaxFault: it is no pattern, or too large.
    """
    if len(pattern) > PATTERN_CHARS_MAX:
        raise SyntaxFault(f"a pattern has more than {PATTERN_CHARS_MAX} characters", offset)
    options = jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES_MAX, dfa_size_limit=_PATTERN_CACHE_BYTES)
    try:
        validator = jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
    except ValueError:
        reason = "is no pattern, or too large (no look-around, no back references)"
        raise SyntaxFault(f"{shown(pattern)} {reason}", offset) from None
    return validator.is_valid
