"""What a bulk is for: what was there before it, in the states that its command is for, and no task of the service's."""

import asyncio
from typing import Any, cast

import pytest

from tasker.events.bulk import BulkOrder
from tasker.events.messages import BulkDeadLetters, BulkTasks
from tasker.projections.dead_letter_queries import DeadLetterQueries, DeadLetterQuery
from tasker.projections.queries import Queries, TaskQuery
from tasker.service.bulk.targets import BulkTargets

AT_US = 1_795_255_200_000_000
BEFORE, AT, BEHIND = "2026-11-21T09:59:59Z", "2026-11-21T10:00:00Z", "2026-11-21T10:00:01Z"


class Asked:
    """Views that are empty, and keep what they are asked."""

    def __init__(self) -> None:
        self.tasks: list[TaskQuery] = []
        self.letters: list[DeadLetterQuery] = []
        self.targets = BulkTargets(cast("Queries", _Views(self.tasks)), cast("DeadLetterQueries", _Views(self.letters)))

    def of(self, order: BulkOrder) -> Any:
        """Return what the views are asked for the count of an order at `AT_US`."""
        asyncio.run(self.targets.count("shop", order, until_us=AT_US))
        return [*self.tasks, *self.letters][-1]


class _Views:
    def __init__(self, asked: list[Any]) -> None:
        self._asked = asked

    async def count_tasks(self, tenant: str, query: Any) -> int:
        assert tenant == "shop"
        self._asked.append(query)
        return 0

    count = count_tasks


def order(verb: Any, **more: Any) -> BulkOrder:
    return BulkOrder(verb=verb, requested_by="ada", reason="why", **more)


@pytest.mark.parametrize(("before", "until_us"), [(None, AT_US), (BEFORE, AT_US - 1_000_000), (BEHIND, AT_US)])
def test_what_comes_later_is_no_part_of_it(before: str | None, until_us: int) -> None:
    asked = Asked()
    assert asked.of(order("task.restart", tasks=BulkTasks(created_before=before))).created_to_us == until_us
    assert asked.of(order("dlq.retry", dead_letters=BulkDeadLetters(seen_before=before))).seen_to_us == until_us


def test_without_states_it_takes_those_that_the_command_is_for_and_never_the_services_own() -> None:
    asked = Asked()
    query = asked.of(order("task.restart"))
    assert (query.states, query.beside_namespace) == (("failed", "cancelled"), "tasker")
    assert asked.of(order("task.restart", tasks=BulkTasks(states=("blocked",)))).states == ("blocked",)
    letters = asked.of(order("dlq.retry"))
    assert (letters.states, letters.statuses) == (("dead",), ("open", "investigating"))
