"""A map over a list of the input, and a join that sums."""

from tasker import Template

fanout100 = Template("fanout100", result="total")

EXPECTED = [({"numbers": list(range(100))}, 4950)]


@fanout100.step(each="input.numbers")
def number(item: int) -> int:
    return item


@fanout100.step
def total(number: list[int]) -> int:
    return sum(number)
