"""Parts of a bulk: what is given again after a crash, what is refused, what passes by."""

import asyncio
import json
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from tasker.clock import SystemClock
from tasker.errors import Behind, Busy, DeadlineExceeded, StateForbids, TaskEnded, TaskerError, Unavailable
from tasker.events.bulk import REFUSALS_MAX, BulkOrder, BulkOutcome
from tasker.events.codec import encode_message, encode_value
from tasker.events.log import Head
from tasker.events.messages import Accepted, BulkTasks, Refused
from tasker.handlers.context import StepContext
from tasker.handlers.returned import Again
from tasker.projections.dead_letter_queries import DeadLetterQueries
from tasker.projections.queries import Queries, TaskQuery
from tasker.service.bulk import part
from tasker.service.bulk.part import BulkParts
from tasker.service.bulk.targets import BulkTargets, Target, Targets
from tasker.testing.virtual_loop import VirtualLoop

BULK = "01930000-0000-7000-8000-000000000000"
TENANT = "shop"
ORDER = BulkOrder(
    verb="task.cancel", requested_by="ada", reason="why", tasks=BulkTasks(template="orders"), rate_per_s=1_000.0
)


class Port:
    def tell_progress(self, progress: Any) -> None:
        """Take it."""


class Site:
    """Tasks in the views, owners that give verdicts, and how far the views are."""

    def __init__(self, count: int) -> None:
        self.tasks = [f"{number:032x}" for number in range(count)]
        self.is_behind = False
        self.asked: list[TaskQuery] = []
        self.given: list[dict[str, Any]] = []
        self.had: set[str] = set()
        self.verdicts: dict[str, list[TaskerError]] = {}
        self.lost: list[TaskerError] = []
        targets = BulkTargets(cast("Queries", self), cast("DeadLetterQueries", None))
        self.parts = BulkParts(
            targets, cast("Queries", self), cast("Any", self), cast("Any", self), 1, self.send, SystemClock()
        )

    # What of the log and the views a part asks for.
    async def heads(self, shards: range) -> list[Head]:
        return [Head(shard=shard, epoch=1, owner="o", position=7, digest=b"", at_us=0) for shard in shards]

    async def reach(self, wanted: dict[int, int], *, timeout_s: float) -> bool:
        assert wanted == {0: 7}
        return not self.is_behind

    async def task(self, tenant: str, task_id: UUID) -> Any:
        assert (tenant, str(task_id)) == (TENANT, BULK)
        return SimpleNamespace(created_at="2026-11-21T10:00:00Z")

    async def count_tasks(self, tenant: str, query: TaskQuery) -> int:
        assert tenant == TENANT
        return len(self.tasks)

    async def tasks_page(self, query: TaskQuery) -> Any:
        start = int(query.after or 0)
        found = self.tasks[start : start + query.limit]
        after = str(start + query.limit) if start + query.limit < len(self.tasks) else None
        return found, after

    async def send(self, tenant: str, verb: str, body: bytes) -> bytes:
        assert (tenant, verb) == (TENANT, "task.cancel")
        commands = json.loads(body)
        self.given += commands
        answers = []
        for one in commands:
            waiting = self.verdicts.get(one["task_id"], [])
            if waiting:
                answers.append(encode_message(Refused(ok=False, error=waiting.pop(0).problem())))
                continue
            is_again = one["command_id"] in self.had
            self.had.add(one["command_id"])
            answers.append(
                encode_message(Accepted(ok=True, task_id=one["task_id"], position="0:9", duplicate=is_again))
            )
        if self.lost:
            raise self.lost.pop(0)
        return b"[" + b",".join(answers) + b"]"

    async def part(self, checkpoint: bytes | None) -> Again | BulkOutcome:
        context = StepContext(
            task_id=BULK,
            step="run",
            attempt=1,
            tenant=TENANT,
            namespace="tasker",
            template="bulk",
            idempotency_key="k",
            worker="w",
            deadline_s=1e9,
            port=cast("Any", Port()),
            checkpoint_bytes=cast("Any", checkpoint),
        )
        return await self.parts.run(context, ORDER)

    async def to_the_end(self, *, twice: bool = False) -> BulkOutcome:
        """Run part after part; `twice`: each as if its first run had been killed after all it did."""
        checkpoint = None
        while True:
            if twice:
                await self.part(checkpoint)
            told = await self.part(checkpoint)
            if isinstance(told, BulkOutcome):
                return told
            checkpoint = encode_value(told.checkpoint)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "TRY_AGAIN_S", 0.0)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(450)

    async def page(
        _self: BulkTargets, tenant: str, _order: BulkOrder, *, until_us: int, after: str | None, limit: int
    ) -> Any:
        assert (tenant, until_us) == (TENANT, 1_795_255_200_000_000)
        found, following = await site.tasks_page(TaskQuery(after=after, limit=limit))
        return Targets([Target(task) for task in found], following)

    monkeypatch.setattr(BulkTargets, "page", page)
    return site


def test_each_target_has_its_command_once_with_an_id_of_the_bulk_and_the_target(site: Site) -> None:
    outcome = asyncio.run(site.to_the_end())
    assert (outcome.matched, outcome.done, outcome.refused, outcome.position) == (450, 450, 0, "0:9")
    assert [one["task_id"] for one in site.given] == site.tasks
    assert {one["command_id"] for one in site.given} == {f"bulk:{BULK}:{task}" for task in site.tasks}
    assert {(one["requested_by"], one["reason"]) for one in site.given} == {("ada", "why")}


def test_a_part_that_was_killed_after_all_it_did_gives_the_same_commands_and_counts_the_same(site: Site) -> None:
    """No command of the first run is another one in the second: targets know them again by their ids."""
    outcome = asyncio.run(site.to_the_end(twice=True))
    assert (outcome.matched, outcome.done) == (450, 450)
    assert set(Counter(one["command_id"] for one in site.given).values()) == {2}
    assert len(site.had) == 450


def test_what_passes_by_is_asked_again_and_what_is_refused_is_counted_and_listed(site: Site) -> None:
    site.verdicts = {task: [TaskEnded("it has ended")] for task in site.tasks[:120]}
    site.verdicts[site.tasks[130]] = [Busy("later"), Unavailable("away"), StateForbids("it is paused")]
    site.verdicts[site.tasks[131]] = [Busy("later")]
    outcome = asyncio.run(site.to_the_end())
    assert (outcome.done, outcome.refused) == (329, 121)
    assert outcome.refused_by_code == {"task_ended": 120, "state_forbids": 1}
    assert len(outcome.refusals) == REFUSALS_MAX
    assert outcome.refusals[0].detail == "it has ended"
    again = Counter(one["task_id"] for one in site.given)
    assert (again[site.tasks[130]], again[site.tasks[131]], again[site.tasks[0]]) == (3, 2, 1)


def test_a_lost_answer_is_asked_for_again(site: Site) -> None:
    site.lost = [DeadlineExceeded("no answer"), Unavailable("nobody")]
    outcome = asyncio.run(site.to_the_end())
    assert outcome.done == 450
    assert len(site.had) == 450


def test_owners_that_stay_away_fail_the_attempt_and_not_the_bulk(site: Site) -> None:
    begun = asyncio.run(site.part(None))
    assert isinstance(begun, Again)
    site.lost = [Unavailable("nobody")] * part.TRIES
    with pytest.raises(Unavailable):
        asyncio.run(site.part(encode_value(begun.checkpoint)))
    assert isinstance(asyncio.run(site.part(encode_value(begun.checkpoint))), Again)


def test_a_bulk_begins_once_the_views_show_what_was_before_it(site: Site) -> None:
    site.is_behind = True
    with pytest.raises(Behind):
        asyncio.run(site.part(None))
    assert site.given == []


def test_nothing_that_matches_is_an_outcome_at_once(site: Site) -> None:
    site.tasks = []
    outcome = asyncio.run(site.part(None))
    assert outcome == BulkOutcome(verb="task.cancel", matched=0)


def test_a_slow_bulk_has_small_parts(site: Site) -> None:
    assert [part._part_items(rate) for rate in (1, 20, 1_000)] == [2, 40, part.PART_ITEMS_MAX]


def test_it_gives_no_more_commands_a_second_than_it_may_over_all_of_its_parts(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ORDER", msgspec.structs.replace(ORDER, rate_per_s=20.0))

    async def timed() -> float:
        began_s = asyncio.get_running_loop().time()
        await site.to_the_end()
        return asyncio.get_running_loop().time() - began_s

    async def run() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        monkeypatch.setattr(site.parts._clock, "monotonic_s", loop.time)
        bulk = asyncio.create_task(timed())
        await loop.pass_until(loop.time() + 60)
        return await bulk

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        took_s = runner.run(run())
    assert len(site.given) == 450
    assert 22 <= took_s <= 23


def test_dead_letters_are_told_by_step_and_attempt(site: Site) -> None:
    order = BulkOrder(verb="dlq.resolve", requested_by="ada", reason="why", arguments={"ignore": True})
    told = json.loads(part._command(BULK, order, Target("t", "charge", 3)))
    assert told == {
        "command_id": f"bulk:{BULK}:t:charge",
        "task_id": "t",
        "step": "charge",
        "attempt": 3,
        "ignore": True,
        "requested_by": "ada",
        "reason": "why",
    }
    assert json.loads(part._command(BULK, order, Target("t")))["step"] is None
