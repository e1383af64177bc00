"""Fixtures for pytest, found by their entry point. Nothing of Tasker is imported before a test asks for one.

| fixture            | gives                                                                          |
|--------------------|--------------------------------------------------------------------------------|
| `tasker`           | an open `TaskerTest` for an async test: in process, on a clock of its own      |
| `sync_tasker`      | an open `SyncTaskerTest`, the same without `await`                             |
| `embedded_tasker`  | an open `EmbeddedTasker` for an async test: real servers, service and worker   |
| `tasker_templates` | what they run: override it in a `conftest.py` or a test module                 |
| `tasker_servers`   | the servers that a session shares: override it to use others                   |

`@pytest.mark.tasker(orders, seed=7)` says it for one test; keyword arguments are those of the kit.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tasker.testing.async_kit import TaskerTest
    from tasker.testing.embedded import EmbeddedTasker
    from tasker.testing.servers import Servers
    from tasker.testing.sync_kit import SyncTaskerTest

MARKER = "tasker"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "tasker(*templates, seed=0, handlers=(), slots=100, labels=None): what the Tasker fixtures run for this test",
    )


@pytest.fixture
def tasker_templates() -> Sequence[Any]:
    """What the kit's fixtures run when a test's marker does not say: templates, or modules that have some."""
    return ()


@pytest.fixture
def tasker(request: pytest.FixtureRequest, tasker_templates: Sequence[Any]) -> Iterator[TaskerTest]:
    """The kit, in process, for an async test."""
    from tasker.testing.async_kit import TaskerTest

    _check_async(request, instead="sync_tasker")
    sources, options = _asked(request, tasker_templates)
    kit = TaskerTest(*sources, **options)
    kit.open()
    yield kit
    kit.close()


@pytest.fixture
def sync_tasker(request: pytest.FixtureRequest, tasker_templates: Sequence[Any]) -> Iterator[SyncTaskerTest]:
    """The kit, in process, for a test without asyncio."""
    from tasker.testing.sync_kit import SyncTaskerTest

    sources, options = _asked(request, tasker_templates)
    with SyncTaskerTest(*sources, **options) as kit:
        yield kit


@pytest.fixture(scope="session")
def tasker_servers() -> Iterator[Servers]:
    """PostgreSQL and nats-server, started once for all tests of the session."""
    from tasker.testing.servers import OwnServers

    own = OwnServers()
    yield own.start()
    own.stop()


@pytest.fixture
def embedded_tasker(
    request: pytest.FixtureRequest, tasker_templates: Sequence[Any], tasker_servers: Servers
) -> Iterator[EmbeddedTasker]:
    """The real thing, for an async test: service and worker on a database and a prefix of the test's own."""
    from tasker.testing.embedded import EmbeddedTasker

    _check_async(request, instead="TaskerClient and `tasker up`, or make the test async")
    sources, options = _asked(request, tasker_templates)
    options = {name: value for name, value in options.items() if name not in {"seed", "slots"}}
    kit = EmbeddedTasker(tasker_servers, *sources, **options)
    kit.open()
    yield kit
    kit.close()


def _asked(request: pytest.FixtureRequest, templates: Sequence[Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Return the templates and the options that the test's marker names, or else those of `tasker_templates`."""
    marker = request.node.get_closest_marker(MARKER)
    sources = marker.args if marker is not None and marker.args else templates
    if not sources:
        raise pytest.UsageError(
            f"{request.node.name} says no template: mark it @pytest.mark.tasker(my_template), or define a fixture "
            "tasker_templates that returns them"
        )
    return sources, {} if marker is None else dict(marker.kwargs)


def _check_async(request: pytest.FixtureRequest, *, instead: str) -> None:
    function = getattr(request.node, "obj", None)
    if function is not None and not inspect.iscoroutinefunction(inspect.unwrap(function)):
        raise pytest.UsageError(
            f"{request.node.name} is no async function, and {request.fixturename} is for those: use {instead}"
        )
