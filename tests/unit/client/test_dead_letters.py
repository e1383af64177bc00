"""The client's dead letters: the sync form, and the endpoints. What becomes of many is `test_bulk.py`'s."""

import inspect

import pytest

from tasker.client import DeadLetters, SyncDeadLetters
from tasker.client.carriers import endpoint_of
from tests.unit.client.facades import methods


def test_the_sync_one_is_the_async_one_method_by_method() -> None:
    one, other = methods(DeadLetters), methods(SyncDeadLetters)
    assert list(one) == list(other)
    for name, signature in one.items():
        assert list(signature.parameters.values()) == list(other[name].parameters.values()), name
        assert other[name].return_annotation == signature.return_annotation.replace("AsyncIterator", "Iterator")
        assert inspect.getdoc(vars(DeadLetters)[name]) == inspect.getdoc(vars(SyncDeadLetters)[name])


@pytest.mark.parametrize("verb", ["add", "investigate", "resolve", "reopen", "retry"])
def test_each_command_has_its_endpoint(verb: str) -> None:
    assert endpoint_of(f"dlq.{verb}", {"task_id": "t/1", "step": "a"}) == (
        "POST",
        f"/v1/dlq/t%2F1/{verb}",
        {"step": "a"},
    )
