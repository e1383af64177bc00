"""The handlers of the shapes, as `tasker worker benchmarks/app.py` runs them."""

from __future__ import annotations

import csv
import io
from typing import Any

from tasker.handlers import Batches, Concurrency, RateLimit, Template

one = Template("one")
linear4 = Template("linear4")
prior4 = Template("prior4", priority=10)
paced4 = Template("paced4")
capped4 = Template("capped4", max_running=10_000)
diamond4 = Template("diamond4")
fanout100 = Template("fanout100")
heard1000 = Template("heard1000")
heard10 = Template("heard10")
held = Template("held", concurrency=Concurrency(key="'all'", limit=10))
batch = Template("batch")

SIGNAL = "tick"


@one.step
async def only(input: dict[str, int]) -> dict[str, Any]:
    return {"ok": True, "n": input["n"]}


def four_in_a_row(template: Template, **keys: Any) -> None:
    """Give a template the steps of `linear4`; `keys` are of each of them."""

    @template.step(**keys)
    async def s1(input: dict[str, int]) -> int:
        return input["n"] ** 2

    @template.step(**keys)
    async def s2(s1: int) -> int:
        return s1**2

    @template.step(**keys)
    async def s3(s2: int) -> int:
        return s2**2

    @template.step(**keys)
    async def s4(s3: int) -> int:
        return s3**2


four_in_a_row(linear4)
four_in_a_row(prior4)
four_in_a_row(paced4, rate_limit=RateLimit(per_s=1e6, burst=100_000))
four_in_a_row(capped4)


@diamond4.step
async def start(input: dict[str, int]) -> int:
    return input["n"] ** 2


@diamond4.step
async def b(start: int) -> int:
    return start**2


@diamond4.step
async def c(start: int) -> int:
    return start**2


@fanout100.step(each=str(list(range(100))))
async def number(item: int) -> int:
    return item


@fanout100.step
async def total(number: list[int]) -> int:
    return sum(number)


@diamond4.step
async def end(b: int, c: int) -> int:
    return (b * c) ** 2


@held.step
async def pass_by(input: dict[str, int]) -> int:
    return input["n"]


for heard, count in ((heard1000, 1000), (heard10, 10)):
    heard.wait("ticks", SIGNAL, signal_count=count)
    heard.transform("count", "results.ticks.size()", after="ticks")


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@batch.step
def analyze(input: dict[str, str]) -> Batches:
    return Batches.split(len(rows_of(input["csv"])), 200)


@batch.step(batches="analyze", parallelism=5)
def process(input: dict[str, str], item: dict[str, int]) -> dict[str, int]:
    rows = rows_of(input["csv"])[item["start"] : item["end"]]
    return {"rows": len(rows), "value_cents": sum(int(row["quantity"]) * int(row["price_cents"]) for row in rows)}


@batch.step
def aggregate(process: list[dict[str, int]]) -> dict[str, int]:
    return {key: sum(one[key] for one in process) for key in ("rows", "value_cents")}


def big_of(items: int) -> Template:
    """Return a template whose one list has so many items, 1,000 of which run at a time."""
    made = Template(f"big{items}")

    @made.step
    async def numbers() -> list[int]:
        return list(range(items))

    @made.step(each="results.numbers", after=["numbers"], max_parallel=1000)
    async def number(item: int) -> int:
        return item

    @made.step
    async def total(number: list[int]) -> int:
        return sum(number)

    return made


big1000, big3000, big10000 = map(big_of, (1_000, 3_000, 10_000))
