"""How it is asked for: the client."""

from tasker.client.approvals import AnswerOptions, Approvals
from tasker.client.attempts import RetryPolicy
from tasker.client.bulk import EVERY_TASK, BulkPreview, Bulks, TaskFilter
from tasker.client.client import TaskerClient
from tasker.client.controls import WorkControls
from tasker.client.dead_letters import DeadLetterFilter, DeadLetters
from tasker.client.domain_events import DomainSubscription
from tasker.client.requests import NewTask, OperatorOptions, TaskHandle
from tasker.client.schedules import Schedules, upcoming
from tasker.client.sync import TaskerSyncClient
from tasker.client.sync_calls import SyncApprovals, SyncBulks, SyncControls, SyncDeadLetters, SyncSchedules
from tasker.events.bulk import BulkOutcome, BulkRefusal
from tasker.events.messages import ScheduleDocument

__all__ = [
    "EVERY_TASK",
    "AnswerOptions",
    "Approvals",
    "BulkOutcome",
    "BulkPreview",
    "BulkRefusal",
    "Bulks",
    "DeadLetterFilter",
    "DeadLetters",
    "DomainSubscription",
    "NewTask",
    "OperatorOptions",
    "RetryPolicy",
    "ScheduleDocument",
    "Schedules",
    "SyncApprovals",
    "SyncBulks",
    "SyncControls",
    "SyncDeadLetters",
    "SyncSchedules",
    "TaskFilter",
    "TaskHandle",
    "TaskerClient",
    "TaskerSyncClient",
    "WorkControls",
    "upcoming",
]
