"""The client's dead letters: its endpoints, and how a letter is named. What becomes of many is `test_bulk.py`'s."""

from typing import Any, cast

import pytest

from tasker.client import DeadLetters
from tasker.client.carriers import endpoint_of
from tasker.events.messages import Command, Reply
from tasker.ids import SystemIds

WHO: dict[str, Any] = {"requested_by": "ada", "reason": "why"}


@pytest.mark.parametrize("verb", ["add", "investigate", "resolve", "reopen", "retry"])
def test_each_command_has_its_endpoint(verb: str) -> None:
    assert endpoint_of(f"dlq.{verb}", {"task_id": "t/1", "step": "a"}) == (
        "POST",
        f"/v1/dlq/t%2F1/{verb}",
        {"step": "a"},
    )


async def test_the_letter_of_a_task_is_named_as_the_list_shows_it() -> None:
    sent: list[Any] = []

    async def take(_verb: str, command: Command) -> Reply:
        sent.append(command)
        return Reply(ok=True)

    dlq = DeadLetters(take, cast("Any", None), SystemIds(), cast("Any", None))
    for verb in (dlq.add, dlq.investigate, dlq.resolve, dlq.reopen, dlq.retry):
        await verb("t", "", **WHO)
    assert [one.step for one in sent] == [None] * 5
