"""The sync client is the async one, method by method."""

import inspect
import re
import threading

import pytest

from scripts.generate_sync_client import PAGE, render
from tasker.client import (
    Approvals,
    Bulks,
    DeadLetters,
    Schedules,
    SyncApprovals,
    SyncBulks,
    SyncControls,
    SyncDeadLetters,
    SyncSchedules,
    TaskerClient,
    TaskerSyncClient,
    WorkControls,
)
from tasker.errors import ConfigurationError, Unavailable

INTERNAL = {"log_page"}
ADDRESS = "http://127.0.0.1:9"


def methods(kind: type) -> dict[str, inspect.Signature]:
    """Return the public methods of a class."""
    found = inspect.getmembers(kind, inspect.isfunction)
    return {
        name: inspect.signature(value) for name, value in found if not name.startswith("_") and name not in INTERNAL
    }


def test_what_is_generated_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: make generate"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TaskerClient, TaskerSyncClient),
        (Approvals, SyncApprovals),
        (Bulks, SyncBulks),
        (DeadLetters, SyncDeadLetters),
        (Schedules, SyncSchedules),
        (WorkControls, SyncControls),
    ],
)
def test_it_has_every_method_with_the_same_arguments(one: type, other: type) -> None:
    blocking = methods(other)
    assert methods(one).keys() == blocking.keys()
    for name, signature in methods(one).items():
        assert list(signature.parameters.values()) == list(blocking[name].parameters.values()), name
        expected = signature.return_annotation.replace("AsyncIterator", "Iterator")
        assert blocking[name].return_annotation == re.sub(r"\b(?=(Domain)?Subscription\b)", "Sync", expected), name


def test_it_blocks_and_raises_what_the_async_one_does() -> None:
    with TaskerSyncClient("", ADDRESS, environ={}, timeout_s=0.2) as client:
        assert client.settings.http_url == ADDRESS
        with pytest.raises(Unavailable):
            client.health()
        with pytest.raises(Unavailable):
            next(client.list())


def test_it_ends_its_thread_and_says_so_afterwards() -> None:
    before = threading.active_count()
    client = TaskerSyncClient("", ADDRESS, environ={})
    assert threading.active_count() == before + 1
    client.close()
    client.close()
    assert threading.active_count() == before
    with pytest.raises(ConfigurationError, match="closed"):
        client.health()


def test_without_an_address_it_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(ConfigurationError):
        TaskerSyncClient("", "", environ={})
    assert threading.active_count() == before


async def test_beside_a_running_loop_it_names_the_async_one() -> None:
    with pytest.raises(ConfigurationError, match="use TaskerClient"):
        TaskerSyncClient("", ADDRESS, environ={})
