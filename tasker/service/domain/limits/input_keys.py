"""What an expression of a template gives for the input of a new task: without a value the task is refused."""

from __future__ import annotations

import msgspec

from tasker.errors import ExpressionFailed, FieldError, InputInvalid
from tasker.events.codec import decode_value
from tasker.templates import CompiledTemplate
from tasker.templates.concurrency import key_text


def key_of_input(expression: str, template: CompiledTemplate, task_input: msgspec.Raw) -> str | None:
    """Return the text of the key that an expression over `input` gives; None: it gives none.

    Raises:
        ExpressionFailed: it has no value, or one that is no key.
    """
    value = template.expression(expression).evaluate({"input": decode_value(bytes(task_input))})
    return key_text(value, expression)


def key_of_start(what: str, expression: str, template: CompiledTemplate, task_input: msgspec.Raw) -> str | None:
    """Return the same of a task that is to start; `what` of its template needs the key.

    Raises:
        InputInvalid: there is no value for this input.
    """
    try:
        return key_of_input(expression, template, task_input)
    except ExpressionFailed as error:
        raise no_value(what, error) from error


def no_value(what: str, error: ExpressionFailed) -> InputInvalid:
    """Return the refusal of a task for whose input `what` of its template has no value."""
    detail = f"the template's {what} has no value for this input: {error.detail}"
    return InputInvalid(detail, errors=(FieldError("", detail),))
