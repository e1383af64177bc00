"""Reads over HTTP that come in pages, as one run of items."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from tasker.client.http import Parameters

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Read(Protocol):
    """Reads over HTTP."""

    def __call__(self, path: str, kind: type[T], parameters: Parameters) -> Coroutine[Any, Any, T]:
        """Return what the path answers, as `kind`."""
        ...


class Page(Protocol[T_co]):
    """A page of a list; `next` is `after` of the one behind it, None at the end."""

    @property
    def items(self) -> Sequence[T_co]:
        """What is on it."""
        ...

    @property
    def next(self) -> str | None:
        """Where to go on."""
        ...


async def items_of(read: Read, path: str, kind: type[Page[T]], parameters: Parameters) -> AsyncIterator[T]:
    """Yield the items of all pages; `parameters` are those of the first."""
    after: str | None = None
    while True:
        page = await read(path, kind, parameters if after is None else {**parameters, "after": after})
        for item in page.items:
            yield item
        after = page.next
        if after is None:
            return
