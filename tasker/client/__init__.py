"""How it is asked for: the client."""

from tasker.client.attempts import RetryPolicy
from tasker.client.client import TaskerClient
from tasker.client.requests import NewTask, TaskHandle
from tasker.client.sync import TaskerSyncClient

__all__ = ["NewTask", "RetryPolicy", "TaskHandle", "TaskerClient", "TaskerSyncClient"]
