"""What a client offers, so that two forms of it can be compared."""

import inspect
from collections.abc import Container


def methods(kind: type, besides: Container[str] = ()) -> dict[str, inspect.Signature]:
    """Return the public methods of a class, in order."""
    return {
        name: inspect.signature(value)
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and not name.startswith("_") and name not in besides
    }
