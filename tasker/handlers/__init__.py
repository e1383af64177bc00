"""Who does the work: the worker SDK. This is the vocabulary of people who write workflows."""

from tasker.handlers.context import StepContext
from tasker.handlers.handler import handler
from tasker.handlers.outcome import AttemptCancelled, PermanentError, RetryableError
from tasker.handlers.template import Template
from tasker.templates.model import Retry

__all__ = ["AttemptCancelled", "PermanentError", "Retry", "RetryableError", "StepContext", "Template", "handler"]
