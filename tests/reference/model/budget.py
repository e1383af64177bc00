"""What the documentation says of a task's budget, as part of the reference model.

Written from docs/howto/usage.md and limit-time.md alone. Nothing is added up ahead of being asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Used:
    """What one attempt says that it used."""

    tokens: int = 0
    cost: str | None = None
    currency: str = "USD"


class Budget:
    """What one task may use, and what it has.

    Attributes:
        limits: `tokens_max`, `cost_max` and `running_s_max`, those that there are.
        ran_us: for how long at least one of its steps ran.
    """

    def __init__(self, document: Mapping[str, Any] | None) -> None:
        self.is_there = document is not None
        said = document or {}
        self.fails = said.get("on_exceeded") == "fail"
        self.currency = said.get("currency", "USD")
        self.limits = {name: said[name] for name in ("tokens_max", "cost_max", "running_s_max") if name in said}
        self.told: list[Used] = []
        self.ran_us = 0

    def tokens(self) -> int:
        """Return the tokens that all attempts used."""
        return sum(one.tokens for one in self.told)

    def cost(self, currency: str) -> Fraction:
        """Return what they cost in a currency."""
        return sum((Fraction(one.cost) for one in self.told if one.cost and one.currency == currency), Fraction())

    def is_over(self, limits: Mapping[str, Any] | None = None) -> bool:
        """Return whether the attempts used more tokens or money than they may."""
        may = self.limits if limits is None else limits
        return self.tokens() > may.get("tokens_max", self.tokens()) or (
            "cost_max" in may and self.cost(self.currency) > Fraction(may["cost_max"])
        )

    def has_run_out(self, limits: Mapping[str, Any] | None = None) -> bool:
        """Return whether all of the time in which its steps may run is used."""
        limit_s = (self.limits if limits is None else limits).get("running_s_max")
        return limit_s is not None and self.ran_us >= limit_s * 1_000_000

    def allow(self, more: Mapping[str, Any]) -> bool:
        """Take what a person allows; False: it is refused, since the task has used that up."""
        limits = {**self.limits, **more}
        if not self.is_there or self.is_over(limits) or self.has_run_out(limits):
            return False
        self.limits = limits
        return True
