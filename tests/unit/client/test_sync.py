"""The sync client is the async one, method by method."""

import re
import threading

import pytest

from tasker.client import TaskerClient, TaskerSyncClient
from tasker.errors import ConfigurationError, Unavailable
from tests.unit.client.facades import methods

INTERNAL = {"log_page"}
ADDRESS = "http://127.0.0.1:9"


def test_it_has_every_method_with_the_same_arguments() -> None:
    one, other = methods(TaskerClient, INTERNAL), methods(TaskerSyncClient, INTERNAL)
    assert list(other)
    assert set(one) == set(other)
    for name, signature in one.items():
        assert list(signature.parameters.values()) == list(other[name].parameters.values()), name
        expected = signature.return_annotation.replace("AsyncIterator", "Iterator")
        assert other[name].return_annotation == re.sub(r"\b(?=(Domain)?Subscription\b)", "Sync", expected), name


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
