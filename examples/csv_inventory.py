"""Batches: one worker step for each 200 rows of a CSV text, then a join, which also runs when there are none."""

import csv
import io
from typing import Any

from tasker import Batches, Template

ROWS_A_BATCH = 200
HEADER = "sku,quantity,price_cents\n"
ROWS = [f"sku-{row},{row % 7},{100 + row % 13}\n" for row in range(1000)]

csv_inventory = Template("csv_inventory")

EXPECTED = [
    (
        {"csv": HEADER + "".join(ROWS)},
        {"batches": 5, "rows": 1000, "value_cents": sum((row % 7) * (100 + row % 13) for row in range(1000))},
    ),
    ({"csv": HEADER}, {"batches": 0, "rows": 0, "value_cents": 0}),
]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@csv_inventory.step
def analyze(input: dict[str, str]) -> Batches:
    return Batches.split(len(rows_of(input["csv"])), ROWS_A_BATCH)


@csv_inventory.step(batches="analyze", parallelism=4)
def process(input: dict[str, str], item: dict[str, int]) -> dict[str, int]:
    rows = rows_of(input["csv"])[item["start"] : item["end"]]
    return {"rows": len(rows), "value_cents": sum(int(row["quantity"]) * int(row["price_cents"]) for row in rows)}


@csv_inventory.step
def aggregate(process: list[dict[str, int]]) -> dict[str, Any]:
    return {
        "batches": len(process),
        "rows": sum(batch["rows"] for batch in process),
        "value_cents": sum(batch["value_cents"] for batch in process),
    }
