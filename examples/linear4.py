"""Four steps in a row; each squares what the one before it made."""

import msgspec

from tasker import Template


class Number(msgspec.Struct):
    n: int


linear4 = Template("linear4")


@linear4.step
async def s1(input: Number) -> int:
    return input.n**2


@linear4.step
async def s2(s1: int) -> int:
    return s1**2


@linear4.step
async def s3(s2: int) -> int:
    return s2**2


@linear4.step
async def s4(s3: int) -> int:
    return s3**2


EXPECTED = [({"n": 6}, 2821109907456)]
STEPS = {"s1": 36, "s2": 1296, "s3": 1679616, "s4": 2821109907456}
