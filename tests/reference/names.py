"""The names of instances, as the documentation spells them: `check`, `check#2`, `resize[0]`, `check#2[0]~undo`."""

import re


def name_of(instance: str) -> str:
    """Return the step that an instance is of."""
    return re.split(r"[#\[~]", instance)[0]


def visit_of(step: str, visit: int) -> str:
    """Return the name of a visit of a step."""
    return step if visit == 1 else f"{step}#{visit}"
