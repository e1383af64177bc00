"""What attempts used, added up."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

UsageBy = Literal["tenant", "template", "step", "task"]
USAGE_BY: Final[tuple[UsageBy, ...]] = get_args(UsageBy)


class UsageTotal(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What attempts used of one meter together; `namespace`, `template`, `task_id`, `step` as far as it is by them.

    Attributes:
        unit: of the amount. model: whose meter it is; absent: of none.
        amount, cost: decimal text, exact. cost: in `currency`; absent: nobody knows it.
        attempts: how many used something of it.
        prices: versions of the price tables that gave the cost; what handlers told themselves has none.
    """

    meter: str
    amount: str
    unit: str = ""
    model: str = ""
    cost: str | None = None
    currency: str = ""
    attempts: int = 0
    prices: tuple[str, ...] = ()
    namespace: str = ""
    template: str = ""
    task_id: str = ""
    step: str = ""


class UsagePage(msgspec.Struct, kw_only=True):
    """A page of totals; `next` asks for the one behind it; `position` is what the page was read at."""

    items: list[UsageTotal]
    next: str | None
    position: str
