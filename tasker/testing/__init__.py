"""How users test their workflows: in process and on a clock of its own, or on real servers.

Everything is imported at its first use, so that a pytest which never asks for it pays nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasker.testing.async_kit import Run, ScheduleRun, TaskerTest
    from tasker.testing.engine import Stuck
    from tasker.testing.kit import NotOver
    from tasker.testing.run import RunEvent, RunView, StepRun
    from tasker.testing.script import Call
    from tasker.testing.sync_kit import SyncRun, SyncScheduleRun, SyncTaskerTest

_HOMES = {
    "Call": "script",
    "NotOver": "kit",
    "Run": "async_kit",
    "RunEvent": "run",
    "RunView": "run",
    "StepRun": "run",
    "ScheduleRun": "async_kit",
    "Stuck": "engine",
    "SyncRun": "sync_kit",
    "SyncScheduleRun": "sync_kit",
    "SyncTaskerTest": "sync_kit",
    "TaskerTest": "async_kit",
}

__all__ = [
    "Call",
    "NotOver",
    "Run",
    "RunEvent",
    "RunView",
    "ScheduleRun",
    "StepRun",
    "Stuck",
    "SyncRun",
    "SyncScheduleRun",
    "SyncTaskerTest",
    "TaskerTest",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"tasker.testing.{_HOMES[name]}"), name)
