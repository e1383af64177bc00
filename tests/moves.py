"""Moves of a state machine that are drawn by weight.

Hypothesis draws rules as its search likes: it leaves some out for a whole example, and of a thousand moves of a machine
with eleven rules six hundred were kills, and thirty created something. A machine with moves has one rule, that draws a
move by its weight and then what the move takes; what fails is made short as with rules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

Made = Callable[..., None]


class _Move(NamedTuple):
    weight: int
    when: Callable[[Any], object]
    takes: dict[str, st.SearchStrategy[Any]]


def move(*, weight: int = 1, when: Callable[[Any], object] = lambda _: True, **takes: Any) -> Callable[[Made], Made]:
    """Make a method a move: `when` says whether it can be made now, `takes` what its arguments are drawn from.

    One that takes `data` draws more by itself.
    """

    def marked(method: Made) -> Made:
        method.is_move = _Move(weight, when, takes)  # type: ignore[attr-defined]
        return method

    return marked


class Moving(RuleBasedStateMachine):
    """A machine whose methods that are moves are drawn by their weights."""

    @rule(data=st.data())
    def make_a_move(self, data: st.DataObject) -> None:
        """Draw one that can be made now, and make it."""
        names: list[str] = []
        for name in dir(type(self)):
            found = getattr(getattr(type(self), name), "is_move", None)
            if found is not None and found.when(self):
                names += [name] * found.weight
        name = data.draw(st.sampled_from(names), label="move")
        method = getattr(self, name)
        arguments = {key: data.draw(drawn, label=key) for key, drawn in method.is_move.takes.items()}
        if "data" in inspect.signature(method).parameters:
            arguments["data"] = data
        note(f"  {name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})")
        method(**arguments)
