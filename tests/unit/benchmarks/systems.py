"""A system that ends each task as it is created."""

import asyncio
import itertools

from benchmarks.driving import Ended, System
from benchmarks.processes import Find


class Echo(System):
    """Tells an end soon; `early` before the creation is answered, `twice` two times; it `loses` one task."""

    name = "echo"

    def __init__(self, *, early: bool = False, twice: bool = False, loses: int | None = None) -> None:
        self._numbers = itertools.count()
        self._early = early
        self._twice = twice
        self._loses = loses
        self._ended: Ended | None = None
        self.created = 0

    def parts(self) -> dict[str, Find]:
        return {}

    async def open(self, ended: Ended) -> None:
        self._ended = ended

    async def close(self) -> None:
        self._ended = None

    async def create(self, shape: str, count: int) -> list[str]:
        self.created += count
        numbers = [next(self._numbers) for _ in range(count)]
        ended = [str(number) for number in numbers if number != self._loses]
        if self._early:
            self._tell(ended)
        else:
            asyncio.get_running_loop().call_later(0.001, self._tell, ended)
        return [str(number) for number in numbers]

    def _tell(self, ended: list[str]) -> None:
        assert self._ended is not None
        for _ in range(1 + self._twice):
            self._ended(ended)
