"""Order fulfillment: validate_cart -> charge -> reserve_stock -> ship -> notify, and back when no carrier takes it.

    tasker up examples/orders/orders.py
    tasker task create order_fulfillment --namespace shop --wait --input '{"order_id": "o-1", "customer": "Ada",
        "lines": [{"sku": "A-100", "qty": 2, "price_cents": 1250}], "card": "tok_visa"}'

The template's input schema is derived from `Order`, so an empty cart or a negative quantity is refused at the door,
with its place and the reason, and never becomes a task. An order that fails is undone, the last step first: the stock
is released, then the charge is refunded. The task then ends as failed, with the reason why.

A step runs at least once: a worker may die between the effect and its report. So each step, and each compensation,
hands its `ctx.idempotency_key`, which is the same over all its attempts, to the partner it calls, and the partner makes
the effect happen once. `Partners`, at the end, stands for them all.
"""

import asyncio
import functools
import os
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import Annotated

import msgspec

from tasker import PermanentError, Retry, RetryableError, StepContext, Template


class Line(msgspec.Struct, forbid_unknown_fields=True):
    sku: Annotated[str, msgspec.Meta(pattern="^[A-Z]-[0-9]{3}$")]
    qty: Annotated[int, msgspec.Meta(ge=1, le=100)]
    price_cents: Annotated[int, msgspec.Meta(ge=1)]


class Order(msgspec.Struct, forbid_unknown_fields=True):
    order_id: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    customer: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    lines: Annotated[list[Line], msgspec.Meta(min_length=1, max_length=50)]
    card: Annotated[str, msgspec.Meta(pattern="^tok_[a-z]+$")]


class Cart(msgspec.Struct):
    items: int
    total_cents: int


class Receipt(msgspec.Struct):
    charge_id: str
    amount_cents: int


class Refund(msgspec.Struct):
    charge_id: str
    amount_cents: int


class Reservation(msgspec.Struct):
    warehouse: str
    items: int


class Shipment(msgspec.Struct):
    tracking: str


class Confirmation(msgspec.Struct):
    order_id: str
    paid_cents: int
    tracking: str


orders = Template("order_fulfillment", namespace="shop", on_failure="fail")


@orders.step
def validate_cart(input: Order) -> Cart:
    return Cart(
        items=sum(line.qty for line in input.lines),
        total_cents=sum(line.qty * line.price_cents for line in input.lines),
    )


@orders.step(retry=Retry(max_attempts=5, delay_s=0.2, delay_s_max=2.0), start_to_close_s=10)
def charge(ctx: StepContext, input: Order, validate_cart: Cart) -> Receipt:
    if input.card == "tok_declined":
        raise PermanentError("card_declined")
    if input.card == "tok_flaky" and ctx.attempt <= 2:
        raise RetryableError("the payment provider does not answer")
    partners().do_once(ctx.idempotency_key, "charge", input.order_id, validate_cart.total_cents)
    return Receipt(charge_id=f"ch-{input.order_id}", amount_cents=validate_cart.total_cents)


@orders.compensation("charge", retry=Retry(max_attempts=20, delay_s_max=600), start_to_close_s=60)
def refund(ctx: StepContext, input: Order, charge: Receipt) -> Refund:
    partners().do_once(ctx.idempotency_key, "refund", input.order_id, charge.amount_cents)
    return Refund(charge_id=charge.charge_id, amount_cents=charge.amount_cents)


@orders.step(after="charge")
def reserve_stock(ctx: StepContext, input: Order) -> Reservation:
    items = sum(line.qty for line in input.lines)
    partners().do_once(ctx.idempotency_key, "reservation", input.order_id, items)
    return Reservation(warehouse="north" if input.lines[0].sku < "N" else "south", items=items)


@orders.compensation("reserve_stock")
def release(ctx: StepContext, input: Order, reserve_stock: Reservation) -> Reservation:
    partners().do_once(ctx.idempotency_key, "release", input.order_id, reserve_stock.items)
    return reserve_stock


@orders.step
def ship(ctx: StepContext, input: Order, reserve_stock: Reservation) -> Shipment:
    if any(line.sku.startswith("Z") for line in input.lines):
        raise PermanentError("hazardous_goods")  # nothing with a Z is taken by any carrier
    partners().do_once(ctx.idempotency_key, "shipment", input.order_id, reserve_stock.items)
    return Shipment(tracking=f"{reserve_stock.warehouse}-{input.order_id}")


@orders.step
async def notify(ctx: StepContext, input: Order, ship: Shipment) -> Confirmation:
    receipt = await ctx.result("charge", Receipt)  # any step before this one can be asked for
    await asyncio.to_thread(partners().do_once, ctx.idempotency_key, "mail", input.order_id, 1)
    return Confirmation(order_id=input.order_id, paid_cents=receipt.amount_cents, tracking=ship.tracking)


class Partners:
    """Payment provider, warehouse, carrier and mailer: a file that takes each effect once a key.

    It also counts how often it was asked, so that a check can tell "once" from "asked once".
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS effect ("
            "key TEXT PRIMARY KEY, kind TEXT NOT NULL, order_id TEXT NOT NULL, amount INT NOT NULL, asked INT NOT NULL)"
        )

    def do_once(self, key: str, kind: str, order_id: str, amount: int) -> None:
        """Make the effect that `key` names happen, unless it has."""
        with self._lock:
            self._db.execute(
                "INSERT INTO effect VALUES (?, ?, ?, ?, 1) ON CONFLICT (key) DO UPDATE SET asked = asked + 1",
                (key, kind, order_id, amount),
            )


@functools.cache
def partners() -> Partners:
    """Return the partners of this process, on the file that ORDERS_PARTNERS names."""
    named = os.environ.get("ORDERS_PARTNERS")
    return Partners(Path(named) if named else Path(tempfile.mkdtemp(prefix="orders-")) / "partners.sqlite")
