"""What a row of orders.jsonl implies, worked out without the service and without its schema."""

import json
import re
from typing import Any, Literal

import msgspec

Outcome = Literal["completed", "failed", "refused"]

FLAKY_ATTEMPTS = 3
"""Of `charge` when the payment provider does not answer twice."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What has to become of a row.

    Attributes:
        code, pointer: of the refusal: why, and where in the input.
        error: why the task failed. undone: the steps that are undone then, in this order.
        charge_attempts: how often `charge` is tried.
        result: of the completed task.
    """

    outcome: Outcome
    code: str | None = None
    pointer: str | None = None
    error: str | None = None
    undone: tuple[str, ...] = ()
    charge_attempts: int = 0
    paid_cents: int = 0
    items: int = 0
    result: dict[str, Any] | None = None


def expected(row: str) -> Expected:
    """Return what has to become of `row`, a line of the file."""
    try:
        order = json.loads(row)
    except ValueError:
        return Expected(outcome="refused", code="body_invalid")
    pointer = fault_of(order)
    if pointer is not None:
        return Expected(outcome="refused", code="input_invalid", pointer=pointer)
    if order["card"] == "tok_declined":
        return Expected(outcome="failed", error="card_declined", charge_attempts=1)
    paid_cents = sum(line["qty"] * line["price_cents"] for line in order["lines"])
    items = sum(line["qty"] for line in order["lines"])
    if any(line["sku"].startswith("Z") for line in order["lines"]):
        return Expected(
            outcome="failed",
            error="hazardous_goods",
            undone=("reserve_stock~undo", "charge~undo"),
            charge_attempts=1,
            paid_cents=paid_cents,
            items=items,
        )
    warehouse = "north" if order["lines"][0]["sku"] < "N" else "south"
    return Expected(
        outcome="completed",
        charge_attempts=FLAKY_ATTEMPTS if order["card"] == "tok_flaky" else 1,
        paid_cents=paid_cents,
        items=items,
        result={
            "order_id": order["order_id"],
            "paid_cents": paid_cents,
            "tracking": f"{warehouse}-{order['order_id']}",
        },
    )


def fault_of(order: Any) -> str | None:
    """Return where (an RFC 6901 pointer, "" for the whole) `order` is no order; None when it is one."""
    if not isinstance(order, dict) or set(order) != {"order_id", "customer", "lines", "card"}:
        return ""
    for name in ("order_id", "customer"):
        if not isinstance(order[name], str) or not order[name]:
            return f"/{name}"
    if not isinstance(order["card"], str) or re.fullmatch("tok_[a-z]+", order["card"]) is None:
        return "/card"
    lines = order["lines"]
    if not isinstance(lines, list) or not lines:
        return "/lines"
    for index, line in enumerate(lines):
        if not isinstance(line, dict) or set(line) != {"sku", "qty", "price_cents"}:
            return f"/lines/{index}"
        if not isinstance(line["sku"], str) or re.fullmatch("[A-Z]-[0-9]{3}", line["sku"]) is None:
            return f"/lines/{index}/sku"
        for name in ("qty", "price_cents"):
            if not isinstance(line[name], int) or isinstance(line[name], bool) or line[name] < 1:
                return f"/lines/{index}/{name}"
    return None
