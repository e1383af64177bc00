"""The kinds of stream whose state is kept in snapshots."""

from __future__ import annotations

from typing import Any, Final

from tasker.controls import CONTROL_FORM
from tasker.events.state_form import StateForm
from tasker.service.domain.dead_letters.investigation import INVESTIGATION_FORM
from tasker.service.domain.limits.concurrency import CONCURRENCY_FORM
from tasker.service.domain.schedules.state import SCHEDULE_FORM
from tasker.service.domain.template_registry import TEMPLATE_FORM

FORMS: Final[dict[str, StateForm[Any]]] = {
    form.kind: form for form in (CONTROL_FORM, INVESTIGATION_FORM, CONCURRENCY_FORM, SCHEDULE_FORM, TEMPLATE_FORM)
}
"""Kind -> how its state is folded and kept. Tasks are not among them: their length has an end."""
