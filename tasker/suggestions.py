"""The name that was probably meant, for whoever wrote one that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

_COMPARED_CHARS_MAX: Final = 60


def did_you_mean(name: str, known: Iterable[str], other_names: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """Return " (did you mean 'x'?)" with the closest of `known`, or "" when none is close.

    Args:
        name: what was written.
        known: what could have been meant.
        other_names: what is meant by names that are not close to it.
    """
    candidates = list(known)
    meant = [one for one in (other_names or {}).get(name, ()) if one in candidates]
    meant = meant or difflib.get_close_matches(name[:_COMPARED_CHARS_MAX], candidates, n=1)
    return f" (did you mean {' or '.join(repr(one) for one in meant)}?)" if meant else ""
