"""A tree that grows to four leaves and comes together in one step."""

import msgspec

from tasker import Template


class Number(msgspec.Struct):
    n: int


tree = Template("tree")


@tree.step
async def root(input: Number) -> int:
    return input.n**2


@tree.step
async def bl(root: int) -> int:
    return root**2


@tree.step
async def br(root: int) -> int:
    return root**2


@tree.step
async def d(bl: int) -> int:
    return bl**2


@tree.step
async def e(bl: int) -> int:
    return bl**2


@tree.step
async def f(br: int) -> int:
    return br**2


@tree.step
async def g(br: int) -> int:
    return br**2


@tree.step
async def conv(d: int, e: int, f: int, g: int) -> int:
    return (d * e * f * g) ** 2


EXPECTED = [({"n": 6}, 6**64)]
STEPS = {
    "root": 6**2,
    "bl": 6**4,
    "br": 6**4,
    "d": 6**8,
    "e": 6**8,
    "f": 6**8,
    "g": 6**8,
    "conv": 6**64,
}
