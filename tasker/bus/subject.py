"""The form of subjects, and which patterns they match."""

from __future__ import annotations


def check_pattern(pattern: str) -> None:
    """Check the pattern of a subscription: tokens between dots, `*` for any one, `>` at the end for all others.

    Raises:
        ValueError: it is none.
    """
    tokens = pattern.split(".")
    if not pattern.isprintable() or " " in pattern or not all(tokens):
        raise ValueError(pattern)
    for index, part in enumerate(tokens):
        if (">" in part and (part != ">" or index + 1 != len(tokens))) or ("*" in part and part != "*"):
            raise ValueError(pattern)


def matches(pattern: str, subject: str) -> bool:
    """Return whether `pattern` takes messages on `subject`."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(tokens) > index
        if index >= len(tokens) or part not in {"*", tokens[index]}:
            return False
    return len(wanted) == len(tokens)
