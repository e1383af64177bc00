"""The shapes that both systems run, and what the service's tasks must come to."""

from __future__ import annotations

from typing import Final, NamedTuple

INPUT: Final = {"n": 6}
PARKED: Final = "parked"
"""A template that nobody works for: its tasks are created and then wait."""


HEARD_1000: Final = "heard1000"
HEARD_10: Final = "heard10"
"""Templates whose tasks wait for so many signals, and count them."""


HELD: Final = "held"
"""A template of whose tasks only 10 run at a time."""
BIG: Final = "big"
BIG_SIZES: Final = (1_000, 3_000, 10_000)
"""Items of the tasks of the templates `big1000`, ..."""

CSV_BATCHES: Final = 5
CSV_ROWS: Final = 200
"""Rows of a batch."""

CSV: Final = "sku,quantity,price_cents\n" + "".join(
    f"sku-{row},{row % 7},{100 + row % 13}\n" for row in range(CSV_BATCHES * CSV_ROWS)
)


class Shape(NamedTuple):
    """One template.

    Attributes:
        widths: steps of each stage; a stage begins when the one before it has ended.
        results: step -> the result for `input`; None: of a step whose items have the results.
        input: of each task.
    """

    widths: tuple[int, ...]
    results: dict[str, object]
    input: object = INPUT

    @property
    def steps(self) -> int:
        """Return the steps of a task."""
        return sum(self.widths)

    @property
    def events(self) -> int:
        """Return the events of a whole task: three a step, and two."""
        return 3 * self.steps + 2


def _cents_of(batch: int) -> int:
    return sum((row % 7) * (100 + row % 13) for row in range(batch * CSV_ROWS, (batch + 1) * CSV_ROWS))


def _batch() -> Shape:
    """Return the shape of `csv_inventory`: 1,000 rows, five batches, one sum."""
    cursors = [{"start": at * CSV_ROWS, "end": (at + 1) * CSV_ROWS} for at in range(CSV_BATCHES)]
    results: dict[str, object] = {"analyze": cursors, "process": None}
    results |= {f"process[{at}]": {"rows": CSV_ROWS, "value_cents": _cents_of(at)} for at in range(CSV_BATCHES)}
    total = {"rows": CSV_BATCHES * CSV_ROWS, "value_cents": sum(map(_cents_of, range(CSV_BATCHES)))}
    return Shape((1, CSV_BATCHES, 1), results | {"aggregate": total}, {"csv": CSV})


def _big(items: int) -> Shape:
    results: dict[str, object] = {"numbers": list(range(items)), "number": None}
    results |= {f"number[{index}]": index for index in range(items)}
    return Shape((1, items, 1), results | {"total": sum(range(items))})


_FOUR: Final = Shape((1, 1, 1, 1), {"s1": 36, "s2": 1296, "s3": 1679616, "s4": 2821109907456})
LIMITED: Final = ("prior4", "paced4", "capped4")
"""`linear4` with a priority, a rate limit for each step, a cap of what runs: none of them holds it back."""

PLAIN: Final = "plain4"
"""What they are held against: `linear4` again, for as long as they run and among them."""

SHAPES: Final = {
    "one": Shape((1,), {"only": {"ok": True, "n": 6}}),
    "linear4": _FOUR,
    **dict.fromkeys(LIMITED, _FOUR),
    "diamond4": Shape((1, 2, 1), {"start": 36, "b": 1296, "c": 1296, "end": 2821109907456}),
    "fanout100": Shape(
        (100, 1), {"number": None, **{f"number[{index}]": index for index in range(100)}, "total": 4950}
    ),
    HELD: Shape((1,), {"pass_by": 6}),
    HEARD_1000: Shape((1, 1), {"ticks": [1] * 1000, "count": 1000}),
    HEARD_10: Shape((1, 1), {"ticks": [1] * 10, "count": 10}),
    "batch": _batch(),
    **{f"{BIG}{items}": _big(items) for items in BIG_SIZES},
}


class Workload(NamedTuple):
    """A shape and how hard it is driven: by one client that keeps `in_flight` tasks open.

    Attributes:
        seconds, quick_seconds: how long new tasks are started; what is open then is awaited.
    """

    name: str
    shape: str
    in_flight: int
    seconds: float
    quick_seconds: float

    @property
    def of_latency(self) -> bool:
        """Say whether the time of one task is what counts."""
        return self.in_flight == 1


WORKLOADS: Final = (
    Workload("linear4", "linear4", 1000, 8.0, 3.0),
    Workload("linear4-single", "linear4", 1, 4.0, 2.0),
    Workload("prior4", "prior4", 1000, 4.0, 2.0),
    Workload("paced4", "paced4", 1000, 4.0, 2.0),
    Workload(PLAIN, "linear4", 1000, 4.0, 2.0),
    Workload("capped4", "capped4", 1000, 4.0, 2.0),
    Workload("one", "one", 1000, 4.0, 2.0),
    Workload("diamond4", "diamond4", 1000, 4.0, 2.0),
    Workload("fanout100", "fanout100", 100, 4.0, 2.0),
    Workload("batch", "batch", 1, 4.0, 2.0),
)
CREATES: Final = "creates"
CREATES_SECONDS: Final = 4.0
CREATES_QUICK_SECONDS: Final = 2.0
SIGNALS: Final = "signals"
SIGNALS_SECONDS: Final = 6.0
SIGNALS_QUICK_SECONDS: Final = 3.0
SCHEDULES: Final = "schedules"
SCHEDULES_DUE: Final = 10_000
SCHEDULES_QUICK_DUE: Final = 1_000
HELD_TASKS: Final = 100_000
HELD_QUICK_TASKS: Final = 2_000
ARRAY: Final = 100
"""Creations in a message."""

ARRAYS_IN_FLIGHT: Final = 8
WARM_UP_S: Final = 1.0
"""Both systems run `linear4` for so long before anything is measured: caches fill, plans are made."""
