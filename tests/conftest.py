"""Fixtures that every test may ask for: a database, NATS, and a name of its own on it."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import settings

from tasker.testing.servers import Servers
from tests.servers import SharedCluster, as_text, from_text

# A change is held against the same examples each time, and a busy machine is no failure; `make fuzz` draws new ones.
settings.register_profile("each_change", deadline=None, derandomize=True)
settings.load_profile("each_change")

pytest_plugins = ["tests.unit.determinism.guarantees"]

_controller = pytest.StashKey[SharedCluster]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Under pytest-xdist: start the cluster once, in the controller, and tell each worker where it is."""
    cluster = node.config.stash.setdefault(_controller, SharedCluster())
    node.workerinput["tasker_cluster"] = as_text(cluster.addresses())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the long tests of faults to `make faults`; CI runs a sample of each fault."""
    if "TASKER_FAULT_ROUNDS" in os.environ:
        return
    for item in items:
        if item.get_closest_marker("whole") is not None:
            item.add_marker(pytest.mark.skip(reason="runs in `make faults`, or with TASKER_FAULT_ROUNDS=1"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what the controller started."""
    cluster = config.stash.get(_controller, None)
    if cluster is not None:
        cluster.stop()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[SharedCluster]:
    """The servers that all tests of this run share."""
    told = getattr(request.config, "workerinput", {}).get("tasker_cluster")
    shared = SharedCluster(from_text(told) if told else None)
    yield shared
    shared.stop()


@pytest.fixture(scope="session")
def tasker_servers(cluster: SharedCluster) -> Servers:
    """The servers of the kit's fixture `embedded_tasker`: those of this run."""
    addresses = cluster.addresses()
    return Servers(addresses.database_url, addresses.nats_url)


@pytest.fixture
async def database(cluster: SharedCluster) -> AsyncIterator[str]:
    """The DSN of a migrated, empty database for this test alone."""
    dsn = await cluster.create_database()
    yield dsn
    await cluster.drop_database(dsn)


@pytest.fixture
def nats_url(cluster: SharedCluster) -> str:
    """The URL, with its secret, of the nats-server that all tests share: use `nats_prefix` on it."""
    return cluster.addresses().nats_url


@pytest.fixture
def nats_prefix() -> str:
    """A prefix for subjects and streams (`TASKER_NATS_PREFIX`) that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"
