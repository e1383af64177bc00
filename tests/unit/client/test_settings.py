"""Where a client finds the service."""

import os
from pathlib import Path

import msgspec
import pytest

from tasker.client.settings import client_settings
from tasker.errors import ConfigurationError, NameInvalid
from tasker.settings.running import STACK_FILE, StackInfo, process_mark

ENV = {
    "TASKER_NATS_URL": "nats://env:4222",
    "TASKER_HTTP_URL": "http://env:8080/",
    "TASKER_TENANT": "acme",
    "TASKER_NATS_PREFIX": "prod",
}


def stack() -> dict[str, str]:
    return {"TASKER_NATS_URL": "nats://stack:1", "TASKER_HTTP_URL": "http://stack:2"}


def test_the_environment_fills_what_was_not_given() -> None:
    found = client_settings(environ=ENV)
    assert (found.nats_url, found.http_url) == ("nats://env:4222", "http://env:8080")
    assert (found.tenant, found.prefix) == ("acme", "prod")


def test_arguments_come_first() -> None:
    found = client_settings(nats_url="nats://a:1", http_url="http://b:2", tenant="t", prefix="p", environ=ENV)
    assert (found.nats_url, found.http_url, found.tenant, found.prefix) == ("nats://a:1", "http://b:2", "t", "p")


def test_an_empty_address_is_none() -> None:
    assert client_settings(http_url="", environ=ENV).http_url is None


def test_the_running_stack_is_the_last_resort() -> None:
    assert client_settings(environ={}, find_stack=stack).nats_url == "nats://stack:1"
    assert client_settings(http_url="http://given:1", environ={}, find_stack=stack).nats_url is None
    with pytest.raises(ConfigurationError):
        client_settings(nats_url="", http_url="", environ={}, find_stack=stack)


def test_the_running_stack_is_found_by_its_file(tmp_path: Path) -> None:
    """The one that `tasker up` writes into its data directory, while its process lives."""
    environ = {"TASKER_DATA": str(tmp_path)}
    mark = process_mark(os.getpid())
    assert mark is not None
    running = StackInfo(pid=os.getpid(), mark=mark, database_url="d", nats_url="nats://s:1", http_url="http://s:2")
    (tmp_path / STACK_FILE).write_bytes(msgspec.json.encode(running))
    found = client_settings(environ=environ)
    assert (found.nats_url, found.http_url) == ("nats://s:1", "http://s:2")
    assert client_settings(environ=environ | {"TASKER_HTTP_URL": "http://set:1"}).nats_url is None
    (tmp_path / STACK_FILE).write_bytes(msgspec.json.encode(msgspec.structs.replace(running, mark="another")))
    with pytest.raises(ConfigurationError, match="tasker up"):
        client_settings(environ=environ)


def test_without_any_address_it_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match=r"TASKER_NATS_URL.*tasker up"):
        client_settings(environ={}, find_stack=dict)


def test_a_tenant_is_a_name() -> None:
    with pytest.raises(NameInvalid):
        client_settings(tenant="Not A Name", environ=ENV)
