"""A keyword that a declaration does not have is refused with the one that was probably meant, as in documents."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tasker.errors import ConfigurationError
from tasker.suggestions import did_you_mean
from tasker.templates.reading import OTHER_STEP_NAMES

F = TypeVar("F", bound=Callable[..., Any])
_HERE = Path(__file__).parent


def keywords_told(function: F) -> F:
    """Return `function`; an unknown keyword raises `ConfigurationError` instead of `TypeError`."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args: Any, **keywords: Any) -> Any:
        for name in keywords:
            if name not in known:
                hint = did_you_mean(name, known, OTHER_STEP_NAMES)
                raise ConfigurationError(f"{place_of_caller()}{function.__name__}() has no keyword {name!r}{hint}")
        return function(*args, **keywords)

    return checked  # type: ignore[return-value] # it is called like the function


def place_of_caller() -> str:
    """Return where the declaration stands that is being made, to begin a message with: the first line outside."""
    frame = inspect.currentframe()
    while frame is not None and Path(frame.f_code.co_filename).parent == _HERE:
        frame = frame.f_back
    return "" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}: "
