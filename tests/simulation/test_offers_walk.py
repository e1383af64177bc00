"""Whatever became of those who held an offer: what may begin begins soon."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.offers import Stage, staged
from tests.simulation.offers_walk import NODES, Walk
from tests.simulation.test_sessions import seeds

TOLD_MAX = 80

MOVES = {
    "circuit_opened",
    "circuit_closed",
    "place_taken",
    "rate_limit_removed",
    "schedule_fired",
    "step_cancelled",
    "step_attempt_failed",
    "step_yielded",
    "task_unpaused",
    "task_updated",
}
"""Events that walks lead to: each is of another way by which an attempt is held or let go; a part of a bulk yields."""


def walked(seed: int) -> Counter[str]:
    """Return how many events of each type a walk led to."""
    found: Counter[str] = Counter()

    async def scenario(stage: Stage) -> None:
        walk = Walk(stage, seed)
        try:
            await walk.go()
            await stage.check_log()
        except AssertionError as error:
            error.add_note("\n".join(walk.told[-TOLD_MAX:]))
            raise
        found.update(event.type for shard in stage.log._shards.values() for event in shard.events)

    staged(scenario, nodes=NODES, seed=seed)
    return found


@pytest.mark.parametrize("seed", seeds())
def test_what_may_begin_begins(seed: int) -> None:
    assert walked(seed)["step_started"]


def test_walks_meet_all_that_holds_an_attempt() -> None:
    met: Counter[str] = Counter()
    for seed in range(1_004, 1_010):
        met += walked(seed)
    assert set(met) >= MOVES, MOVES - set(met)
