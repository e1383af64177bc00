"""The shape of a DAG, computed once: who waits for whom, and in which order.

All orders are *declared* orders, so that two nodes derive the same from the same template: parents
as `after` names them, children, roots and sinks as the steps stand in the template. The steps given
here are valid (`validate` found no cycle and no unknown parent).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol


class Edges(Protocol):
    """What a graph is made of: a name and the names it comes after."""

    @property
    def name(self) -> str:
        """Return the node's name."""
        ...

    @property
    def after(self) -> tuple[str, ...]:
        """Return the parents, in declared order."""
        ...


class Graph(NamedTuple):
    """The parents and children of every step, each lookup O(1).

    Attributes:
        order: every step after its parents, the first declared first.
        roots: steps without parents.
        sinks: steps without children: the last ones.
    """

    parents: Mapping[str, tuple[str, ...]]
    children: Mapping[str, tuple[str, ...]]
    order: tuple[str, ...]
    roots: tuple[str, ...]
    sinks: tuple[str, ...]

    def ancestors(self, step: str) -> frozenset[str]:
        """Return every step that has completed when `step` starts."""
        return frozenset(_reach(self.parents, step))

    def descendants(self, step: str) -> frozenset[str]:
        """Return every step that cannot start before `step` has completed."""
        return frozenset(_reach(self.children, step))


def graph_of(steps: Sequence[Edges]) -> Graph:
    """Return the graph of valid `steps`."""
    parents = {step.name: step.after for step in steps}
    children: dict[str, list[str]] = {name: [] for name in parents}
    for step in steps:
        for parent in step.after:
            children[parent].append(step.name)
    children_of = {name: tuple(found) for name, found in children.items()}
    return Graph(
        parents=MappingProxyType(parents),
        children=MappingProxyType(children_of),
        order=topological(parents, children_of),
        roots=tuple(name for name, found in parents.items() if not found),
        sinks=tuple(name for name, found in children_of.items() if not found),
    )


def topological(parents: Mapping[str, Iterable[str]], children: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the steps that can ever start, parents first; a step in or behind a cycle is not among them."""
    names = list(parents)
    rank = {name: index for index, name in enumerate(names)}
    missing = {name: sum(1 for _ in found) for name, found in parents.items()}
    ready = [rank[name] for name, count in missing.items() if count == 0]
    order: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for child in children[name]:
            missing[child] -= 1
            if missing[child] == 0:
                heapq.heappush(ready, rank[child])
    return tuple(order)


def cycles(parents: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Return one shortest cycle of each knot (strongly connected component), from its first declared step.

    A cycle is told in the order of work: (a, b) means b waits for a and a waits for b.
    """
    rank = {name: index for index, name in enumerate(parents)}
    found = []
    for knot in _knots(parents):
        first = min(knot, key=rank.__getitem__)
        if len(knot) > 1 or first in parents[first]:
            found.append(_cycle_through(first, frozenset(knot), parents))
    return tuple(sorted(found, key=lambda cycle: rank[cycle[0]]))


def _cycle_through(first: str, knot: frozenset[str], parents: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Walk from `first` to its parents, breadth first, until one of them waits for `first`."""
    towards: dict[str, str] = {}
    wave = [first]
    while wave:
        following = []
        for name in wave:
            for parent in parents[name]:
                if parent == first:
                    path = [name]
                    while path[-1] != first:
                        path.append(towards[path[-1]])
                    return (first, *path[:-1])
                if parent in knot and parent not in towards:
                    towards[parent] = name
                    following.append(parent)
        wave = following
    raise AssertionError("a knot has a cycle through each of its steps")


def _knots(parents: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the strongly connected components.

    Source: R. Tarjan, "Depth-first search and linear graph algorithms", 1972; here without recursion.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    open_steps: list[str] = []
    is_open: set[str] = set()
    knots: list[list[str]] = []
    for start in parents:
        if start in index:
            continue
        walk = [(start, iter(parents[start]))]
        index[start] = low[start] = len(index)
        open_steps.append(start)
        is_open.add(start)
        while walk:
            name, further = walk[-1]
            for parent in further:
                if parent not in index:
                    index[parent] = low[parent] = len(index)
                    open_steps.append(parent)
                    is_open.add(parent)
                    walk.append((parent, iter(parents[parent])))
                    break
                if parent in is_open:
                    low[name] = min(low[name], index[parent])
            else:
                walk.pop()
                if walk:
                    low[walk[-1][0]] = min(low[walk[-1][0]], low[name])
                if low[name] == index[name]:
                    cut = open_steps.index(name)
                    knots.append(open_steps[cut:])
                    is_open.difference_update(open_steps[cut:])
                    del open_steps[cut:]
    return knots


def _reach(edges: Mapping[str, tuple[str, ...]], start: str) -> set[str]:
    found: set[str] = set()
    ahead = list(edges[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(edges[name])
    return found
