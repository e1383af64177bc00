"""Child tasks: a parcel for each line of an order, each a task of its own template; the order waits for all of them."""

from typing import Any

from tasker import Template

parcel = Template("parcel")
shipment = Template("shipment")

EXPECTED = [
    ({"lines": [{"sku": "a", "qty": 2}, {"sku": "b", "qty": 3}]}, ["2 x a", "3 x b"]),
    ({"lines": []}, []),
]


@parcel.step
def pack(input: dict[str, Any]) -> str:
    return f"{input['qty']} x {input['sku']}"


shipment.child("parcels", "parcel", each="input.lines", child_input="item", max_parallel=10)


@shipment.step
def dispatch(parcels: list[str]) -> list[str]:
    return parcels
