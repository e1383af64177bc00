"""Who does the work: the worker SDK. This is the vocabulary of people who write workflows."""

from tasker.handlers.api import ApiRefused, ApiRequest, ApiUnavailable, api_step, call_api
from tasker.handlers.classification import errors_are
from tasker.handlers.context import StepContext
from tasker.handlers.emits import Emits
from tasker.handlers.handler import handler
from tasker.handlers.hooks import Outcome, middleware
from tasker.handlers.outcome import AttemptCancelled, PermanentError, RetryableError
from tasker.handlers.resources import resource
from tasker.handlers.returned import Again, Batches, Decision
from tasker.handlers.template import Template
from tasker.templates.model import (
    Budget,
    CircuitBreaker,
    Concurrency,
    Debounce,
    Fairness,
    OnTimeout,
    RateLimit,
    Retry,
    StaleAfter,
)

__all__ = [
    "Again",
    "ApiRefused",
    "ApiRequest",
    "ApiUnavailable",
    "AttemptCancelled",
    "Batches",
    "Budget",
    "CircuitBreaker",
    "Concurrency",
    "Debounce",
    "Decision",
    "Emits",
    "Fairness",
    "OnTimeout",
    "Outcome",
    "PermanentError",
    "RateLimit",
    "Retry",
    "RetryableError",
    "StaleAfter",
    "StepContext",
    "Template",
    "api_step",
    "call_api",
    "errors_are",
    "handler",
    "middleware",
    "resource",
]
