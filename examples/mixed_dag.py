"""Seven steps with forks, a join of two and a join of three. Integers stay exact at any size."""

import msgspec

from tasker import Template


class Number(msgspec.Struct):
    n: int


mixed_dag = Template("mixed_dag")


@mixed_dag.step
async def init(input: Number) -> int:
    return input.n**2


@mixed_dag.step
async def left(init: int) -> int:
    return init**2


@mixed_dag.step
async def right(init: int) -> int:
    return init**2


@mixed_dag.step
async def validate(left: int, right: int) -> int:
    return (left * right) ** 2


@mixed_dag.step
async def transform(left: int) -> int:
    return left**2


@mixed_dag.step
async def analyze(right: int) -> int:
    return right**2


@mixed_dag.step
async def finalize(validate: int, transform: int, analyze: int) -> int:
    return (validate * transform * analyze) ** 2


EXPECTED = [({"n": 6}, 6**64), ({"n": 2}, 2**64)]
STEPS = {
    "init": 6**2,
    "left": 6**4,
    "right": 6**4,
    "validate": 6**16,
    "transform": 6**8,
    "analyze": 6**8,
    "finalize": 6**64,
}
