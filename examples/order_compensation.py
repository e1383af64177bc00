"""An order that is undone when it cannot be shipped: the stock is released, then the charge is refunded.

    tasker up examples/order_compensation.py
    tasker task create order_compensation --wait --input '{"order_id": "o-1", "items": [{"sku": "A-100", "qty": 2,
        "price_cents": 1250}], "address": "nowhere"}'

The task fails with what `ship` said, after its compensations. Each compensation runs at least once, like any step: it
hands its `ctx.idempotency_key`, which is its own, to the partner that it calls.
"""

from typing import Annotated, Any

import msgspec

from tasker import PermanentError, Retry, StepContext, Template


class Item(msgspec.Struct):
    sku: str
    qty: Annotated[int, msgspec.Meta(ge=1)]
    price_cents: Annotated[int, msgspec.Meta(ge=1)]


class Order(msgspec.Struct):
    order_id: str
    items: Annotated[list[Item], msgspec.Meta(min_length=1)]
    address: str


class Receipt(msgspec.Struct):
    charge_id: str
    amount_cents: int


class Reservation(msgspec.Struct):
    reservation_id: str
    skus: list[str]


order_compensation = Template("order_compensation", on_failure="fail")

ITEMS = [{"sku": "A-100", "qty": 2, "price_cents": 1250}, {"sku": "B-200", "qty": 1, "price_cents": 500}]
SHIPS = {"order_id": "o-1", "items": ITEMS, "address": "1 High Street"}
FAILS = {"order_id": "o-2", "items": ITEMS, "address": "nowhere"}
EMPTY = {"order_id": "o-3", "items": [], "address": "1 High Street"}
EXPECTED: list[tuple[Any, Any]] = [(SHIPS, {"order_id": "o-1", "paid_cents": 3000, "tracking": "t-o-1"})]
UNDONE = {
    "reserve_stock~undo": {"released": ["A-100", "B-200"], "reservation_id": "rs-o-2"},
    "charge~undo": {"refunded_cents": 3000, "charge_id": "ch-o-2"},
}
"""What the compensations of `FAILS` give, in the order in which they run."""


@order_compensation.step
def validate_cart(input: Order) -> int:
    return sum(item.qty * item.price_cents for item in input.items)


@order_compensation.step
def charge(input: Order, validate_cart: int) -> Receipt:
    return Receipt(charge_id=f"ch-{input.order_id}", amount_cents=validate_cart)


@order_compensation.compensation("charge", retry=Retry(max_attempts=20, delay_s_max=600), timeout_s=60)
def refund(charge: Receipt) -> dict[str, Any]:
    return {"refunded_cents": charge.amount_cents, "charge_id": charge.charge_id}


@order_compensation.step(after="charge")
def reserve_stock(input: Order) -> Reservation:
    return Reservation(reservation_id=f"rs-{input.order_id}", skus=[item.sku for item in input.items])


@order_compensation.compensation("reserve_stock")
def release(reserve_stock: Reservation) -> dict[str, Any]:
    return {"released": reserve_stock.skus, "reservation_id": reserve_stock.reservation_id}


@order_compensation.step(after="reserve_stock")
def ship(input: Order) -> str:
    if input.address == "nowhere":
        raise PermanentError("no_such_address")
    return f"t-{input.order_id}"


@order_compensation.step
async def notify(ctx: StepContext, input: Order, ship: str) -> dict[str, Any]:
    receipt = await ctx.result("charge", Receipt)
    return {"order_id": input.order_id, "paid_cents": receipt.amount_cents, "tracking": ship}
