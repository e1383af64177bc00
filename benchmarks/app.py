"""The handlers of the shapes, as `tasker worker benchmarks/app.py` runs them."""

from __future__ import annotations

from typing import Any

from tasker.handlers import Concurrency, Template

one = Template("one")
linear4 = Template("linear4")
diamond4 = Template("diamond4")
fanout100 = Template("fanout100")
heard1000 = Template("heard1000")
heard10 = Template("heard10")
held = Template("held", concurrency=Concurrency(key="'all'", limit=10))

SIGNAL = "tick"


@one.step
async def only(input: dict[str, int]) -> dict[str, Any]:
    return {"ok": True, "n": input["n"]}


@linear4.step
async def s1(input: dict[str, int]) -> int:
    return input["n"] ** 2


@linear4.step
async def s2(s1: int) -> int:
    return s1**2


@linear4.step
async def s3(s2: int) -> int:
    return s2**2


@linear4.step
async def s4(s3: int) -> int:
    return s3**2


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
    heard.wait("ticks", SIGNAL, count=count)
    heard.transform("count", "results.ticks.size()", after="ticks")
