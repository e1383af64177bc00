"""The table of operations: a route is declared here, with its subject, and nowhere else."""

from __future__ import annotations

from typing import Final

from tasker.service.http.operations import Operation
from tasker.service.http.routes.controls import CONTROLS
from tasker.service.http.routes.dead_letters import DEAD_LETTERS
from tasker.service.http.routes.log import LOG
from tasker.service.http.routes.schedules import SCHEDULES
from tasker.service.http.routes.service import SERVICE
from tasker.service.http.routes.tasks import TASKS
from tasker.service.http.routes.templates import TEMPLATES

OPERATIONS: Final[tuple[Operation, ...]] = (
    *TASKS,
    *DEAD_LETTERS,
    *TEMPLATES,
    *SCHEDULES,
    *LOG,
    *CONTROLS,
    *SERVICE,
)
