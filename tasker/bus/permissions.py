"""What NATS does not let a user do: how the server says so.

It says so beside everything else, in no answer to a call, and before the answer to a later ping. nats-py hands its
words on in lower case.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

_VERBS: Final[dict[str, Literal["publish to", "subscribe to"]]] = {
    "publish": "publish to",
    "subscription": "subscribe to",
}
_told = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)


class Refusal(NamedTuple):
    """What was refused: a verb, and a subject in lower case."""

    verb: Literal["publish to", "subscribe to"]
    subject: str


def refusal_in(told: str) -> Refusal | None:
    """Return what the server refuses by its words; None: they say something else."""
    found = _told.search(told)
    return None if found is None else Refusal(_VERBS[found[1].lower()], found[2].lower())
