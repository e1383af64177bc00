"""Books of what tenants claim, bounded, in which each tenant leaves room for the others."""

from __future__ import annotations

from collections import Counter
from typing import Final, TypeVar

SHARE: Final = 4
"""A tenant may have so many times what is free: alone four fifths of all, of two four ninths each."""

K = TypeVar("K", bound=tuple[str, ...])
V = TypeVar("V")


class TenantBook(dict[K, V]):
    """Entries by keys that begin with a tenant's name; entered and removed by `[...]` alone.

    There is room for whoever comes next, however much the others claim.

    Source: A. K. Choudhury, E. L. Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", IEEE/ACM
    Transactions on Networking, 1998.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[str] = Counter()

    def has_room(self, tenant: str, most: int) -> bool:
        """Return whether a tenant may have another entry, in a book of at most `most`."""
        return self._counts[tenant] < SHARE * (most - len(self))

    def __setitem__(self, key: K, value: V) -> None:
        """Enter it, or put another in its place."""
        if key not in self:
            self._counts[key[0]] += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: K) -> None:
        """Remove it."""
        super().__delitem__(key)
        self._counts[key[0]] -= 1
        if not self._counts[key[0]]:
            del self._counts[key[0]]
