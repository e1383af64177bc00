"""A keyword that a declaration does not have is refused with the one that was probably meant, as in documents."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

from tasker.callers import place_of_caller
from tasker.errors import ConfigurationError
from tasker.suggestions import did_you_mean
from tasker.templates.dynamic import HANDLER_KEYS, SERVICE_KEYS, STEP_KEYS
from tasker.templates.reading import OTHER_STEP_NAMES

F = TypeVar("F", bound=Callable[..., Any])

_FURTHER: Final = frozenset((*STEP_KEYS, "after_when")) - frozenset(SERVICE_KEYS)
"""What a declaration that takes further keys of a step may be given: what kind of step it is, it says itself."""


def keywords_told(function: F) -> F:
    """Return `function`; arguments that do not fit it raise `ConfigurationError` instead of `TypeError`.

    Where the function takes `**keys`, those are further keys of a step that no worker runs. That one is for steps
    that a worker runs is told with the template's other faults.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    is_keyword_only = all(one.kind is one.KEYWORD_ONLY for one in parameters)
    likely = {one.name for one in parameters if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}}
    known = likely
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        known, likely = likely | _FURTHER, likely | (_FURTHER - frozenset(HANDLER_KEYS))
    owner, _, name = function.__qualname__.rpartition(".")
    called = owner if name == "__init__" else name

    @functools.wraps(function)
    def checked(*args: Any, **keywords: Any) -> Any:
        if args and is_keyword_only and callable(args[0]):
            raise ConfigurationError(f"{place_of_caller()}write @{called}(...): it is no decorator without parentheses")
        for keyword in keywords:
            if keyword not in known:
                hint = did_you_mean(keyword, sorted(likely), OTHER_STEP_NAMES)
                raise ConfigurationError(f"{place_of_caller()}{called}() has no keyword {keyword!r}{hint}")
        try:
            signature.bind(*args, **keywords)
        except TypeError as error:
            raise ConfigurationError(f"{place_of_caller()}{called}(): {error}") from error
        return function(*args, **keywords)

    return checked  # type: ignore[return-value] # it is called like the function
