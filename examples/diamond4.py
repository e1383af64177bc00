"""A fork and a join: `b` and `c` run side by side, `end` waits for both."""

import msgspec

from tasker import Template


class Number(msgspec.Struct):
    n: int


diamond4 = Template("diamond4")


@diamond4.step
async def start(input: Number) -> int:
    return input.n**2


@diamond4.step
async def b(start: int) -> int:
    return start**2


@diamond4.step
async def c(start: int) -> int:
    return start**2


@diamond4.step
async def end(b: int, c: int) -> int:
    return (b * c) ** 2


EXPECTED = [({"n": 6}, 2821109907456)]
STEPS = {"start": 36, "b": 1296, "c": 1296, "end": 2821109907456}
