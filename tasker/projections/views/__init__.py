"""The views, one module each; none knows another."""

from __future__ import annotations

from typing import Any, Final

from tasker.projections.projection import Projection
from tasker.projections.views.dlq import DeadLetterProjection
from tasker.projections.views.schedule import ScheduleProjection
from tasker.projections.views.step import StepProjection
from tasker.projections.views.task import TaskProjection
from tasker.projections.views.template import TemplateProjection
from tasker.projections.views.usage import UsageProjection

PROJECTIONS: Final[tuple[Projection[Any], ...]] = (
    TaskProjection(),
    StepProjection(),
    TemplateProjection(),
    ScheduleProjection(),
    DeadLetterProjection(),
    UsageProjection(),
)
"""Every view that a service keeps."""
