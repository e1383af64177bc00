"""How it is asked for: the client."""

from tasker.client.attempts import RetryPolicy
from tasker.client.client import TaskerClient
from tasker.client.domain_events import DomainSubscription
from tasker.client.requests import NewTask, TaskHandle
from tasker.client.sync import TaskerSyncClient

__all__ = ["DomainSubscription", "NewTask", "RetryPolicy", "TaskHandle", "TaskerClient", "TaskerSyncClient"]
