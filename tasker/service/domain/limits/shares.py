"""A task whose template shares slots by a key has one from its creation on, or it is refused."""

from __future__ import annotations

import msgspec

from tasker.errors import ExpressionFailed
from tasker.service.domain.limits.input_keys import no_value
from tasker.templates import CompiledTemplate
from tasker.templates.fairness import share_of


def check_shares(template: CompiledTemplate, task_input: msgspec.Raw) -> None:
    """Return when the input of a new task gives a key and a weight, for each of its steps that has its own.

    Raises:
        InputInvalid: it does not.
    """
    found = (template.spec.fairness, *(step.fairness for step in template.spec.steps))
    try:
        for fairness in {one for one in found if one is not None}:
            share_of(fairness, task_input)
    except ExpressionFailed as error:
        raise no_value("fairness", error) from error
