r"""Which errors are the same: a fingerprint over an error's class, its step and its message without what varies.

What varies from one failure to the next (numbers, ids, times, addresses, paths, quoted values) is masked, in this
order, so that what a later rule would cut to pieces is masked whole by an earlier one:

| in a message                                        | mask        |
|-----------------------------------------------------|-------------|
| 'text', "text", `text`                              | `<text>`    |
| scheme://anything                                   | `<url>`     |
| name@host.tld                                       | `<email>`   |
| a UUID                                              | `<id>`      |
| 2026-11-21T10:00:00Z, 2026-11-21, 10:00:00          | `<time>`    |
| 10.0.0.7, 10.0.0.7:5432, host.tld:5432              | `<address>` |
| /a/path, C:\a\path                                  | `<path>`    |
| a number, with its sign                             | `<n>`       |
| 0x7f.., hex of 8 digits and more                    | `<n>`       |
| letters and digits mixed, of 8 characters and more  | `<n>`       |
| digits within a word                                | `<n>`       |

An id may be all digits or not, so it has the mask of a number. Masks of one kind in a row are one. Pure, and of linear
cost. `FINGERPRINT_VERSION` leads every fingerprint: whoever changes a rule raises it and the view is rebuilt, so that
old and new groups are not mixed.
"""

from __future__ import annotations

import re
from typing import Final

from tasker.ids import digest_of
from tasker.templates.instances import name_of

FINGERPRINT_VERSION: Final = 1
SEEN_CHARS_MAX: Final = 1000
"""Characters of a message that count."""

PATTERN_CHARS_MAX: Final = 300
MIXED_CHARS_MIN: Final = 8
_HEX_DIGITS: Final = 16

_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"(?<!\w)'[^'\n]*'(?!\w)|(?<!\w)\"[^\"\n]*\"|`[^`\n]*`"), "<text>"),
    (re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s<>]+"), "<url>"),
    (re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), "<email>"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (
        re.compile(
            r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?\b"
            r"|\b\d\d?:\d\d:\d\d(?:[.,]\d{1,9})?\b"
        ),
        "<time>",
    ),
    (
        re.compile(
            r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b"
            r"|(?<![\w.-])[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}:\d{1,5}\b"
        ),
        "<address>",
    ),
    (re.compile(r"(?<![\w<])(?:[A-Za-z]:)?(?:[/\\][\w.+@%~-]+)+[/\\]?"), "<path>"),
    (re.compile(r"(?<![\w<])[+-]?\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?(?!\w)"), "<n>"),
    (re.compile(r"\b0[xX][0-9a-fA-F]+\b|\b(?=[a-fA-F]{0,40}\d)[0-9a-fA-F]{8,}\b"), "<n>"),
)
_WORD: Final = re.compile(rf"\w{{{MIXED_CHARS_MIN},}}")
_MIXED: Final = re.compile(r"\d+[^\W\d]+\d|[^\W\d]\d+[^\W\d]")
_DIGITS: Final = re.compile(r"\d+")
_REPEATED: Final = re.compile(r"(<[a-z]+>)(?:[\s,;:.|/x-]{1,3}\1)+")
_SPACE: Final = re.compile(r"\s+")


def pattern_of(message: str) -> str:
    """Return `message` with what varies masked, in one line of at most `PATTERN_CHARS_MAX` characters."""
    text = message[:SEEN_CHARS_MAX]
    for rule, mask in _RULES:
        text = rule.sub(mask, text)
    text = _WORD.sub(lambda word: "<n>" if _MIXED.search(word[0]) else word[0], text)
    text = _DIGITS.sub("<n>", text)
    text = _SPACE.sub(" ", text).strip()
    return _REPEATED.sub(r"\1", text)[:PATTERN_CHARS_MAX]


def fingerprint_of(error_type: str, instance: str, message: str) -> str:
    """Return the fingerprint of an error, such as `1-5f0c3a9be7d21468`.

    Args:
        error_type: the class, as an `ErrorInfo` names it.
        instance: the step, or its instance; "" for a task. A step stands for its handler, which no event names: by
            default both are called alike.
        message: the error's.
    """
    parts = (error_type, name_of(instance), pattern_of(message))
    digest = digest_of(*(part.encode("utf-8", "surrogatepass") for part in parts)).hex()
    return f"{FINGERPRINT_VERSION}-{digest[:_HEX_DIGITS]}"
