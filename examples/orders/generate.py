"""Makes orders.jsonl: 1,000 orders from a seed, the same on every machine.

3 % of the rows are bad, in five ways; 5 % of the payments fail twice before they pass, 2 % fail for good; 3 % of the
orders are paid, and no carrier takes them.

    python -m examples.orders.generate [seed] > examples/orders/orders.jsonl
"""

import json
import random
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

SEED = 20261121
ROWS = 1000
BAD_SHARE = 0.03
FLAKY_SHARE = 0.05
DECLINED_SHARE = 0.02
HAZARDOUS_SHARE = 0.03

NAMES = ("Ada", "Barbara", "Edsger", "Frances", "Grace", "Hedy", "Ida", "Jean", "Katherine", "Leslie", "Radia", "Shafi")
CARDS = ("tok_visa", "tok_mastercard", "tok_amex")


def rows(seed: int = SEED, count: int = ROWS) -> Iterator[str]:
    """Yield the lines of the file, without their ends."""
    draw = random.Random(seed)
    places = list(range(count))
    draw.shuffle(places)
    shares = (BAD_SHARE, FLAKY_SHARE, DECLINED_SHARE, HAZARDOUS_SHARE)
    chosen = iter(places)
    bad, flaky, declined, hazardous = (list(islice(chosen, round(count * share))) for share in shares)
    fault_of = {place: FAULTS[index % len(FAULTS)] for index, place in enumerate(bad)}
    card_of = dict.fromkeys(flaky, "tok_flaky") | dict.fromkeys(declined, "tok_declined")
    no_carrier = set(hazardous)
    for place in range(count):
        order = _order(draw, place + 1)
        order["card"] = card_of.get(place, order["card"])
        if place in no_carrier:
            order["lines"][-1]["sku"] = f"Z{order['lines'][-1]['sku'][1:]}"
        yield fault_of.get(place, _line)(order)


def _order(draw: random.Random, number: int) -> dict[str, Any]:
    return {
        "order_id": f"o-{number:04}",
        "customer": NAMES[draw.randrange(len(NAMES))],
        "lines": [
            {
                "sku": f"{'ABCDEFGHIJKLMNOPQRSTUVWXY'[draw.randrange(25)]}-{draw.randrange(100, 1000)}",
                "qty": draw.randrange(1, 6),
                "price_cents": draw.randrange(199, 19_999),
            }
            for _ in range(draw.randrange(1, 4))
        ],
        "card": CARDS[draw.randrange(len(CARDS))],
    }


def _line(order: dict[str, Any]) -> str:
    return json.dumps(order, separators=(",", ":"))


def _empty_cart(order: dict[str, Any]) -> str:
    return _line(order | {"lines": []})


def _negative_quantity(order: dict[str, Any]) -> str:
    order["lines"][0]["qty"] *= -1
    return _line(order)


def _missing_field(order: dict[str, Any]) -> str:
    del order["customer"]
    return _line(order)


def _wrong_type(order: dict[str, Any]) -> str:
    order["lines"][0]["qty"] = "two"
    return _line(order)


def _not_json(order: dict[str, Any]) -> str:
    return _line(order)[:-17]


FAULTS: tuple[Callable[[dict[str, Any]], str], ...] = (
    _empty_cart,
    _negative_quantity,
    _missing_field,
    _wrong_type,
    _not_json,
)


if __name__ == "__main__":
    for row in rows(*(int(argument) for argument in sys.argv[1:2])):
        print(row)
