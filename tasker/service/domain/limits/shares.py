"""A task whose template shares slots by a key has one from its creation on, or it is refused."""

from __future__ import annotations

import msgspec

from tasker.errors import ExpressionFailed
from tasker.service.domain.limits.input_keys import no_value
from tasker.templates.fairness import share_of
from tasker.templates.model import Fairness


def check_share(fairness: Fairness, task_input: msgspec.Raw) -> None:
    """Return when the input of a new task gives a key and a weight.

    Raises:
        InputInvalid: it does not.
    """
    try:
        share_of(fairness, task_input)
    except ExpressionFailed as error:
        raise no_value("fairness", error) from error
