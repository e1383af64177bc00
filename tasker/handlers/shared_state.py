"""The state that the steps of a task share, as one attempt sees it and writes to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from tasker.errors import StateInvalid
from tasker.events.codec import encode_value
from tasker.templates.writes import checked_writes


class SharedState(Mapping[str, Any]):
    """What the steps ahead of this one wrote, by key, with what this attempt wrote in front of it.

    A key is a letter or `_`, then letters, digits and `_`. An attempt writes at most 32 keys and 16 KiB; of two writes
    of a key in one attempt the last counts. A value that was read and changed in place is not written: set it.
    """

    __slots__ = ("_seen", "_tell", "_written")

    def __init__(self, seen: dict[str, Any], tell: Callable[[str, msgspec.Raw], None]) -> None:
        self._seen = seen
        self._written: dict[str, msgspec.Raw] = {}
        self._tell = tell

    def __getitem__(self, key: str) -> Any:
        return self._seen[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)

    def __repr__(self) -> str:
        return f"SharedState({self._seen!r})"

    def __setitem__(self, key: str, value: object) -> None:
        self.set(key, value)

    def set(self, key: str, value: object) -> None:
        """Write `value`, anything that a result may be.

        Raises:
            StateInvalid: the key is none, or the attempt writes too much.
            ValueInvalid: the value has no exact JSON form.
        """
        if not isinstance(key, str):
            raise StateInvalid(f"{key!r:.80} is no key of the state, such as 'total'")
        checked = checked_writes({**self._written, key: encode_value(value, bytes_max=sys.maxsize)})
        self._written = checked
        self._seen[key] = msgspec.json.decode(checked[key])
        self._tell(key, checked[key])
