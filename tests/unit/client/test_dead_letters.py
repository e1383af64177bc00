"""The client's dead letters: its endpoints. What becomes of many is `test_bulk.py`'s."""

import pytest

from tasker.client.carriers import endpoint_of


@pytest.mark.parametrize("verb", ["add", "investigate", "resolve", "reopen", "retry"])
def test_each_command_has_its_endpoint(verb: str) -> None:
    assert endpoint_of(f"dlq.{verb}", {"task_id": "t/1", "step": "a"}) == (
        "POST",
        f"/v1/dlq/t%2F1/{verb}",
        {"step": "a"},
    )
