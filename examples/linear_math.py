"""A calculation that refuses some inputs: an error that no retry can help is a `PermanentError`."""

from typing import Any

from tasker import PermanentError, Template

linear_math = Template("linear_math", on_failure="fail")


@linear_math.step
def square(input: dict[str, Any]) -> int:
    n = input.get("n")
    if not isinstance(n, int):
        raise PermanentError("a whole number `n` is needed")
    if n % 2:
        raise PermanentError(f"{n} is odd")
    return n**2


@linear_math.step
def add_ten(square: int) -> int:
    return square + 10


@linear_math.step
def times_three(add_ten: int) -> int:
    return add_ten * 3


@linear_math.step
def halve(times_three: int) -> float:
    return times_three / 2


EXPECTED = [({"n": 6}, 69.0), ({"n": 10}, 165.0), ({"n": 8}, 111.0), ({"n": 4}, 39.0)]
FAILS = [({"n": 7}, "square", "7 is odd"), ({}, "square", "a whole number `n` is needed")]
