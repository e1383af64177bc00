"""How it is asked for: the client."""

from tasker.client.attempts import RetryPolicy
from tasker.client.client import TaskerClient
from tasker.client.requests import NewTask, TaskHandle
from tasker.client.schedules import Schedules, upcoming
from tasker.client.sync import TaskerSyncClient
from tasker.events.messages import ScheduleDocument

__all__ = [
    "NewTask",
    "RetryPolicy",
    "ScheduleDocument",
    "Schedules",
    "TaskHandle",
    "TaskerClient",
    "TaskerSyncClient",
    "upcoming",
]
