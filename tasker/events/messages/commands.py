"""All that the service can be told."""

from __future__ import annotations

from typing import Final

from tasker.events.messages.bulk_commands import BulkCreate
from tasker.events.messages.command import Command
from tasker.events.messages.control_commands import (
    CircuitClose,
    CircuitOpen,
    ControlPause,
    ControlResume,
    LimitRemove,
    LimitSet,
)
from tasker.events.messages.dead_letter_commands import (
    DeadLetterAdd,
    DeadLetterInvestigate,
    DeadLetterReopen,
    DeadLetterResolve,
    DeadLetterRetry,
)
from tasker.events.messages.schedule_commands import (
    ScheduleBackfill,
    ScheduleCreate,
    ScheduleDelete,
    SchedulePause,
    ScheduleResume,
    ScheduleStopBackfill,
    ScheduleTrigger,
    ScheduleUpdate,
)
from tasker.events.messages.step_commands import (
    StepApprove,
    StepDelegate,
    StepEdit,
    StepReject,
    StepRelease,
    StepReset,
    StepResolve,
    StepRetry,
    StepSkip,
)
from tasker.events.messages.task_commands import (
    TaskBudget,
    TaskCancel,
    TaskComplete,
    TaskCreate,
    TaskDeadline,
    TaskFail,
    TaskPause,
    TaskRestart,
    TaskResume,
    TaskRetry,
    TaskSignal,
    TaskUpdate,
)
from tasker.events.messages.template_commands import TemplateRegister, TemplateUse

COMMANDS: Final[dict[str, type[Command]]] = {
    "task.create": TaskCreate,
    "task.cancel": TaskCancel,
    "task.complete": TaskComplete,
    "task.fail": TaskFail,
    "task.update": TaskUpdate,
    "task.deadline": TaskDeadline,
    "task.restart": TaskRestart,
    "task.retry": TaskRetry,
    "task.pause": TaskPause,
    "task.resume": TaskResume,
    "task.signal": TaskSignal,
    "task.budget": TaskBudget,
    "step.retry": StepRetry,
    "step.skip": StepSkip,
    "step.resolve": StepResolve,
    "step.reset": StepReset,
    "step.edit": StepEdit,
    "step.release": StepRelease,
    "step.approve": StepApprove,
    "step.reject": StepReject,
    "step.delegate": StepDelegate,
    "template.register": TemplateRegister,
    "template.use": TemplateUse,
    "schedule.create": ScheduleCreate,
    "schedule.update": ScheduleUpdate,
    "schedule.pause": SchedulePause,
    "schedule.resume": ScheduleResume,
    "schedule.trigger": ScheduleTrigger,
    "schedule.backfill": ScheduleBackfill,
    "schedule.stop_backfill": ScheduleStopBackfill,
    "schedule.delete": ScheduleDelete,
    "dlq.add": DeadLetterAdd,
    "dlq.investigate": DeadLetterInvestigate,
    "dlq.resolve": DeadLetterResolve,
    "dlq.reopen": DeadLetterReopen,
    "dlq.retry": DeadLetterRetry,
    "control.pause": ControlPause,
    "control.resume": ControlResume,
    "limit.set": LimitSet,
    "limit.remove": LimitRemove,
    "circuit.open": CircuitOpen,
    "circuit.close": CircuitClose,
    "bulk.create": BulkCreate,
}
"""Verb -> its body. The only list of what the service can be told."""
