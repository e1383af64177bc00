"""The client's bulks: what is asked for, and what is told of it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tasker.client import EVERY_TASK, Bulks, DeadLetterFilter, DeadLetters, TaskFilter
from tasker.client.carriers import endpoint_of
from tasker.errors import DeadlineExceeded, StateForbids, ValueInvalid
from tasker.events.bulk import BulkOutcome
from tasker.events.messages import BulkCreate, BulkMatch, Command, Reply, StepProgress
from tasker.events.reads import StepView, TaskView
from tasker.ids import SystemIds

WHO: dict[str, Any] = {"requested_by": "ada", "reason": "why"}
OUTCOME = BulkOutcome(verb="task.cancel", matched=5, done=4, refused=1, refused_by_code={"task_ended": 1})


class Service:
    """Takes a bulk, which is over after some looks."""

    def __init__(self, *, looks: int = 0, state: str = "completed") -> None:
        self.sent: list[BulkCreate] = []
        self.looks = looks
        self.state = state
        self.bulk = Bulks(self._command, self._wait, self._steps, SystemIds())
        self.dlq = DeadLetters(self._command, cast("Any", None), SystemIds(), self.bulk)

    async def _command(self, verb: str, command: Command) -> Reply:
        assert verb == "bulk.create"
        assert isinstance(command, BulkCreate)
        self.sent.append(command)
        if command.dry_run:
            found = BulkMatch(task_id="t", namespace="shop", template="orders", state="running")
            return Reply(ok=True, dry_run=True, matched=5, sample=(found,))
        return Reply(ok=True, task_id="b-1", position="0:1")

    async def _wait(self, task: Any, *, timeout_s: float | None = None) -> TaskView:
        if timeout_s is not None and self.looks:
            self.looks -= 1
            raise DeadlineExceeded("not yet")
        result = msgspec.Raw(msgspec.json.encode(OUTCOME)) if self.state == "completed" else None
        view = SimpleNamespace(
            task_id="b-1", state=self.state, result=result, error=None, waiting_on=None, reason="ada was tired"
        )
        return cast("TaskView", view)

    async def _steps(self, task: Any) -> Sequence[StepView]:
        told = StepProgress(attempt=1, at="", done=float(3 - self.looks), total=5.0)
        return [StepView(task_id="b-1", step="run", state="running", progress=told)]


async def test_a_filter_and_what_the_command_says_go_into_the_order() -> None:
    service = Service()
    wanted = TaskFilter(template="orders", states=["blocked"], created_before=datetime(2026, 11, 21, tzinfo=UTC))
    bulk = await service.bulk.start("task.cancel", wanted, **WHO, arguments={"grace_s": 0}, rate_per_s=5)
    (order,) = service.sent
    assert (order.verb, order.arguments, order.rate_per_s, order.everything) == (
        "task.cancel",
        {"grace_s": 0},
        5,
        False,
    )
    assert order.tasks is not None
    assert (order.tasks.states, order.tasks.created_before) == (("blocked",), "2026-11-21T00:00:00.000000Z")
    assert (bulk.task_id, bulk.namespace, bulk.template) == ("b-1", "tasker", "bulk")
    with pytest.raises(ValueInvalid, match="time zone"):
        await service.bulk.start("task.cancel", TaskFilter(created_after=datetime(2026, 11, 21)), **WHO)  # noqa: DTZ001


async def test_no_filter_says_that_everything_is_meant() -> None:
    service = Service()
    await service.bulk.start("task.pause", EVERY_TASK, **WHO)
    await service.bulk.start("dlq.retry", DeadLetterFilter(), **WHO)
    assert [(one.everything, one.tasks, one.dead_letters) for one in service.sent] == [(True, None, None)] * 2


async def test_a_preview_is_a_dry_run() -> None:
    service = Service()
    found = await service.bulk.preview("task.cancel", TaskFilter(template="orders"), **WHO)
    assert (found.matched, found.sample[0].task_id) == (5, "t")
    assert service.sent[0].dry_run


async def test_progress_is_told_while_it_runs_and_at_its_end() -> None:
    service = Service(looks=3)
    told: list[tuple[int, int]] = []
    outcome = await service.bulk.run("task.cancel", EVERY_TASK, **WHO, on_progress=lambda *at: told.append(at))
    assert outcome == OUTCOME
    assert told == [(1, 5), (2, 5), (3, 5), (5, 5)]


@pytest.mark.parametrize("state", ["cancelled", "blocked", "failed"])
async def test_one_that_is_not_done_is_an_error_that_says_why(state: str) -> None:
    with pytest.raises(StateForbids, match=f"is {state}: ada was tired"):
        await Service(state=state).bulk.outcome("b-1")


async def test_all_dead_letters_are_a_bulk() -> None:
    service = Service()
    await service.dlq.retry_all(DeadLetterFilter(states=("left",), template="orders"), **WHO)
    await service.dlq.resolve_all(DeadLetterFilter(owner="ada", reasons=("stale",)), **WHO, ignore=True, command_id="c")
    retry, resolve = service.sent
    assert retry.dead_letters is not None
    assert (retry.verb, retry.arguments, retry.dead_letters.template) == ("dlq.retry", {}, "orders")
    assert resolve.dead_letters is not None
    assert (resolve.verb, resolve.arguments, resolve.command_id) == ("dlq.resolve", {"ignore": True}, "c")
    assert (resolve.dead_letters.owner, resolve.dead_letters.reasons) == ("ada", ("stale",))


def test_it_has_its_endpoint() -> None:
    assert endpoint_of("bulk.create", {"verb": "task.cancel"}) == ("POST", "/v1/bulk", {"verb": "task.cancel"})


def test_one_state_or_several_can_be_asked_for() -> None:
    assert TaskFilter(states="blocked").wire() == TaskFilter(states=["blocked"]).wire()
    one = DeadLetterFilter(states="dead", statuses="open", reasons="stale")
    assert one.parameters() == DeadLetterFilter(states=["dead"], statuses=("open",), reasons=["stale"]).parameters()
    assert one.wire().statuses == ("open",)
