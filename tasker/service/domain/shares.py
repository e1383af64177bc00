"""A task whose template shares slots by a key has one from its creation on, or it is refused."""

from __future__ import annotations

import msgspec

from tasker.errors import ExpressionFailed, FieldError, InputInvalid
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
        detail = f"the template's fairness has no value for this input: {error.detail}"
        raise InputInvalid(detail, errors=(FieldError("", detail),)) from error
