"""An app as users write one, for the tests of templates and of the registry."""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict

import msgspec

from tasker.handlers.context import StepContext
from tasker.handlers.handler import handler
from tasker.handlers.template import Template
from tasker.templates import Retry


class Item(msgspec.Struct):
    sku: str
    qty: int = 1


class Order(msgspec.Struct):
    id: str
    items: list[Item]


@dataclasses.dataclass
class Cart:
    total: float


class Receipt(TypedDict):
    paid: float


orders = Template("order_fulfillment", namespace="shop", version="1.0.0", timeout_s=3600)


@orders.step
async def validate_cart(input: Order) -> Cart:
    return Cart(total=float(len(input.items)))


@orders.step(retry=Retry(max_attempts=5, non_retryable=("CardDeclined",)), start_to_close_s=60)
async def charge(ctx: StepContext, input: Order, validate_cart: Cart) -> Receipt:
    return {"paid": validate_cart.total}


@orders.step(name="reserve-stock", heartbeat_s=5, after="validate_cart")
def reserve(input: Order) -> list[str]:
    return [item.sku for item in input.items]


@orders.step(after=("charge",), queue="carrier", schedule_to_start_s=10, handler="send")
def ship(context: StepContext, reserve_stock: list[str], charge: Receipt, *, validate_cart: Any) -> dict[str, Any]:
    return {"skus": reserve_stock, "paid": charge["paid"], "cart": validate_cart}


@handler("notify")
def notify(input: dict[str, Any], ship: dict[str, Any], extra: int = 7) -> Any:
    return extra


ORDERS_YAML = """
name: order_fulfillment
namespace: shop
version: 1.0.0
timeout_s: 3600
input_schema:
  $ref: '#/$defs/Order'
  $defs:
    Order:
      title: Order
      type: object
      properties:
        id: {type: string}
        items: {type: array, items: {$ref: '#/$defs/Item'}}
      required: [id, items]
    Item:
      title: Item
      type: object
      properties:
        sku: {type: string}
        qty: {type: integer, default: 1}
      required: [sku]
steps:
  - name: validate_cart
  - name: charge
    after: [validate_cart]
    retry: {max_attempts: 5, non_retryable: [CardDeclined]}
    start_to_close_s: 60
  - name: reserve-stock
    after: [validate_cart]
    heartbeat_s: 5
  - name: ship
    handler: send
    queue: carrier
    after: [reserve-stock, charge, validate_cart]
    schedule_to_start_s: 10
"""
